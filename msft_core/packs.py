"""Packs: images in MindRecord shards, with what is known of each. Public.

``msft pack`` writes a pack (``engine/pack.py``), the dataset ``packed`` reads it. The shards are
MindSpore's own format, so any of its programs reads them too (``mindspore.dataset.MindDataset``).
msft itself reads an image straight from its place in the shard: in any order, from any thread, and
with no more memory for a million images than for a thousand. Where each place is was found, and
compared with the image, when the pack was written. It stands in ``index.npz``, and ``pack.json``,
which is written last, says that the pack is complete.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from msft_core.columns import Hashes, Numbers, Rows, Texts
from msft_core.errors import DataError
from msft_core.files import content_digest, sha256_of
from msft_core.folders import require_folder
from msft_core.images import ImageError
from msft_core.types import Array, DatasetSplits

MANIFEST = "pack.json"
INDEX = "index.npz"
SKIPPED = "skipped.jsonl"
FORMAT = 1

COLUMNS = ("id_data", "id_ends", "labels", "digests", "looks", "shards", "offsets", "sizes")
"""The arrays of the index, see ``PackIndex``."""


class Shard(BaseModel):
    """A shard of a pack: its file, the size of the file, and the number of images in it."""

    model_config = ConfigDict(strict=True, frozen=True)

    file: str
    bytes: int
    images: int


class Manifest(BaseModel):
    """The content of ``pack.json``.

    Args:
        format: of the pack; ``FORMAT``.
        classes: class names in label order.
        description: of the images.
        notes: what the user was told about the folder when it was packed.
        train: number of training images; they come first in the index.
        val: number of validation images.
        skipped: number of images that did not decode and were left out.
        source: hash of the ids, labels and contents of all images.
        shards: the shards in order.
        index_sha256: of the index.
        releases: of what decoded the images and took their looks.
        versions: of what wrote the pack, for people.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    format: int
    classes: list[str]
    description: str
    notes: list[str]
    train: int
    val: int
    skipped: int
    source: str
    shards: list[Shard]
    index_sha256: str
    releases: str
    versions: dict[str, str]


@dataclass(frozen=True)
class PackIndex:
    """What is known of some images of a pack, about 100 bytes each.

    Args:
        ids: of the images.
        labels: int32 (N,).
        digests: of their content.
        looks: see ``msft_core.data.looks``.
        shards: int32 (N,), the number of each image's shard.
        offsets: int64 (N,), where its bytes begin in the file of the shard.
        sizes: int64 (N,), how many there are.
    """

    ids: Texts
    labels: Numbers
    digests: Hashes
    looks: Rows
    shards: Array
    offsets: Array
    sizes: Array

    def part(self, first: int, end: int) -> PackIndex:
        """The images from ``first`` to before ``end``."""
        here = slice(first, end)
        of_arrays = (self.shards[here], self.offsets[here], self.sizes[here])
        return PackIndex(
            self.ids[here], self.labels[here], self.digests[here], self.looks[here], *of_arrays
        )


@dataclass(frozen=True)
class PackedTable:
    """Images of a pack.

    Args:
        folder: of the pack.
        files: the name of each shard's file.
        index: what is known of the images.
        releases: of what decoded them and took their looks when they were packed.
    """

    folder: Path
    files: tuple[str, ...]
    index: PackIndex = field(repr=False)
    releases: str

    @property
    def ids(self) -> Texts:
        """See ``ImageTable``."""
        return self.index.ids

    @property
    def labels(self) -> Numbers:
        """See ``ImageTable``."""
        return self.index.labels

    def read(self, index: int) -> bytes:
        """The encoded image.

        Raises:
            OSError: the shard cannot be read.
            ImageError: its bytes are not those that were packed.
        """
        file = self.files[self.index.shards[index]]
        size, offset = int(self.index.sizes[index]), int(self.index.offsets[index])
        with (self.folder / file).open("rb", buffering=0) as shard:
            data = read_at(shard.fileno(), size, offset)
        if content_digest(data) != self.index.digests[index]:
            raise ImageError(f"{file} is damaged there: pack the images again")
        return data


def read_at(file: int, size: int, offset: int) -> bytes:
    """``size`` bytes of an open file, fewer at its end.

    No memory map: what it has read counts as this process's memory.
    """
    if hasattr(os, "pread"):
        return os.pread(file, size, offset)
    os.lseek(file, offset, os.SEEK_SET)
    return os.read(file, size)


def read_manifest(folder: Path) -> Manifest | None:
    """What a complete pack says of itself; None where there is no complete pack.

    Raises:
        DataError: the file is damaged, or of a newer msft.
    """
    path = folder / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        raise DataError(f"{path} is damaged: pack the images again.") from error
    if manifest.format != FORMAT:
        raise DataError(f"{path} is of format {manifest.format}: install a newer msft.")
    return manifest


def read_pack(folder: Path) -> DatasetSplits:
    """The images of a pack, as they were split when it was written.

    Raises:
        DataError: there is no complete pack, or it is damaged.
    """
    require_folder(folder)
    manifest = read_manifest(folder)
    if manifest is None:
        if any(folder.glob("shard-*")):
            raise DataError(
                f"the pack in {folder} is not complete: run the same `msft pack` again, it goes on "
                "where it stopped."
            )
        raise DataError(f"there is no pack in {folder}: make one with `msft pack DIR {folder}`.")
    for shard in manifest.shards:
        _require_whole(folder / shard.file, shard.bytes)
    index = _read_index(folder, manifest)
    files = tuple(shard.file for shard in manifest.shards)
    train, whole = manifest.train, manifest.train + manifest.val
    notes = list(manifest.notes)
    if manifest.skipped:
        notes.append(
            f"{manifest.skipped} images did not decode when {folder} was packed and are not in it; "
            f"{folder / SKIPPED} lists them"
        )
    return DatasetSplits(
        tuple(manifest.classes),
        PackedTable(folder, files, index.part(0, train), manifest.releases),
        PackedTable(folder, files, index.part(train, whole), manifest.releases),
        f"{manifest.description}, packed in {folder}",
        tuple(notes),
    )


def _require_whole(path: Path, size: int) -> None:
    try:
        there = path.stat().st_size
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or error}. Without it the pack is of no use: "
            "bring it back, or pack the images again."
        ) from error
    if there != size:
        raise DataError(
            f"{path} has {there} bytes, not {size}: was it copied in part? Copy it, or pack the "
            "images, again."
        )


def _read_index(folder: Path, manifest: Manifest) -> PackIndex:
    path = folder / INDEX
    damaged = DataError(f"{path} is damaged: pack the images again.")
    try:
        if sha256_of(path) != manifest.index_sha256:
            raise damaged
        with np.load(path, allow_pickle=False) as arrays:  # noqa: TID251 - no pickles
            columns: dict[str, Any] = {name: arrays[name] for name in COLUMNS}
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except (KeyError, ValueError) as error:
        raise damaged from error
    ids = Texts(columns["id_data"], columns["id_ends"])
    index = PackIndex(
        ids,
        Numbers(columns["labels"]),
        Hashes(columns["digests"]),
        Rows(columns["looks"]),
        columns["shards"],
        columns["offsets"],
        columns["sizes"],
    )
    count = manifest.train + manifest.val
    if any(len(columns[name]) != count for name in COLUMNS[1:]):
        raise damaged
    return index


def write_index(path: Path, index: PackIndex) -> None:
    """Write an index file. Raises OSError."""
    arrays = (
        index.ids.data,
        index.ids.ends,
        index.labels.array,
        index.digests.array,
        index.looks.array,
        index.shards,
        index.offsets,
        index.sizes,
    )
    # By name, since NumPy adds .npz to a path that does not end so.
    with path.open("wb") as file:
        np.savez(file, **dict(zip(COLUMNS, arrays, strict=True)))

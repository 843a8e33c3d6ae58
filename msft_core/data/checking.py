"""Find unusable images before training. ``msft run`` and ``msft check`` use this."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from msft_core.columns import Hashes, Numbers, Rows, sortable
from msft_core.data import looks
from msft_core.data.checked import checked_table, read_image
from msft_core.data.memory import DIGEST_BYTES, CheckMemory, find_alike_once, releases
from msft_core.errors import DataError, PluginError
from msft_core.files import content_digest
from msft_core.images import FileTable, ImageError, decode
from msft_core.packs import PackedTable
from msft_core.types import Array, DatasetSplits, ImageTable, Reporter

Decoder = Callable[[bytes], object]

_BLOCK = 1000

TOO_SIMILAR = (
    "The search for near-duplicates in train and val is not complete: too many images look much "
    "the same."
)


@dataclass(frozen=True)
class NearDuplicates:
    """Images of both splits that look alike and have other bytes.

    Args:
        pairs: (train id, val id).
        complete: False if too many images were too similar to compare all of them.
    """

    pairs: tuple[tuple[str, str], ...]
    complete: bool


@dataclass(frozen=True)
class Findings:
    """The result of ``check_splits``.

    Args:
        splits: the splits without the skipped images.
        skipped: a line of ``skipped.jsonl`` for each skipped image: split, id, path, reason.
        twins: pairs (train id, val id) of images with the same bytes.
        digests: for "train" and "val", the hash of each image's bytes, in the order of the split.
        looks: likewise the look of each image, see ``looks``.
        memory: the folder that keeps what is known of images between runs.
    """

    splits: DatasetSplits
    skipped: tuple[dict[str, Any], ...]
    twins: tuple[tuple[str, str], ...]
    digests: dict[str, Hashes]
    looks: dict[str, Rows]
    memory: Path | None = None

    @cached_property
    def near_duplicates(self) -> NearDuplicates:
        """Validation images that look like a training image, apart from ``twins``."""
        alike = find_alike_once(self.memory, self.looks["val"], self.looks["train"])
        twins = {of_val for _, of_val in self.twins}
        train, val = self.splits.train.ids, self.splits.val.ids
        pairs = ((train[of_train], val[of_val]) for of_val, of_train in alike.pairs)
        return NearDuplicates(tuple(pair for pair in pairs if pair[1] not in twins), alike.complete)


def check_splits(
    splits: DatasetSplits,
    *,
    plugin: str,
    workers: int,
    reporter: Reporter,
    memory: Path | None = None,
    decode: Decoder = decode,
) -> Findings:
    """Decode every image of both splits once.

    Args:
        splits: from a dataset.
        plugin: whose splits these are, for messages.
        workers: threads.
        reporter: for progress.
        memory: a folder that keeps what is known of images between runs, see ``CheckMemory``.
        decode: decodes an image, or raises ImageError.

    Raises:
        DataError: a class has no training image that decodes, or no validation image does.
    """
    remembered = CheckMemory(memory)
    checks = {
        name: check_images(
            getattr(splits, name),
            plugin=plugin,
            workers=workers,
            reporter=reporter,
            memory=remembered,
            decode=decode,
        )
        for name in ("train", "val")
    }
    remembered.save_rows(
        *(
            np.concatenate([getattr(check, name).array for check in checks.values()])
            for name in ("digests", "looks")
        )
    )
    skipped = tuple(
        {"split": name, "id": image.id, "path": image.path, "reason": image.reason}
        for name, check in checks.items()
        for image in check.skipped
    )
    kept = replace(
        splits,
        train=checked_table(splits.train, checks["train"].kept, checks["train"].digests, plugin),
        val=checked_table(splits.val, checks["val"].kept, checks["val"].digests, plugin),
    )
    first = f" The first problem: {skipped[0]['id']}: {skipped[0]['reason']}." if skipped else ""
    there = set(kept.train.labels)
    for label, name in enumerate(kept.classes):
        if label not in there:
            raise DataError(f"class {name!r} has no training image that decodes.{first}")
    if not kept.val.ids:
        raise DataError(f"no validation image decodes.{first}")
    twins = duplicates_between(kept.train, checks["train"], kept.val, checks["val"])
    digests = {name: check.digests for name, check in checks.items()}
    of_images = {name: check.looks for name, check in checks.items()}
    return Findings(kept, skipped, twins, digests, of_images, memory)


@dataclass(frozen=True)
class SkippedImage:
    """An image that is skipped, and the reason. ``path`` is None if the image is not a file."""

    id: str
    path: str | None
    reason: str


@dataclass(frozen=True)
class ImageCheck:
    """The result of `check_images`.

    Args:
        kept: indices into the table of the images that decode, ascending.
        skipped: the other images.
        digests: BLAKE2b of the bytes of each kept image, in the order of ``kept``.
        looks: likewise the look of each kept image.
    """

    kept: Numbers
    skipped: tuple[SkippedImage, ...]
    digests: Hashes
    looks: Rows


def check_images(
    table: ImageTable,
    *,
    plugin: str = "",
    workers: int,
    reporter: Reporter,
    memory: CheckMemory | None = None,
    decode: Decoder = decode,
) -> ImageCheck:
    """Decode every image of a table once, in threads, and find those that cannot be used.

    An image that cannot be read counts as one that does not decode. Ctrl-C ends it within an
    image's time.

    Args:
        table: the images.
        plugin: whose table it is, for messages.
        workers: threads.
        reporter: for progress.
        memory: what is known of images: one that decoded before is not decoded again, and a file
            that has not changed is not read.
        decode: decodes an image, or raises ImageError.

    Raises:
        MemoryError: an image does not fit into memory. That is no fault of the image.
    """
    memory = memory or CheckMemory(None)
    paths: Sequence[str] | None = getattr(table, "paths", None)
    # A table of another class, a subclass too, may read something else than these files.
    files = table.paths if type(table) is FileTable else None

    total = len(table.ids)
    digests: Array = np.zeros((total, DIGEST_BYTES), np.uint8)
    found_looks: Array = np.zeros((total, looks.BYTES), np.uint8)
    good = np.zeros(total, bool)

    if type(table) is PackedTable and table.releases == releases():
        digests, found_looks = table.index.digests.array, table.index.looks.array
        good = np.ones(total, bool)

    def recall(part: range) -> None:
        """Fill in what is known of images without reading them."""
        if files is None:
            return
        where = slice(part.start, part.stop)
        known, of_files = memory.digests_of(list(files[where]))
        decoded, of_digests = memory.looks_of(of_files)
        digests[where], found_looks[where], good[where] = of_files, of_digests, known & decoded

    def examine(index: int) -> str:
        """Fill in digest and look of an image, or return the reason why it is skipped."""
        try:
            status = os.stat(files[index]) if files is not None else None  # noqa: PTH116 - quicker
            data = read_image(table, index, plugin)
            digest = content_digest(data)
            look = memory.look_of(bytes.fromhex(digest))
            if look is None:
                picture = decode(data)
                look = looks.look_of(picture) if isinstance(picture, Image.Image) else looks.NONE
        except (ImageError, PluginError) as error:
            return str(error)
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"
        if files is not None and status is not None:
            memory.note_file(files[index], status, digest)
        digests[index] = np.frombuffer(bytes.fromhex(digest), np.uint8)
        found_looks[index] = np.frombuffer(look, np.uint8)
        good[index] = True
        return ""

    skipped: list[SkippedImage] = []
    threads = max(1, workers)
    try:
        with (
            reporter.progress("checking images", total, "images") as advance,
            ThreadPoolExecutor(threads, thread_name_prefix="msft-check") as pool,
        ):
            # In blocks, so that a million images do not become a million waiting tasks.
            for start in range(0, total, _BLOCK):
                block = range(start, min(start + _BLOCK, total))
                part = -(-len(block) // threads)
                list(pool.map(recall, (block[i : i + part] for i in range(0, len(block), part))))
                unknown = (start + np.flatnonzero(~good[block.start : block.stop])).tolist()
                advance(len(block) - len(unknown))
                for index, reason in zip(unknown, pool.map(examine, unknown), strict=True):
                    if reason:
                        path = None if paths is None else paths[index]
                        skipped.append(SkippedImage(table.ids[index], path, reason))
                    advance(1)
    except BaseException:
        # Hours of work, perhaps: the next start goes on from here.
        memory.save_rows(digests[good], found_looks[good])
        raise
    kept = np.flatnonzero(good)
    if len(kept) < total:
        digests, found_looks = digests[kept], found_looks[kept]
    return ImageCheck(Numbers(kept), tuple(skipped), Hashes(digests), Rows(found_looks))


def duplicates_between(
    train: ImageTable, train_check: ImageCheck, val: ImageTable, val_check: ImageCheck
) -> tuple[tuple[str, str], ...]:
    """Pairs (train id, val id) of images whose bytes are the same in both splits.

    Such an image makes validation look better than it is. If train has several copies, the pair
    names the first.

    Args:
        train: the images kept by ``train_check``, in its order.
        train_check: gives their digests.
        val: the images kept by ``val_check``, in its order.
        val_check: gives their digests.
    """
    of_train, of_val = (sortable(check.digests.array) for check in (train_check, val_check))
    order = np.argsort(of_train, kind="stable")
    ascending = of_train[order]
    place = np.searchsorted(ascending, of_val)
    there = np.flatnonzero(place < len(ascending))
    there = there[ascending[place[there]] == of_val[there]]
    return tuple((train.ids[order[place[i]]], val.ids[i]) for i in there)

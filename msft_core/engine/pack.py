"""Pack a folder of images into MindRecord shards, from which ``--dataset packed`` trains.

A shard gets its name when it is whole and verified, and its notes (``shard-00000.npz``) after it. A
pack that was interrupted goes on with the shards that have no notes. ``pack.json`` comes last.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from msft_core.columns import Hashes, Numbers, Rows, Texts
from msft_core.data.checking import Findings, check_splits
from msft_core.data.memory import releases
from msft_core.errors import DataError, MsftError, OutputError, UsageError, first_line
from msft_core.files import (
    content_digest,
    flush,
    folder_beside,
    follow_umask,
    hash_of,
    sha256_of,
    size_text,
    write_atomically,
    write_json,
    write_json_lines,
)
from msft_core.folders import read_splits
from msft_core.packs import (
    FORMAT,
    INDEX,
    MANIFEST,
    SKIPPED,
    Manifest,
    PackIndex,
    Shard,
    read_at,
    read_manifest,
    write_index,
)
from msft_core.pages.texts import counted
from msft_core.runs.lock import lock_run_folder
from msft_core.runs.saving import data_digests
from msft_core.system.cache_folder import cache_dir
from msft_core.system.device import cpu_count
from msft_core.system.interrupts import Interrupts
from msft_core.types import Array, ImageTable, Reporter

SCHEMA = {
    "id": {"type": "string"},
    "split": {"type": "string"},
    "label": {"type": "int32"},
    "digest": {"type": "string"},
    "image": {"type": "bytes"},
}
"""Columns of the shards. ``digest`` is the BLAKE2b of the image's bytes, 32 hex digits."""

SHARD_BYTES = 256_000_000

_BLOCK_BYTES = 8_000_000
_RECORD_BYTES = 300  # what a record takes besides its image
_LEAST_BYTES = 64_000_000  # MindRecord's header and first pages
_LARGE_BYTES = 30 << 20  # does not fit into a page of MindRecord's default size, 32 MiB
_MOST_BYTES = 250 << 20  # nor into the largest, 256 MiB
_WINDOW = 1 << 20


@dataclass(frozen=True)
class _Source:
    """All images of a pack in order: those of train, then those of val."""

    findings: Findings
    sizes: Array

    def __post_init__(self) -> None:
        assert len(self.sizes) == len(self)

    def __len__(self) -> int:
        return self.first_of_val + len(self.findings.splits.val.ids)

    @property
    def first_of_val(self) -> int:
        return len(self.findings.splits.train.ids)

    def at(self, number: int) -> tuple[str, ImageTable, int]:
        """The split of an image, its table, and its index there."""
        splits, first = self.findings.splits, self.first_of_val
        if number < first:
            return "train", splits.train, number
        return "val", splits.val, number - first

    def record(self, number: int) -> dict[str, Any]:
        """An image as the shard has it. Raises DataError where it has changed."""
        split, table, index = self.at(number)
        return {
            "id": _printable(table.ids[index]),
            "split": split,
            "label": int(table.labels[index]),
            "digest": self.findings.digests[split][index],
            "image": table.read(index),
        }

    def both(self, name: str) -> Array:
        """The arrays of digests or looks of both splits, one after the other."""
        columns = getattr(self.findings, name)
        return np.concatenate([columns["train"].array, columns["val"].array])


def pack(
    folder: Path,
    out: Path,
    *,
    val_fraction: float = 0.2,
    split_seed: int = 0,
    shard_bytes: int = SHARD_BYTES,
    reporter: Reporter,
) -> Manifest:
    """Write the images of a folder, split as the dataset ``folder`` splits them, into shards.

    Args:
        folder: as ``read_splits`` takes it.
        out: the folder of the pack; a new one, an empty one, or one with a part of this pack.
        val_fraction: see ``read_splits``.
        split_seed: see ``read_splits``.
        shard_bytes: size of a shard, about.
        reporter: for lines and progress.

    Raises:
        DataError: the folder cannot be used, or an image has changed meanwhile.
        UsageError: ``out`` has something else, or another process is packing there.
        MsftError: the pack cannot be written, or a shard is not what was written.
    """
    interrupts = Interrupts()
    with interrupts.caught():
        splits = read_splits(
            folder, val_fraction=val_fraction, split_seed=split_seed, reporter=reporter
        )
        for note in splits.notes:
            reporter.info(note)
        _require_ours(out)
        found = check_splits(
            splits,
            plugin="folder",
            workers=cpu_count(),
            reporter=reporter,
            memory=cache_dir() / "checked",
        )
        if found.skipped:
            reporter.warning(
                f"{len(found.skipped)} images do not decode and are left out, the first is "
                f"{found.skipped[0]['id']}: {found.skipped[0]['reason']}. {out / SKIPPED} lists "
                "all of them."
            )
        source_hash = hash_of(data_digests(found.splits, found.digests)).hex()
        there = read_manifest(out)
        if there is not None:
            if there.source != source_hash:
                raise UsageError(
                    f"{out} has a pack of other images, or of these as they were: pack into a new "
                    "folder, or remove that one."
                )
            reporter.info(f"{out} has these images already.")
            return there
        source = _Source(found, _sizes(found))
        bounds = _bounds(source.sizes, shard_bytes)
        with interrupts.noted():
            import mindspore.mindrecord  # noqa: F401 - here, where an interrupt waits
        interrupts.install()
        _make_folder(out)
        with lock_run_folder(out, "folder") as lock:
            if lock.warning:
                reporter.warning(lock.warning)
            places = _write_shards(out, source, bounds, reporter)
            return _complete(out, source, bounds, places, source_hash, reporter)


def _require_ours(out: Path) -> None:
    """Raise UsageError unless ``out`` is new, empty, or holds a pack."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: give a folder for the pack.")
    if not out.is_dir():
        return
    names = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
    known = (MANIFEST, INDEX, SKIPPED)
    others = [name for name in names if name not in known and not name.startswith("shard-")]
    if others:
        raise UsageError(f"{out} has other files, such as {others[0]}: give a new folder.")


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(out, error) from error


def _sizes(found: Findings) -> Array:
    """int64 (N,): bytes of each image."""
    paths = [getattr(found.splits, name).paths for name in ("train", "val")]
    sizes: Array = np.zeros(sum(map(len, paths)), np.int64)
    for number, path in enumerate(chain.from_iterable(paths)):
        try:
            sizes[number] = Path(path).stat().st_size
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
        if sizes[number] > _MOST_BYTES:
            most = size_text(_MOST_BYTES)
            raise DataError(f"{path} has more than {most}, which MindRecord does not take.")
    return sizes


def _bounds(sizes: Array, shard_bytes: int) -> list[range]:
    """The numbers of the images in each shard: in order, and the same whenever it is asked."""
    before = np.cumsum(sizes + _RECORD_BYTES) - sizes - _RECORD_BYTES
    starts = np.flatnonzero(np.diff(before // shard_bytes, prepend=-1))
    ends = [*starts[1:].tolist(), len(sizes)]
    return [range(start, end) for start, end in zip(starts.tolist(), ends, strict=True)]


class _Stopped(Exception):
    """Another shard has failed, or the user wants to stop."""


def _write_shards(
    out: Path, source: _Source, bounds: list[range], reporter: Reporter
) -> list[Array]:
    """Write the shards that are missing, several at once. Returns the offsets in each."""
    identities = [_identity(source, images) for images in bounds]
    found = {
        number: offsets
        for number, identity in enumerate(identities)
        if (offsets := _written_before(out, number, identity)) is not None
    }
    todo = [number for number in range(len(bounds)) if number not in found]
    if found:
        reporter.info(f"{len(found)} of {len(bounds)} shards are there already.")
    _require_room(out, sum(int(source.sizes[bounds[n]].sum()) for n in todo), len(todo))
    stop, lock = threading.Event(), threading.Lock()
    total = sum(len(bounds[number]) for number in todo)
    with (
        reporter.progress("packing", total, "images") as advance,
        ThreadPoolExecutor(max(1, cpu_count()), "msft-pack") as pool,
    ):

        def between(count: int) -> None:
            if stop.is_set():
                raise _Stopped
            with lock:
                advance(count)

        try:
            futures = [
                pool.submit(_write_shard, out, number, source, bounds[number], between)
                for number in todo
            ]
            for number, future in zip(todo, futures, strict=True):
                offsets = future.result()
                _note(out, number, identities[number], offsets)
                found[number] = offsets
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            # Those that are whole are not written again.
            for number, future in zip(todo, futures, strict=True):
                if number not in found and not future.cancelled() and not future.exception():
                    _note(out, number, identities[number], future.result())
            raise
    return [found[number] for number in range(len(bounds))]


def _require_room(out: Path, images: int, shards: int) -> None:
    needed = images + shards * _LEAST_BYTES
    free = shutil.disk_usage(out).free
    if needed > free:
        raise MsftError(
            f"the pack takes about {size_text(needed)}, but the disk of {out} has only "
            f"{size_text(free)} free."
        )


def _name(number: int) -> str:
    return f"shard-{number:05d}.mindrecord"


def _notes_of(out: Path, number: int) -> Path:
    return out / f"shard-{number:05d}.npz"


def _identity(source: _Source, images: range) -> str:
    """Hash of what a shard is to hold."""
    parts = []
    for number in images:
        split, table, index = source.at(number)
        label, digest = int(table.labels[index]), source.findings.digests[split][index]
        parts.append(f"{split}\0{_printable(table.ids[index])}\0{label}\0{digest}\0")
    return content_digest("".join(parts).encode())


def _note(out: Path, number: int, identity: str, offsets: Array) -> None:
    """Say that a shard is whole, where its images are, and how large its files are."""
    sizes = [path.stat().st_size for path in _files(out, number)]

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, identity=np.array(identity), offsets=offsets, sizes=np.array(sizes))

    write_atomically(_notes_of(out, number), write)


def _written_before(out: Path, number: int, identity: str) -> Array | None:
    """Where the images are in a shard that is there already; None if it must be written."""
    try:
        with np.load(_notes_of(out, number), allow_pickle=False) as notes:  # noqa: TID251 - no pickles
            sizes = [path.stat().st_size for path in _files(out, number)]
            same = str(notes["identity"]) == identity and notes["sizes"].tolist() == sizes
            return notes["offsets"] if same else None
    except Exception:  # whatever is wrong with it, the shard is written again
        return None


def _files(folder: Path, number: int) -> list[Path]:
    """A shard, and MindRecord's index of it, which must keep their names."""
    shard = folder / _name(number)
    return [shard, shard.with_name(shard.name + ".db")]


def _write_shard(
    out: Path, number: int, source: _Source, images: range, between: Callable[[int], None]
) -> Array:
    """Write a shard beside its name, read it again, compare it, and give it its name.

    Returns: int64 (n,), where the bytes of each image begin.
    """
    with folder_beside(out / _name(number)) as beside:
        path = beside / _name(number)
        try:
            _write_records(path, source, images, between)
            offsets = _verified(path, source, images)
        except RuntimeError as error:  # MindRecord's
            what = f"{out / _name(number)} cannot be written"
            raise MsftError(f"{what}: {first_line(error)}") from error
        try:
            for temporary, final in zip(_files(beside, number), _files(out, number), strict=True):
                follow_umask(temporary)
                flush(temporary)
                temporary.replace(final)
            flush(out)
        except OSError as error:
            raise OutputError(out / _name(number), error) from error
    return offsets


def _write_records(
    path: Path, source: _Source, images: range, between: Callable[[int], None]
) -> None:
    from mindspore.mindrecord import FileWriter

    writer = FileWriter(str(path), shard_num=1)
    if source.sizes[images].max(initial=0) > _LARGE_BYTES:
        writer.set_page_size(256 << 20)
    writer.add_schema(SCHEMA, "images of msft pack")
    for block in _blocks(source.sizes, images):
        writer.write_raw_data([source.record(number) for number in block])
        between(len(block))
    writer.commit()


def _blocks(sizes: Array, images: range) -> Iterator[range]:
    """Neighbours that are written at once, a few megabytes."""
    start, size = images.start, 0
    for number in images:
        size += int(sizes[number]) + _RECORD_BYTES
        if size >= _BLOCK_BYTES:
            yield range(start, number + 1)
            start, size = number + 1, 0
    if start < images.stop:
        yield range(start, images.stop)


def _verified(path: Path, source: _Source, images: range) -> Array:
    """Read a shard by MindSpore's reader, compare every record, and find each image in the file.

    Raises:
        MsftError: a record is another one.
    """
    from mindspore.mindrecord import FileReader

    wrong = MsftError(f"{path.name} is not what was written to it: is the disk sound?")
    offsets: Array = np.zeros(len(images), np.int64)
    reader = FileReader(str(path), num_consumer=1)
    end = count = 0
    try:
        with path.open("rb", buffering=0) as file:
            for number, record in zip(images, reader.get_next(), strict=False):
                split, table, index = source.at(number)
                image = bytes(record["image"])
                if (record["id"], record["split"], int(record["label"])) != (
                    _printable(table.ids[index]),
                    split,
                    int(table.labels[index]),
                ) or content_digest(image) != source.findings.digests[split][index]:
                    raise wrong
                offsets[count] = _find(file.fileno(), image, end)
                if offsets[count] < 0:
                    raise wrong
                end = int(offsets[count]) + len(image)
                count += 1
    finally:
        reader.close()
    if count != len(images):
        raise wrong
    return offsets


def _find(file: int, data: bytes, start: int) -> int:
    """Where bytes are in a file, from ``start`` on; -1 where they are not.

    Mostly it is the next thing: so this does not depend on how MindRecord lays out its pages.
    """
    size = len(data) + 64
    while True:
        window = read_at(file, size, start)
        place = window.find(data)
        if place >= 0:
            return start + place
        if len(window) < size:
            return -1
        start += len(window) - len(data) + 1
        size = len(data) + _WINDOW


def _complete(
    out: Path,
    source: _Source,
    bounds: list[range],
    places: list[Array],
    source_hash: str,
    reporter: Reporter,
) -> Manifest:
    """Write the index, and at last the file that says that the pack is complete."""
    splits = source.findings.splits
    tables = (splits.train, splits.val)
    index = PackIndex(
        Texts.joined([Texts.of(table.ids) for table in tables]),
        Numbers(np.concatenate([np.asarray(table.labels, np.int32) for table in tables])),
        Hashes(source.both("digests")),
        Rows(source.both("looks")),
        np.repeat(np.arange(len(bounds), dtype=np.int32), [len(images) for images in bounds]),
        np.concatenate(places),
        source.sizes,
    )
    write_atomically(out / INDEX, lambda path: write_index(path, index))
    write_json_lines(out / SKIPPED, source.findings.skipped)
    manifest = Manifest(
        format=FORMAT,
        classes=list(splits.classes),
        description=splits.description,
        notes=list(splits.notes),
        train=len(splits.train.ids),
        val=len(splits.val.ids),
        skipped=len(source.findings.skipped),
        source=source_hash,
        shards=[
            Shard(file=_name(n), bytes=(out / _name(n)).stat().st_size, images=len(images))
            for n, images in enumerate(bounds)
        ],
        index_sha256=sha256_of(out / INDEX),
        releases=releases(),
        versions={name: version(name) for name in ("msft", "mindspore")},
    )
    write_json(out / MANIFEST, manifest.model_dump())
    for number in range(len(bounds)):
        _notes_of(out, number).unlink(missing_ok=True)
    size = size_text(sum(shard.bytes for shard in manifest.shards))
    count = f"{counted(len(source), 'image')} in {counted(len(bounds), 'shard')}"
    reporter.info(
        f"{count}, {size}, each read again and compared. "
        f"Train on them with --dataset packed --data-dir {out}"
    )
    return manifest


def _printable(name: str) -> str:
    """An id as MindRecord takes it: names of files need not be UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")

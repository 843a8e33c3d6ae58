"""A space: the stored features of one function (these stages, these weights, these versions).

On disk a space is a folder. It holds the description (``space.json``) and the segments.
"""

from __future__ import annotations

import math
import os
import secrets
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from msft_core.columns import Rows, first_places
from msft_core.features.places import Places
from msft_core.features.segments import (
    DAMAGE,
    KEY_BYTES,
    Form,
    Segment,
    finish_segment,
    is_segment,
    load_segment,
    write_all,
)
from msft_core.files import flush, write_json
from msft_core.types import Array

LEFTOVER_SECONDS = 86_400
"""A temporary file that has not been written to for so long is a leftover of a killed run."""

_SHIFT = 32  # a place in a space is segment number << _SHIFT | feature number
_MASK = (1 << _SHIFT) - 1


@dataclass(frozen=True)
class Segmentation:
    """How features are divided into files, and read.

    Args:
        segment_bytes: a segment is finished when it has that many bytes of features.
        segment_seconds: a segment is finished when it was begun so long ago: a killed run loses
            no more.
        read_bytes: read at once, at most.
        open_files: kept open at once, at most.
        merged: so many small segments become one when the space is opened.
    """

    segment_bytes: int = 256_000_000
    segment_seconds: float = 60.0
    read_bytes: int = 1 << 22
    open_files: int = 16
    merged: int = 8


_DEFAULT = Segmentation()


class Space:
    """The features of one function. ``FeatureStore.open`` makes it; close it after use.

    A few segments are open at a time, those that were read last.
    """

    def __init__(
        self, folder: Path, description: Mapping[str, Any], segmentation: Segmentation = _DEFAULT
    ) -> None:
        self.folder, self.description = folder, description
        self.segmentation = segmentation
        self._lock = threading.Lock()
        self._open: dict[int, Segment] = {}
        self._load()

    def _load(self) -> None:
        self._segments: list[Segment] = []
        self._places = Places()
        self._form: Form | None = None
        # In the order of writing, so that a feature that was written again replaces the older one.
        for path in sorted(path for path, _ in files_in(self.folder) if is_segment(path)):
            try:
                segment, keys, form = load_segment(path)
                if form != (self._form or form):
                    raise ValueError("features of another shape or dtype")
            except OSError:
                continue
            except DAMAGE:
                remove(path)
                continue
            self._append(segment, keys, form)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of a feature; None while the space is empty."""
        return self._form[0] if self._form else None

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """Dtype of a feature; None while the space is empty."""
        return self._form[1] if self._form else None

    def in_use(self) -> dict[Path, int]:
        """The segments from which a feature was asked for, with their sizes in bytes."""
        return {segment.path: segment.size for segment in self._segments if segment.used}

    def missing(self, keys: Sequence[bytes]) -> Rows:
        """The keys that have no feature, or a feature with a wrong checksum.

        A feature is read and checked when it is first asked for, and never again.

        Returns: keys in the order of ``keys``, each once.
        """
        rows = as_rows(keys)
        return rows.take(self.where_missing(rows))

    def where_missing(self, keys: Rows) -> Array:
        """int64 (n,), ascending: for each key that ``missing`` gives, where it is first."""
        first, _ = first_places(keys.array)
        wanted = keys.take(first)
        places = self._places.find(wanted)
        order = np.argsort(places)
        doubtful = order[~self._trusted(places[order])]
        wrong = [doubtful[:0]]
        for start, stop, segment, data in self._runs(places[doubtful]):
            size = segment.feature_bytes
            for i, place in enumerate(places[doubtful[start:stop]].tolist()):
                feature = memoryview(data)[i * size : (i + 1) * size]
                number = place & _MASK
                if len(feature) == size and zlib.crc32(feature) == segment.crcs[number]:
                    segment.trusted[number] = True
                else:
                    wrong.append(doubtful[start + i : start + i + 1])
        if len(wrong) > 1:
            gone = np.concatenate(wrong)
            self._places.drop(wanted.take(gone))
            places[gone] = -1
        return first[places < 0]

    def read(self, keys: Sequence[bytes]) -> Array:
        """Read features. Several threads may call this.

        Args:
            keys: in any order; repeated keys are allowed.

        Returns: (len(keys), *shape), in the order of ``keys``.

        Raises:
            KeyError: some feature is missing, or its file is not there any more.
        """
        rows = as_rows(keys)
        if len(missing := self.where_missing(rows)):
            raise KeyError(f"{len(missing)} features are not stored")
        places = self._places.find(rows)
        order = np.argsort(places, kind="stable")
        features: Array = np.empty((len(keys), *(self.shape or ())), self.dtype)
        for start, stop, segment, data in self._runs(places[order]):
            if len(data) != (stop - start) * segment.feature_bytes:
                # Another process has evicted or merged it: look again at what is there.
                self.reload()
                raise KeyError(f"{segment.path} is not there any more")
            block: Array = np.frombuffer(data, self.dtype)
            features[order[start:stop]] = block.reshape(-1, *features.shape[1:])
        return features

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """Add features: ``with space.writer() as writer: writer.add(keys, features)``.

        The features can be read after the block. If an exception ends the block (Ctrl-C included),
        the features added so far are kept.

        Raises: OSError from ``add`` or at the end of the block, if the folder cannot be written or
            the disk is full.
        """
        writer = Writer(self)
        try:
            yield writer
        except BaseException:
            # A full disk must not hide the exception that ended the block.
            with suppress(OSError):
                writer.commit()
            raise
        else:
            writer.commit()
        finally:
            writer.abandon()

    def discard(self) -> None:
        """Remove all features of this space, because they are wrong."""
        self.close()
        remove_features(self.folder)

    def close(self) -> None:
        """Close the files. From now on all features are missing."""
        for segment in self._segments:
            segment.close()
        self._segments, self._places, self._form = [], Places(), None
        self._open.clear()

    def reload(self) -> None:
        """Close the files and look again at what is stored."""
        self.close()
        self._load()

    def small_segments(self) -> list[Segment]:
        """Segments that are worth merging: none where they are few."""
        limit = self.segmentation.segment_bytes // 4
        small = [segment for segment in self._segments if segment.size < limit]
        return small if len(small) >= self.segmentation.merged else []

    def merge_small_segments(self) -> None:
        """Write the features of all small segments into new ones: each costs time and a file.

        Raises: OSError where the folder cannot be written or the disk is full; nothing is lost.
        """
        small = self.small_segments()
        guard = self.folder / ".merging.tmp"
        try:
            # One process at a time. A guard that a killed one left is removed after a day.
            guard.open("x").close()
        except FileExistsError:
            return
        try:
            numbers = sorted(self._segments.index(segment) for segment in small)
            parts = [self._places.between(n << _SHIFT, (n + 1) << _SHIFT).array for n in numbers]
            keys = Rows(np.concatenate(parts))
            keys = keys.take(np.delete(np.arange(len(keys)), self.where_missing(keys)))
            at_once = max(1, self.segmentation.read_bytes // max(1, small[0].feature_bytes))
            with self.writer() as writer:
                for start in range(0, len(keys), at_once):
                    some = keys[start : start + at_once]
                    writer.add(some, self.read(some))
        finally:
            remove(guard)
        for segment in small:
            segment.close()
            remove(segment.path)
        self.reload()

    def _append(self, segment: Segment, keys: bytes, form: Form) -> None:
        self._places.add(Rows.of([keys], KEY_BYTES), len(self._segments) << _SHIFT)
        self._segments.append(segment)
        self._form = form

    def _trusted(self, ascending: Array) -> Array:
        """Whether the features at these places need no check, bool (N,); so for those at -1."""
        trusted = ascending < 0
        numbers = ascending >> _SHIFT
        for number in np.unique(numbers[~trusted]):
            here = slice(*np.searchsorted(numbers, [number, number + 1]))
            trusted[here] = self._segments[number].trusted[ascending[here] & _MASK]
        return trusted

    def _runs(self, ascending: Array) -> Iterator[tuple[int, int, Segment, bytes]]:
        """Read ascending places, neighbours together. Yields (start, stop, segment, bytes)."""
        start, places = 0, ascending.tolist()
        for stop in range(1, len(places) + 1):
            segment = self._segments[places[start] >> _SHIFT]
            if (
                stop == len(places)
                or places[stop] != places[stop - 1] + 1
                or (stop + 1 - start) * segment.feature_bytes > self.segmentation.read_bytes
            ):
                first = places[start] & _MASK
                yield start, stop, segment, segment.read(first, stop - start)
                self._keep_few_open(places[start] >> _SHIFT)
                start = stop

    def _keep_few_open(self, number: int) -> None:
        """Note that a segment was read, and close the one that was not for longest."""
        with self._lock:
            self._open.pop(number, None)
            self._open[number] = self._segments[number]
            while len(self._open) > self.segmentation.open_files:
                self._open.pop(next(iter(self._open))).close()


class Writer:
    """Adds features to a space. ``Space.writer`` makes it."""

    def __init__(self, space: Space) -> None:
        self._space, self._segmentation = space, space.segmentation
        self._form = space._form
        self._keys: list[bytes] = []
        self._crcs: list[Array] = []
        self._count = 0
        self._file: FileIO | None = None
        self._final = self._temporary = Path()
        self._began = 0.0

    def add(self, keys: Sequence[bytes], features: Array) -> None:
        """Write features.

        Args:
            keys: 16 bytes each.
            features: numbers, (len(keys), *shape). Every feature of a space has the same shape and
                dtype.

        Raises:
            ValueError: keys or features have another form.
            OSError: the folder cannot be written, or the disk is full.
        """
        features = np.ascontiguousarray(features)
        joined = b"".join(keys)
        if len(joined) != KEY_BYTES * len(features) or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(
                f"{len(features)} features, {len(keys)} keys: each feature needs a key of "
                f"{KEY_BYTES} bytes"
            )
        if not len(features):
            return
        form = (features.shape[1:], features.dtype)
        if (
            not features.nbytes
            or features.dtype.kind not in "biufc"
            or form != (self._form or form)
        ):
            raise ValueError(f"features {form} do not fit a space of {self._form or 'numbers'}")
        self._form = form
        feature_bytes = features.nbytes // len(features)
        data = features.reshape(-1).view(np.uint8).data
        crcs = [zlib.crc32(data[i : i + feature_bytes]) for i in range(0, len(data), feature_bytes)]
        file = self._file or self._begin()
        # Not at the place where an earlier write failed and stopped.
        file.seek(self._count * feature_bytes)
        write_all(file, data)
        self._keys.append(joined)
        self._crcs.append(np.array(crcs, "<u4"))
        self._count += len(crcs)
        if (
            self._count * feature_bytes >= self._segmentation.segment_bytes
            or time.monotonic() - self._began >= self._segmentation.segment_seconds
        ):
            self.commit()

    def commit(self) -> None:
        """Finish the segment, if one was begun. Raises OSError."""
        if not self._count or self._file is None or self._form is None:
            return
        form, file = self._form, self._file
        keys, crcs = b"".join(self._keys), np.concatenate(self._crcs)
        size = finish_segment(file, form, keys, crcs)
        if os.name == "nt":  # Windows cannot rename an open file
            file.close()
        # Before the rename: after it, nothing may write to this file again, even after an error.
        self._keys, self._crcs, self._count, self._file = [], [], 0, None
        self._temporary.replace(self._final)
        # Another process may evict the segment at once, and then the folder.
        with suppress(FileNotFoundError):
            flush(self._final.parent)
        feature_bytes = math.prod(form[0]) * form[1].itemsize
        segment = Segment(self._final, feature_bytes, crcs, size, trusted=True)
        if not file.closed:
            segment.adopt(file)
        self._space._append(segment, keys, form)
        self._space._keep_few_open(len(self._space._segments) - 1)

    def abandon(self) -> None:
        """Remove the temporary file, if there is one."""
        if self._file is not None:
            self._file.close()
        if self._temporary.name:
            remove(self._temporary)

    def _begin(self) -> FileIO:
        folder = self._space.folder
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}.rows"
        self._final, self._temporary = folder / name, folder / f".{name}.tmp"
        # Another process may remove the folder as long as it holds nothing but space.json. If it
        # does so while mkdir checks that the existing path is a folder, mkdir raises
        # FileExistsError.
        for attempt in range(5):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._file = FileIO(self._temporary, "x+")
                break
            except (FileNotFoundError, FileExistsError):
                if attempt == 4:
                    raise
        assert self._file is not None
        if not (folder / "space.json").exists():
            write_json(folder / "space.json", dict(self._space.description))
        self._began = time.monotonic()
        return self._file


def as_rows(keys: Sequence[bytes]) -> Rows:
    """Keys as a column."""
    return keys if isinstance(keys, Rows) else Rows.of(keys, KEY_BYTES)


def files_in(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """The files in a folder with their status. A file that vanishes meanwhile is left out."""
    found = []
    with suppress(OSError):
        for path in folder.iterdir():
            with suppress(OSError):
                found.append((path, path.stat()))
    return found


def is_leftover(path: Path, status: os.stat_result) -> bool:
    """Whether a killed run left this file."""
    return path.name.startswith(".") and time.time() - status.st_mtime > LEFTOVER_SECONDS


def remove(path: Path) -> bool:
    """Remove a file. Returns whether it is gone."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def remove_features(folder: Path) -> int:
    """Remove a space's segments and old leftovers. Returns the bytes freed."""
    freed = 0
    for path, status in files_in(folder):
        if (is_segment(path) or is_leftover(path, status)) and remove(path):
            freed += status.st_size
    remove_if_empty(folder)
    return freed


def remove_if_empty(folder: Path) -> None:
    """Remove a space that holds no segment."""
    if {path.name for path, _ in files_in(folder)} <= {"space.json"}:
        remove(folder / "space.json")
        with suppress(OSError):
            folder.rmdir()

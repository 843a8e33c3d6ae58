"""Rows of arrays kept on disk between runs: what frozen stages gave for each view of an image.

A space is one function (these stages, these weights, these versions); a row is its value for one
input, which 16 bytes name. On disk a space is a folder with its description (``space.json``) and
its rows in segments: files that are complete when they get their name and never change after. ::

    rows | keys, 16 bytes each | crc32 of each row, 4 bytes each | trailer, JSON | footer
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from msft_core.runfolder import write_text
from msft_core.types import Array

KEY_BYTES = 16
"""Length of a row's key."""

SEGMENT_BYTES = 256_000_000
"""A segment is finished when it has that many bytes of rows."""

SEGMENT_SECONDS = 60.0
"""A segment is finished when it was begun so long ago: a killed run loses no more."""

LEFTOVER_SECONDS = 86_400
"""A temporary file that was not written to for so long was left by a run that was killed."""

_FORMAT = 1
_MAGIC = b"msftrows"
_FOOTER = struct.Struct("<II8s")  # crc32 of the trailer, its length, the magic
_CHUNK = 1 << 22
_SHIFT = 32  # a place in a space is segment number << _SHIFT | row number
_MASK = (1 << _SHIFT) - 1
_DAMAGE = (ValueError, KeyError, TypeError, struct.error)

Form = tuple[tuple[int, ...], "np.dtype[Any]"]


@dataclass(frozen=True)
class SpaceInfo:
    """What ``msft cache`` shows of a space.

    Args:
        key: its folder's name, 32 hex digits.
        description: empty where it cannot be read.
        rows: in whole segments.
        bytes: of all its files.
        last_used: in UTC.
    """

    key: str
    description: Mapping[str, Any]
    rows: int
    bytes: int
    last_used: datetime


class FeatureStore:
    """All spaces below one folder. Several processes may use it at once.

    Args:
        folder: need not be there yet.
        limit: greatest size of all spaces, bytes.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self._opened: list[Space] = []

    def open(self, description: Mapping[str, Any]) -> Space:
        """Find the rows of a function; damaged segments and old leftovers are removed.

        Nothing is made on disk before a row is written, so a folder that cannot be written can
        still be read.

        Args:
            description: all that the rows depend on, as JSON values.
        """
        for folder in self._folders():
            for path, status in _files(folder):
                if _is_leftover(path, status) and _remove(path):
                    _remove_if_empty(folder)
        space = Space(self.folder / key_of(description), description)
        self._opened.append(space)
        return space

    def refusal(self, needed: int) -> str:
        """Why so many bytes more cannot be stored, as one clause; ``""`` where they can.

        Rows that this store's spaces were asked for stay, so they count against the limit.
        """
        wanted = needed + sum(self._in_use().values())
        if wanted > self.limit:
            return (
                f"{_gb(wanted)} are needed, above the limit of {_gb(self.limit)} (cache.limit_gb)"
            )
        total = sum(status.st_size for _, status in self._all_files())
        evicted = max(0, total + needed - self.limit)
        try:
            there = next(path for path in (self.folder, *self.folder.parents) if path.exists())
            free = shutil.disk_usage(there).free + evicted
        except OSError as error:
            return f"{self.folder} cannot be used: {error.strerror}"
        if needed > free:
            return f"{_gb(needed)} are needed, and the disk of {self.folder} has {_gb(free)} free"
        return ""

    def make_room(self, needed: int) -> None:
        """Remove the least recently used segments until so many bytes more are within the limit.

        Segments of which this store's spaces were asked for a row stay. Those that another
        process uses may go: it has them open and reads on.
        """
        in_use = self._in_use()
        files = self._all_files()
        total = sum(status.st_size for _, status in files)
        emptied = set()
        for path, status in sorted(files, key=lambda file: (file[1].st_mtime_ns, file[0].name)):
            if total + needed <= self.limit:
                break
            if _is_segment(path) and path not in in_use and _remove(path):
                total -= status.st_size
                emptied.add(path.parent)
        for folder in emptied:
            _remove_if_empty(folder)

    def spaces(self) -> list[SpaceInfo]:
        """What is stored, last used first. Damaged files count with their bytes and no rows."""
        infos = []
        for folder in self._folders():
            if files := _files(folder):
                used = max(status.st_mtime for _, status in files)
                infos.append(
                    SpaceInfo(
                        key=folder.name,
                        description=_read_description(folder),
                        rows=sum(_count_rows(path) for path, _ in files if _is_segment(path)),
                        bytes=sum(status.st_size for _, status in files),
                        last_used=datetime.fromtimestamp(used, timezone.utc),
                    )
                )
        return sorted(infos, key=lambda info: (info.last_used, info.key), reverse=True)

    def clear(self, keys: Sequence[str] | None = None) -> int:
        """Remove the rows of these spaces, or of all, but not what a run is just writing.

        Args:
            keys: as in ``SpaceInfo.key``.

        Returns: bytes freed.
        """
        folders = [folder for folder in self._folders() if keys is None or folder.name in keys]
        return sum(_remove_rows(folder) for folder in folders)

    def _folders(self) -> list[Path]:
        try:
            found = sorted(self.folder.iterdir())
        except OSError:
            return []
        return [path for path in found if re.fullmatch(r"[0-9a-f]{32}", path.name)]

    def _all_files(self) -> list[tuple[Path, os.stat_result]]:
        return [file for folder in self._folders() for file in _files(folder)]

    def _in_use(self) -> dict[Path, int]:
        segments = (segment for space in self._opened for segment in space._segments)
        return {segment.path: segment.size for segment in segments if segment.file}


class Space:
    """The rows of one function. From ``FeatureStore.open``; close it after use.

    A segment is opened when one of its rows is first asked for, and stays open: what other
    processes remove can be read to the end.
    """

    def __init__(self, folder: Path, description: Mapping[str, Any]) -> None:
        self.folder = folder
        self.description = description
        self._segments: list[_Segment] = []
        self._places: dict[bytes, int] = {}
        self._form: Form | None = None
        # In the order of writing, so that a row that was written again replaces the older one.
        for path in sorted(path for path, _ in _files(folder) if _is_segment(path)):
            try:
                segment, keys, form = _load(path)
                if form != (self._form or form):
                    raise ValueError("rows of another form")
            except OSError:
                continue
            except _DAMAGE:
                _remove(path)
                continue
            self._append(segment, keys, form)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Of a row; None while there is none."""
        return self._form[0] if self._form else None

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """Of a row; None while there is none."""
        return self._form[1] if self._form else None

    def missing(self, keys: Sequence[bytes]) -> list[bytes]:
        """Which of these have no row, or one that does not have its checksum.

        Each row is read and checked when it is first asked for, never again.

        Returns: in the order of ``keys``, each once.
        """
        wanted = list(dict.fromkeys(keys))
        found = sorted((self._places[key], key) for key in wanted if key in self._places)
        doubtful = [(place, key) for place, key in found if not self._trusted(place)]
        for start, stop, segment, data in self._runs([place for place, _ in doubtful]):
            size = segment.row_bytes
            for i, (place, key) in enumerate(doubtful[start:stop]):
                row = memoryview(data)[i * size : (i + 1) * size]
                number = place & _MASK
                if len(row) == size and zlib.crc32(row) == segment.crcs[number]:
                    segment.trusted[number] = True
                else:
                    self._places.pop(key, None)
        return [key for key in wanted if key not in self._places]

    def read(self, keys: Sequence[bytes]) -> Array:
        """Read rows; several threads may.

        Args:
            keys: in any order, also repeated.

        Returns: (len(keys), *shape), in the order of ``keys``.

        Raises:
            KeyError: some row is missing.
            OSError: the disk fails.
        """
        if missing := self.missing(keys):
            raise KeyError(f"{len(missing)} rows are not stored")
        places = [self._places[key] for key in keys]
        order = sorted(range(len(keys)), key=places.__getitem__)
        rows: Array = np.empty((len(keys), *(self.shape or ())), self.dtype)
        for start, stop, segment, data in self._runs([places[i] for i in order]):
            if len(data) != (stop - start) * segment.row_bytes:
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(segment.path))
            block: Array = np.frombuffer(data, self.dtype)
            rows[order[start:stop]] = block.reshape(-1, *rows.shape[1:])
        return rows

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """Add rows: ``with space.writer() as writer: writer.add(keys, rows)``.

        They can be read after the block. A block that an exception ends, Ctrl-C included, keeps
        the rows that were added.

        Raises: OSError from ``add`` or at the end of the block, where the folder cannot be
            written or the disk is full.
        """
        writer = Writer(self)
        try:
            yield writer
        except BaseException:
            # A full disk must not hide what ended the block.
            with suppress(OSError):
                writer.commit()
            raise
        else:
            writer.commit()
        finally:
            writer.abandon()

    def discard(self) -> None:
        """Remove all rows of this space: they turned out wrong."""
        self.close()
        _remove_rows(self.folder)

    def close(self) -> None:
        """Close the files: what was stored is missing from now on."""
        for segment in self._segments:
            segment.close()
        self._segments, self._places, self._form = [], {}, None

    def _append(self, segment: _Segment, keys: bytes, form: Form) -> None:
        each = (keys[i : i + KEY_BYTES] for i in range(0, len(keys), KEY_BYTES))
        first = len(self._segments) << _SHIFT
        self._segments.append(segment)
        self._places.update(zip(each, range(first, first + len(segment.crcs)), strict=True))
        self._form = form

    def _trusted(self, place: int) -> bool:
        return bool(self._segments[place >> _SHIFT].trusted[place & _MASK])

    def _runs(self, places: list[int]) -> Iterator[tuple[int, int, _Segment, bytes]]:
        """Read places in ascending order, neighbours at once: (start, stop, segment, bytes)."""
        start = 0
        for stop in range(1, len(places) + 1):
            segment = self._segments[places[start] >> _SHIFT]
            if (
                stop == len(places)
                or places[stop] != places[stop - 1] + 1
                or (stop + 1 - start) * segment.row_bytes > _CHUNK
            ):
                first = places[start] & _MASK
                yield start, stop, segment, segment.read(first, stop - start)
                start = stop


class Writer:
    """Adds rows to a space; from ``Space.writer``."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._form = space._form
        self._entries: list[tuple[bytes, int]] = []
        self._file: FileIO | None = None
        self._final = self._temporary = Path()
        self._began = 0.0

    def add(self, keys: Sequence[bytes], rows: Array) -> None:
        """Write rows.

        Args:
            keys: 16 bytes each.
            rows: (len(keys), *shape), of numbers, shape and dtype as all rows of the space.

        Raises:
            ValueError: they are not so.
            OSError: the folder cannot be written, or the disk is full.
        """
        rows = np.ascontiguousarray(rows)
        if len(keys) != len(rows) or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"{len(rows)} rows with {len(keys)} keys of {KEY_BYTES} bytes")
        if not len(rows):
            return
        form = (rows.shape[1:], rows.dtype)
        if not rows.nbytes or rows.dtype.kind not in "biufc" or form != (self._form or form):
            raise ValueError(f"rows {form} in a space of {self._form or 'numbers'}")
        self._form = form
        row_bytes = rows.nbytes // len(rows)
        data = rows.reshape(-1).view(np.uint8).data
        crcs = [zlib.crc32(data[i : i + row_bytes]) for i in range(0, len(data), row_bytes)]
        file = self._file or self._begin()
        # Not where an earlier write that failed has stopped.
        file.seek(len(self._entries) * row_bytes)
        _write(file, data)
        self._entries.extend(zip(keys, crcs, strict=True))
        if (
            len(self._entries) * row_bytes >= SEGMENT_BYTES
            or time.monotonic() - self._began >= SEGMENT_SECONDS
        ):
            self.commit()

    def commit(self) -> None:
        """Finish the segment, if there is one. Raises OSError."""
        if not self._entries or self._file is None or self._form is None:
            return
        (shape, dtype), file = self._form, self._file
        keys = b"".join(key for key, _ in self._entries)
        crcs: Array = np.array([crc for _, crc in self._entries], "<u4")
        index = keys + crcs.tobytes()
        trailer = json.dumps(
            {
                "format": _FORMAT,
                "dtype": dtype.str,
                "shape": shape,
                "rows": len(crcs),
                "index_crc32": zlib.crc32(index),
            }
        ).encode()
        footer = _FOOTER.pack(zlib.crc32(trailer), len(trailer), _MAGIC)
        row_bytes = math.prod(shape) * dtype.itemsize
        file.seek(len(crcs) * row_bytes)
        file.truncate()
        _write(file, memoryview(index + trailer + footer))
        size = file.tell()
        os.fsync(file.fileno())
        if os.name == "nt":  # where an open file cannot be renamed
            file.close()
        # Before it has its name: whatever happens after must not write to it again.
        self._entries, self._file = [], None
        self._temporary.replace(self._final)
        segment = _Segment(self._final, row_bytes, crcs, size, trusted=True)
        segment.file = None if file.closed else file
        segment.open()
        self._space._append(segment, keys, self._form)

    def abandon(self) -> None:
        """Leave no temporary file."""
        if self._file is not None:
            self._file.close()
        if self._temporary.name:
            _remove(self._temporary)

    def _begin(self) -> FileIO:
        folder = self._space.folder
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}.rows"
        self._final, self._temporary = folder / name, folder / f".{name}.tmp"
        # Another process may remove the folder as long as nothing but space.json is in it: also
        # while mkdir looks whether what is in its way is a folder (then FileExistsError).
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
            text = json.dumps(self._space.description, indent=2, ensure_ascii=False)
            write_text(folder / "space.json", text + "\n")
        self._began = time.monotonic()
        return self._file


class _Segment:
    """A file of rows.

    Args:
        crcs: uint32 (rows,), the checksum of each row.
        size: bytes of the file.
        trusted: no row needs to be checked.
    """

    def __init__(
        self, path: Path, row_bytes: int, crcs: Array, size: int, trusted: bool = False
    ) -> None:
        self.path = path
        self.row_bytes = row_bytes
        self.crcs = crcs
        self.size = size
        self.trusted = bytearray([trusted]) * len(crcs)
        self.file: FileIO | None = None
        self._lock = threading.Lock()

    def open(self) -> FileIO:
        """Open the file, if it is not, and note that it was used. Raises OSError."""
        with self._lock:
            if self.file is None:
                self.file = FileIO(self.path)
                with suppress(OSError):
                    os.utime(self.path)
            return self.file

    def read(self, first: int, rows: int) -> bytes:
        """Read neighbouring rows; fewer bytes where the file is gone, cut or unreadable."""
        offset, size = first * self.row_bytes, rows * self.row_bytes
        try:
            file = self.open()
            # No memory map: what it has read counts as this process's resident memory.
            if hasattr(os, "pread"):
                return os.pread(file.fileno(), size, offset)
            with self._lock:
                file.seek(offset)
                return file.read(size)
        except OSError:
            return b""

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


def key_of(description: Mapping[str, Any]) -> str:
    """The key of the space with this description: 32 hex digits."""
    text = json.dumps(description, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _load(path: Path) -> tuple[_Segment, bytes, Form]:
    """A segment, its keys in one string, and the form of its rows; ``_DAMAGE`` or OSError."""
    with path.open("rb") as file:
        trailer, end = _read_trailer(file)
        if trailer["format"] != _FORMAT:
            raise ValueError("another format")
        rows, shape, dtype = trailer["rows"], tuple(trailer["shape"]), np.dtype(trailer["dtype"])
        row_bytes = math.prod(shape) * dtype.itemsize
        start, keys_size = rows * row_bytes, rows * KEY_BYTES
        file.seek(start)
        # Up to the trailer: so its checksum also tells whether the rows have their length.
        index = file.read(max(0, end - start))
        if zlib.crc32(index) != trailer["index_crc32"]:
            raise ValueError("the index is damaged")
        size = file.seek(0, os.SEEK_END)
    crcs: Array = np.frombuffer(index[keys_size:], "<u4")
    return _Segment(path, row_bytes, crcs, size), index[:keys_size], (shape, dtype)


def _read_trailer(file: BinaryIO) -> tuple[dict[str, Any], int]:
    """The trailer and where it begins; ``_DAMAGE`` or OSError."""
    end = file.seek(0, os.SEEK_END) - _FOOTER.size
    file.seek(max(0, end))
    checksum, length, magic = _FOOTER.unpack(file.read(_FOOTER.size))
    if magic != _MAGIC or length > end:
        raise ValueError("cut short")
    file.seek(end - length)
    text = file.read(length)
    if zlib.crc32(text) != checksum:
        raise ValueError("the trailer is damaged")
    return json.loads(text), end - length


def _write(file: FileIO, data: memoryview) -> None:
    while data:
        data = data[file.write(data) :]


def _count_rows(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return int(_read_trailer(file)[0]["rows"])
    except (OSError, *_DAMAGE):
        return 0


def _read_description(folder: Path) -> Mapping[str, Any]:
    try:
        value = json.loads((folder / "space.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """What is in a folder; what vanishes meanwhile is not there."""
    found = []
    with suppress(OSError):
        for path in folder.iterdir():
            with suppress(OSError):
                found.append((path, path.stat()))
    return found


def _is_segment(path: Path) -> bool:
    return path.suffix == ".rows"


def _is_leftover(path: Path, status: os.stat_result) -> bool:
    return path.name.startswith(".") and time.time() - status.st_mtime > LEFTOVER_SECONDS


def _remove(path: Path) -> bool:
    """Remove a file; whether it is gone."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _remove_rows(folder: Path) -> int:
    """Remove a space's segments and old leftovers; the bytes freed."""
    freed = 0
    for path, status in _files(folder):
        if (_is_segment(path) or _is_leftover(path, status)) and _remove(path):
            freed += status.st_size
    _remove_if_empty(folder)
    return freed


def _remove_if_empty(folder: Path) -> None:
    if {path.name for path, _ in _files(folder)} <= {"space.json"}:
        _remove(folder / "space.json")
        with suppress(OSError):
            folder.rmdir()


def _gb(size: int) -> str:
    return f"{size / 1e9:.4g} GB"

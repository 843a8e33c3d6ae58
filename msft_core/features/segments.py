"""A segment: one file of stored features. It is complete when it gets its name, and never changes.

Layout::

    features | keys, 16 bytes each | crc32 of each feature, 4 bytes each | trailer, JSON | footer
"""

from __future__ import annotations

import json
import math
import os
import struct
import threading
import zlib
from collections.abc import Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from msft_core.files import json_value
from msft_core.types import Array

KEY_BYTES = 16
"""Length of a feature's key."""

_CRC_BYTES = 4

_FORMAT = 1

_MAGIC = b"msftrows"

_FOOTER = struct.Struct("<II8s")  # crc32 of the trailer, its length, the magic

DAMAGE = (ValueError, KeyError, TypeError, struct.error)

Form = tuple[tuple[int, ...], "np.dtype[Any]"]


class Segment:
    """A file of features.

    Args:
        crcs: uint32 (features,), the checksum of each feature.
        size: size of the file in bytes.
        trusted: no feature needs to be checked.
    """

    def __init__(
        self, path: Path, feature_bytes: int, crcs: Array, size: int, trusted: bool = False
    ) -> None:
        self.path = path
        self.feature_bytes = feature_bytes
        self.crcs = crcs
        self.size = size
        self.trusted = np.full(len(crcs), trusted)
        self.used = False
        """Whether a feature of it was asked for."""
        self._file: FileIO | None = None
        self._lock = threading.Lock()

    def adopt(self, file: FileIO) -> None:
        """Go on with the open file that the segment was written to."""
        self._file, self.used = file, True

    def read(self, first: int, features: int) -> bytes:
        """Read neighbouring features; fewer bytes if the file is gone, cut short or unreadable."""
        offset, size = first * self.feature_bytes, features * self.feature_bytes
        # The lock keeps the file from being closed, and its number from being given to another.
        with self._lock:
            try:
                if self._file is None:
                    self._file = FileIO(self.path)
                    self.used = True
                    with suppress(OSError):
                        os.utime(self.path)
                # No memory map: what it has read counts as this process's resident memory.
                if hasattr(os, "pread"):
                    return os.pread(self._file.fileno(), size, offset)
                self._file.seek(offset)
                return self._file.read(size)
            except OSError:
                return b""

    def close(self) -> None:
        """Close the file, if it is open; the next read opens it again."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None


def finish_segment(file: FileIO, form: Form, keys: bytes, crcs: Array) -> int:
    """Write keys, checksums, trailer and footer after the features, and flush the file to disk.

    Args:
        file: holds the features. Any bytes after them are cut off.
        form: shape and dtype of a feature.
        keys: the keys of all features, in one string.
        crcs: uint32, the checksum of each feature.

    Returns: size of the file in bytes. Raises OSError.
    """
    shape, dtype = form
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
    file.seek(len(crcs) * math.prod(shape) * dtype.itemsize)
    file.truncate()
    write_all(file, memoryview(index + trailer + footer))
    size = file.tell()
    os.fsync(file.fileno())
    return size


def load_segment(path: Path) -> tuple[Segment, bytes, Form]:
    """Read a segment, its keys in one string, and the shape and dtype of a feature.

    Raises ``DAMAGE`` or OSError.
    """
    with path.open("rb") as file:
        trailer, end = _read_trailer(file)
        features, (shape, dtype) = _form_of(trailer, end)
        feature_bytes = math.prod(shape) * dtype.itemsize
        start, keys_size = features * feature_bytes, features * KEY_BYTES
        file.seek(start)
        # Up to the trailer, so that the checksum also fails if the features are cut short.
        index = file.read(max(0, end - start))
        if zlib.crc32(index) != trailer["index_crc32"]:
            raise ValueError("the index is damaged")
        size = file.seek(0, os.SEEK_END)
    crcs: Array = np.frombuffer(index[keys_size:], "<u4")
    return Segment(path, feature_bytes, crcs, size), index[:keys_size], (shape, dtype)


def _form_of(trailer: Mapping[str, Any], end: int) -> tuple[int, Form]:
    """Number of features, and their shape and dtype, checked against the size of the file.

    Raises:
        ValueError, KeyError, TypeError: the file is damaged, or is nobody knows whose.
    """
    if trailer["format"] != _FORMAT:
        raise ValueError("unknown format")
    features, shape, dtype = trailer["rows"], tuple(trailer["shape"]), np.dtype(trailer["dtype"])
    if dtype.kind not in "biufc" or dtype.str != trailer["dtype"]:
        raise ValueError("unknown dtype")
    if not all(type(number) is int and 0 <= number <= end for number in (features, *shape)):
        raise ValueError("the sizes are wrong")
    if features * (math.prod(shape) * dtype.itemsize + KEY_BYTES + _CRC_BYTES) != end:
        raise ValueError("the sizes are wrong")
    return features, (shape, dtype)


def _read_trailer(file: BinaryIO) -> tuple[dict[str, Any], int]:
    """The trailer and its offset in the file. Raises ``DAMAGE`` or OSError."""
    end = file.seek(0, os.SEEK_END) - _FOOTER.size
    file.seek(max(0, end))
    checksum, length, magic = _FOOTER.unpack(file.read(_FOOTER.size))
    if magic != _MAGIC or length > end:
        raise ValueError("cut short")
    file.seek(end - length)
    text = file.read(length)
    if zlib.crc32(text) != checksum:
        raise ValueError("the trailer is damaged")
    return json_value(text), end - length


def write_all(file: FileIO, data: memoryview) -> None:
    """Write all of the data: one call of a raw file's write may take less. Raises OSError."""
    while data:
        data = data[file.write(data) :]


def count_features(path: Path) -> int:
    """Number of features in a segment; 0 if it is damaged."""
    try:
        with path.open("rb") as file:
            return _form_of(*_read_trailer(file))[0]
    except (OSError, *DAMAGE):
        return 0


def is_segment(path: Path) -> bool:
    """Whether a file is a segment, by its name."""
    return path.suffix == ".rows"

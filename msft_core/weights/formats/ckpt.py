"""MindSpore's ``.ckpt``."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msft_core.errors import WeightsError
from msft_core.weights.formats import Content, shaped, widen
from msft_core.weights.formats.protobuf import field, key, varint

_TYPES = {
    "Float64": "<f8",
    "Float32": "<f4",
    "Float16": "<f2",
    "BFloat16": "<u2",
    "Int64": "<i8",
    "Int32": "<i4",
    "Int16": "<i2",
    "Int8": "i1",
    "UInt64": "<u8",
    "UInt32": "<u4",
    "UInt16": "<u2",
    "UInt8": "u1",
    "Bool": "?",
}

_CHECKSUM = "msft_checksum"
"""The first string in a file of msft: it says that a checksum stands at the end. So a file is also
damaged where its end is cut off, or not a checksum any more."""

_TRAILER = b"crc_num"
"""What MindSpore writes before the checksum, which has 10 bytes."""

_SLICE = 512 << 20
"""MindSpore saves a larger tensor in slices of so many bytes."""


@dataclass(frozen=True, eq=False)
class Saved:
    """A tensor to be saved.

    Args:
        name: of the parameter.
        kind: MindSpore's name of the dtype, such as ``Float32``.
        array: the values.
    """

    name: str
    kind: str
    array: NDArray[Any]


def write(path: Path, tensors: Iterable[Saved], metadata: Mapping[str, str]) -> None:
    """Write what ``mindspore.save_checkpoint(append_dict=metadata, crc_check=True)`` writes, after
    one string more: that there is a checksum.

    MindSpore copies each tensor several times on its way into the file, which takes longer.

    Raises:
        OSError: the file cannot be written.
    """
    with path.open("wb") as file:
        checksum = 0

        def put(data: bytes | memoryview) -> None:
            nonlocal checksum
            checksum = zlib.crc32(data, checksum)
            file.write(data)

        def put_text(name: str, text: str) -> None:
            letters = np.array(text).tobytes()  # UTF-32
            put(_before(name, (0,), "str", len(letters)) + letters)

        put_text(_CHECKSUM, "crc32")
        for tensor in tensors:
            content = np.ascontiguousarray(tensor.array).reshape(-1).view(np.uint8).data
            for start in range(0, len(content), _SLICE):
                part = content[start : start + _SLICE]
                put(_before(tensor.name, tensor.array.shape, tensor.kind, len(part)))
                put(part)
        for name, text in metadata.items():
            put_text(name, text)
        file.write(_TRAILER + checksum.to_bytes(10, "big"))


def _before(name: str, shape: Sequence[int], kind: str, size: int) -> bytes:
    """What stands before ``size`` bytes of values: MindSpore's ``checkpoint.proto`` as bytes."""
    dims = b"".join(b"\x08" + varint(length) for length in shape)
    tensor = dims + field(2, kind.encode()) + key(3) + varint(size)
    value = field(1, name.encode()) + key(2) + varint(len(tensor) + size) + tensor
    return key(1) + varint(len(value) + size) + value


def checksum_of(path: Path) -> str:
    """The checksum that a file has of itself, in hex, without checking it; empty if it has none.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) < len(_TRAILER) + 10:
            return ""
        file.seek(-len(_TRAILER) - 10, os.SEEK_END)
        end = file.read()
    return end[-10:].hex() if end.startswith(_TRAILER) else ""


def read(path: Path) -> Content:
    """Arrays by name, and the strings beside them. A broken file may raise any exception."""
    # Not with `mindspore.load_checkpoint`: it refuses other suffixes, logs its exceptions, and
    # trusts the shape in the file, so that a wrong shape reads beyond the data (2.10.0).
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from mindspore.train.checkpoint_pb2 import Checkpoint as Message

    content = memoryview(path.read_bytes())
    has_checksum = content[-17:-10] == _TRAILER
    if has_checksum:
        if zlib.crc32(content[:-17]) != int.from_bytes(content[-10:], "big"):
            raise WeightsError("the file is damaged (wrong checksum); download or copy it again")
        content = content[:-17]
    message = Message()
    try:
        message.ParseFromString(content)
    except DecodeError:
        raise WeightsError(
            "the file is damaged, cut short, or not a MindSpore checkpoint; download or copy it "
            "again"
        ) from None
    slices: dict[str, list[Any]] = {}
    for value in message.value:
        if not value.HasField("tensor"):
            raise WeightsError(f"{value.tag} is a hash table, which msft cannot read")
        slices.setdefault(value.tag, []).append(value.tensor)
    arrays: dict[str, NDArray[Any]] = {}
    metadata: dict[str, str] = {}
    for name, parts in slices.items():
        # A large tensor is saved in slices, each with the shape of the whole.
        data = b"".join(part.tensor_content for part in parts)
        kind, shape = parts[0].tensor_type, tuple(parts[0].dims)
        if kind == "str":
            if len(parts) > 1:
                raise WeightsError(f"{name} is named twice; give another file")
            metadata[name] = data.decode("utf-32-le").rstrip("\0")
            continue
        if kind not in _TYPES:
            raise WeightsError(f"{name} has type {kind}, which msft cannot read")
        array = np.frombuffer(data, _TYPES[kind])
        if shape == (0,):  # older versions write a scalar like this
            shape = ()
        if len(parts) > 1 and array.size > math.prod(shape):
            raise WeightsError(f"{name} is named twice; give another file")
        arrays[name] = shaped(widen(array) if kind == "BFloat16" else array, shape)
    if metadata.pop(_CHECKSUM, None) and not has_checksum:
        raise WeightsError("the file is damaged (its checksum is gone); download or copy it again")
    return arrays, metadata

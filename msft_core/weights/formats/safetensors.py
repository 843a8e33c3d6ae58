"""``.safetensors``."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msft_core.errors import WeightsError
from msft_core.weights.formats import MOST_TEXT, Content, shaped, widen

_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}


_KINDS = {np.dtype(text): kind for kind, text in _TYPES.items() if kind != "BF16"}


def write(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays by name, contiguous in C order. They need no more room in memory.

    Raises:
        OSError: the disk is full, or what else may happen to a file.
        KeyError: the format does not have a dtype.
    """
    # The library's save holds everything twice, and its save_file turns a full disk into an error
    # of its own. As it does, those with the largest numbers first, so that all are aligned.
    header, end = {}, 0
    names = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    for name in names:
        start, end = end, end + arrays[name].nbytes
        kind, shape = _KINDS[arrays[name].dtype], list(arrays[name].shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            file.write(arrays[name].reshape(-1).view(np.uint8).data)


def read(path: Path) -> Content:
    """Arrays by name, and the strings beside them. A broken file may raise any exception."""
    # The format is a length, a JSON header and the data. The safetensors library is not used: its
    # NumPy readers lack bfloat16, and its reader without NumPy changed its signature between
    # versions.
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    if length > min(MOST_TEXT, len(content) - 8):
        most = f"{MOST_TEXT >> 20} MiB"
        why = f"longer than {most}" if length > MOST_TEXT else "longer than the file"
        raise WeightsError(f"the header is {why}; download or copy the file again")
    header = json.loads(content[8 : 8 + length], object_pairs_hook=_without_twins)
    data = memoryview(content)[8 + length :]
    metadata = header.pop("__metadata__", {})
    arrays: dict[str, NDArray[Any]] = {}
    taken = 0
    for name, tensor in header.items():
        kind, (start, stop) = tensor["dtype"], tensor["data_offsets"]
        if kind not in _TYPES:
            raise WeightsError(f"{name} has type {kind}, which msft cannot read")
        if not 0 <= start <= stop <= len(data):
            raise WeightsError("a tensor's data is outside the file; download or copy it again")
        taken += stop - start
        if taken > len(data):
            raise WeightsError("tensors overlap in the file; download or copy it again")
        array = np.frombuffer(data[start:stop], _TYPES[kind])
        arrays[name] = shaped(widen(array) if kind == "BF16" else array, tensor["shape"])
    return arrays, {str(key): str(value) for key, value in metadata.items()}


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. A name that is there twice would have a value that readers disagree about."""
    table = dict(pairs)
    if len(table) < len(pairs):
        raise WeightsError("the header has a name twice; give another file")
    return table

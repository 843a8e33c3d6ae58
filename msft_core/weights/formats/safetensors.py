"""``.safetensors``."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msft_core.errors import WeightsError
from msft_core.weights.formats import Content, shaped, widen

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


def read(path: Path) -> Content:
    """Arrays by name, and the strings beside them. A broken file may raise any exception."""
    # The format is a length, a JSON header and the data. The safetensors library is not used: its
    # NumPy readers lack bfloat16, and its reader without NumPy changed its signature between
    # versions.
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    data = memoryview(content)[8 + length :]
    metadata = header.pop("__metadata__", {})
    arrays: dict[str, NDArray[Any]] = {}
    for name, tensor in header.items():
        kind, (start, stop) = tensor["dtype"], tensor["data_offsets"]
        if kind not in _TYPES:
            raise WeightsError(f"{name} has type {kind}, which msft cannot read")
        if not 0 <= start <= stop <= len(data):
            raise WeightsError("a tensor's data is outside the file; download or copy it again")
        array = np.frombuffer(data[start:stop], _TYPES[kind])
        arrays[name] = shaped(widen(array) if kind == "BF16" else array, tensor["shape"])
    return arrays, {str(key): str(value) for key, value in metadata.items()}

"""Write PyTorch's two checkpoint formats without PyTorch, sound ones and broken ones."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

STORAGES = {
    "int32": "IntStorage",
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "uint8": "ByteStorage",
}


@dataclass(frozen=True)
class Global:
    """A name that the pickle asks for."""

    module: str
    name: str


@dataclass(frozen=True)
class Call:
    """A call of a global."""

    function: Global
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Persistent:
    """A reference to something outside the pickle."""

    identity: tuple[Any, ...]


@dataclass
class Storages:
    """Data by key, in the order of use."""

    data: dict[str, NDArray[Any]] = field(default_factory=dict)

    def tensor(
        self,
        flat: NDArray[Any],
        size: Iterable[int],
        stride: Iterable[int],
        offset: int = 0,
        count: int | None = None,
    ) -> Call:
        """A tensor over new data; nothing is checked."""
        key = str(len(self.data))
        self.data[key] = flat
        kind = Global("torch", STORAGES[flat.dtype.name])
        count = flat.size if count is None else count
        storage = Persistent(("storage", kind, key, "cpu", count))
        hooks = Call(Global("collections", "OrderedDict"), ())
        return Call(
            Global("torch._utils", "_rebuild_tensor_v2"),
            (storage, offset, tuple(size), tuple(stride), False, hooks),
        )

    def array(self, array: NDArray[Any]) -> Call:
        """A contiguous tensor."""
        stride = [step // array.itemsize for step in array.copy("C").strides]
        return self.tensor(array.ravel(), array.shape, stride)


def pickled(value: Any) -> bytes:
    """Pickle plain values and the classes above; protocol 2."""
    return b"\x80\x02" + _encode(value) + b"."


def _encode(value: Any) -> bytes:
    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            body = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
            return b"\x8a" + bytes([len(body)]) + body
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            body = value.encode()
            return b"X" + struct.pack("<I", len(body)) + body
        case tuple():
            return b"(" + b"".join(map(_encode, value)) + b"t"
        case list():
            return b"](" + b"".join(map(_encode, value)) + b"e"
        case dict():
            items = b"".join(_encode(k) + _encode(v) for k, v in value.items())
            return b"}(" + items + b"u"
        case Global():
            return f"c{value.module}\n{value.name}\n".encode()
        case Call():
            return _encode(value.function) + _encode(value.arguments) + b"R"
        case Persistent():
            return _encode(value.identity) + b"Q"
    raise TypeError(type(value))


def write_zip(path: Path, value: Any, storages: Storages) -> Path:
    """Write the format since PyTorch 1.6."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickled(value))
        archive.writestr("archive/byteorder", "little")
        for key, flat in storages.data.items():
            archive.writestr(f"archive/data/{key}", flat.tobytes())
        archive.writestr("archive/version", "3\n")
    return path


def write_legacy(path: Path, value: Any, storages: Storages) -> Path:
    """Write the format before PyTorch 1.6."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    with path.open("wb") as file:
        for part in (0x1950A86A20F9469CFC6C, 1001, system, value, list(storages.data)):
            file.write(pickled(part))
        for flat in storages.data.values():
            file.write(struct.pack("<q", flat.size) + flat.tobytes())
    return path


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], *, legacy: bool = False) -> Path:
    """Write a state dictionary of contiguous arrays."""
    storages = Storages()
    value = {name: storages.array(array) for name, array in arrays.items()}
    return (write_legacy if legacy else write_zip)(path, value, storages)

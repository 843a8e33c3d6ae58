"""Reads both formats of PyTorch's ``.pth`` without PyTorch. Only tensors are read.

Sizes, strides and offsets are checked against the data before any tensor is read.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msft_core.errors import WeightsError
from msft_core.weights.formats import MOST_TEXT, Content, widen
from msft_core.weights.formats.unpickling import DTYPES, Pickled, Storage, TensorUnpickler

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

_LEGACY_VERSION = 1001

_EXPANSION_LIMIT = 4
"""The tensors of a file may take this many times the file's size. bfloat16 doubles in size, and
shared and expanded tensors add to that. A file that asks for more is made to exhaust memory."""

_EXPANSION_SLACK = 1 << 24


class _Arrays:
    """Turns described tensors into arrays, within a budget of bytes.

    Args:
        data: returns the bytes of a storage by its key.
        budget: greatest number of bytes of all arrays together.
    """

    def __init__(self, data: Callable[[str], bytes], budget: int) -> None:
        self._data = data
        self._budget = budget

    def __call__(self, tensor: Pickled) -> NDArray[Any]:
        """Make a new contiguous array; bfloat16 becomes float32.

        Raises: WeightsError if the tensor reaches outside its storage.
        """
        brain = tensor.dtype == "bfloat16"
        dtype = np.dtype(DTYPES[tensor.dtype])
        flat = self._elements(tensor.storage, dtype)
        size, stride, offset = tensor.size, tensor.stride, tensor.offset
        if len(size) != len(stride) or len(size) > 32 or min((offset, *size, *stride)) < 0:
            raise WeightsError("a tensor's size, strides and offset do not fit together")
        count = 1
        for length in size:
            count *= length
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if count and last >= flat.size:
            raise WeightsError("a tensor reaches outside its data")
        self._budget -= count * (4 if brain else dtype.itemsize)
        if self._budget < 0:
            raise WeightsError("its tensors are many times larger than the file")
        if not count:
            return np.zeros(size, np.float32 if brain else dtype)
        view = np.lib.stride_tricks.as_strided(
            flat[offset:], size, [step * dtype.itemsize for step in stride], writeable=False
        )
        return widen(view) if brain else np.array(view, order="C")

    def _elements(self, storage: Storage, dtype: np.dtype[Any]) -> NDArray[Any]:
        data = self._data(storage.key)
        unit = 1 if storage.dtype is None else dtype.itemsize
        start, stop = storage.start * unit, (storage.start + storage.length) * unit
        if storage.start < 0 or storage.length < 0 or stop > len(data):
            raise WeightsError("a storage is larger than its data")
        flat = np.frombuffer(data, np.uint8)[start:stop]
        return flat[: len(flat) // dtype.itemsize * dtype.itemsize].view(dtype)


def read(path: Path, *, legacy: bool) -> Content:
    """Arrays by name, and the plain values beside them.

    Args:
        path: the file.
        legacy: read the format before PyTorch 1.6.

    Raises: WeightsError; a broken file may raise any exception.
    """
    return _from_pickled(read_legacy(path) if legacy else read_zip(path))


def _from_pickled(value: object) -> Content:
    table = value
    metadata: dict[str, str] = {}
    for _ in range(2):
        if not isinstance(table, dict):
            raise WeightsError("the file holds something other than a dictionary of tensors")
        metadata |= {
            str(key): str(entry)
            for key, entry in table.items()
            if isinstance(entry, str | int | float)
        }
        inner = next((table[name] for name in _WRAPPERS if isinstance(table.get(name), dict)), None)
        if inner is None:
            break
        table = inner
    assert isinstance(table, dict)
    return {str(k): v for k, v in table.items() if isinstance(v, np.ndarray)}, metadata


def read_zip(path: Path) -> object:
    """Read the format of ``torch.save`` since PyTorch 1.6: a zip file with a pickle and raw data.

    Returns: the pickled value, with arrays in place of tensors.

    Raises: WeightsError; a broken file may raise any exception.
    """
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        if len(entries) < len(archive.infolist()):
            raise WeightsError("this is a zip file with a name twice; give another file")
        main = next((name for name in entries if name.endswith("/data.pkl")), None)
        if main is None:
            raise WeightsError("this is a zip file, but not a PyTorch checkpoint")
        # PyTorch stores without compression. This check and the check of the sum of sizes refuse
        # every file that unpacks to many times its size.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
            raise WeightsError(
                "this is a compressed zip file; PyTorch's checkpoints are not compressed"
            )
        if sum(entry.file_size for entry in entries.values()) > size:
            raise WeightsError("this is a zip file whose parts are larger than the file")
        root = main.removesuffix("data.pkl")
        order = f"{root}byteorder"
        if order in entries and archive.read(order).strip() != b"little":
            raise WeightsError("a big-endian machine saved this file, which msft cannot read")
        if entries[main].file_size > MOST_TEXT:
            raise WeightsError(f"its pickle is longer than {MOST_TEXT >> 20} MiB")
        described = TensorUnpickler(io.BytesIO(archive.read(main))).load()
        cache: dict[str, bytes] = {}

        def data(key: str) -> bytes:
            if key not in cache:
                name = f"{root}data/{key}"
                if name not in entries:
                    raise WeightsError(f"the data of storage {key!r} are missing")
                cache[key] = archive.read(name)
            return cache[key]

        return _materialise(described, _Arrays(data, _budget(size)))


def read_legacy(path: Path) -> object:
    """Read the format before PyTorch 1.6: pickles one after another, then raw data.

    Returns, Raises: as ``read_zip``.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        pickles = io.BytesIO(file.read(MOST_TEXT))
        if TensorUnpickler(pickles).load() != _LEGACY_MAGIC:
            raise WeightsError("this is a pickle, but not a PyTorch checkpoint")
        if TensorUnpickler(pickles).load() != _LEGACY_VERSION:
            raise WeightsError("the file has an unknown version of PyTorch's format")
        system = TensorUnpickler(pickles).load()
        if isinstance(system, dict) and not system.get("little_endian", True):
            raise WeightsError("a big-endian machine saved this file, which msft cannot read")
        described = TensorUnpickler(pickles).load()
        keys = TensorUnpickler(pickles).load()
        file.seek(pickles.tell())
        if not isinstance(keys, list):
            raise WeightsError("the list of storages is missing")
        types = {key: np.dtype(_width(dtype)) for key, dtype in _storages(described).items()}
        blobs: dict[str, bytes] = {}
        for key in keys:
            if type(key) is not str or key not in types:
                raise WeightsError("the file lists a storage that no tensor uses")
            count = int.from_bytes(file.read(8), "little")
            length = count * types[key].itemsize
            if length > size - file.tell():
                raise WeightsError("the file is cut short; download or copy it again")
            blobs[key] = file.read(length)

        def data(key: str) -> bytes:
            if key not in blobs:
                raise WeightsError(f"the data of storage {key!r} are missing")
            return blobs[key]

        return _materialise(described, _Arrays(data, _budget(size)))


def _budget(size: int) -> int:
    return _EXPANSION_LIMIT * size + _EXPANSION_SLACK


def _width(dtype: str | None) -> str:
    return "u1" if dtype is None else DTYPES[dtype]


def _storages(value: object) -> dict[str, str | None]:
    """The element type of each storage in the pickle."""
    found: dict[str, str | None] = {}
    for item in _walk(value):
        if isinstance(item, Pickled):
            found[item.storage.key] = item.storage.dtype
        elif isinstance(item, Storage):
            found[item.key] = item.dtype
    return found


def _walk(value: object) -> list[object]:
    """All values in nested dictionaries, lists and tuples. Shared and circular values come once."""
    seen: set[int] = set()
    found: list[object] = []
    todo = [value]
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        found.append(item)
        if isinstance(item, Pickled):
            continue
        if isinstance(item, dict):
            todo.extend(item.values())
        elif isinstance(item, list | tuple):
            todo.extend(item)
    return found


def _materialise(value: object, arrays: _Arrays) -> object:
    """Replace tensors by arrays in the dictionaries of the pickle, in place."""
    if isinstance(value, Pickled):
        return arrays(value)
    for item in _walk(value):
        if isinstance(item, dict):
            for key, entry in item.items():
                if isinstance(entry, Pickled):
                    item[key] = arrays(entry)
    return value

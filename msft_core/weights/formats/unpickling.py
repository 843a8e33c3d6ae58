"""An interpreter of pickles with only the instructions and names that tensors need.

A pickle is a program. In this interpreter it can neither import a module nor call a function of
its choice.
"""

from __future__ import annotations

import pickle  # noqa: TID251 - the codes and the interpreter, with instructions of our choice
from collections import OrderedDict
from collections.abc import Callable
from typing import IO, Any, ClassVar, NamedTuple

from msft_core.errors import WeightsError

DTYPES = {
    "float64": "<f8",
    "float32": "<f4",
    "float16": "<f2",
    "bfloat16": "<u2",  # NumPy has no such type: see widen
    "int64": "<i8",
    "int32": "<i4",
    "int16": "<i2",
    "int8": "i1",
    "uint64": "<u8",
    "uint32": "<u4",
    "uint16": "<u2",
    "uint8": "u1",
    "bool": "?",
}

_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}

# The values on the interpreter's stack are tuples. Unlike ordinary objects, tuples have no state
# that a pickle's BUILD instruction could change.


class _Dtype(NamedTuple):
    name: str


class _StorageType(NamedTuple):
    dtype: str | None
    """None for an untyped storage. Its length counts bytes, and the tensor names the type."""


class Storage(NamedTuple):
    """A sequence of elements. Several tensors may share it."""

    key: str
    dtype: str | None
    length: int
    """Number of elements, or of bytes if untyped."""
    start: int = 0
    """First element within the data of ``key``: old files have views of a storage."""


class Pickled(NamedTuple):
    """A tensor as the pickle describes it. The reader turns it into an array."""

    storage: Storage
    dtype: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Ignored(NamedTuple):
    """A value that is not read, such as a NumPy scalar with the best accuracy so far."""


def _integers(value: object, what: str) -> tuple[int, ...]:
    if not isinstance(value, tuple) or not all(type(item) is int for item in value):
        raise WeightsError(f"a tensor's {what} is not a tuple of integers")
    return value


def _rebuild_tensor(
    storage: object, offset: object, size: object, stride: object, *_rest: object
) -> Pickled:
    if not isinstance(storage, Storage) or storage.dtype is None:
        raise WeightsError("a tensor has no typed storage")
    return _pickled(storage, storage.dtype, offset, size, stride)


def _rebuild_tensor_v3(
    storage: object,
    offset: object,
    size: object,
    stride: object,
    _requires_grad: object,
    _hooks: object,
    dtype: object,
    *_rest: object,
) -> Pickled:
    if not isinstance(storage, Storage) or not isinstance(dtype, _Dtype):
        raise WeightsError("a tensor has no storage or no type")
    return _pickled(storage, dtype.name, offset, size, stride)


def _pickled(storage: Storage, dtype: str, offset: object, size: object, stride: object) -> Pickled:
    if type(offset) is not int:
        raise WeightsError("a tensor's offset is not an integer")
    return Pickled(storage, dtype, offset, _integers(size, "size"), _integers(stride, "stride"))


def _rebuild_parameter(data: object, *_rest: object) -> object:
    return data


def _ignore(*_arguments: object) -> _Ignored:
    return _Ignored()


def _size(*arguments: object) -> tuple[int, ...]:
    return _integers(arguments[0] if arguments else (), "size")


_NAMES: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_tensor_v3,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
    ("torch", "Size"): _size,
    ("torch.storage", "UntypedStorage"): _StorageType(None),
    ("torch", "UntypedStorage"): _StorageType(None),
    ("numpy", "dtype"): _ignore,
    ("numpy.core.multiarray", "scalar"): _ignore,
    ("numpy._core.multiarray", "scalar"): _ignore,
    ("_codecs", "encode"): _ignore,
    **{("torch", name): _Dtype(name) for name in DTYPES},
    **{("torch", name): _StorageType(dtype) for name, dtype in _STORAGES.items()},
}

# Instructions that build plain data. The missing ones (INST, OBJ, NEWOBJ, EXT, sets, ...) make
# other kinds of objects or look up code.
# fmt: off
_INSTRUCTIONS = (
    pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.POP, pickle.POP_MARK, pickle.DUP,
    pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.INT, pickle.BININT, pickle.BININT1,
    pickle.BININT2, pickle.LONG, pickle.LONG1, pickle.LONG4, pickle.FLOAT, pickle.BINFLOAT,
    pickle.STRING, pickle.BINSTRING, pickle.SHORT_BINSTRING, pickle.BINBYTES, pickle.SHORT_BINBYTES,
    pickle.UNICODE, pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE8,
    pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3,
    pickle.EMPTY_LIST, pickle.LIST, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_DICT, pickle.DICT,
    pickle.SETITEM, pickle.SETITEMS, pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.REDUCE,
    pickle.BUILD, pickle.BINPERSID, pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE,
    pickle.GET, pickle.BINGET, pickle.LONG_BINGET,
)
# fmt: on

# The interpreter written in Python, not the one in C: its memory grows only with the content of
# the file, and its instructions can be chosen.
_Base: Any = pickle._Unpickler


class TensorUnpickler(_Base):
    """Runs a pickle that builds tensors in dictionaries, and refuses every other pickle.

    Raises: WeightsError that names the refused name or instruction. A broken pickle may raise any
    exception, as with ``pickle`` itself.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> object:
        """Look up a name among those that tensors need."""
        try:
            return _NAMES[module, name]
        except KeyError:
            raise WeightsError(
                f"the file asks for {f'{module}.{name}'!a}, but msft reads only tensors. "
                "Save the network's state_dict() instead"
            ) from None

    def persistent_load(self, identity: object) -> Storage:
        """Turn a reference to a storage into its description. The data is read later."""
        if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
            raise WeightsError(
                "the file refers to something that is not a tensor's storage. "
                "Save the network's state_dict() instead"
            )
        _, kind, key, _device, count, *rest = identity
        if not isinstance(kind, _StorageType) or type(key) is not str or type(count) is not int:
            raise WeightsError("a storage has not PyTorch's format")
        view = rest[0] if rest else None
        if view is None:
            return Storage(key, kind.dtype, count)
        if not isinstance(view, tuple) or len(view) != 3:
            raise WeightsError("a view of a storage has not PyTorch's format")
        start, count = _integers(view[1:], "view")
        return Storage(key, kind.dtype, count, start)

    def _set_item(self) -> None:
        value = self.stack.pop()
        key = self.stack.pop()
        _put(self.stack[-1], key, value)

    def _set_items(self) -> None:
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            _put(self.stack[-1], key, value)

    def _dict(self) -> None:
        items = self.pop_mark()
        table: dict[object, object] = {}
        for key, value in zip(items[::2], items[1::2], strict=True):
            _put(table, key, value)
        self.append(table)

    def _reduce(self) -> None:
        arguments = self.stack.pop()
        function = self.stack[-1]
        if not callable(function) or not isinstance(arguments, tuple):
            raise WeightsError("the pickle calls something that is not a function")
        if function is OrderedDict:
            self.stack[-1] = _ordered_dict(*arguments)
        else:
            self.stack[-1] = function(*arguments)

    def _build(self) -> None:
        # This instruction sets a state dictionary's `_metadata` (module versions) and a NumPy
        # dtype's layout. Neither is needed.
        self.stack.pop()
        if not isinstance(self.stack[-1], OrderedDict | _Ignored):
            raise WeightsError("the pickle sets the state of an object that is not a tensor")

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **{code[0]: _Base.dispatch[code[0]] for code in _INSTRUCTIONS},
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        pickle.DICT[0]: _dict,
        pickle.REDUCE[0]: _reduce,
        pickle.BUILD[0]: _build,
    }


def _put(table: object, key: object, value: object) -> None:
    # Plain keys only: hashing a million nested tuples overflows the interpreter's stack, and large
    # integers can be chosen to have all the same hash.
    plain = isinstance(key, str) or (isinstance(key, int) and abs(key) < 2**31)
    if not isinstance(table, dict) or not plain:
        raise WeightsError("a dictionary has a key that is neither text nor a small integer")
    table[key] = value


def _ordered_dict(items: object = ()) -> OrderedDict[object, object]:
    table: OrderedDict[object, object] = OrderedDict()
    if not isinstance(items, list | tuple):
        raise WeightsError("a dictionary is not made of pairs")
    for key, value in items:
        _put(table, key, value)
    return table

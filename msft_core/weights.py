"""Find, read and load pretrained weights. Public: backbone plugins use it.

The way of a checkpoint: ``resolve_weights`` turns what the user asked for into a file,
``read_checkpoint`` reads it, whatever wrote it, the plugin says how its names map to the
network's, and ``load_into`` copies the values and accounts for every one of them.

Importing this module imports NumPy but not MindSpore.
"""

from __future__ import annotations

import difflib
import json
import struct
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msft_core import downloads, torch_files
from msft_core.errors import WeightsError

if TYPE_CHECKING:
    from mindspore import nn

    from msft_core.types import Context, Reporter

BOOKKEEPING_PREFIXES = ("moments.", "adam_m.", "adam_v.", "ema.")
"""Names that begin so belong to an optimizer or to a moving average of the weights."""

BOOKKEEPING_NAMES = ("global_step", "learning_rate", "momentum", "epoch_num", "step_num")
"""Numbers that training leaves in a checkpoint beside the weights."""

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_SHOWN = 3


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a file of weights holds.

    Args:
        arrays: by the file's own names; bfloat16 as float32, other types as they were.
        metadata: strings saved beside the arrays (``append_dict`` of a ``.ckpt``, the header of a
            ``.safetensors``, plain values of a ``.pth``).
        path: where it was read from.
    """

    arrays: dict[str, NDArray[Any]]
    metadata: dict[str, str]
    path: Path


@dataclass(frozen=True)
class KnownWeights:
    """Weights that a backbone knows by name.

    Args:
        url: where they are downloaded from.
        sha256: of the file; None where none is published.
        summary: one line about them.
        find: for weights that an installed package carries, instead of ``url``: gives the file,
            or raises WeightsError that says what to install.
    """

    url: str = ""
    sha256: str | None = None
    summary: str = ""
    find: Callable[[], Path] | None = field(default=None, compare=False)


def resolve_weights(
    spec: str,
    context: Context,
    known: Mapping[str, KnownWeights],
    *,
    ways_out: Sequence[str] = (),
) -> Path | None:
    """Turn what the user asked for into a file, downloading it where needed.

    Args:
        spec: ``none``, a name in ``known``, an ``http(s)://`` or ``file://`` URL, or a file.
        context: cache folder and reporter.
        known: the backbone's weights by name.
        ways_out: for the message of a download that fails, see ``downloads.fetch``.

    Returns: the file, or None for ``none``.

    Raises: WeightsError where there is no such file; DownloadError.
    """
    if spec == "none":
        return None
    if spec in known:
        weights = known[spec]
        if weights.find is not None:
            return weights.find()
        return downloads.fetch(
            weights.url,
            context,
            sha256=weights.sha256,
            what=f"weights {spec!r}",
            ways_out=ways_out,
        )
    if spec.startswith(("http://", "https://", "file://")):
        return downloads.fetch(spec, context, what="weights", ways_out=ways_out)
    path = Path(spec).expanduser()
    if path.is_file():
        return path
    names = ["none", *known]
    near = difflib.get_close_matches(spec, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "give one of these, a file or a URL."
    reason = "this is a folder" if path.is_dir() else "there is no such file"
    raise WeightsError(f"weights {spec!r}: {reason}, and it is none of {', '.join(names)}; {hint}")


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a file of weights. Its content says what it is; its suffix does not matter.

    Reads MindSpore's ``.ckpt``, ``.safetensors``, and both of PyTorch's ``.pth`` formats, these
    without PyTorch and without running what the pickle in them asks for.

    Args:
        path: of the file.

    Returns: arrays by the file's names, and the strings beside them. In a ``.pth`` a wrapper such
    as ``{"state_dict": {...}}`` is taken off.

    Raises: WeightsError, one line, for a file that is missing, empty, cut short, of another kind,
    or that asks for anything but tensors.
    """
    path = Path(path)
    try:
        arrays, metadata = _read(path)
    except WeightsError as error:
        # One line, whatever names the file has.
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(f"{path}: {reason}") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise WeightsError(f"{path}: does not fit into memory, or is damaged") from None
    except Exception as error:  # a broken file can make a parser raise anything
        raise WeightsError(
            f"{path}: damaged or cut short ({type(error).__name__}); download or copy it again"
        ) from error
    if not arrays:
        raise WeightsError(f"{path}: holds no tensors; give a checkpoint with a network's weights")
    return Checkpoint(arrays, metadata, path)


def drop_bookkeeping(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Leave out what belongs to the optimizer and to the training loop.

    Those are ``num_batches_tracked``, names in ``BOOKKEEPING_NAMES`` and names that begin as in
    ``BOOKKEEPING_PREFIXES``.
    """
    return {
        name: array
        for name, array in arrays.items()
        if not name.startswith(BOOKKEEPING_PREFIXES)
        and name not in BOOKKEEPING_NAMES
        and name.rpartition(".")[2] != "num_batches_tracked"
    }


def load_into(
    cells: Iterable[nn.Cell],
    arrays: Mapping[str, NDArray[Any]],
    *,
    source: str,
    reporter: Reporter,
    rename: Callable[[str], str] = str,
    reset: Collection[str] = (),
) -> None:
    """Copy a checkpoint into a network; every array and every parameter is accounted for.

    Args:
        cells: all stages and the head, so all parameters, moving statistics included.
        arrays: by the file's names, without bookkeeping (``drop_bookkeeping``).
        source: the file, for messages.
        reporter: told of each array that is left out.
        rename: from the file's name of an array to the network's name of the parameter.
        reset: parameters that keep the values they have, whether or not the file has them: the
            new head's.

    Raises: WeightsError where names or shapes do not match exactly, apart from ``reset``. The
    network is unchanged then. Values are copied exactly; other float types become float32.
    """
    from mindspore import Tensor

    parameters = {
        parameter.name: parameter for cell in cells for parameter in cell.get_parameters()
    }
    names = {key: rename(key) for key in arrays}
    wanted = {name for name in parameters if name not in reset}
    given = {name: key for key, name in names.items() if name not in reset}
    if len(given) < sum(name not in reset for name in names.values()):
        twice = [key for key, name in names.items() if given.get(name, key) != key]
        raise WeightsError(f"{source}: two arrays for one parameter: {_shorten(twice)}")
    missing = [name for name in parameters if name in wanted and name not in given]
    surplus = [key for name, key in given.items() if name not in wanted]
    if missing or surplus:
        raise WeightsError(
            f"{source}: does not fit the network. Missing in the file: {_shorten(missing)}; "
            f"unknown to the network: {_shorten(surplus)}."
        )
    wrong = [
        f"{key} {arrays[key].shape} instead of {tuple(parameters[name].shape)}"
        for name, key in given.items()
        if arrays[key].shape != tuple(parameters[name].shape)
    ]
    if wrong:
        raise WeightsError(f"{source}: shapes do not fit the network: {_shorten(wrong)}.")
    for key, name in names.items():
        if name in reset:
            reporter.info(f"Delete parameter from checkpoint: {key}")
    for name, key in given.items():
        # A copy: the parameter must not share memory with the caller's array.
        parameters[name].set_data(Tensor(np.array(arrays[key], dtype=np.float32)))


def draw_head(
    num_classes: int, features: int, seed: int, *, std: float = 0.01
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Draw the weights of a new classification layer; a function of its arguments alone.

    Small weights make the first answers nearly even over the classes, so that the first gradients
    say something about the images and not about the draw.

    Args:
        num_classes: outputs.
        features: inputs.
        seed: of the run.
        std: of the normal distribution the weights are drawn from.

    Returns: weight float32 (num_classes, features) and bias float32 (num_classes,), which is zero.
    """
    weight = np.random.default_rng(seed).normal(0.0, std, (num_classes, features))
    return weight.astype(np.float32), np.zeros(num_classes, np.float32)


def _shorten(names: Sequence[str]) -> str:
    if not names:
        return "nothing"
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


_Content = tuple[dict[str, NDArray[Any]], dict[str, str]]


def _read(path: Path) -> _Content:
    if not path.exists():
        raise WeightsError("there is no such file")
    if path.is_dir():
        raise WeightsError("is a folder; give the file of weights in it")
    size = path.stat().st_size
    if not size:
        raise WeightsError("the file is empty; download or copy it again")
    with path.open("rb") as file:
        start = file.read(9)
    if start.startswith(b"PK\x03\x04"):
        return _from_pickled(torch_files.read_zip(path))
    if start.startswith(b"\x80"):
        return _from_pickled(torch_files.read_legacy(path))
    if start[8:] == b"{" and start[4:8] == bytes(4):  # after the header's length, under 4 GB
        return _read_safetensors(path)
    if start.startswith(b"\x0a") and not start.isspace():
        return _read_ckpt(path)
    raise WeightsError(
        f"begins with {start[:8]!r}, which is neither MindSpore's .ckpt nor .safetensors nor "
        "PyTorch's .pth; download or copy it again"
    )


def _from_pickled(value: object) -> _Content:
    table = value
    metadata: dict[str, str] = {}
    for _ in range(2):
        if not isinstance(table, dict):
            raise WeightsError("holds something other than a dictionary of tensors")
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


_SAFETENSORS_TYPES = {
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


def _read_safetensors(path: Path) -> _Content:
    # The format is a length, a JSON header and the data. The library's readers for NumPy lack
    # bfloat16, and the one without NumPy has changed its signature between versions.
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    data = memoryview(content)[8 + length :]
    metadata = header.pop("__metadata__", {})
    arrays: dict[str, NDArray[Any]] = {}
    for name, tensor in header.items():
        kind, (start, stop) = tensor["dtype"], tensor["data_offsets"]
        if kind not in _SAFETENSORS_TYPES:
            raise WeightsError(f"{name} has type {kind}, which is not read")
        if not 0 <= start <= stop <= len(data):
            raise WeightsError("the file ends before its data do; download or copy it again")
        array = np.frombuffer(data[start:stop], _SAFETENSORS_TYPES[kind])
        arrays[name] = _shaped(_widen(array) if kind == "BF16" else array, tensor["shape"])
    return arrays, {str(key): str(value) for key, value in metadata.items()}


_CKPT_TYPES = {
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


def _read_ckpt(path: Path) -> _Content:
    # Not by `mindspore.load_checkpoint`: it refuses other suffixes, logs what it raises, and
    # trusts the shape in the file, so that a wrong one reads beyond the data (2.10.0).
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from mindspore.train.checkpoint_pb2 import Checkpoint as Message

    content = path.read_bytes()
    if content[-17:-10] == b"crc_num":
        if zlib.crc32(content[:-17]) != int.from_bytes(content[-10:], "big"):
            raise WeightsError("damaged, its check sum does not fit; download or copy it again")
        content = content[:-17]
    message = Message()
    try:
        message.ParseFromString(content)
    except DecodeError:
        raise WeightsError(
            "damaged, cut short, or not a checkpoint of MindSpore; download or copy it again"
        ) from None
    slices: dict[str, list[Any]] = {}
    for value in message.value:
        if not value.HasField("tensor"):
            raise WeightsError(f"{value.tag} is a hash table, which is not read")
        slices.setdefault(value.tag, []).append(value.tensor)
    arrays: dict[str, NDArray[Any]] = {}
    metadata: dict[str, str] = {}
    for name, parts in slices.items():
        # A large tensor is saved in slices, each with the shape of the whole.
        data = b"".join(part.tensor_content for part in parts)
        kind, shape = parts[0].tensor_type, tuple(parts[0].dims)
        if kind == "str":
            metadata[name] = data.decode("utf-32-le").rstrip("\0")
            continue
        if kind not in _CKPT_TYPES:
            raise WeightsError(f"{name} has type {kind}, which is not read")
        array = np.frombuffer(data, _CKPT_TYPES[kind])
        if shape == (0,):  # how older versions write a scalar
            shape = ()
        arrays[name] = _shaped(_widen(array) if kind == "BFloat16" else array, shape)
    return arrays, metadata


def _widen(bits: NDArray[Any]) -> NDArray[Any]:
    """Turn bfloat16, given as uint16, into float32: the upper half of its bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _shaped(flat: NDArray[Any], shape: Sequence[Any]) -> NDArray[Any]:
    """Give data the shape that a file names, which may be wrong."""
    # To NumPy -1 means "what is left".
    if not all(type(length) is int and length >= 0 for length in shape):
        raise WeightsError("a tensor with a shape that is none; download or copy the file again")
    return flat.reshape(tuple(shape))

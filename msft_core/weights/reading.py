"""Read a file of weights, whichever program wrote it, into arrays by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from msft_core.errors import WeightsError
from msft_core.weights.formats import Content, ckpt, safetensors, torch


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The content of a file of weights.

    Args:
        arrays: arrays by the file's own names; bfloat16 as float32, other types unchanged.
        metadata: strings saved beside the arrays (``append_dict`` of a ``.ckpt``, the header of a
            ``.safetensors``, plain values of a ``.pth``).
        path: the file.
    """

    arrays: dict[str, NDArray[Any]]
    metadata: dict[str, str]
    path: Path


_KEPT: ContextVar[Checkpoint | None] = ContextVar("kept", default=None)


@contextmanager
def kept(checkpoint: Checkpoint) -> Iterator[None]:
    """Let ``read_checkpoint`` of this file return its content again, inside the block.

    A finished run reads its checkpoint to know which plugin it needs; the plugin then reads it too.
    """
    token = _KEPT.set(checkpoint)
    try:
        yield
    finally:
        _KEPT.reset(token)


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a file of weights. The file's content decides its format; the suffix does not matter.

    Reads MindSpore's ``.ckpt``, ``.safetensors``, and both of PyTorch's ``.pth`` formats. Reading a
    ``.pth`` needs no PyTorch and runs no code from the pickle in it.

    Args:
        path: the file.

    Returns: arrays by the file's names, and the strings beside them. A wrapper in a ``.pth`` such
    as ``{"state_dict": {...}}`` is removed.

    Raises: WeightsError, one line, if the file is missing, empty, cut short or of another format,
    or if its pickle asks for anything but tensors.
    """
    path = Path(path)
    again = _KEPT.get()
    if again is not None and again.path.absolute() == path.absolute():
        return replace(again, arrays=dict(again.arrays))
    try:
        arrays, metadata = _read(path)
    except WeightsError as error:
        # One line, whichever names the file contains.
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(f"{path}: {reason}") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise WeightsError(f"{path}: the file does not fit into memory, or is damaged") from None
    except Exception as error:  # a broken file can make a parser raise anything
        raise WeightsError(
            f"{path}: the file is damaged or cut short ({type(error).__name__}); download or copy "
            "it again"
        ) from error
    if not arrays:
        raise WeightsError(f"{path}: the file holds no tensors; give a network's checkpoint")
    return Checkpoint(arrays, metadata, path)


def _read(path: Path) -> Content:
    if not path.exists():
        raise WeightsError("there is no such file")
    if path.is_dir():
        raise WeightsError("this is a folder; give the weights file in it")
    size = path.stat().st_size
    if not size:
        raise WeightsError("the file is empty; download or copy it again")
    with path.open("rb") as file:
        start = file.read(9)
    if start.startswith(b"PK\x03\x04"):
        return torch.read(path, legacy=False)
    if start.startswith(b"\x80"):
        return torch.read(path, legacy=True)
    if start[8:] == b"{" and start[4:8] == bytes(4):  # after the header's length, under 4 GB
        return safetensors.read(path)
    if start.startswith(b"\x0a") and not start.isspace():
        return ckpt.read(path)
    raise WeightsError(
        f"the file begins with {start[:8]!r}, so it is neither MindSpore's .ckpt nor .safetensors "
        "nor PyTorch's .pth; download or copy it again"
    )

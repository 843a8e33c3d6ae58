"""From a file of weights, whatever wrote it, to arrays by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from msft_core.errors import WeightsError
from msft_core.weights.formats import Content, ckpt, safetensors, torch


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


def _read(path: Path) -> Content:
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
        return torch.read(path, legacy=False)
    if start.startswith(b"\x80"):
        return torch.read(path, legacy=True)
    if start[8:] == b"{" and start[4:8] == bytes(4):  # after the header's length, under 4 GB
        return safetensors.read(path)
    if start.startswith(b"\x0a") and not start.isspace():
        return ckpt.read(path)
    raise WeightsError(
        f"begins with {start[:8]!r}, which is neither MindSpore's .ckpt nor .safetensors nor "
        "PyTorch's .pth; download or copy it again"
    )

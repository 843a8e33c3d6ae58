"""Formats of weights files, one module for each. All are read; ``.ckpt`` is also written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msft_core.errors import WeightsError

MOST_TEXT = 16 << 20
"""Bytes of a header or a pickle at most. That of a network has a few hundred kB; read as Python's
objects, text takes up to 64 times its size."""

Content = tuple[dict[str, NDArray[Any]], dict[str, str]]


def widen(bits: NDArray[Any]) -> NDArray[Any]:
    """Turn bfloat16, given as uint16, into contiguous float32: its bits are the upper half."""
    return (bits.astype(np.uint32, order="C") << 16).view(np.float32)


def shaped(flat: NDArray[Any], shape: Sequence[Any]) -> NDArray[Any]:
    """Give data the shape that a file names. The file's shape may be wrong."""
    # NumPy would take -1 as "the rest".
    if not all(type(length) is int and length >= 0 for length in shape):
        raise WeightsError("a tensor has an invalid shape; download or copy the file again")
    return flat.reshape(tuple(shape))

"""Features in float16: half the bytes, and each value is off by up to 2^-11 of itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from msft_core.errors import UsageError
from msft_core.types import Array

HALF = "float16"
"""The value of ``cache.dtype``."""

PRECISION = 2.0**-11
"""Greatest relative difference of a value from its float16; half of that is usual."""


def stored_dtype(dtype: np.dtype[Any], wanted: str) -> np.dtype[Any]:
    """The dtype in which features are stored: that of the stages, unless float16 is shorter.

    Args:
        dtype: of the features as the stages compute them.
        wanted: ``cache.dtype``.
    """
    halves = wanted == HALF and dtype.kind == "f" and dtype.itemsize > 2
    return np.dtype(np.float16) if halves else dtype


def halved(features: Array, stages: str) -> Array:
    """Features in float16, of the same shape.

    Args:
        features: floating-point numbers.
        stages: names what computed them.

    Raises:
        UsageError: values are too large for float16.
    """
    half = _half(features)
    if not np.array_equal(np.isfinite(half), np.isfinite(features)):
        largest = np.abs(features[np.isfinite(features)]).max()
        raise UsageError(
            f"the features of the frozen stages {stages} are up to {largest:.4g}, and float16 ends "
            "at 65504: use --set cache.dtype=float32."
        )
    return half


def require_digits(features: Array, stages: str) -> None:
    """Refuse features of a few images that are so small that float16 has few digits for them.

    A single image, such as one of one colour, may well have features close to zero.

    Args:
        features: see ``halved``.
        stages: see ``halved``.

    Raises:
        UsageError: they are.
    """
    largest = float(np.abs(features).max(initial=0))
    with np.errstate(invalid="ignore"):  # infinity less infinity
        error = np.linalg.norm((rounded(features) - features).reshape(-1))
    # Below 2^-14 float16 has ever fewer digits, and the squares of the norms would vanish too.
    if 0 < largest < 2.0**-14 or error > PRECISION * np.linalg.norm(features.reshape(-1)):
        raise UsageError(
            f"the features of the frozen stages {stages} are so small, up to {largest:.3g}, that "
            "they lose digits in float16: use --set cache.dtype=float32."
        )


def rounded(features: Array) -> Array:
    """What is read where ``halved`` features were stored, in the dtype of ``features``.

    Values that are too large for float16 stay as they are.
    """
    half = _half(features)
    same: Array = np.where(np.isfinite(half), half, features).astype(features.dtype)
    return same


def _half(features: Array) -> Array:
    with np.errstate(over="ignore"):
        return features.astype(np.float16)

"""The dataset ``digits``: scikit-learn's 1797 handwritten digits, which are in no file of yours."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Annotated, Any

from msft_core import Component, DatasetSplits, Settings, hookimpl
from pydantic import Field

if TYPE_CHECKING:
    import numpy as np

msft_api = "0.3"

MARGIN = 1
"""Pixels of black around each digit, which evaluation's centre crop would cut into otherwise."""


class DigitsSettings(Settings):
    """``dataset.*`` of ``digits``."""

    classes: frozenset[Annotated[int, Field(ge=0, le=9)]] = Field(
        frozenset(range(10)), min_length=2, description="which digits"
    )
    per_class: int | None = Field(
        None, ge=2, description="at most so many images of a digit; by default all, 174 to 183"
    )
    val_fraction: float = Field(0.2, gt=0, lt=1, description="part of each digit set apart")
    split_seed: int = Field(0, ge=0, description="another one sets other images apart")


@hookimpl
def list_components() -> list[Component]:
    """Offer ``digits``."""
    summary = "1797 handwritten digits that come with scikit-learn"
    return [Component("dataset", "digits", summary, DigitsSettings)]


@hookimpl
def build_dataset(name: str, settings: DigitsSettings) -> DatasetSplits | None:
    """The digits, divided class by class."""
    if name != "digits":
        return None
    import numpy as np
    from msft_core.images import MemoryTable
    from sklearn.datasets import load_digits

    digits = load_digits()
    random = np.random.default_rng(settings.split_seed)
    train: list[tuple[int, int]] = []  # rows of `digits` and their labels here
    val: list[tuple[int, int]] = []
    classes = sorted(settings.classes)
    for label, digit in enumerate(classes):
        rows = random.permutation(np.flatnonzero(digits.target == digit))[: settings.per_class]
        apart = min(max(1, round(len(rows) * settings.val_fraction)), len(rows) - 1)
        val += [(int(row), label) for row in rows[:apart]]
        train += [(int(row), label) for row in rows[apart:]]
    tables = []
    for split in (train, val):
        ids = tuple(f"digit-{row}" for row, _ in split)
        blobs = tuple(png(digits.images[row]) for row, _ in split)
        tables.append(MemoryTable(ids, tuple(label for _, label in split), blobs))
    names = tuple(str(digit) for digit in classes)
    return DatasetSplits(names, tables[0], tables[1], "handwritten digits of scikit-learn")


def png(image: np.ndarray[Any, Any]) -> bytes:
    """An 8x8 image with values 0 to 16, within a margin, as an 8-bit grey PNG of 10x10."""
    import numpy as np
    from PIL import Image

    pixels = np.pad(np.rint(image * (255 / 16)).astype(np.uint8), MARGIN)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()

"""The dataset ``example``: circles and squares, drawn in memory.

A dataset returns encoded images. msft decodes, checks and augments them.
"""

from __future__ import annotations

import io
import random
from typing import TYPE_CHECKING

from msft_core import Component, DatasetSplits, Settings, hookimpl
from pydantic import Field

if TYPE_CHECKING:
    from msft_core.images import MemoryTable

msft_api = "0.4"

CLASSES = ("circles", "squares")
SIDE = 96  # pixels


class ExampleSettings(Settings):
    """``dataset.*`` where the dataset is ``example``."""

    train_per_class: int = Field(40, ge=1, description="training images in each class")
    val_per_class: int = Field(10, ge=1, description="validation images in each class")
    noise: int = Field(20, ge=0, le=255, description="greatest random change of a colour, of 255")


@hookimpl
def list_components() -> list[Component]:
    """The components of this plugin. Keep it fast: import heavy modules only where needed."""
    summary = "drawn circles and squares"
    return [Component("dataset", "example", summary, ExampleSettings)]


@hookimpl
def build_dataset(name: str, settings: ExampleSettings) -> DatasetSplits | None:
    """Training and validation images with one list of classes."""
    if name != "example":
        return None
    return DatasetSplits(
        classes=CLASSES,
        train=_table("train", settings.train_per_class, settings.noise),
        val=_table("val", settings.val_per_class, settings.noise),
        description="circles and squares drawn by a program",
    )


def _table(split: str, per_class: int, noise: int) -> MemoryTable:
    from msft_core.images import MemoryTable  # imports NumPy and Pillow

    images = [(label, number) for label in range(len(CLASSES)) for number in range(per_class)]
    # An id must be unique and the same in every run: an image's augmentations depend on it.
    ids = tuple(f"{split}/{CLASSES[label]}/{number}.png" for label, number in images)
    labels = tuple(label for label, _ in images)
    return MemoryTable(ids, labels, tuple(map(_draw, ids, labels, [noise] * len(ids))))


def _draw(image_id: str, label: int, noise: int) -> bytes:
    from PIL import Image, ImageDraw

    chance = random.Random(image_id)
    paper, ink = [tuple(base + chance.randint(0, noise) for _ in range(3)) for base in (200, 40)]
    picture = Image.new("RGB", (SIDE, SIDE), paper)
    radius = chance.randint(SIDE // 6, SIDE // 3)
    x, y = chance.randint(radius, SIDE - radius), chance.randint(radius, SIDE - radius)
    draw = ImageDraw.Draw(picture)
    shape = draw.ellipse if CLASSES[label] == "circles" else draw.rectangle
    shape((x - radius, y - radius, x + radius, y + radius), fill=ink)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()

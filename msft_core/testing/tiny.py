"""A plugin for tests: a small dataset in memory and a very small backbone.

Both components are called ``tiny``. ``msft_run`` adds the plugin. On the command line, use
``--plugin msft_core.testing.tiny``.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from msft_core import (
    Backbone,
    Component,
    Context,
    DatasetSplits,
    Preprocessing,
    Settings,
    Stage,
    hookimpl,
)

if TYPE_CHECKING:
    from mindspore import nn

    from msft_core.images import MemoryTable

CLASSES = ("blue", "red")


class TinyDatasetSettings(Settings):
    """Number of images per class."""

    train_per_class: int = 8
    val_per_class: int = 4


class TinyBackboneSettings(Settings):
    """Sizes of the network, for tests that vary them."""

    image_size: int = 16
    width: int = 4


@hookimpl
def list_components() -> list[Component]:
    """Offer a dataset and a backbone, both called ``tiny``."""
    return [
        Component("dataset", "tiny", "blue and red squares", TinyDatasetSettings),
        Component("backbone", "tiny", "two stages with batch norm", TinyBackboneSettings),
    ]


def picture(label: int, number: int) -> bytes:
    """Return a JPEG image, mostly blue or mostly red, with random texture."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng([label, number])
    pixels = random.integers(0, 120, (24, 32, 3), np.uint8)
    pixels[..., 0 if label else 2] += 110
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def table(per_class: int, start: int = 0) -> MemoryTable:
    """Return a table with this number of images per class."""
    from msft_core.images import MemoryTable

    rows = [(label, start + i) for label in range(len(CLASSES)) for i in range(per_class)]
    return MemoryTable(
        tuple(f"{CLASSES[label]}/{number}.jpg" for label, number in rows),
        tuple(label for label, _ in rows),
        tuple(picture(label, number) for label, number in rows),
    )


@hookimpl
def build_dataset(
    name: str, settings: TinyDatasetSettings, context: Context
) -> DatasetSplits | None:
    """Draw blue and red squares."""
    if name != "tiny":
        return None
    return DatasetSplits(
        CLASSES,
        table(settings.train_per_class),
        table(settings.val_per_class, start=1000),
        "Squares",
    )


@hookimpl
def build_backbone(name: str, num_classes: int, settings: TinyBackboneSettings) -> Backbone | None:
    """Build two convolutions, the first with dropout, a pool and a head."""
    if name != "tiny":
        return None
    from mindspore import nn

    from msft_core.stages import Dropout, Pool, prefix_names

    width = settings.width

    def block(channels: int, out: int, *more: nn.Cell) -> nn.Cell:
        convolution = nn.Conv2d(channels, out, 3, stride=2)
        return nn.SequentialCell([convolution, nn.BatchNorm2d(out), nn.ReLU(), *more])

    return Backbone(
        name="tiny",
        stages=(
            Stage("first", prefix_names(block(3, width, Dropout(p=0.5)), "first")),
            Stage("second", prefix_names(block(width, 2 * width), "second")),
            Stage("pool", Pool()),
        ),
        head=prefix_names(nn.Dense(2 * width, num_classes), "head"),
        preprocessing=Preprocessing(settings.image_size, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        weights="random",
    )

"""The backbone ``example``: a small convolutional network in three stages.

The network is ``head(pool(third(second(first(images)))))``. A strategy trains or freezes whole
stages, so two stages must not share a parameter.
"""

from __future__ import annotations

from msft_core import Backbone, Component, Context, Preprocessing, Settings, Stage, hookimpl
from pydantic import Field

msft_api = "0.3"


class ExampleSettings(Settings):
    """``backbone.*`` where the backbone is ``example``."""

    image_size: int = Field(64, ge=16, le=512, description="side of the square input, pixels")
    width: int = Field(16, ge=1, description="channels of the first stage; each next one doubles")
    dropout: float = Field(0.0, ge=0, lt=1, description="fraction of inputs that the head drops")


@hookimpl
def list_components() -> list[Component]:
    """The components of this plugin. Keep it fast: import heavy modules only where needed."""
    summary = "three convolutional stages"
    return [Component("backbone", "example", summary, ExampleSettings)]


@hookimpl
def build_backbone(
    name: str,
    num_classes: int,
    settings: ExampleSettings,
    context: Context,
) -> Backbone | None:
    """Make the network. msft has set MindSpore's seed, so every run draws the same weights."""
    if name != "example":
        return None
    from msft_core.stages import Head, Pool  # imports MindSpore

    width = settings.width
    return Backbone(
        name="example",
        stages=(
            _stage("first", 3, width),
            _stage("second", width, 2 * width),
            _stage("third", 2 * width, 4 * width),
            Stage("pool", Pool()),
        ),
        head=Head(4 * width, num_classes, context.seed, dropout=settings.dropout),
        preprocessing=Preprocessing(
            settings.image_size, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
        ),
        weights="random",
    )


def _stage(name: str, channels: int, out: int) -> Stage:
    """(N, channels, H, W) to (N, out, H / 2, W / 2)."""
    from mindspore import nn
    from msft_core.stages import prefix_names

    convolution = nn.Conv2d(channels, out, 3, stride=2, weight_init="HeNormal")
    cell = nn.SequentialCell([convolution, nn.BatchNorm2d(out), nn.ReLU()])
    # Parameter names must be unique over all stages and the head.
    return Stage(name, prefix_names(cell, name))

"""A plugin: a backbone without batch norm, so that a batch may be shared by several processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msft_core import Backbone, Component, Preprocessing, Settings, Stage, hookimpl

if TYPE_CHECKING:
    from mindspore import nn


@hookimpl
def list_components() -> list[Component]:
    """Offer ``no_norm``."""
    return [Component("backbone", "no_norm", "two convolutions and dropout", Settings)]


@hookimpl
def build_backbone(name: str, num_classes: int) -> Backbone | None:
    """Build two stages, dropout in both, a pool and a head."""
    if name != "no_norm":
        return None
    from mindspore import nn

    from msft_core.stages import Dropout, Pool, prefix_names

    def block(channels: int, out: int) -> nn.Cell:
        convolution = nn.Conv2d(channels, out, 3, stride=2, has_bias=True)
        return nn.SequentialCell([convolution, nn.ReLU(), Dropout(p=0.2)])

    return Backbone(
        name=name,
        stages=(
            Stage("first", prefix_names(block(3, 8), "first")),
            Stage("second", prefix_names(block(8, 16), "second")),
            Stage("pool", Pool()),
        ),
        head=prefix_names(nn.Dense(16, num_classes), "head"),
        preprocessing=Preprocessing(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        weights="random",
    )

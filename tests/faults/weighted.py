"""A plugin: the backbone ``weighted``, the tiny one of the test kit with a setting ``weights``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from msft_core import Backbone, Component, Context, hookimpl
from msft_core.settings import NameOrFile
from msft_core.testing import tiny

HEAD = ("head.weight", "head.bias")


class WeightedSettings(tiny.TinyBackboneSettings):
    """Sizes, and the weights."""

    weights: NameOrFile = "none"


@hookimpl
def list_components() -> list[Component]:
    """Offer the backbone."""
    return [Component("backbone", "weighted", "tiny, with weights", WeightedSettings)]


@hookimpl
def build_backbone(
    name: str, num_classes: int, settings: WeightedSettings, context: Context
) -> Backbone | None:
    """Build the tiny backbone, and load a file into it."""
    if name != "weighted":
        return None
    from msft_core.weights import drop_bookkeeping, load_into, read_checkpoint, resolve_weights

    made: Any = tiny.build_backbone("tiny", num_classes, settings)
    path = resolve_weights(settings.weights, context, {})
    if path is not None:
        cells = [*(stage.cell for stage in made.stages), made.head]
        arrays = drop_bookkeeping(read_checkpoint(path).arrays)
        load_into(cells, arrays, source=str(path), reporter=context.reporter, reset=HEAD)
    return replace(made, name="weighted", weights=settings.weights)

"""The strategy ``bitfit``: biases, norms and the head train; every weight of the backbone stays.

After Ben Zaken, Goldberg and Ravfogel, "BitFit: Simple Parameter-efficient Fine-tuning for
Transformer-based Masked Language-models", 2022, arXiv:2106.10199. The scales of norms train too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msft_core import (
    Backbone,
    Component,
    OptimizerSpec,
    ParameterGroup,
    Settings,
    Trainable,
    UsageError,
    hookimpl,
)
from pydantic import Field

if TYPE_CHECKING:
    from mindspore import nn

msft_api = "0.3"


class BitfitSettings(Settings):
    """``strategy.*`` of ``bitfit``."""

    learning_rate: float = Field(1e-2, gt=0, description="peak learning rate")
    optimizer: Literal["momentum", "adam"] = Field("adam", description="which optimizer")


@hookimpl
def list_components() -> list[Component]:
    """Offer ``bitfit``."""
    return [Component("strategy", "bitfit", "biases, norms and the head train", BitfitSettings)]


@hookimpl
def select_trainable(name: str, backbone: Backbone, settings: BitfitSettings) -> Trainable | None:
    """Biases and norms of all stages, and the whole head, at one rate.

    Batch norms that train use a batch's own statistics and update the moving ones, as they do in
    full fine-tuning: that follows from ``Trainable.batch_norm``.
    """
    if name != "bitfit":
        return None
    from msft_core.stages import learned_names  # imports MindSpore

    names = [name for stage in backbone.stages for name in biases_and_norms(stage.cell)]
    if not names:
        what = f"{backbone.name} has neither biases nor norms before its head"
        raise UsageError(f"strategy bitfit: {what}; use --strategy freeze.")
    group = ParameterGroup((*dict.fromkeys(names), *learned_names(backbone.head)))
    spec = OptimizerSpec(settings.optimizer, settings.learning_rate, schedule="cosine")
    return Trainable((group,), spec)


def biases_and_norms(cell: nn.Cell) -> list[str]:
    """Names of the parameters in it that are a norm's scale or shift, or another layer's bias.

    What a layer holds decides, not the parameter's name, which a backbone may choose. A norm holds
    a gamma and a beta, or a weight and a bias that are both vectors.
    """
    names = []
    for _, layer in cell.cells_and_names():
        own = dict(layer.parameters_and_names(expand=False))  # by the layer's own attributes
        wanted = {name for name in own if name.endswith("bias") and own[name].ndim == 1}
        if {"gamma", "beta"} <= own.keys():
            wanted |= {"gamma", "beta"}
        if "bias" in wanted and "weight" in own and own["weight"].ndim == 1:
            wanted.add("weight")
        names += [own[name].name for name in own if name in wanted]
    return names

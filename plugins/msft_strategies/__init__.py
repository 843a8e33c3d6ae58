"""The strategies ``finetune`` (everything trains) and ``freeze`` (only the head does)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from msft_core import (
    Backbone,
    Component,
    OptimizerSpec,
    ParameterGroup,
    Settings,
    Trainable,
    hookimpl,
)


class OptimizerSettings(Settings):
    """What both strategies let one choose."""

    learning_rate: float = Field(3e-3, gt=0, description="peak learning rate")
    optimizer: Literal["momentum", "adam"] = Field("adam", description="which optimizer")
    momentum: float = Field(0.9, ge=0, lt=1, description="of the momentum optimizer")
    weight_decay: float = Field(0.0, ge=0, description="of weights; biases and norms have none")
    schedule: Literal["constant", "cosine"] = Field("cosine", description="shape of the rate")
    warmup_epochs: float = Field(0.0, ge=0, description="epochs over which the rate rises")
    batch_norm: Literal["frozen_eval", "batch"] = Field(
        "frozen_eval",
        description="batch: frozen batch norms too use batch statistics, as the tutorials' do",
    )

    def trainable(self, *groups: ParameterGroup) -> Trainable:
        """These groups, trained as the settings say."""
        spec = OptimizerSpec(
            name=self.optimizer,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            warmup_epochs=self.warmup_epochs,
        )
        return Trainable(groups, spec, self.batch_norm)


class FreezeSettings(OptimizerSettings):
    """``strategy.*`` of ``freeze``."""


class FinetuneSettings(OptimizerSettings):
    """``strategy.*`` of ``finetune``."""

    optimizer: Literal["momentum", "adam"] = Field("momentum", description="which optimizer")
    learning_rate: float = Field(3e-2, gt=0, description="peak learning rate")
    stage_decay: float = Field(
        0.5, gt=0, le=1, description="the rate of each stage, as a fraction of the next one's"
    )


@hookimpl
def list_components() -> list[Component]:
    """Offer both."""
    return [
        Component("strategy", "finetune", "every parameter trains", FinetuneSettings),
        Component("strategy", "freeze", "only the head trains; the rest stays", FreezeSettings),
    ]


@hookimpl
def select_trainable(name: str, backbone: Backbone, settings: Settings) -> Trainable | None:
    """The head, and under ``finetune`` the stages before it."""
    from msft_core.stages import learned_names  # imports MindSpore

    head = learned_names(backbone.head)
    if isinstance(settings, FreezeSettings):
        return settings.trainable(ParameterGroup(head))
    if isinstance(settings, FinetuneSettings):
        return settings.trainable(*_decaying(backbone, settings.stage_decay), ParameterGroup(head))
    return None


def _decaying(backbone: Backbone, decay: float) -> list[ParameterGroup]:
    """A group for each stage with parameters; the one before the head has rate factor ``decay``."""
    from msft_core.stages import learned_names

    names = [learned_names(stage.cell) for stage in backbone.stages]
    groups, factor = [], 1.0
    for of_stage in reversed([n for n in names if n]):
        factor *= decay
        groups.append(ParameterGroup(of_stage, factor))
    return groups[::-1]

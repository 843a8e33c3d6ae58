"""What each strategy lets one choose, with the defaults that docs/defaults.md measures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, AllowInfNan, Field

from msft_core import OptimizerSpec, ParameterGroup, Settings, Trainable


def _ascending(epochs: tuple[int, ...]) -> tuple[int, ...]:
    if list(epochs) != sorted(set(epochs)):
        raise ValueError("each epoch must be later than the one before it")
    return epochs


Finite = Annotated[float, AllowInfNan(False)]

# docs/defaults.md has what the sample dataset does at these rates and beyond. Outside, no strategy
# learns anything in a usual number of epochs, or its loss explodes.
RATES_OF_HEAD = {"adam": (3e-5, 0.3), "momentum": (1e-4, 1.0)}
"""Usual learning rates of a head on frozen stages, by optimizer."""

RATES_OF_STAGES = {"adam": (1e-6, 0.03), "momentum": (1e-4, 0.3)}
"""Likewise where pretrained stages train."""

# In epoch 1 only the head trains.
LaterEpochs = Annotated[tuple[Annotated[int, Field(ge=2)], ...], AfterValidator(_ascending)]


class OptimizerSettings(Settings):
    """Settings that all strategies have."""

    learning_rate: Finite = Field(3e-3, gt=0, description="peak learning rate")
    optimizer: Literal["momentum", "adam"] = Field("adam", description="the optimizer")
    momentum: Finite = Field(0.9, ge=0, lt=1, description="momentum of the momentum optimizer")
    weight_decay: Finite = Field(0.0, ge=0, description="for weights; biases and norms have none")
    schedule: Literal["constant", "cosine"] = Field(
        "cosine", description="how the learning rate changes during the run"
    )
    warmup_epochs: Finite = Field(
        0.0, ge=0, description="epochs in which the learning rate rises to its peak"
    )
    batch_norm: Literal["frozen_eval", "batch"] = Field(
        "frozen_eval",
        description="batch: frozen batch norms also use batch statistics, as in the tutorials",
    )

    @property
    def usual_rates(self) -> tuple[float, float]:
        """The lowest and the highest learning rate that make sense."""
        return RATES_OF_HEAD[self.optimizer]

    def trainable(self, *groups: ParameterGroup) -> Trainable:
        """The strategy's result: these groups, trained according to the settings."""
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
    """``strategy.*`` of the strategy ``freeze``."""


class StagesSettings(OptimizerSettings):
    """Settings of the strategies that train stages and not only the head."""

    stage_decay: Finite = Field(
        0.5, gt=0, le=1, description="rate of each stage, as a fraction of the next stage's rate"
    )

    @property
    def usual_rates(self) -> tuple[float, float]:
        """See ``OptimizerSettings``."""
        return RATES_OF_STAGES[self.optimizer]


class FinetuneSettings(StagesSettings):
    """``strategy.*`` of the strategy ``finetune``."""

    optimizer: Literal["momentum", "adam"] = Field("momentum", description="the optimizer")
    learning_rate: Finite = Field(3e-2, gt=0, description="peak learning rate")


class PartialSettings(StagesSettings):
    """``strategy.*`` of the strategy ``partial``."""

    from_stage: str | None = Field(
        None,
        alias="from",
        description="the first stage that trains; by default the last stage with parameters",
    )


class GradualSettings(StagesSettings):
    """``strategy.*`` of the strategy ``gradual``."""

    stage_decay: Finite = Field(
        0.385, gt=0, le=1, description="rate of each stage, as a fraction of the next stage's rate"
    )
    at: LaterEpochs = Field(
        (4, 7),
        description="epochs, from 1, in which a stage joins: the last with parameters joins first",
    )

"""What each strategy lets one choose, with the defaults that docs/defaults.md measures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from msft_core import OptimizerSpec, ParameterGroup, Settings, Trainable


def _ascending(epochs: tuple[int, ...]) -> tuple[int, ...]:
    if list(epochs) != sorted(set(epochs)):
        raise ValueError("each epoch must be above the one before it")
    return epochs


# The head has epoch 1 to itself.
LaterEpochs = Annotated[tuple[Annotated[int, Field(ge=2)], ...], AfterValidator(_ascending)]


class OptimizerSettings(Settings):
    """What all strategies let one choose."""

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


class StagesSettings(OptimizerSettings):
    """What the strategies let one choose that train stages and not the head alone."""

    stage_decay: float = Field(
        0.5, gt=0, le=1, description="the rate of each stage, as a fraction of the next one's"
    )


class FinetuneSettings(StagesSettings):
    """``strategy.*`` of ``finetune``."""

    optimizer: Literal["momentum", "adam"] = Field("momentum", description="which optimizer")
    learning_rate: float = Field(3e-2, gt=0, description="peak learning rate")


class PartialSettings(StagesSettings):
    """``strategy.*`` of ``partial``."""

    from_stage: str | None = Field(
        None,
        alias="from",
        description="the first stage that trains; by default the last that has parameters",
    )


class GradualSettings(StagesSettings):
    """``strategy.*`` of ``gradual``."""

    stage_decay: float = Field(
        0.385, gt=0, le=1, description="the rate of each stage, as a fraction of the next one's"
    )
    at: LaterEpochs = Field(
        (4, 7),
        description="epochs, from 1, at which a stage joins: the last one with parameters first",
    )

"""The strategy ``example``: the head and the last stages train.

msft calls it before each epoch. Parameters that are not in its result are frozen in that epoch.
"""

from __future__ import annotations

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

msft_api = "0.4"


class ExampleSettings(Settings):
    """``strategy.*`` where the strategy is ``example``."""

    stages: int = Field(1, ge=0, description="number of last stages that train with the head")
    learning_rate: float = Field(3e-3, gt=0, description="peak learning rate of the head")
    stage_rate: float = Field(0.3, gt=0, description="rate of the stages / rate of the head")


@hookimpl
def list_components() -> list[Component]:
    """The components of this plugin. Keep it fast: import heavy modules only where needed."""
    summary = "the head and the last stages train"
    return [Component("strategy", "example", summary, ExampleSettings)]


@hookimpl
def select_trainable(
    name: str,
    backbone: Backbone,
    settings: ExampleSettings,
) -> Trainable | None:
    """The parameters that train, each group with its rate, and the optimizer.

    Raises:
        UsageError: the backbone has fewer stages with parameters than ``strategy.stages``.
    """
    if name != "example":
        return None
    from msft_core.stages import learned_names  # imports MindSpore

    learned = [names for stage in backbone.stages if (names := learned_names(stage.cell))]
    if settings.stages > len(learned):
        raise UsageError(
            f"strategy.stages = {settings.stages}: {backbone.name} has {len(learned)} stages with "
            "parameters."
        )
    training = learned[len(learned) - settings.stages :]
    head = ParameterGroup(learned_names(backbone.head))
    return Trainable(
        groups=(*(ParameterGroup(names, settings.stage_rate) for names in training), head),
        optimizer=OptimizerSpec("adam", settings.learning_rate, schedule="cosine"),
    )

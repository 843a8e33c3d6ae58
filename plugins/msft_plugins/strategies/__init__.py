"""The strategies ``freeze``, ``partial``, ``gradual`` and ``finetune``."""

from __future__ import annotations

from collections.abc import Sequence

from msft_core import (
    Backbone,
    Component,
    ParameterGroup,
    Run,
    Settings,
    Stage,
    Trainable,
    hookimpl,
)
from msft_plugins.strategies.settings import (
    FinetuneSettings,
    FreezeSettings,
    GradualSettings,
    OptimizerSettings,
    PartialSettings,
)


@hookimpl
def list_components() -> list[Component]:
    """Offer all four."""
    return [
        Component("strategy", "finetune", "every parameter trains", FinetuneSettings),
        Component("strategy", "freeze", "only the head trains", FreezeSettings),
        Component(
            "strategy",
            "partial",
            "one stage, all later stages and the head train",
            PartialSettings,
        ),
        Component(
            "strategy",
            "gradual",
            "first only the head trains; then stages join one by one, the last stage first",
            GradualSettings,
        ),
    ]


@hookimpl
def select_trainable(
    name: str, backbone: Backbone, settings: Settings, epoch: int
) -> Trainable | None:
    """The parameters of the head, and of the stages that the strategy trains in this epoch.

    ``gradual`` is the gradual unfreezing of Howard and Ruder, "Universal Language Model
    Fine-tuning for Text Classification", 2018, arXiv:1801.06146, section 3.3. Its rates decrease
    from stage to stage (section 3.2, "discriminative fine-tuning"); ``partial`` and ``finetune`` do
    the same.
    """
    from msft_core.stages import learned_names  # imports MindSpore, as the next line does
    from msft_plugins.strategies.selecting import decaying, stages_from, stages_joined

    head = ParameterGroup(learned_names(backbone.head))
    if isinstance(settings, FreezeSettings):
        return settings.trainable(head)
    if isinstance(settings, FinetuneSettings):
        stages: Sequence[Stage] = backbone.stages
    elif isinstance(settings, PartialSettings):
        stages = stages_from(backbone, settings.from_stage)
    elif isinstance(settings, GradualSettings):
        stages = stages_joined(backbone, settings.at, epoch)
    else:
        return None
    return settings.trainable(*decaying(stages, settings.stage_decay), head)


@hookimpl
def on_run_start(run: Run) -> None:
    """Warn of a learning rate that is far off, and if stages of ``gradual`` never join."""
    settings, epochs = run.config.strategy.settings, run.config.training.epochs
    if isinstance(settings, OptimizerSettings):
        low, high = settings.usual_rates
        if not low <= settings.learning_rate <= high:
            far = "low" if settings.learning_rate < low else "high"
            run.reporter.warning(
                f"the learning rate {settings.learning_rate:g} is far too {far} for "
                f"{run.config.strategy.name} with {settings.optimizer}, where {low:g} to {high:g} "
                f"is usual. The default of {run.config.strategy.name} is "
                f"{type(settings)().learning_rate:g} with {type(settings)().optimizer}."
            )
    if isinstance(settings, GradualSettings):
        late = [epoch for epoch in settings.at if epoch > epochs]
        if late:
            run.reporter.warning(
                f"strategy.at: no stage joins at {late}, because the run has {epochs} epochs."
            )

"""The strategies ``freeze``, ``partial``, ``gradual`` and ``finetune``: what trains, and when."""

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
    PartialSettings,
)


@hookimpl
def list_components() -> list[Component]:
    """Offer all four."""
    return [
        Component("strategy", "finetune", "every parameter trains", FinetuneSettings),
        Component("strategy", "freeze", "only the head trains; the rest stays", FreezeSettings),
        Component(
            "strategy",
            "partial",
            "a stage and all after it train; what is before it stays",
            PartialSettings,
        ),
        Component(
            "strategy",
            "gradual",
            "the head trains first; then stage after stage joins, from the last backwards",
            GradualSettings,
        ),
    ]


@hookimpl
def select_trainable(
    name: str, backbone: Backbone, settings: Settings, epoch: int
) -> Trainable | None:
    """The head, and the stages that the strategy trains in this epoch.

    ``gradual`` is the gradual unfreezing of Howard and Ruder, "Universal Language Model
    Fine-tuning for Text Classification", 2018, arXiv:1801.06146, section 3.3; its rates that fall
    from stage to stage (section 3.2, "discriminative fine-tuning") are ``partial``'s and
    ``finetune``'s too.
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
    """Say where a run is too short for every stage of ``gradual`` to join."""
    settings, epochs = run.config.strategy.settings, run.config.training.epochs
    if isinstance(settings, GradualSettings):
        late = [epoch for epoch in settings.at if epoch > epochs]
        if late:
            run.reporter.warning(
                f"no stage joins at {late} of strategy.at: the run has {epochs} epochs."
            )

"""Choose the stages that train, and their rates. Importing this module imports MindSpore."""

from __future__ import annotations

from collections.abc import Sequence

from msft_core import Backbone, ParameterGroup, Stage, UsageError
from msft_core.errors import suggest
from msft_core.stages import learned_names


def decaying(stages: Sequence[Stage], decay: float) -> list[ParameterGroup]:
    """A group for each stage with parameters. The last stage has the rate factor ``decay``."""
    groups, factor = [], 1.0
    for stage in reversed(_with_parameters(stages)):
        factor *= decay
        groups.append(ParameterGroup(learned_names(stage.cell), factor))
    return groups[::-1]


def stages_from(backbone: Backbone, name: str | None) -> Sequence[Stage]:
    """The stage with this name and all later ones. Without a name: the last one with parameters.

    Raises:
        UsageError: there is no such stage.
    """
    if name is None:
        return _with_parameters(backbone.stages)[-1:]
    names = [stage.name for stage in backbone.stages]
    if name not in names:
        raise UsageError(
            f"strategy.from = {name!r}: {backbone.name} has no such stage."
            f"{suggest(name, names)} There are: {', '.join(names)}."
        )
    return backbone.stages[names.index(name) :]


def stages_joined(backbone: Backbone, at: Sequence[int], epoch: int) -> Sequence[Stage]:
    """The stages that train in an epoch. In each epoch of ``at`` one more joins, the last first.

    Raises:
        UsageError: ``at`` has more epochs than there are stages. It is raised for every ``epoch``.
    """
    stages = _with_parameters(backbone.stages)
    if len(at) > len(stages):
        names = ", ".join(stage.name for stage in stages)
        raise UsageError(
            f"strategy.at = {list(at)} names {len(at)} epochs, but {backbone.name} has only "
            f"{len(stages)} stages with parameters: {names}."
        )
    joined = sum(epoch >= start for start in at)
    return stages[len(stages) - joined :]


def _with_parameters(stages: Sequence[Stage]) -> list[Stage]:
    return [stage for stage in stages if learned_names(stage.cell)]

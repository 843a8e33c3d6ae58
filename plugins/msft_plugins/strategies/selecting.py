"""Which stages train, and at which rates. Importing this module imports MindSpore."""

from __future__ import annotations

from collections.abc import Sequence

from msft_core import Backbone, ParameterGroup, Stage, UsageError
from msft_core.errors import suggest
from msft_core.stages import learned_names


def decaying(stages: Sequence[Stage], decay: float) -> list[ParameterGroup]:
    """A group for each stage with parameters; the one before the head has rate factor ``decay``."""
    groups, factor = [], 1.0
    for stage in reversed(_with_parameters(stages)):
        factor *= decay
        groups.append(ParameterGroup(learned_names(stage.cell), factor))
    return groups[::-1]


def stages_from(backbone: Backbone, name: str | None) -> Sequence[Stage]:
    """The stage of this name and all after it; without a name the last that has parameters.

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
    """The stages that train in an epoch, where one more joins at each of ``at``, from the last on.

    Raises:
        UsageError: there are fewer stages than epochs, whichever epoch is asked about.
    """
    stages = _with_parameters(backbone.stages)
    if len(at) > len(stages):
        names = ", ".join(stage.name for stage in stages)
        raise UsageError(
            f"strategy.at = {list(at)}: {len(at)} stages are to join, but {backbone.name} has "
            f"{len(stages)} with parameters: {names}."
        )
    joined = sum(epoch >= start for start in at)
    return stages[len(stages) - joined :]


def _with_parameters(stages: Sequence[Stage]) -> list[Stage]:
    return [stage for stage in stages if learned_names(stage.cell)]

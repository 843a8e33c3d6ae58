"""From a strategy's ``OptimizerSpec`` to MindSpore's optimizers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from msft_core.types import Trainable

# MindSpore's own names of what an optimizer counts beside a slot for each parameter.
_BETA_POWERS = ("beta1_power", "beta2_power")


def make_optimizers(
    trainable: Trainable,
    parameters: Mapping[str, ms.Parameter],
    rates: Sequence[float],
    step: int,
    old: Sequence[Any] = (),
) -> list[Any]:
    """Optimizers that together cover the parameters that train.

    Adam corrects its moments by how many steps they have seen. MindSpore's has one count for all
    its parameters, so parameters that join later get an optimizer of their own: their first steps
    are those of a fresh Adam (Kingma and Ba 2015, arXiv:1412.6980, section 3).

    Args:
        trainable: the groups (names, rate factor, weight decay) and the optimizer's name.
        parameters: the network's parameters by name.
        rates: the learning rate of each step of the run, before a group's rate factor.
        step: training steps done so far: the place in ``rates``.
        old: the optimizers so far, whose slots are kept for parameters that go on training.
    """
    if trainable.optimizer.name == "momentum":
        cohorts = [(trainable.names, list(old))]
    else:
        cohorts = [(_names_of(one) & trainable.names, [one]) for one in old]
        joining = trainable.names.difference(*(names for names, _ in cohorts))
        cohorts = [cohort for cohort in [*cohorts, (joining, [])] if cohort[0]]
    made: list[Any] = []
    for names, before in cohorts:
        optimizer = _make(trainable, names, parameters, rates)
        _take_over(optimizer, before, step)
        _tell_apart(optimizer, len(made))
        made.append(optimizer)
    return made


def _tell_apart(optimizer: Any, number: int) -> None:
    """Give counts and rates of a further optimizer names of their own.

    Where two parameters of a Cell have one name, MindSpore 2.10 renames every parameter in it, the
    network's included, when the Cell is first called.
    """
    if number:
        endings = tuple(f".{name}" for name in _names_of(optimizer))
        kept = {id(parameter) for parameter in optimizer.parameters}
        for parameter in optimizer.get_parameters():
            if id(parameter) not in kept and not parameter.name.endswith(endings):
                parameter.name = f"optimizer{number}.{parameter.name}"


def _names_of(optimizer: Any) -> frozenset[str]:
    return frozenset(parameter.name for parameter in optimizer.parameters)


def _make(
    trainable: Trainable,
    names: frozenset[str],
    parameters: Mapping[str, ms.Parameter],
    rates: Sequence[float],
) -> Any:
    spec = trainable.optimizer
    rates = list(rates)
    groups = []
    for group in trainable.groups:
        decay = spec.weight_decay if group.weight_decay is None else group.weight_decay
        decay, factor = float(decay), float(group.rate_factor)  # MindSpore accepts no other type
        own_rates = [rate * factor for rate in rates]
        chosen = [parameters[name] for name in group.names if name in names]
        for decays, weight_decay in ((True, decay), (False, 0.0)):
            members = [parameter for parameter in chosen if (parameter.ndim > 1) == decays]
            if members:
                groups.append({"params": members, "lr": own_rates, "weight_decay": weight_decay})
    if spec.name == "momentum":
        return nn.Momentum(groups, learning_rate=rates, momentum=float(spec.momentum))
    return nn.Adam(groups, learning_rate=rates)


def _take_over(optimizer: Any, old: Sequence[Any], step: int) -> None:
    """Take the slots of parameters that go on training, and the place in the schedule."""
    slots = optimizer.parameters_dict()
    endings = tuple(f".{name}" for name in _names_of(optimizer))
    for one in old:
        for name, value in one.parameters_dict().items():
            if name in slots and name.endswith(endings):
                slots[name].set_data(value.value())
        for name in _BETA_POWERS:
            if hasattr(one, name) and hasattr(optimizer, name):
                getattr(optimizer, name).set_data(getattr(one, name).value())
    like = optimizer.global_step
    like.set_data(ms.Tensor(np.full(like.shape, step), like.dtype))

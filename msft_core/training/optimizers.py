"""Turn a strategy's ``OptimizerSpec`` into a MindSpore optimizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mindspore as ms
from mindspore import nn

from msft_core.types import Trainable

# State of an optimizer apart from the slots of its parameters. Rates and momentum come from the
# spec.
_STEP_COUNTS = frozenset({"global_step", "beta1_power", "beta2_power"})


def make_optimizer(
    trainable: Trainable,
    parameters: Mapping[str, ms.Parameter],
    rates: Sequence[float],
    old: Any = None,
) -> Any:
    """Make an optimizer of the parameters that train.

    Args:
        trainable: the groups (names, rate factor, weight decay) and the optimizer's name.
        parameters: the network's parameters by name.
        rates: the learning rate of each step of the run, before a group's rate factor.
        old: the previous optimizer. Parameters that continue to train keep its slots.
    """
    spec = trainable.optimizer
    rates = list(rates)
    groups = []
    for group in trainable.groups:
        decay = spec.weight_decay if group.weight_decay is None else group.weight_decay
        decay, factor = float(decay), float(group.rate_factor)  # MindSpore accepts no other type
        own_rates = [rate * factor for rate in rates]
        for decays, weight_decay in ((True, decay), (False, 0.0)):
            members = [
                parameters[name] for name in group.names if (parameters[name].ndim > 1) == decays
            ]
            if members:
                groups.append({"params": members, "lr": own_rates, "weight_decay": weight_decay})
    optimizer = (
        nn.Momentum(groups, learning_rate=rates, momentum=float(spec.momentum))
        if spec.name == "momentum"
        else nn.Adam(groups, learning_rate=rates)
    )
    if old is not None:
        _take_over(optimizer, old, trainable.names)
    return optimizer


def _take_over(optimizer: Any, old: Any, trained: frozenset[str]) -> None:
    slots, before = optimizer.parameters_dict(), old.parameters_dict()
    endings = tuple(f".{name}" for name in trained)
    for name in _STEP_COUNTS.union(slot for slot in slots if slot.endswith(endings)):
        if name in slots and name in before:
            slots[name].set_data(before[name].value())

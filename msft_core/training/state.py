"""The train state: the one object that all further training depends on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import mindspore as ms
from mindspore import nn

from msft_core.training.progress import PartOfEpoch
from msft_core.types import MOVING_STATISTICS, Backbone, Best, EpochRecord, Trainable


@dataclass(eq=False)
class TrainState:
    """Everything that training needs to continue as if it had never stopped.

    It is made once per run, and each epoch changes it. The order of the images, their views and
    the learning rates follow from ``seed``, ``epoch`` and ``step``, so nothing else is kept. What a
    run saves of it, to be resumed, is in ``runs/state.py``.

    Args:
        backbone: its parameters are the network's.
        seed: of the run.
        trainable: what trains, as the strategy said last.
        optimizers: keep the slots of each parameter that trains, and the place in the schedule.
        epoch: epochs that finished.
        step: training steps that were done, in all epochs.
        part: what is done of the epoch that comes next.
        history: a record for each epoch that finished.
        best: the best checkpoint so far.
        stop_reason: why training ends before its last epoch; empty if it does not.
        joined: for each parameter that has trained, the epoch in which it first did.
        changing: the names of all parameters whose values may differ from those at the start.
        whole: False while a step is under way: the parameters may be ahead of ``step``.
    """

    backbone: Backbone
    seed: int = 0
    trainable: Trainable | None = None
    optimizers: list[Any] = field(default_factory=list)
    epoch: int = 0
    step: int = 0
    part: PartOfEpoch = field(default_factory=PartOfEpoch)
    history: list[EpochRecord] = field(default_factory=list)
    best: Best | None = None
    stop_reason: str = ""
    joined: dict[str, int] = field(default_factory=dict)
    changing: set[str] = field(default_factory=set)
    whole: bool = True

    def __post_init__(self) -> None:
        cells = [*(stage.cell for stage in self.backbone.stages), self.backbone.head]
        self.parameters: dict[str, ms.Parameter] = {
            parameter.name: parameter for cell in cells for parameter in cell.get_parameters()
        }
        """The parameters of stages and head by name, moving statistics included."""
        self._buffers = {
            name
            for name, parameter in self.parameters.items()
            if name.endswith(MOVING_STATISTICS) or not parameter.requires_grad
        }

    def select(self, trainable: Trainable, evaluating: Iterable[nn.Cell]) -> None:
        """Note what trains from now on.

        Args:
            trainable: what trains.
            evaluating: the cells that stay in evaluation mode, so that their parameters keep their
                values. Elsewhere statistics move though they do not train.
        """
        still = {p.name for cell in evaluating for p in cell.get_parameters()}
        self.changing |= trainable.names | (self._buffers - still)
        self.trainable = trainable

"""The train state: the one object that all further training depends on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import mindspore as ms

from msft_core.types import Backbone, Best, EpochRecord, Trainable


@dataclass(eq=False)
class TrainState:
    """Everything that training needs to continue as if it had never stopped.

    It is made once per run, and each epoch changes it. The order of the images, their views and
    the learning rates follow from ``seed``, ``epoch`` and ``step``, so nothing else is kept.

    Args:
        backbone: its parameters are the network's.
        seed: of the run.
        trainable: what trains, as the strategy said last.
        optimizers: keep the slots of each parameter that trains, and the place in the schedule.
        epoch: epochs that finished.
        step: training steps that were done, in all epochs.
        history: a record for each epoch that finished.
        best: the best checkpoint so far.
        stop_reason: why training ends before its last epoch; empty if it does not.
    """

    backbone: Backbone
    seed: int = 0
    trainable: Trainable | None = None
    optimizers: list[Any] = field(default_factory=list)
    epoch: int = 0
    step: int = 0
    history: list[EpochRecord] = field(default_factory=list)
    best: Best | None = None
    stop_reason: str = ""

    def __post_init__(self) -> None:
        cells = [*(stage.cell for stage in self.backbone.stages), self.backbone.head]
        self.parameters: dict[str, ms.Parameter] = {
            parameter.name: parameter for cell in cells for parameter in cell.get_parameters()
        }
        """The parameters of stages and head by name, moving statistics included."""

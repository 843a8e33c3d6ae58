"""The learning rate of each step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from msft_core.types import OptimizerSpec


@dataclass(frozen=True)
class Schedule:
    """Learning rate of each step of a run.

    Args:
        spec: peak rate, shape and warm-up.
        steps_per_epoch: training steps in an epoch.
        epochs: epochs of the whole run.
    """

    spec: OptimizerSpec
    steps_per_epoch: int
    epochs: int

    def rates(self) -> list[float]:
        """The rate of each step, before a group's rate factor."""
        total = self.steps_per_epoch * self.epochs
        warmup = self.spec.warmup_epochs * self.steps_per_epoch
        rates = []
        for step in range(total):
            factor = min(1.0, (step + 1) / warmup) if warmup else 1.0
            if self.spec.schedule == "cosine":
                done = max(0.0, step - warmup) / max(1.0, total - warmup)
                factor *= 0.5 * (1 + math.cos(math.pi * done))
            rates.append(float(self.spec.learning_rate) * factor)
        return rates

"""The callback ``best_checkpoint``: evaluates after an epoch and keeps the best network."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from msft_core import Component, Run, Settings, UsageError, hookimpl

NAME = "best_checkpoint"


class BestCheckpointSettings(Settings):
    """``callback.best_checkpoint.*``."""

    enabled: bool = True
    metric: str = Field("accuracy", description="the deciding metric; loss always exists")
    direction: Literal["auto", "max", "min"] = Field(
        "auto", description="auto: smaller is better for loss, larger for every other metric"
    )
    interval: int = Field(1, ge=1, description="number of epochs from one evaluation to the next")
    first_epoch: int = Field(1, ge=1, description="the first epoch that is evaluated")
    min_improvement: float = Field(0.0, ge=0, description="smaller improvements do not count")
    keep_on_tie: Literal["loss", "first", "last"] = Field(
        "loss",
        description="which of equally good epochs is kept: the one of lower loss, the first, or "
        "the last (the tutorial's >=)",
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="stop after this many evaluations without improvement; off by default",
    )

    @property
    def larger_is_better(self) -> bool:
        """Whether a larger value of the metric is better."""
        return self.direction == "max" or (self.direction == "auto" and self.metric != "loss")

    def evaluates(self, epoch: int) -> bool:
        """Whether the callback evaluates after this epoch."""
        since = epoch - self.first_epoch
        return since >= 0 and since % self.interval == 0

    def improves(self, value: float, best: float | None) -> bool:
        """Whether ``value`` is better than ``best`` by enough."""
        if math.isnan(value):
            return False
        if best is None:
            return True
        gain = value - best if self.larger_is_better else best - value
        return gain > self.min_improvement or (0 < gain == self.min_improvement)


@hookimpl
def list_components() -> list[Component]:
    """Offer ``best_checkpoint``."""
    summary = "evaluate after an epoch, keep the best checkpoint, stop early"
    return [Component("callback", NAME, summary, BestCheckpointSettings)]


@hookimpl(tryfirst=True)
def on_epoch_end(epoch: int, run: Run) -> None:
    """Evaluate. Save the network if it is the best so far.

    Raises:
        UsageError: no plugin computes the metric.
    """
    settings: BestCheckpointSettings = run.settings("callback", NAME)
    if not settings.evaluates(epoch):
        return
    figures = run.evaluate("val")
    if settings.metric not in figures:
        raise UsageError(
            f"callback.best_checkpoint.metric = {settings.metric!r}: no plugin computes it. "
            f"There are: {', '.join(figures)}."
        )
    value = figures[settings.metric]
    if _takes_the_place(settings, value, figures["loss"], run):
        run.set_best(run.save_checkpoint(run.folder / "best.ckpt"), epoch, value, settings.metric)
    if settings.patience:
        without_gain = _evaluations_without_gain(settings, value, run)
        if without_gain >= settings.patience:
            run.stop(f"{settings.metric} has not improved in {without_gain} evaluations")


def _takes_the_place(settings: BestCheckpointSettings, value: float, loss: float, run: Run) -> bool:
    """Whether the epoch just evaluated is to be the best."""
    best = run.best
    if settings.improves(value, best.value if best else None):
        return True
    if best is None or value != best.value:
        return False
    if settings.keep_on_tie == "last":
        return True
    # On tens of images many epochs have the same accuracy, and the first is rarely the best.
    before = next((r.val["loss"] for r in run.history if r.epoch == best.epoch and r.val), None)
    return settings.keep_on_tie == "loss" and before is not None and loss < before


def _evaluations_without_gain(settings: BestCheckpointSettings, value: float, run: Run) -> int:
    """Evaluations since the metric improved last: another epoch of the same value is no gain."""
    values = [
        record.val[settings.metric]
        for record in run.history
        # Other callbacks may evaluate in between.
        if settings.metric in record.val and settings.evaluates(record.epoch)
    ]
    best: float | None = None
    without_gain = 0
    for each in [*values, value]:  # the history has no figures of this epoch yet
        if settings.improves(each, best):
            best, without_gain = each, 0
        else:
            without_gain += 1
    return without_gain

"""The callback ``health``: warns of training that goes wrong by itself.

It judges what a run knows anyway: the numbers of images, the loss of each epoch, and the
predictions of the best checkpoint. docs/running.md gives the reason of each limit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from pydantic import Field

from msft_core import Component, Predictions, Run, RunReport, Settings, hookimpl

IMBALANCE = 10
"""Warn if the largest class has at least so many times the images of the smallest."""

FALLEN = 0.97
"""A loss is lower than another one if it is below this fraction of it."""

STEPS = 30
"""Training steps before which no network is expected to have learned anything."""

FEWEST_IMAGES = 5
"""A class with fewer validation images may go without a prediction by chance."""

_NAMED = 5


class HealthSettings(Settings):
    """``callback.health.*``."""

    enabled: bool = Field(True, description="warn of training that goes wrong")


@hookimpl
def list_components() -> list[Component]:
    """Offer the callback ``health``."""
    summary = "warns of unequal classes, a loss that does not fall, a class never predicted"
    return [Component("callback", "health", summary, HealthSettings)]


@hookimpl
def on_run_start(run: Run) -> None:
    """Look at the number of images of each class."""
    train, val = (
        _counts(getattr(run.splits, split).labels, len(run.splits.classes))
        for split in ("train", "val")
    )
    _warn(run, imbalance(run.splits.classes, train, val))


@hookimpl
def on_epoch_end(epoch: int, run: Run) -> None:
    """Look at the loss as early as is fair, if that is not the last epoch."""
    if epoch == _fair_epoch(run) < run.config.training.epochs:
        _warn(run, does_not_fall(_losses(run), _chance(run)))


@hookimpl
def on_run_end(run: Run, report: RunReport, error: BaseException | None) -> None:
    """Look at the loss at the end, and at the predictions of the best checkpoint."""
    if error is not None and not isinstance(error, KeyboardInterrupt):
        return
    losses, fair = _losses(run), _fair_epoch(run)
    if len(losses) >= fair:
        early = fair < run.config.training.epochs and does_not_fall(losses[:fair], _chance(run))
        if not early:
            _warn(run, learned_nothing(losses, _chance(run)))
    # Where these predictions are not there yet, they would cost something.
    if report.best or (error is None and report.history and report.history[-1].val):
        _warn(run, never_predicted(run.predictions("val")))


# What is wrong, in a line; empty if nothing is. These know numbers and names only.


def imbalance(classes: Sequence[str], train: Sequence[int], val: Sequence[int]) -> str:
    """Whether one class has many times the images of another one.

    Args:
        classes: their names.
        train: number of training images of each.
        val: likewise of validation images; a class without any is left out.
    """
    parts = []
    for split, counts in (("train", train), ("val", val)):
        there = [(count, name) for count, name in zip(counts, classes, strict=True) if count]
        (least, rare), (most, frequent) = min(there), max(there)
        if most >= IMBALANCE * least:
            parts.append(f"{split} has {most} images of {frequent}, but {least} of {rare}")
    if not parts:
        return ""
    share, frequent = max(zip(val, classes, strict=True))
    return (
        f"The classes are very unequal: {'; '.join(parts)}. Accuracy misleads: always answering "
        f"{frequent} would be right for {100 * share / sum(val):.3g} % of the validation images. "
        "Look at the recall of each class, and at its mean: msft evaluate, and Classes in "
        "report.html."
    )


def fair_epoch(epochs: int, steps: int, warmup: float) -> int:
    """The first epoch after which a loss may be expected to have fallen.

    Args:
        epochs: of the run.
        steps: training steps of an epoch.
        warmup: epochs in which the learning rate rises.
    """
    learning = max(3, math.ceil(STEPS / steps))
    return max(math.ceil(warmup) + learning, math.ceil(0.3 * epochs))


def does_not_fall(losses: Sequence[float], chance: float) -> str:
    """Whether the loss is neither below that of the first epoch nor below that of guessing."""
    first, last = losses[0], losses[-1]
    if last < FALLEN * max(first, chance):
        return ""
    return (
        f"The training loss does not fall: {first:.3g} in epoch 1, {last:.3g} in epoch "
        f"{len(losses)}; guessing by class frequencies has {chance:.3g}. "
        f"{_what_to_try(last, chance)}"
    )


def learned_nothing(losses: Sequence[float], chance: float) -> str:
    """Whether the loss of the last epoch is not below that of guessing."""
    last = losses[-1]
    if not chance or last < FALLEN * chance:
        return ""
    return (
        f"The training loss of the last epoch is {last:.3g}, no better than guessing by class "
        f"frequencies, which has {chance:.3g}. {_what_to_try(last, chance)}"
    )


def never_predicted(predictions: Predictions) -> str:
    """Whether a class with enough images is never predicted, or all images as one class."""
    classes = predictions.classes
    there = _counts(predictions.labels, len(classes))
    predicted = _counts(predictions.predicted, len(classes))
    only = [name for name, count in zip(classes, predicted, strict=True) if count]
    others = sum(count for name, count in zip(classes, there, strict=True) if name not in only)
    if len(only) == 1 and others >= FEWEST_IMAGES:
        return (
            f"All {len(predictions.labels)} validation images are predicted as {only[0]}, but "
            f"{others} of them are of another class."
        )
    never = [
        f"{name} ({count} images)"
        for name, count, found in zip(classes, there, predicted, strict=True)
        if count >= FEWEST_IMAGES and not found
    ]
    if not never:
        return ""
    named = ", ".join(never[:_NAMED]) + (", ..." if len(never) > _NAMED else "")
    verb = "class is" if len(never) == 1 else "classes are"
    return (
        f"{len(never)} {verb} never predicted for the validation images: {named}. Has train enough "
        "images of it, with the right labels? confusion_matrix.png shows what is predicted instead."
    )


def guessing_loss(counts: Sequence[int]) -> float:
    """Cross-entropy of guessing each class with its frequency, nats: the entropy of the labels."""
    total = sum(counts)
    return -sum(count / total * math.log(count / total) for count in counts if count)


def _what_to_try(loss: float, chance: float) -> str:
    if loss > 1.5 * chance:
        return "Try a smaller learning rate (--lr)."
    return (
        "Try a larger learning rate (--lr), pretrained weights (--weights) or more epochs, and "
        "look in train_batch.png whether the images fit their labels."
    )


def _warn(run: Run, message: str) -> None:
    if message:
        run.reporter.warning(message)


def _counts(labels: Iterable[int], classes: int) -> list[int]:
    found = Counter(map(int, labels))
    return [found[label] for label in range(classes)]


def _losses(run: Run) -> list[float]:
    return [record.train["loss"] for record in run.history]


def _chance(run: Run) -> float:
    return guessing_loss(_counts(run.splits.train.labels, len(run.splits.classes)))


def _fair_epoch(run: Run) -> int:
    training, images = run.config.training, len(run.splits.train.ids)
    steps = max(1, images // training.batch_size)
    warmup = getattr(run.config.strategy.settings, "warmup_epochs", 0.0)
    return fair_epoch(training.epochs, steps, warmup)

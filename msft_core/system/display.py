"""What the user sees of training: the protocol of a view, plain lines, and a fall back to them."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from msft_core.errors import first_line
from msft_core.system.log_file import LogFile
from msft_core.types import Best, EpochRecord, RunReport

Step: TypeAlias = "Callable[[float, int], None]"
"""Called after a training step with its loss and its number of images."""


@dataclass(frozen=True)
class Outcome:
    """A run that came to its end, for the summary.

    Args:
        report: how it ended.
        epochs: number of epochs asked for.
        seconds: from the start of the run.
        training: number of training images.
        validation: number of validation images.
        classes: number of classes.
        engine: what computed, in words.
        warnings: number of warnings.
    """

    report: RunReport
    epochs: int
    seconds: float
    training: int
    validation: int
    classes: int
    engine: str
    warnings: int

    @property
    def best_metric(self) -> str:
        """Value and epoch of the best checkpoint, in words."""
        best = self.report.best
        if best is None:
            return "no checkpoint was chosen as best"
        return f"{best.value:.6f} in epoch {best.epoch} of {self.epochs}"

    @property
    def checkpoint(self) -> Path:
        """The checkpoint to use."""
        return self.report.best.path if self.report.best else self.report.folder / "last.ckpt"


class TrainingView(Protocol):
    """Shows training to the user. The engine calls the methods in this order."""

    def begin(self, epochs: int) -> None:
        """Training begins."""

    def begin_epoch(self, epoch: int) -> None:
        """An epoch begins, perhaps by computing features."""

    def training(self, steps: int, compiles: bool) -> AbstractContextManager[Step]:
        """The steps of an epoch, of which the first perhaps compiles. Call the value after each."""

    def end_epoch(self, record: EpochRecord, best: Best | None, improved: bool) -> None:
        """An epoch has ended; ``improved`` if it is the best one."""

    def finishing(self) -> None:
        """The epochs are over; what is left are checkpoints and callbacks."""

    def close(self) -> None:
        """Leave the terminal as it was. May be called at any time, and more than once."""

    def conclude(self, outcome: Outcome) -> None:
        """After ``close``: the run has come to its end."""


class PlainView:
    """Prints plain lines, for a pipe, a notebook, or a reporter of the user's own.

    Args:
        log: receives the lines.
    """

    def __init__(self, log: LogFile) -> None:
        self._log, self._label, self._epochs = log, "", 0

    def begin(self, epochs: int) -> None:
        """See ``TrainingView``."""
        self._epochs = epochs

    def begin_epoch(self, epoch: int) -> None:
        """See ``TrainingView``."""
        self._label = f"epoch {epoch}/{self._epochs}"

    @contextmanager
    def training(self, steps: int, compiles: bool) -> Iterator[Step]:
        """See ``TrainingView``."""
        if compiles:
            self._log.info(COMPILING)
        with self._log.progress(self._label, steps, "steps") as advance:
            yield lambda loss, images: advance(1)

    def end_epoch(self, record: EpochRecord, best: Best | None, improved: bool) -> None:
        """See ``TrainingView``."""
        self._log.info(tutorial_lines(record, self._epochs, improved))

    def finishing(self) -> None:
        """See ``TrainingView``."""

    def close(self) -> None:
        """See ``TrainingView``."""

    def conclude(self, outcome: Outcome) -> None:
        """See ``TrainingView``."""
        self._log.info(last_lines(outcome))


class SafeView:
    """Shows a view, and plain lines from its first error on: no view may end a run.

    Args:
        view: shown as long as it works.
        log: told of the error, and receives the plain lines.
    """

    def __init__(self, view: TrainingView, log: LogFile) -> None:
        self._view, self._plain, self._log = view, PlainView(log), log

    def begin(self, epochs: int) -> None:
        """See ``TrainingView``."""
        self._plain.begin(epochs)
        self._call("begin", epochs)

    def begin_epoch(self, epoch: int) -> None:
        """See ``TrainingView``."""
        self._plain.begin_epoch(epoch)
        self._call("begin_epoch", epoch)

    @contextmanager
    def training(self, steps: int, compiles: bool) -> Iterator[Step]:
        """See ``TrainingView``."""
        with ExitStack() as stack:
            try:
                step = stack.enter_context(self._view.training(steps, compiles))
            except Exception as error:
                self._give_up(error)
                step = stack.enter_context(self._plain.training(steps, compiles))

            def safely(loss: float, images: int) -> None:
                nonlocal step
                try:
                    step(loss, images)
                except Exception as error:
                    self._give_up(error)
                    step = _nothing

            yield safely

    def end_epoch(self, record: EpochRecord, best: Best | None, improved: bool) -> None:
        """See ``TrainingView``."""
        self._call("end_epoch", record, best, improved)

    def finishing(self) -> None:
        """See ``TrainingView``."""
        self._call("finishing")

    def close(self) -> None:
        """See ``TrainingView``."""
        self._call("close")

    def conclude(self, outcome: Outcome) -> None:
        """See ``TrainingView``."""
        self._call("conclude", outcome)

    def _call(self, method: str, *arguments: Any) -> None:
        try:
            getattr(self._view, method)(*arguments)
        except Exception as error:
            self._give_up(error)
            getattr(self._view, method)(*arguments)

    def _give_up(self, error: Exception) -> None:
        if self._view is self._plain:
            raise error
        view, self._view = self._view, self._plain
        with suppress(Exception):
            view.close()
        if not is_closed(error):  # then nobody sees plain lines either
            self._log.warning(f"the live view failed: {first_line(error)}. Plain lines follow.")


def is_closed(error: Exception) -> bool:
    """Whether an error says that a pipe has no reader any more, or that a terminal was closed."""
    return isinstance(error, OSError) and error.errno in (errno.EPIPE, errno.EIO, errno.ENXIO)


COMPILING = "Compiling the training step: the first step takes longer."


def tutorial_lines(record: EpochRecord, epochs: int, improved: bool) -> str:
    """The epoch in the lines that the MindSpore tutorial prints."""
    lines = [f"Epoch {record.epoch}/{epochs}", "-" * 10, f"train Loss: {record.train['loss']:.6f}"]
    if record.val:
        names = {"accuracy": "Acc", "loss": "Loss"}
        order = [*(name for name in names if name in record.val), *record.val]
        figures = [
            f"val {names.get(name, name)}: {record.val[name]:.6f}" for name in dict.fromkeys(order)
        ]
        lines.append("  ".join(figures) + ("  (best so far)" if improved else ""))
    lines.append(
        f"epoch time: {1000 * record.seconds:.3f} ms, per step time: {record.step_ms:.3f} ms"
    )
    return "\n".join(lines)


def last_lines(outcome: Outcome) -> str:
    """The end of a run in the lines that the MindSpore tutorial prints."""
    best = outcome.report.best
    if best is None:
        return f"End training; no checkpoint was chosen as best. Last: {outcome.checkpoint}"
    return (
        f"End training, the best {best.metric} is: {best.value:.6f}, "
        f"the best {best.metric} epoch is {best.epoch}\nBest checkpoint: {best.path}"
    )


def _nothing(loss: float, images: int) -> None:
    """The view has failed in the middle of an epoch: the next one has plain lines."""

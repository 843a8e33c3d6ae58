"""The live view of training on a terminal. rich keeps it in place; other lines scroll above it."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from msft_core.system.display import COMPILING, Outcome, Step, last_lines, tutorial_lines
from msft_core.system.log_file import LogFile
from msft_core.system.summary import summary
from msft_core.types import Best, EpochRecord

_FRAMES_PER_SECOND = 5
_LEVELS = "▁▂▃▄▅▆▇█"
_SHORTEST_BAR = 8
_GAP = "   "
_RECENT_STEPS = 50


def suits(console: Console) -> bool:
    """Whether a terminal can show the view: one that moves its cursor and shows UTF-8."""
    utf_8 = console.encoding.lower().replace("_", "-").startswith("utf-8")
    return console.is_terminal and not console.is_dumb_terminal and utf_8


class TerminalConsole(Console):
    """Leaves the cursor shown, so that a run that is killed or stopped (Ctrl-Z) hides nothing."""

    def show_cursor(self, show: bool = True) -> bool:
        """Do nothing."""
        return False


@dataclass
class _Activity:
    """What the run is doing, and how much of it is done. ``total`` None: nobody knows."""

    description: str
    total: int | None = None
    unit: str = ""
    done: int = 0
    began: float = 0.0


class LiveView:
    """Implements ``msft_core.system.display.TrainingView`` with a view that stays in place.

    Args:
        log: receives the tutorial's lines.
        console: of the terminal.
        changed: told of this view when it begins, and of None when it has ended.
    """

    def __init__(
        self, log: LogFile, console: Console, changed: Callable[[LiveView | None], None]
    ) -> None:
        self._log, self._console, self._changed = log, console, changed
        self._live: Live | None = None
        self._redirected: list[tuple[str, _Above]] = []
        self._failed: Exception | None = None
        self._activity = _Activity("starting")
        self._epoch, self._epochs, self._steps = 0, 0, 0
        self._loss_sum, self._images = 0.0, 0
        self._recent: deque[tuple[float, int]] = deque(maxlen=_RECENT_STEPS)
        self._epoch_began, self._compiling, self._whole_epoch = 0.0, 0.0, 0.0
        self._metric, self._values = "", list[float]()
        self._best: Best | None = None

    # What the engine calls

    def begin(self, epochs: int) -> None:
        """See ``TrainingView``."""
        self._epochs = epochs
        self._do(_Activity("starting: callbacks"))
        self._live = Live(
            console=self._console,
            get_renderable=self._frame,
            refresh_per_second=_FRAMES_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start(refresh=True)
        self._redirect("stdout")
        if sys.stderr.isatty():  # else it is a file, and what is meant for the file goes there
            self._redirect("stderr")
        self._changed(self)

    def begin_epoch(self, epoch: int) -> None:
        """See ``TrainingView``."""
        now = time.monotonic()
        if self._epoch:
            self._whole_epoch = max(0.0, now - self._epoch_began - self._compiling)
        self._epoch, self._epoch_began, self._compiling = epoch, now, 0.0
        self._steps, self._loss_sum, self._images = 0, 0.0, 0
        self._recent.clear()
        self._do(_Activity("preparing"))

    @contextmanager
    def training(self, steps: int, compiles: bool) -> Iterator[Step]:
        """See ``TrainingView``."""
        began = time.monotonic()
        self._steps = steps
        activity = _Activity("training", steps, "steps")
        if compiles:
            self._log.write(COMPILING)
        self._do(_Activity("compiling the training step") if compiles else activity)

        def step(loss: float, images: int) -> None:
            if self._failed is not None:
                raise self._failed
            now = time.monotonic()
            if not activity.done:
                self._compiling = now - began if compiles else 0.0
                self._activity = activity
            activity.done += 1
            self._loss_sum += loss * images
            self._images += images
            self._recent.append((now, images))

        yield step
        self._do(_Activity("after the epoch"))

    def end_epoch(self, record: EpochRecord, best: Best | None, improved: bool) -> None:
        """See ``TrainingView``."""
        self._log.write(tutorial_lines(record, self._epochs, improved))
        self._best = best
        self._metric = best.metric if best else self._metric or next(iter(record.val), "")
        if math.isfinite(value := record.val.get(self._metric, math.nan)):
            self._values.append(value)
        figures = [f"Epoch {record.epoch}/{self._epochs}", f"loss {record.train['loss']:.4f}"]
        shown = dict.fromkeys(name for name in (self._metric, "loss") if name in record.val)
        figures += [f"val {name} {record.val[name]:.4f}" for name in shown]
        line = Text("  ".join([*figures, _seconds(record.seconds)]))
        if improved:
            line.append("  best so far", "green")
        self.print(line)

    def finishing(self) -> None:
        """See ``TrainingView``."""
        self._epoch_began = 0.0
        self._do(_Activity("finishing: checkpoints and callbacks"))

    def close(self) -> None:
        """See ``TrainingView``."""
        live, self._live = self._live, None
        redirected, self._redirected = self._redirected, []
        try:
            for _, above in redirected:
                above.end()
            if live is not None:
                live.stop()
        finally:
            for name, above in redirected:
                if getattr(sys, name) is above:
                    setattr(sys, name, above.file)
            self._changed(None)

    def conclude(self, outcome: Outcome) -> None:
        """See ``TrainingView``."""
        self._log.write(last_lines(outcome))
        for line in summary(outcome):
            self.print(line)

    # What the reporter calls

    def print(self, line: Text) -> None:
        """Print above the view. The terminal itself breaks long lines, so paths can be copied."""
        self._console.print(line, soft_wrap=True)

    @contextmanager
    def progress(
        self, description: str, total: int | None, unit: str
    ) -> Iterator[Callable[[int], None]]:
        """Show the progress of something else than training."""
        before = self._activity
        activity = self._do(_Activity(description, total, unit))

        def advance(count: int) -> None:
            activity.done += count

        try:
            yield advance
        finally:
            self._activity = before

    # What is shown

    def _frame(self) -> Group:
        """Called by rich's thread. An error is kept for the next step, since a thread has nobody
        to tell it to.
        """
        try:
            return Group(Text(""), *self.lines(self._console.width))
        except Exception as error:
            self._failed = error
            return Group()

    def lines(self, width: int) -> list[Text]:
        """The lines of the view for a terminal of this width."""
        return [
            *self._first_line(width),
            *_flow(self._figures(), width),
            *_flow(self._validation(width), width),
        ]

    def _first_line(self, width: int) -> list[Text]:
        activity = self._activity
        fields = [Text(activity.description)]
        if self._epoch:
            fields.insert(0, Text(f"Epoch {self._epoch}/{self._epochs}", "bold cyan"))
        if not activity.total:
            seconds = time.monotonic() - activity.began
            return _flow([*fields, Text(_seconds(seconds), "dim")], width)
        amount = Text(_amount(activity))
        taken = sum(field.cell_len + len(_GAP) for field in [*fields, amount])
        if width - taken >= _SHORTEST_BAR:
            fields.append(_bar(activity.done / activity.total, min(width - taken, 60)))
        return _flow([*fields, amount], width)

    def _figures(self) -> list[Text]:
        fields = []
        if self._images:
            fields.append(_figure("loss", f"{self._loss_sum / self._images:.4f}"))
        if speed := self._speed():
            fields.append(
                _figure("", f"{speed:.0f}" if speed >= 10 else f"{speed:.1f}", "images/s")
            )
        if (left := self._seconds_left()) is not None:
            fields.append(_figure("", _clock(left), "left"))
        return fields

    def _validation(self, width: int) -> list[Text]:
        values = self._values
        if not values:
            return []
        fields = [_figure(f"val {self._metric}", f"{values[-1]:.4f}")]
        if self._best:
            fields.append(_figure("best", f"{self._best.value:.4f}", f"(epoch {self._best.epoch})"))
        taken = sum(field.cell_len + len(_GAP) for field in fields)
        room = width - taken if width - taken >= min(len(values), _SHORTEST_BAR) else width
        return [*fields, Text(_sparkline(values[-room:]), "cyan")]

    def _speed(self) -> float:
        """Images a second over the last steps; 0 if it is not known."""
        recent = list(self._recent)
        if len(recent) < 2 or recent[-1][0] <= recent[0][0]:
            return 0.0
        return sum(images for _, images in recent[1:]) / (recent[-1][0] - recent[0][0])

    def _seconds_left(self) -> float | None:
        """Until the last epoch has ended; None if it is not known."""
        if not self._epoch_began:
            return None
        later = self._epochs - self._epoch
        if self._whole_epoch:
            spent = time.monotonic() - self._epoch_began - self._compiling
            return self._whole_epoch * later + max(0.0, self._whole_epoch - spent)
        recent = list(self._recent)
        if len(recent) < 2:
            return None
        step = (recent[-1][0] - recent[0][0]) / (len(recent) - 1)
        done = self._activity.done if self._activity.unit == "steps" else self._steps
        return step * (self._steps - done + self._steps * later)

    def _do(self, activity: _Activity) -> _Activity:
        activity.began = time.monotonic()
        self._activity = activity
        return activity

    def _redirect(self, name: str) -> None:
        above = _Above(getattr(sys, name), lambda text: self.print(Text.from_ansi(text)))
        setattr(sys, name, above)
        self._redirected.append((name, above))


class _Above:
    """Stands for a standard stream, so that what others print goes above the view in whole lines.

    Args:
        file: the stream; has the other attributes.
        show: prints text above the view.
    """

    def __init__(self, file: TextIO, show: Callable[[str], None]) -> None:
        self.file, self._show, self._rest = file, show, ""
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        """Show the lines that are complete. A carriage return begins a line anew."""
        with self._lock:
            *lines, rest = (self._rest + text).split("\n")
            self._rest = rest if rest.endswith("\r") else rest.rpartition("\r")[2]
            if lines:
                self._show("\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """See ``io.IOBase``."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Do nothing: half a line would be a line of its own above the view."""

    def end(self) -> None:
        """Show what is left of a line."""
        rest, self._rest = self._rest.strip("\r"), ""
        if rest:
            self._show(rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def _flow(fields: list[Text], width: int) -> list[Text]:
    """The fields in as few lines as they need; none is broken, and what is too long is cut."""
    lines: list[Text] = []
    for field in fields:
        if lines and lines[-1].cell_len + len(_GAP) + field.cell_len <= width:
            lines[-1].append(_GAP).append_text(field)
        else:
            lines.append(Text().append_text(field))  # the style of the field is not the line's
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return lines


def _figure(name: str, value: str, unit: str = "") -> Text:
    parts: list[str | tuple[str, str]] = [(f"{name} ", "dim") if name else "", (value, "bold")]
    return Text.assemble(*parts, (f" {unit}", "dim") if unit else "")


def _bar(part: float, width: int) -> Text:
    full = round(min(1.0, part) * width)
    return Text("━" * full, "cyan").append("─" * (width - full), "dim")


def _sparkline(values: list[float]) -> str:
    low, high = min(values), max(values)
    if high <= low:
        return _LEVELS[3] * len(values)
    scale = (len(_LEVELS) - 1) / (high - low)
    return "".join(_LEVELS[round((value - low) * scale)] for value in values)


def _amount(activity: _Activity) -> str:
    if activity.unit in ("B", "bytes"):
        return f"{activity.done / 1e6:.1f}/{(activity.total or 0) / 1e6:.1f} MB"
    return f"{activity.done}/{activity.total} {activity.unit}".rstrip()


def _seconds(seconds: float) -> str:
    return (
        f"{seconds:.1f} s"
        if seconds < 10
        else _clock(seconds)
        if seconds >= 60
        else f"{seconds:.0f} s"
    )


def _clock(seconds: float) -> str:
    """Minutes and seconds, ``1:02``, or hours too, ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

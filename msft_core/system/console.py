"""Output for the user during a command: lines, warnings and progress.

On a terminal progress is a bar, and training has a view that stays in place. Elsewhere (a pipe, a
notebook, a log file, CI) there are plain lines.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from msft_core.system.display import PlainView, SafeView, TrainingView, is_closed
from msft_core.system.log_file import LogFile
from msft_core.types import Reporter

if TYPE_CHECKING:
    from msft_core.system.live_view import LiveView

_LINE_EVERY_SECONDS = 10.0
_QUIET_BELOW_SECONDS = 1.0
_BYTES = ("B", "bytes")


class PlainReporter:
    """Prints plain lines: information to ``out``, warnings to ``err``.

    Args:
        quiet: leave information and progress out.
        verbose: the user wants to see tracebacks.
        out: default standard output.
        err: default standard error.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        verbose: bool = False,
        out: TextIO | None = None,
        err: TextIO | None = None,
    ) -> None:
        self.quiet, self.verbose = quiet, verbose
        self._out, self._err = out, err

    def info(self, message: str) -> None:
        """See ``msft_core.types.Reporter``."""
        if not self.quiet:
            _print(message, self._out or sys.stdout)

    def warning(self, message: str) -> None:
        """See ``msft_core.types.Reporter``."""
        _print(f"warning: {message}", self._err or sys.stderr)

    def progress(
        self, description: str, total: int | None = None, unit: str = ""
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Print a line every ten seconds, and one at the end if the work took over a second."""
        return self._lines(description, total, unit)

    @contextmanager
    def _lines(
        self, description: str, total: int | None, unit: str
    ) -> Iterator[Callable[[int], None]]:
        started = last = time.monotonic()
        done = 0

        def say() -> None:
            amount = _amount(done, unit) + (f" of {_amount(total, unit)}" if total else "")
            self.info(f"{description}: {amount}, {time.monotonic() - started:.0f} s")

        def advance(count: int) -> None:
            nonlocal done, last
            done += count
            if time.monotonic() - last >= _LINE_EVERY_SECONDS and done != total:
                last = time.monotonic()
                say()

        yield advance
        if time.monotonic() - started >= _QUIET_BELOW_SECONDS:
            say()


class TerminalReporter(PlainReporter):
    """The same for a terminal. rich draws bars and the view; it is imported when one begins."""

    def __init__(
        self, *, quiet: bool = False, verbose: bool = False, out: TextIO | None = None
    ) -> None:
        super().__init__(quiet=quiet, verbose=verbose, out=out)
        self._bar_console: Any = None
        self._view: LiveView | None = None

    def info(self, message: str) -> None:
        """See ``msft_core.types.Reporter``."""
        if self.quiet or not self._print_above(message, sys.stdout):
            super().info(message)

    def warning(self, message: str) -> None:
        """See ``msft_core.types.Reporter``."""
        if not sys.stderr.isatty() or not self._print_above(f"warning: {message}", sys.stderr):
            super().warning(message)

    def progress(
        self, description: str, total: int | None = None, unit: str = ""
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Show a bar, and remove it at the end."""
        if self._view is not None:
            return self._view.progress(description, total, unit)
        if self.quiet or self._bar_console is not None:
            return _silent()
        return self._bar(description, total, unit)

    def live_view(self, log: LogFile) -> LiveView | None:
        """A live view of training; None where the user wants quiet or the terminal is too simple.

        Args:
            log: receives the lines that the view does not print.
        """
        if self.quiet or self._out or self._bar_console or self._view:
            return None
        from msft_core.system.live_view import LiveView, TerminalConsole, suits

        console = TerminalConsole(file=sys.stdout)
        return LiveView(log, console, self._show_in) if suits(console) else None

    def _show_in(self, view: LiveView | None) -> None:
        self._view = view

    def _print_above(self, message: str, file: TextIO) -> bool:
        """Print above the bar or the view. Returns whether there is one."""
        if self._view is None and self._bar_console is None:
            return False
        from rich.text import Text

        line = Text(printable(message, file))
        if message.startswith("warning: "):
            line.stylize("yellow", 0, len("warning:"))
        with unless_closed(sys.stdout):
            if self._view is not None:
                self._view.print(line)
            else:
                self._bar_console.print(line, soft_wrap=True)
        return True

    @contextmanager
    def _bar(
        self, description: str, total: int | None, unit: str
    ) -> Iterator[Callable[[int], None]]:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        from msft_core.system.live_view import TerminalConsole

        of_bytes = unit in _BYTES
        count = DownloadColumn() if of_bytes else MofNCompleteColumn()
        label = TextColumn("" if of_bytes else unit)
        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            count,
            label,
            TimeRemainingColumn(),
            transient=True,
            console=TerminalConsole(file=self._out),
            # Where a stream is a file or a pipe, what is meant for it goes there.
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
        )
        task = bar.add_task(description, total=total)
        with bar:
            self._bar_console = bar.console
            try:
                yield lambda number: bar.advance(task, number)
            finally:
                self._bar_console = None


def _print(message: str, file: TextIO) -> None:
    with unless_closed(file):
        print(printable(message, file), file=file, flush=True)


@contextmanager
def unless_closed(file: TextIO) -> Iterator[None]:
    """Print to a file whose reader may have gone, as in ``msft run | head``.

    The file may also be a terminal that was closed. Then the output is lost, and the work goes on:
    hours of training are not to end for a pipe.
    """
    try:
        yield
    except OSError as error:
        if not is_closed(error):
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, file.fileno())
        os.close(nowhere)


def printable(message: str, file: TextIO | None = None) -> str:
    """A message that may name a file whose name no encoding has, or that commands the terminal.

    Names in a stranger's checkpoint or archive may hold control characters.
    """
    encoding = getattr(file, "encoding", None) or "utf-8"
    shown = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", message)
    return shown.encode(encoding, "backslashreplace").decode(encoding)


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@contextmanager
def _silent() -> Iterator[Callable[[int], None]]:
    yield lambda number: None


def _amount(count: int, unit: str) -> str:
    return f"{count / 1e6:.1f} MB" if unit in _BYTES else f"{count} {unit}".strip()


def console_reporter(
    *, quiet: bool = False, verbose: bool = False, to_stderr: bool = False
) -> PlainReporter:
    """A reporter for a terminal if it prints to one, and with plain lines if not.

    Args:
        quiet: print warnings only.
        verbose: the user wants to see tracebacks.
        to_stderr: print everything to standard error, since standard output holds data.
    """
    out = sys.stderr if to_stderr else sys.stdout
    dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    kind = TerminalReporter if out.isatty() and not dumb else PlainReporter
    return kind(quiet=quiet, verbose=verbose, out=sys.stderr if to_stderr else None)


def training_view(reporter: Reporter, log: LogFile) -> TrainingView:
    """How the user sees training.

    Args:
        reporter: a terminal's may show a live view. Any other receives plain lines.
        log: passes lines on to this reporter.
    """
    view = reporter.live_view(log) if isinstance(reporter, TerminalReporter) else None
    return PlainView(log) if view is None else SafeView(view, log)

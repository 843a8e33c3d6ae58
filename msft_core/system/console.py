"""Output for the user during a command: lines, warnings and progress.

On a terminal progress is a bar. Elsewhere (a pipe, a log file, CI) it is a plain line now and then.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TextIO

_LINE_EVERY_SECONDS = 10.0
_QUIET_BELOW_SECONDS = 1.0


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
    """The same for a terminal. rich draws the bars; it is imported at the first bar."""

    def __init__(
        self, *, quiet: bool = False, verbose: bool = False, out: TextIO | None = None
    ) -> None:
        super().__init__(quiet=quiet, verbose=verbose, out=out)
        self._live: Any = None

    def info(self, message: str) -> None:
        """See ``msft_core.types.Reporter``."""
        if self._live is None:
            super().info(message)
        elif not self.quiet:
            self._live.console.print(
                _printable(message, sys.stdout), markup=False, highlight=False, soft_wrap=True
            )

    def progress(
        self, description: str, total: int | None = None, unit: str = ""
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Show a bar, and remove it at the end."""
        if self.quiet or self._live is not None:
            return _silent()
        return self._bar(description, total, unit)

    @contextmanager
    def _bar(
        self, description: str, total: int | None, unit: str
    ) -> Iterator[Callable[[int], None]]:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        count = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
        columns = (TextColumn("{task.description}"), BarColumn(), count, TextColumn(unit))
        console = Console(file=self._out)
        bar = Progress(*columns, TimeRemainingColumn(), transient=True, console=console)
        task = bar.add_task(description, total=total)
        with bar:
            self._live = bar
            try:
                yield lambda number: bar.advance(task, number)
            finally:
                self._live = None


def _print(message: str, file: TextIO) -> None:
    print(_printable(message, file), file=file, flush=True)


def _printable(message: str, file: TextIO) -> str:
    """A message that may name a file whose name no encoding has."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    return message.encode(encoding, "backslashreplace").decode(encoding)


@contextmanager
def _silent() -> Iterator[Callable[[int], None]]:
    yield lambda number: None


def _amount(count: int, unit: str) -> str:
    return f"{count / 1e6:.1f} MB" if unit == "bytes" else f"{count} {unit}".strip()


def console_reporter(
    *, quiet: bool = False, verbose: bool = False, to_stderr: bool = False
) -> PlainReporter:
    """A reporter with bars if it prints to a terminal, and with plain lines if not.

    Args:
        quiet: print warnings only.
        verbose: the user wants to see tracebacks.
        to_stderr: print everything to standard error, since standard output holds data.
    """
    out = sys.stderr if to_stderr else sys.stdout
    kind = TerminalReporter if out.isatty() else PlainReporter
    return kind(quiet=quiet, verbose=verbose, out=sys.stderr if to_stderr else None)

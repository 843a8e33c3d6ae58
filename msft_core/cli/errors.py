"""Turns an exception into a line on standard error and an exit status."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from msft_core.types import RunReport


ends_process = False
"""Whether the process ends with the command: not where a test calls it."""


def ignore_signals() -> None:
    """Ignore further signals: all is said, and only the end of the process is left.

    SIGTERM too: MindSpore's handler of SIGINT sends it.
    """
    from msft_core.system.interrupts import SIGNALS

    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def reported(*, verbose: bool | None = None) -> Iterator[None]:
    """Exit with 2 if the command was refused, 1 if it failed after a run began, 130 on Ctrl-C.

    Args:
        verbose: print the traceback too; None if the command has no such option.
    """
    from msft_core.errors import MsftError

    try:
        yield
    except (typer.Exit, BrokenPipeError):
        raise
    except MsftError as error:
        if verbose:
            traceback.print_exc()
        more = " (--verbose shows where)" if verbose is False and _has_a_place(error) else ""
        say("error: " + "\n       ".join(f"{error}{more}".splitlines()))
        if error.report is not None:
            say(_what_is_kept(error.report))
        raise typer.Exit(2 if error.report is None else 1) from None
    except Exception as error:
        if verbose:
            traceback.print_exc()
        say(f"error: {_unforeseen(error, verbose)}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt as interrupt:
        if ends_process:
            ignore_signals()
        say("interrupted.")
        for report in interrupt.args:  # of the interrupted run first, then of those before it
            say(_what_is_kept(report))
        raise typer.Exit(130) from None


def say(message: str) -> None:
    """Print on standard error. A closed terminal does not change the exit status."""
    from msft_core.system.console import unless_closed

    with unless_closed(sys.stderr):
        typer.echo(message, err=True)


def _unforeseen(error: Exception, verbose: bool | None) -> str:
    from msft_core.errors import OF_THE_DISK, first_line, in_a_line

    if isinstance(error, MemoryError):
        return f"{in_a_line(error)}."
    # A plugin or a library wrote a file without msft_core.files.
    if isinstance(error, OSError) and error.errno in OF_THE_DISK:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}. Make room, or write elsewhere."
    more = " --verbose shows where." if verbose is False else ""
    return f"{first_line(error)}. This is a bug in msft.{more}"


def _has_a_place(error: Exception) -> bool:
    """Whether a traceback would help the author of a plugin."""
    from msft_core.errors import PluginError

    return isinstance(error, PluginError) and error.__cause__ is not None


def _what_is_kept(report: RunReport) -> str:
    if report.best:
        kept = f"the best checkpoint is {report.best.path} (epoch {report.best.epoch})"
    elif (report.folder / "best.ckpt").exists():  # of a run that was killed
        kept = f"the best checkpoint is {report.folder / 'best.ckpt'}"
    elif (report.folder / "last.ckpt").exists():
        kept = f"the last checkpoint is {report.folder / 'last.ckpt'}"
    else:
        kept = "no epoch was finished" if not report.history else "no checkpoint was kept"
    whole = report.status == "completed"
    return f"The run in {report.folder} {'is complete' if whole else 'ended early'}; {kept}."

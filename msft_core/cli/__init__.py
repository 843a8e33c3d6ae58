"""The command ``msft``. A command imports its modules when it is called, so `--help` is fast."""

from __future__ import annotations

import atexit
import os
import sys
from typing import Annotated

import typer

from msft_core.cli import (
    cache,
    check,
    compare,
    doctor,
    errors,
    evaluate,
    export,
    fetch,
    help,
    pack,
    plugins,
    predict,
    report,
    run,
)
from msft_core.system import collector, ranks

_TRAIN = "Train"
_USE = "Use a trained classifier"
_INSPECT = "Inspect and maintain"

app = typer.Typer(
    name="msft",
    cls=help.CommandGroup,
    help="Turn a folder of labelled photographs into a trained classifier on MindSpore.",
    no_args_is_help=True,
    rich_markup_mode=None,  # help.py says why
    pretty_exceptions_enable=False,
)
app.command("run", cls=run.Command, rich_help_panel=_TRAIN)(run.command)
app.command("check", cls=help.Command, rich_help_panel=_TRAIN)(check.command)
app.command("fetch", cls=help.Command, rich_help_panel=_TRAIN)(fetch.command)
app.command("pack", cls=help.Command, rich_help_panel=_TRAIN)(pack.command)
app.command("predict", cls=help.Command, rich_help_panel=_USE)(predict.command)
app.command("evaluate", cls=help.Command, rich_help_panel=_USE)(evaluate.command)
app.command("report", cls=help.Command, rich_help_panel=_USE)(report.command)
app.command("compare", cls=help.Command, rich_help_panel=_USE)(compare.command)
app.command("export", cls=help.Command, rich_help_panel=_USE)(export.command)
app.add_typer(plugins.app, rich_help_panel=_INSPECT)
app.command("doctor", cls=help.Command, rich_help_panel=_INSPECT)(doctor.command)
app.add_typer(cache.app, rich_help_panel=_INSPECT)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"msft {version('msft')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; every error becomes a line or two on standard error."""
    errors.ends_process = collector.process_is_ours = True
    # What is left at the end of the process (MindSpore's Cells) is not to be interrupted.
    atexit.register(errors.ignore_signals)
    try:
        # `python -m msft_core` calls itself msft too: its help and its completion script say msft.
        if ranks.LAUNCH in os.environ:
            from msft_core.engine.launched import work

            work(lambda: app(prog_name="msft"))
        app(prog_name="msft")
    except KeyboardInterrupt:
        errors.say("interrupted.")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of the output closed it, as in `msft plugins | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)

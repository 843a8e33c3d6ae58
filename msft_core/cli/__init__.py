"""The command ``msft``. Commands import what they need when they are called, not before."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from msft_core.cli import cache, check, doctor, fetch, plugins, run

app = typer.Typer(
    name="msft",
    help="Turn a folder of labelled photographs into a trained classifier on MindSpore.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("run")(run.command)
app.add_typer(plugins.app)
app.command("fetch")(fetch.command)
app.command("check")(check.command)
app.command("doctor")(doctor.command)
app.add_typer(cache.app)


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
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        typer.echo("interrupted.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read the output has seen enough (`msft plugins | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)

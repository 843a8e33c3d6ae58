"""``msft report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msft_core.cli.errors import reported
from msft_core.cli.options import Blocked, Modules, Verbose


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write to this file, not to RUN/report.html."),
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    plugin: Modules = None,
    without: Blocked = None,
    verbose: Verbose = False,
) -> None:
    """Write the report of a run anew, one HTML page that needs no other file.

    Pictures need the images of the run where they were. Without them the page has everything else.
    """
    with reported(verbose=verbose):
        from msft_core.engine.load import open_run
        from msft_core.engine.report import write_report
        from msft_core.system.console import console_reporter

        reporter = console_reporter(verbose=verbose)
        finished = open_run(run, modules=plugin or (), without=without or (), reporter=reporter)
        path = write_report(finished, out)
        reporter.info(f"Report {path}")
        if open_it:
            import webbrowser

            if not webbrowser.open(path.resolve().as_uri()):
                reporter.warning(f"no browser was found: open {path} yourself.")

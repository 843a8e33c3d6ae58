"""``msft export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msft_core.cli import completion
from msft_core.cli.errors import reported
from msft_core.cli.options import Blocked, Device, FinishedRun, Modules, Verbose


def command(
    run: FinishedRun,
    format: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Format to write, such as onnx.",
            autocompletion=completion.components("exporter"),
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File to write.  [default: model.FORMAT in RUN]"),
    ] = None,
    normalise: Annotated[
        bool,
        typer.Option(
            "--normalise", help="Let the exported network normalise: it takes RGB from 0 to 255."
        ),
    ] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Check the file with the images in this folder.  [default: the run's validation "
            "images]",
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a setting of the format, such as exporter.KEY=VALUE (repeatable).",
        ),
    ] = None,
    device: Device = "auto",
    plugin: Modules = None,
    without: Blocked = None,
    verbose: Verbose = False,
) -> None:
    """Write a trained classifier for another program, and check that it computes the same.

    The network gives probabilities. A JSON file beside it holds the class names, and says how an
    image becomes the input. `msft plugins` lists the formats.

    Exit status: 0 done, 2 refused or failed; then an older file stays as it was.
    """
    with reported(verbose=verbose):
        from msft_core import config as configuration
        from msft_core.engine import export as engine
        from msft_core.errors import UsageError
        from msft_core.system.console import console_reporter

        given = configuration.merge(*(configuration.parse_assignment(a) for a in assignments or []))
        if other := [key for key in given if key != "exporter"]:
            raise UsageError(f"--set {other[0]}: only settings exporter.KEY=VALUE exist here.")
        engine.export(
            run,
            format,
            out=out,
            normalise=normalise,
            data_dir=data_dir,
            settings=given.get("exporter"),
            modules=plugin or (),
            without=without or (),
            device=device,
            reporter=console_reporter(verbose=verbose),
        )

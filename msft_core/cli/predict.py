"""``msft predict``."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from msft_core.cli.errors import reported
from msft_core.cli.options import Blocked, Device, FinishedRun, Modules, Quiet, Verbose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from msft_core.types import Array

_OUTPUT = "Output"


def command(
    run: FinishedRun,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...",
            help="Images, folders of images, patterns such as 'photos/*.jpg'; - reads names from "
            "standard input, one a line.",
        ),
    ],
    top: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            min=1,
            help="Classes to show for each image.  [default: 5 for one image, 1 for several]",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print a line of JSON for each image.", rich_help_panel=_OUTPUT
        ),
    ] = False,
    csv: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write all probabilities as CSV.", rich_help_panel=_OUTPUT
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw the images with their classes (a .png).",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="In --picture, show where the network sees the class (Grad-CAM).",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    device: Device = "auto",
    plugin: Modules = None,
    without: Blocked = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Predict the class of images with a trained classifier.

    Exit status: 0 done, 1 some images could not be used (they are named, the others are done),
    2 refused, 130 interrupted.
    """
    with reported(verbose=verbose):
        from msft_core.engine.load import open_run
        from msft_core.engine.outputs import require_output
        from msft_core.engine.predict import classify, draw, find_images, write_csv
        from msft_core.errors import UsageError
        from msft_core.system.console import console_reporter
        from msft_core.system.interrupts import Interrupts

        if explain and picture is None:
            raise UsageError("--explain draws into a picture: give --picture FILE too.")
        files, others = find_images(_names(images))
        for path, suffix in ((csv, ".csv"), (picture, ".png")):
            if path is not None:
                require_output(path, suffix, run=run, inputs=files)
        # What is asked for goes to standard output, and nothing else.
        reporter = console_reporter(quiet=quiet, verbose=verbose, to_stderr=True)
        if others:
            reporter.info(f"{len(others)} files are no images by their names, such as {others[0]}.")
        interrupts = Interrupts()
        with interrupts.caught():
            classifier = open_run(
                run,
                modules=plugin or (),
                without=without or (),
                device=device,
                reporter=reporter if verbose else console_reporter(quiet=True),
            ).classifier
            show = _Json(classifier.classes, top) if as_json else _Silent()
            one = len(files) == 1  # is done at once
            several = reporter.progress("predicting", len(files), "images")
            with nullcontext(lambda count: None) if one else several as advance:
                found = classify(classifier, files, advance, show, interrupts)
            if not as_json:
                _print_table(found.files, found.probabilities, classifier.classes, top)
            for file, problem in found.problems.items():
                reporter.warning(f"{file} cannot be used: {problem}.")
            if csv is not None:
                write_csv(classifier, found, csv)
            if picture is not None:
                draw(classifier, found, picture, explain=explain, reporter=reporter)
        if found.problems:
            raise typer.Exit(1)


def _names(given: Sequence[str]) -> list[str]:
    """The names; ``-`` stands for those in standard input."""
    import sys

    names: list[str] = []
    for name in given:
        if name == "-":
            names += [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
        else:
            names.append(name)
    return names


class _Silent:
    def __call__(self, file: str, values: Array) -> None:
        """Print nothing."""


class _Json:
    """Prints a line for each image as soon as it is known."""

    def __init__(self, classes: Sequence[str], top: int | None) -> None:
        self._classes, self._top = classes, top or len(classes)

    def __call__(self, file: str, values: Array) -> None:
        """Print a line."""
        from msft_core.files import json_text

        ranked = _ranked(values, self._classes, self._top)
        line: dict[str, Any] = {
            "file": file,
            "class": ranked[0][0],
            "probability": ranked[0][1],
            "probabilities": dict(ranked),
        }
        typer.echo(json_text(line))


def _ranked(values: Array, classes: Sequence[str], count: int) -> list[tuple[str, float]]:
    """The most probable classes, the first one first."""
    order = (-values).argsort(kind="stable")[:count]
    return [(classes[index], float(values[index])) for index in order]


def _print_table(
    files: Sequence[str], probabilities: Array, classes: Sequence[str], top: int | None
) -> None:
    """A line for each class of each image, with a bar."""
    if not files:
        return
    import sys

    from rich.bar import Bar
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from msft_core.system.console import printable

    count = top or (5 if len(files) == 1 else 1)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("file", overflow="fold")
    table.add_column("class", overflow="fold")
    table.add_column("probability", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for file, values in zip(files, probabilities, strict=True):
        shown = printable(file)
        for place, (name, value) in enumerate(_ranked(values, classes, count)):
            table.add_row(
                Text(shown if place == 0 else ""),
                Text(printable(name)),
                f"{value:.1%}",
                Bar(1.0, 0.0, value, width=20),
            )
    # A pipe has no width: nothing is to be folded there.
    width = None if sys.stdout.isatty() else 60 + max(map(len, files)) + max(map(len, classes))
    Console(width=width, highlight=False).print(table)

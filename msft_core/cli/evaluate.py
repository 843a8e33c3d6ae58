"""``msft evaluate``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from msft_core.cli import completion
from msft_core.cli.errors import reported
from msft_core.cli.options import Blocked, Device, FinishedRun, Modules, Quiet, Verbose

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from msft_core.engine.evaluate import Evaluation
    from msft_core.runs.intervals import Estimate
    from msft_core.runs.measures import Measures

_WHICH = "Which images"
_OUTPUT = "Output"


def command(
    run: FinishedRun,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Evaluate the images of this folder: val/CLASS/, or CLASS/ alone.",
            rich_help_panel=_WHICH,
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Evaluate the images of another dataset.",
            autocompletion=completion.components("dataset"),
            rich_help_panel=_WHICH,
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="dataset.KEY=VALUE",
            help="Change a setting of --dataset (repeatable).",
            rich_help_panel=_WHICH,
        ),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            metavar="SPLIT",
            help="val, train or test.",
            autocompletion=lambda: ["val", "train", "test"],
            rich_help_panel=_WHICH,
        ),
    ] = "val",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON.", rich_help_panel=_OUTPUT)
    ] = False,
    csv: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write all probabilities as CSV.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    device: Device = "auto",
    plugin: Modules = None,
    without: Blocked = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure a trained classifier: accuracy and other figures with 95 % intervals, mistakes.

    By default on the validation images of the run. Images that do not decode are named and left
    out, as in a run.

    Exit status: 0 done, 2 refused, 130 interrupted.
    """
    with reported(verbose=verbose):
        from msft_core.engine.evaluate import evaluate
        from msft_core.engine.outputs import require_output
        from msft_core.system.console import console_reporter

        settings = _of_dataset(assignments or ())
        if csv is not None:
            require_output(csv, ".csv", run=run)
        # What is asked for goes to standard output, and nothing else.
        reporter = console_reporter(quiet=quiet, verbose=verbose, to_stderr=True)
        found = evaluate(
            run,
            split=split,
            data_dir=data_dir,
            dataset=dataset,
            settings=settings,
            modules=plugin or (),
            without=without or (),
            device=device,
            reporter=reporter,
        )
        if as_json:
            from msft_core.files import json_text

            typer.echo(json_text(found.to_mapping(), indent=2))
            for warning in found.warnings:
                reporter.warning(warning)
        else:
            print_evaluation(found)
        if csv is not None:
            found.write_csv(csv)


def _of_dataset(assignments: Iterable[str]) -> dict[str, Any]:
    """The settings that ``--set`` gives the dataset."""
    from msft_core import config as configuration
    from msft_core.errors import UsageError

    raw = configuration.merge(*map(configuration.parse_assignment, assignments))
    settings = raw.pop("dataset", {})
    if raw or not isinstance(settings, dict) or "name" in settings:
        raise UsageError("--set changes only settings of the dataset here, dataset.KEY=VALUE.")
    return settings


_CLASSES_SHOWN = 30
_MISTAKES_SHOWN = 10
_MATRIX_UP_TO = 10

_TITLES = {"auroc": "AUROC", "f1": "F1", "calibration_error": "calibration error"}


def print_evaluation(found: Evaluation) -> None:
    """Print tables on standard output."""
    from rich.console import Console

    measures = found.measures
    console = Console(highlight=False, markup=False, emoji=False, width=_width(measures))
    images, classes = len(measures.predictions.ids), len(measures.per_class)
    left_out = f", {_number(len(found.skipped), 'image')} left out" if found.skipped else ""
    _line(
        console,
        f"{found.checkpoint} on {found.description}: {_number(images, 'image')} in "
        f"{_number(classes, 'class', 'classes')}{left_out}",
    )
    console.print(_figures(found))
    if any(one.low == one.high is not None for one in found.figures.values()):
        _line(
            console,
            "An interval without width: resampling these images always gives the same figure, so "
            "it does not say how sure the figure is.",
        )
    for note in found.notes:
        _line(console, f"Note: {note}")
    for warning in found.warnings:
        _line(console, f"Warning: {warning}")
    _classes(console, measures)
    if classes <= _MATRIX_UP_TO:
        _matrix(console, measures)
    _mistakes(console, measures)


def _width(measures: Measures) -> int | None:
    """Columns of the output: those of the terminal. In a pipe no file name is folded."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return None
    shown = measures.mistakes[:_MISTAKES_SHOWN].tolist()
    longest_file = max((len(measures.predictions.ids[index]) for index in shown), default=0)
    longest_class = max(len(one.name) for one in measures.per_class)
    return max(80, longest_file + 2 * longest_class + 20)


def _number(count: int, one: str, several: str = "") -> str:
    return f"{count} {one if count == 1 else several or one + 's'}"


def _line(console: Console, text: str) -> None:
    from rich.text import Text

    console.print(Text(_printable(text)), soft_wrap=False)


def _printable(text: str) -> str:
    """A text that may hold the name of a file that is not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _table(names: Sequence[str], numbers: Sequence[str]) -> Table:
    """A table whose columns of names are folded before those of numbers are."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for name in names:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _add(table: Table, *cells: str) -> None:
    from rich.text import Text

    table.add_row(*(Text(_printable(cell)) for cell in cells))


def _title(console: Console, text: str) -> None:
    from rich.text import Text

    console.print()
    console.print(Text(text, style="bold"))


def _figures(found: Evaluation) -> Table:
    table = _table([""], ["", "95 % interval"])
    for name, one in found.figures.items():
        _add(table, _TITLES.get(name, name), _value(one.value), _interval(one))
    for name, one in found.metrics.items():
        title = f"{name} (metric of a plugin)" if name in found.figures else name
        _add(table, title, _value(one.value), _interval(one))
    return table


def _value(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _interval(one: Estimate) -> str:
    if one.low is None or one.high is None:
        return "-"
    return f"{one.low:.4f} to {one.high:.4f}"


def _classes(console: Console, measures: Measures) -> None:
    shown = list(measures.per_class)
    title = "Classes"
    if len(shown) > _CLASSES_SHOWN:
        shown = sorted(shown, key=lambda one: (one.f1 is None, one.f1))[:_CLASSES_SHOWN]
        title = f"Classes: the {_CLASSES_SHOWN} of {len(measures.per_class)} with the lowest F1"
    _title(console, title)
    table = _table(["class"], ["images", "predicted", "precision", "recall", "F1", "AUROC"])
    for one in shown:
        numbers = (one.precision, one.recall, one.f1, one.auroc)
        _add(table, one.name, str(one.count), str(one.predicted), *map(_short, numbers))
    console.print(table)


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _matrix(console: Console, measures: Measures) -> None:
    classes = [_printable(one.name) for one in measures.per_class]
    widest = max(map(len, classes))
    heads = classes
    if widest + sum(len(name) + 1 for name in classes) > console.width:
        heads = [str(number) for number in range(1, len(classes) + 1)]
        classes = [f"{head} {name}" for head, name in zip(heads, classes, strict=True)]
    _title(console, "Confusion matrix (rows: true, columns: predicted)")
    table = _table(["class"], heads)
    for name, row in zip(classes, measures.confusion.tolist(), strict=True):
        _add(table, name, *map(str, row))
    console.print(table)


def _mistakes(console: Console, measures: Measures) -> None:
    predictions, mistakes = measures.predictions, measures.mistakes
    total = len(mistakes)
    if not total:
        _title(console, "No mistakes")
        return
    which = "surest first" if total <= _MISTAKES_SHOWN else f"the {_MISTAKES_SHOWN} surest"
    _title(console, f"{_number(total, 'mistake')}{f', {which}' if total > 1 else ''}")
    table = _table(["file", "class", "predicted"], ["probability"])
    predicted, classes = predictions.predicted, predictions.classes
    for index in mistakes[:_MISTAKES_SHOWN].tolist():
        chosen = predicted[index]
        _add(
            table,
            predictions.ids[index],
            classes[predictions.labels[index]],
            classes[chosen],
            f"{predictions.probabilities[index, chosen]:.1%}",
        )
    console.print(table)

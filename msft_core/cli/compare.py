"""``msft compare``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from msft_core.cli import completion
from msft_core.cli.errors import reported
from msft_core.cli.options import AsJson, Verbose
from msft_core.pages.compared import (
    p_figure,
    percents,
    points,
    points_between,
    setting_text,
    sparkline,
)
from msft_core.pages.texts import duration, percent

if TYPE_CHECKING:
    from rich.table import Table

    from msft_core.runs.comparison import Comparison


def command(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN",
            help="Two or more run folders.",
            autocompletion=completion.run_folders,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the comparison as an HTML page too."),
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Compare finished runs: accuracy on the same pictures, curves, times, settings.

    Exit status: 0 done, 2 the runs cannot be compared.
    """
    with reported(verbose=verbose):
        from msft_core.engine.compare import compare, write_page

        comparison = compare(runs)
        page = write_page(comparison, out) if out else None
        if as_json:
            from msft_core.files import json_text
            from msft_core.runs.comparison import as_mapping

            typer.echo(json_text(as_mapping(comparison), indent=2))
            return
        print_comparison(comparison)
        if page:
            typer.echo(f"Page: {page}")


_LEGENDS = {
    "Runs": "95 %: interval of the accuracy. best: the best epoch of how many. time: training, in "
    "all and for the median epoch.",
    "Pairs": "points: difference of the accuracies, with its interval. p: McNemar's exact test.",
}


def print_comparison(comparison: Comparison) -> None:
    """Print tables on standard output."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False)
    tables = {
        "Runs": _runs(comparison),
        "Pairs": _pairs(comparison),
        "Validation by epoch": _curves(comparison, console.encoding),
        "Different settings": _differences(comparison),
    }
    with console.capture() as captured:
        console.print(Text(comparison.outcome))
        for title, table in tables.items():
            if table.row_count:
                console.print()
                console.print(Text(title, style="bold"))
                console.print(table)
                if title in _LEGENDS:
                    console.print(Text(_LEGENDS[title], style="dim"))
        console.print()
        if not comparison.differences:
            console.print(Text("All settings are the same."))
        for note in comparison.notes:
            console.print(Text(f"Note: {note}"))
    # A name may have characters that this terminal has not.
    text = captured.get().rstrip().encode(console.encoding, "backslashreplace")
    typer.echo(text.decode(console.encoding))


def _table(*columns: str, figures: Sequence[str] = ()) -> Table:
    """A table whose columns of names become narrow before those of figures do."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for column in columns:
        if column in figures:
            table.add_column(column, justify="right", no_wrap=True)
        else:
            table.add_column(column, overflow="fold")
    return table


def _add(table: Table, *cells: str) -> None:
    from rich.text import Text

    table.add_row(*(Text(cell.replace("\xa0", " ")) for cell in cells))


def _runs(comparison: Comparison) -> Table:

    figures = ("right", "accuracy", "95 %", "best", "time", "epoch")
    table = _table("run", *figures, figures=figures)
    for run in comparison.runs:
        score, best, median = comparison.scores.get(run.name), run.best, run.seconds_per_epoch
        _add(
            table,
            run.name,
            f"{score.right}/{score.pictures}" if score else "-",
            percent(score.accuracy) if score else "-",
            percents(score.interval) if score else "-",
            f"{best.epoch}/{run.trained}" if best else "-",
            duration(run.seconds) if run.history else "-",
            duration(median) if median is not None else "-",
        )
    return table


def _pairs(comparison: Comparison) -> Table:

    columns = ("only it is right", "points", "95 %", "p")
    table = _table("pair", *columns, figures=columns)
    for pair in comparison.pairs:
        if table.row_count:
            table.add_row()
        interval = points_between(pair.interval) if pair.interval else "-"
        figures = (points(pair.difference), interval, p_figure(pair.p_value))
        _add(table, pair.first, str(pair.only_first), *figures)
        _add(table, pair.second, str(pair.only_second), "", "", "")
    return table


def _curves(comparison: Comparison, encoding: str) -> Table:
    """Validation figures by epoch: a line of blocks for each, all runs on one scale."""

    table = _table(
        "run", "metric", "by epoch", "first", "last", figures=("by epoch", "first", "last")
    )
    shown = dict.fromkeys(
        ("accuracy", *(run.best.metric for run in comparison.runs if run.best), "loss")
    )
    for metric in shown:
        curves = {run.name: run.curve(metric) for run in comparison.runs}
        known = [v for curve in curves.values() for v in curve if math.isfinite(v)]
        for name, curve in curves.items():
            if known and curve:
                line = sparkline(curve, min(known), max(known))
                line = line if "utf" in encoding else f"{len(curve)} epochs"
                _add(table, name, metric, line, f"{curve[0]:.4f}", f"{curve[-1]:.4f}")
    return table


def _differences(comparison: Comparison) -> Table:

    table = _table("setting", *(run.name for run in comparison.runs))
    for key, values in comparison.differences.items():
        _add(table, key, *map(setting_text, values))
    return table

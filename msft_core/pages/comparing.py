"""The page that compares runs. Importing this module imports matplotlib and jinja2."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from msft_core.pages import charts, rendering
from msft_core.pages.compared import p_figure, percents, points, points_between, setting_text
from msft_core.pages.texts import duration, percent, whole_percent
from msft_core.runs.comparison import Comparison
from msft_core.runs.record import RunRecord

MARK = "msft compare"
"""At the end of the page's title: by it msft knows a page that it may write over."""

_HEAD = 4096
"""The title is in so many first bytes of a page."""


def write_comparison(comparison: Comparison, path: Path) -> Path:
    """Write the page about a comparison. Raises OSError."""
    names = [run.name for run in comparison.runs]
    pictures = max((score.pictures for score in comparison.scores.values()), default=0)
    curves = _curves(comparison.runs)
    content: dict[str, Any] = {
        "mark": MARK,
        "count": len(names),
        "heading": _heading(names),
        "outcome": comparison.outcome,
        "notes": comparison.notes,
        "runs": _runs(comparison),
        "links": [_link(run, path) for run in comparison.runs],
        "pairs": _pairs(comparison),
        "pictures": pictures,
        "curves": curves,
        "settings": {
            "columns": ("setting", *names),
            "rows": [
                (key, *map(setting_text, values)) for key, values in comparison.differences.items()
            ],
        },
    }
    sections = [
        ("runs", "Runs"),
        *([("pairs", "Pairs")] if comparison.pairs else []),
        *([("curves", "Curves")] if curves else []),
        ("settings", "Different settings"),
    ]
    return rendering.write_page(path, "compare.html.j2", {**content, "sections": sections})


def _heading(names: Sequence[str]) -> str:
    if len(names) > 3:
        return f"{names[0]} and {len(names) - 1} other runs"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def is_comparison(path: Path) -> bool:
    """Whether ``write_comparison`` wrote this file. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    return b'<meta name="generator" content="msft ' in head and f" {MARK}</title>".encode() in head


def _runs(comparison: Comparison) -> dict[str, Any]:
    rows = []
    for run in comparison.runs:
        score, median = comparison.scores.get(run.name), run.seconds_per_epoch
        rows.append(
            (
                run.name,
                f"{score.right:,} of {score.pictures:,}".replace(" ", "\xa0") if score else "–",
                percent(score.accuracy) if score else "–",
                percents(score.interval) if score else "–",
                _best(run),
                duration(run.seconds) if run.history else "–",
                duration(median) if median is not None else "–",
            )
        )
    columns = ("run", "right", "accuracy", "interval", "best epoch", "time", "median epoch")
    return {"columns": columns, "rows": rows}


def _best(run: RunRecord) -> str:
    best = run.best
    if best is None:
        return "–"
    chosen_by = "" if best.metric == "accuracy" else f", by {best.metric}"
    return f"{best.epoch} of {run.trained}{chosen_by}"


def _pairs(comparison: Comparison) -> dict[str, Any]:
    columns = ("A / B", "both right", "only A", "only B", "neither", "A - B", "interval", "p")
    rows = [
        (
            f"{pair.first} / {pair.second}",
            f"{pair.both:,}",
            f"{pair.only_first:,}",
            f"{pair.only_second:,}",
            f"{pair.neither:,}",
            points(pair.difference),
            points_between(pair.interval) if pair.interval else "–",
            p_figure(pair.p_value),
        )
        for pair in comparison.pairs
    ]
    return {"columns": columns, "rows": rows}


def _link(run: RunRecord, page: Path) -> dict[str, str]:
    report = run.folder / "report.html"
    where = ""
    if report.is_file():
        where = quote(os.path.relpath(report.resolve(), page.resolve().parent), errors="replace")
    return {"name": run.name, "folder": str(run.folder), "report": where}


def _curves(runs: Sequence[RunRecord]) -> list[charts.Chart]:
    """Each validation metric, the losses and the time by epoch, a line for each run."""
    epochs = [record.epoch for run in runs for record in run.history]
    if not epochs:
        return []
    limits = (min(epochs) - 0.4, max(epochs) + 0.4)
    x = charts.Scale("epoch", limits, lambda epoch: f"{epoch:.0f}", whole=True)
    metrics = dict.fromkeys(
        name for run in runs for record in run.history for name in record.val if name != "loss"
    )
    found = []
    for name in metrics:
        lines = _lines({run.name: _points(run, lambda r, n=name: r.val.get(n)) for run in runs})
        share = all(0 <= v <= 1 for line in lines for _, v in line.points if math.isfinite(v))
        if share and lines:
            y = charts.Scale("", charts.share_limits(lines), percent, whole_percent)
        else:
            y = charts.Scale("")
        found.append((f"Validation {name}", lines, y))
    val_loss = _lines({run.name: _points(run, lambda r: r.val.get("loss")) for run in runs})
    train_loss = _lines({run.name: _points(run, lambda r: r.train.get("loss")) for run in runs})
    seconds = _lines({run.name: _points(run, lambda r: r.seconds) for run in runs})
    found += [
        ("Validation loss", val_loss, _from_zero(val_loss)),
        ("Training loss", train_loss, _from_zero(train_loss)),
        ("Time of each epoch, seconds", seconds, _from_zero(seconds, duration)),
    ]
    return [charts.line_chart(title, lines, x, y) for title, lines, y in found if lines]


def _points(run: RunRecord, value: Any) -> charts.Points:
    points = [(record.epoch, value(record)) for record in run.history]
    return [(epoch, float(one)) for epoch, one in points if one is not None]


def _lines(of_runs: dict[str, charts.Points]) -> list[charts.Line]:
    """Lines of the runs that have a number; the colour of a run is the same on each chart."""
    lines = charts.coloured(list(of_runs.items()))
    return [line for line in lines if any(math.isfinite(value) for _, value in line.points)]


def _from_zero(lines: Sequence[charts.Line], text: Any = None) -> charts.Scale:
    top = max((v for line in lines for _, v in line.points if math.isfinite(v)), default=1.0)
    limits = (0.0, 1.08 * max(top, 0.01))
    return charts.Scale("", limits, text) if text else charts.Scale("", limits)

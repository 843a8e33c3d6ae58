"""Charts for pages: matplotlib draws lines and axes as SVG, HTML beside it holds the values.

A chart contains numbers and constant texts only. Names of classes, runs and metrics are in its
legend, its values and its table, which the templates escape. Colours are CSS variables, so a chart
follows the light and the dark scheme. The same numbers give the same bytes.

Importing this module imports matplotlib.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from markupsafe import Markup
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from msft_core.pages.svg import inline
from msft_core.pages.texts import percent, whole_percent
from msft_core.types import Best, EpochRecord

COLOURS = ("c1", "c2", "c3", "c4", "c5", "c6")
"""Colours of lines, in order: CSS variables ``--c1`` and so on, which base.html.j2 defines."""

PALE = "c0"
"""The colour of lines after the last one."""

_WIDTH, _HEIGHT = 400, 250  # units of the SVG's viewBox, about as many pixels on the page
_LEFT, _RIGHT, _BOTTOM, _TOP = 50, 12, 42, 12
_STOPS = 30
"""So many points of a chart can have the keyboard's focus. The others show on hovering."""

# What matplotlib draws with, and the variables that stand there in the end.
_HEX = {
    **{name: f"#0a0b0{number}" for number, name in enumerate((PALE, *COLOURS))},
    "ink": "#0a0b10",
    "muted": "#0a0b11",
    "line": "#0a0b12",
}
_VARIABLES = {value: f"var(--{name})" for name, value in _HEX.items()}

_LOOK = {
    "svg.fonttype": "none",
    "font.size": 12,
    "axes.edgecolor": _HEX["line"],
    "axes.labelcolor": _HEX["muted"],
    "axes.linewidth": 1,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.labelpad": 5,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": _HEX["line"],
    "grid.linewidth": 1,
    "xtick.color": _HEX["line"],
    "xtick.labelcolor": _HEX["muted"],
    "xtick.major.size": 4,
    "ytick.labelcolor": _HEX["muted"],
    "ytick.major.size": 0,
    "ytick.major.pad": 6,
}


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Args:
        name: for the legend and the values.
        points: (x, y) with ascending x; a y that is not finite leaves a gap.
        colour: ``c1`` to ``c6``, ``c0`` (pale), ``ink`` or ``muted``.
        dashed: for the second kind of line, such as training beside validation.
        dots: whether each point has a dot.
        steps: whether y stays the same from a point up to the next one.
        weights: how much each point counts, 0 to 1: the area of its dot.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: str = COLOURS[0]
    dashed: bool = False
    dots: bool = True
    steps: bool = False
    weights: Sequence[float] = ()

    def at(self, x: float) -> float:
        """The value at x: NaN where there is no point, or, for steps, before the first one."""
        if not self.steps:
            return dict(self.points).get(x, math.nan)
        place = bisect_right([one for one, _ in self.points], x)
        return self.points[place - 1][1] if place else math.nan


@dataclass(frozen=True)
class Reading:
    """A value as a point of a chart shows it: the colour of its line, its name, the value."""

    colour: str
    name: str
    text: str
    top: float | None = None
    """Where its dot is, per cent of the chart from the top."""


@dataclass(frozen=True)
class Spot:
    """The values at one x, which the page shows on hovering and on focus.

    Args:
        left: left edge of the area that reacts, per cent of the chart's width.
        width: of the area, per cent of the chart's width.
        x: place of the point, per cent of the area's width.
        heading: names x, such as "epoch 3".
        readings: a value for each line that has one.
        focusable: whether the keyboard reaches it.
        flipped: whether there is more room on its left.
    """

    left: float
    width: float
    x: float
    heading: str
    readings: tuple[Reading, ...]
    focusable: bool
    flipped: bool

    @property
    def label(self) -> str:
        """All in one line, for screen readers."""
        return f"{self.heading}: " + ", ".join(f"{r.name} {r.text}" for r in self.readings)


@dataclass(frozen=True)
class Chart:
    """A chart, for the macro ``chart`` of parts.html.j2.

    Args:
        title: its heading.
        label: what a screen reader says of the drawing.
        svg: the drawing, without names.
        legend: (colour, name, whether dashed) of each line.
        spots: the values that show on hovering.
        columns: heads of the table with the values of all lines that are not pale.
        rows: its rows, texts.
        note: a line below the heading.
    """

    title: str
    label: str
    svg: Markup
    legend: tuple[tuple[str, str, bool], ...]
    spots: tuple[Spot, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Scale:
    """An axis.

    Args:
        name: what it shows.
        limits: its ends; None for those that the values ask for.
        text: a value as text, in the table and on hovering.
        tick: a value as text at the axis.
        whole: whether only whole numbers get a tick.
    """

    name: str
    limits: tuple[float, float] | None = None
    text: Callable[[float], str] = field(default=lambda value: f"{value:.4g}")
    tick: Callable[[float], str] | None = None
    whole: bool = False


def line_chart(
    title: str,
    lines: Sequence[Line],
    x: Scale,
    y: Scale,
    *,
    mark: tuple[float, str] | None = None,
    spots_at: Sequence[float] | None = None,
    diagonal: bool = False,
    square: bool = False,
    more: Callable[[float], Iterable[tuple[str, str]]] | None = None,
    note: str = "",
) -> Chart:
    """Draw lines over x.

    Args:
        title: the chart's heading.
        lines: at least one with a point.
        x: the lower axis.
        y: the left axis.
        mark: an x with a vertical line, and its name for the legend.
        spots_at: where values show on hovering; by default at every x that a line has.
        diagonal: draw the line from (0, 0) to (1, 1).
        square: make the drawing higher, for axes with the same unit.
        more: further (name, value) for a point.
        note: a line below the heading.
    """
    height = _HEIGHT + 70 if square else _HEIGHT
    left = _LEFT + 16 if y.name else _LEFT
    # The salt makes the names of markers and clips unique on a page.
    with style.context(["default", {**_LOOK, "svg.hashsalt": f"msft {title!a}"}]):
        figure = Figure(figsize=(_WIDTH / 72, height / 72))
        axes = figure.add_axes(
            (
                left / _WIDTH,
                _BOTTOM / height,
                1 - (left + _RIGHT) / _WIDTH,
                1 - (_BOTTOM + _TOP) / height,
            )
        )
        _draw(axes, lines, x, y, mark, diagonal)
        svg = inline(figure, _VARIABLES)
    places = sorted({place for line in lines for place, _ in line.points})
    shown = [line for line in lines if line.colour != PALE]
    heads = (x.name or "x", *(line.name for line in shown), *(n for n, _ in _asked(more, places)))
    rows = [
        (x.text(at), *(_text(line.at(at), y) for line in shown), *(t for _, t in (more or _no)(at)))
        for at in (places if spots_at is None else spots_at)
    ]
    low, high = (y.text(value) for value in _range(lines))
    label = f"{title}: line chart over {x.name}, from {low} to {high}. Its table has all values."
    legend = [(line.colour, line.name, line.dashed) for line in shown]
    if len(lines) == 1:  # the title says what it is
        legend = []
    if pale := sum(line.colour == PALE for line in lines):
        legend.append((PALE, f"{pale} more", False))
    if mark:
        legend.append(("ink", mark[1], True))
    return Chart(
        title,
        label,
        svg,
        tuple(legend),
        tuple(_spots(axes, lines, x, y, places if spots_at is None else spots_at, more)),
        heads,
        tuple(rows),
        note,
    )


def _draw(
    axes: Axes,
    lines: Sequence[Line],
    x: Scale,
    y: Scale,
    mark: tuple[float, str] | None,
    diagonal: bool,
) -> None:
    if diagonal:
        axes.plot([0, 1], [0, 1], color=_HEX["muted"], linewidth=1, linestyle=(0, (2, 4)))
    for line in lines:
        many = len(line.points) > 40
        axes.plot(
            [at for at, _ in line.points],
            [value if math.isfinite(value) else math.nan for _, value in line.points],
            color=_HEX[line.colour],
            linewidth=1.2 if line.colour == PALE or line.weights else 2,
            linestyle=(0, (4, 2.5)) if line.dashed else "-",
            drawstyle="steps-post" if line.steps else "default",
            marker="o" if line.dots and not many and not line.weights else None,
            markersize=4,
            zorder=2 if line.colour == PALE else 3,
            clip_on=False,
            solid_joinstyle="round",
        )
        if line.weights:
            areas = [16 + 260 * weight for weight in line.weights]
            places, values = zip(*line.points, strict=True)
            axes.scatter(places, values, areas, _HEX[line.colour], zorder=4, clip_on=False)
    if mark:
        axes.axvline(mark[0], color=_HEX["ink"], linewidth=1, linestyle=(0, (2, 3)), zorder=1)
    axes.set_xlabel(x.name)
    axes.set_ylabel(y.name)
    for axis, scale in ((axes.xaxis, x), (axes.yaxis, y)):
        axis.set_major_locator(MaxNLocator(nbins=6, integer=scale.whole, min_n_ticks=1))
        if scale.tick is not None:
            tick = scale.tick
            axis.set_major_formatter(FuncFormatter(lambda value, _, tick=tick: tick(value)))
    if x.limits:
        axes.set_xlim(*x.limits)
    if y.limits:
        axes.set_ylim(*y.limits)


def _range(lines: Sequence[Line]) -> tuple[float, float]:
    values = [value for line in lines for _, value in line.points if math.isfinite(value)]
    return (min(values), max(values)) if values else (math.nan, math.nan)


def _no(_: float) -> Iterable[tuple[str, str]]:
    return ()


def _asked(
    more: Callable[[float], Iterable[tuple[str, str]]] | None, places: Sequence[float]
) -> Iterable[tuple[str, str]]:
    return more(places[0]) if more and places else ()


def _text(value: float, scale: Scale) -> str:
    return scale.text(value) if math.isfinite(value) else "–"


def _spots(
    axes: Axes,
    lines: Sequence[Line],
    x: Scale,
    y: Scale,
    places: Sequence[float],
    more: Callable[[float], Iterable[tuple[str, str]]] | None,
) -> Iterable[Spot]:
    box = axes.get_position()
    (x_low, x_high), (y_low, y_high) = axes.get_xlim(), axes.get_ylim()

    def across(at: float) -> float:
        return 100 * (box.x0 + box.width * (at - x_low) / (x_high - x_low))

    def down(value: float) -> float:
        return 100 * (1 - box.y0 - box.height * (value - y_low) / (y_high - y_low))

    centres = [across(at) for at in places]
    between = [(one + other) / 2 for one, other in pairwise(centres)]
    edges = [100 * box.x0, *between, 100 * box.x1] if centres else []
    every = max(1, math.ceil(len(places) / _STOPS))
    shown = [line for line in lines if line.colour != PALE]
    for number, (at, centre) in enumerate(zip(places, centres, strict=True)):
        left, right = edges[number], edges[number + 1]
        # A dot of a point at an end of the axis is partly outside of the axes.
        left, right = min(left, centre - 0.5), max(right, centre + 0.5)
        readings = [
            Reading(line.colour, line.name, y.text(value), _rounded(down(value)))
            for line in shown
            if math.isfinite(value := line.at(at))
        ]
        readings += [Reading("", name, text) for name, text in (more or _no)(at)]
        if not readings:
            continue
        yield Spot(
            left=_rounded(left),
            width=_rounded(right - left),
            x=_rounded(100 * (centre - left) / (right - left)),
            heading=f"{x.name} {x.text(at)}".strip(),
            readings=tuple(readings),
            focusable=number % every == 0 or number == len(places) - 1,
            flipped=centre > 50,
        )


def _rounded(value: float) -> float:
    return round(value, 2)


def curves(history: Sequence[EpochRecord], best: Best | None) -> list[Chart]:
    """Loss, metrics between 0 and 1, and each other metric by epoch.

    Args:
        history: a record for each epoch, at least one.
        best: the epoch to mark.
    """
    mark = (best.epoch, f"best epoch ({best.epoch})") if best else None
    x = _epochs(history)
    losses = [
        Line("training", series((r.epoch, r.train) for r in history)("loss"), "c2", dashed=True),
        Line("validation", series((r.epoch, r.val) for r in history)("loss"), "c1"),
    ]
    losses = [line for line in losses if line.points]
    names = dict.fromkeys(name for record in history for name in record.val if name != "loss")
    of_metric = series((r.epoch, r.val) for r in history)
    shares = [name for name in names if _is_share(of_metric(name))]
    top = _range(losses)[1]
    y = Scale("", (0, 1.08 * max(top, 0.01)) if math.isfinite(top) else None)
    charts = [line_chart("Loss", losses, x, y, mark=mark)]
    if shares:
        lines = coloured([(name, of_metric(name)) for name in shares])
        title = "Validation " + (shares[0] if len(shares) == 1 else "metrics")
        y = Scale("", share_limits(lines), percent, whole_percent)
        charts.append(line_chart(title, lines, x, y, mark=mark))
    for name in names:
        if name not in shares and any(math.isfinite(v) for _, v in of_metric(name)):
            line = Line(name, of_metric(name))
            charts.append(line_chart(name, [line], x, Scale(""), mark=mark))
    return charts


def learning_rates(history: Sequence[EpochRecord]) -> Chart:
    """The learning rate at the end of each epoch."""
    line = Line("learning rate", [(r.epoch, r.learning_rate) for r in history], "c4")
    return line_chart("Learning rate", [line], _epochs(history), Scale("", text="{:.3g}".format))


def _epochs(history: Sequence[EpochRecord]) -> Scale:
    limits = (history[0].epoch - 0.4, history[-1].epoch + 0.4)
    return Scale("epoch", limits, lambda epoch: f"{epoch:.0f}", whole=True)


Points = list[tuple[float, float]]


def series(
    records: Iterable[tuple[int, Mapping[str, float]]],
) -> Callable[[str], Points]:
    """Gives, for a name, the (epoch, value) of the epochs that have it."""
    kept = list(records)
    return lambda name: [(epoch, values[name]) for epoch, values in kept if name in values]


def coloured(lines: Sequence[tuple[str, Points]]) -> list[Line]:
    """Lines in the colours of the page; those after the last colour are pale."""
    return [
        Line(name, points, COLOURS[number] if number < len(COLOURS) else PALE)
        for number, (name, points) in enumerate(lines)
    ]


def _is_share(points: Points) -> bool:
    finite = [value for _, value in points if math.isfinite(value)]
    return bool(finite) and all(0 <= value <= 1 for value in finite)


def share_limits(lines: Sequence[Line]) -> tuple[float, float]:
    """Ends of an axis of shares: never beyond 0 and 1, and never so near that noise looks big."""
    low, high = _range(lines)
    low = min(low, high - 0.1)
    room = 0.06 * (high - low)
    return max(0.0, low - room), min(1.0, high + room)

"""Outcomes as tables for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from benchmarks.outcome import Outcome, Target

_NONE = "-"


def show(outcome: Outcome, console: Console) -> None:
    """What was measured, what it comes to, and where the time goes."""
    console.print(_measured(outcome))
    console.print(_targets(outcome))
    if any(measurement.phases for measurement in outcome.measurements):
        console.print(_phases(outcome))


def _measured(outcome: Outcome) -> Table:
    table = Table("", "median", "range", "values", "peak MB", "a child's", title=outcome.title)
    for m in outcome.measurements:
        if m.median is None:
            table.add_row(m.name, "not measured", m.missing)
            continue
        extremes = (_number(value) for value in (min(m.values), max(m.values)))
        values = (f"{_number(m.median)} {m.unit}", " to ".join(extremes))
        peaks = (_peak(m.peak_mb), _peak(m.child_peak_mb))
        table.add_row(m.name, *values, str(len(m.values)), *peaks)
    return table


def _targets(outcome: Outcome) -> Table:
    table = Table("", "median by median", "target", "reached", title=f"{outcome.title}: targets")
    for target in outcome.targets:
        value = "not measured" if target.value is None else f"{_number(target.value)} {target.unit}"
        reached = {None: "", True: "yes", False: "NO"}[target.reached]
        table.add_row(target.name, value, _bound(target), reached)
    return table


def _phases(outcome: Outcome) -> Table:
    table = Table("", "seconds, medians", title=f"{outcome.title}: where the time goes")
    for measurement in outcome.measurements:
        if measurement.phases:
            phases = measurement.median_phases().items()
            table.add_row(measurement.name, ", ".join(f"{name} {s:.2f}" for name, s in phases))
    return table


def _bound(target: Target) -> str:
    if target.bound is None:
        return ""
    return f"{'at most' if target.below else 'at least'} {target.bound:g} {target.unit}"


def _number(value: float) -> str:
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 3}f}"


def _peak(values: list[float]) -> str:
    return f"{max(values):,.0f}" if any(values) else _NONE

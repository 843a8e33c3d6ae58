"""What a comparison gives: figures, and ratios with their targets."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.commands import Finished, NotMeasured

RATE = "images/s"
"""The one unit of which more is better."""


@dataclass(eq=False)
class Measurement:
    """One thing, measured several times.

    Args:
        name: who does what.
        unit: of the values: s, ms, images/s or MB.
        values: all of them, in the order they were measured.
        peak_mb: greatest resident memory of the process (VmHWM), 10^6 bytes, for each value.
        child_peak_mb: likewise, greatest of the processes that it started.
        phases: where the time goes, in seconds, for each value.
        epoch_seconds: training time of each epoch as a run of msft says it, for each value.
        missing: why there are no values.
    """

    name: str
    unit: str
    values: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    child_peak_mb: list[float] = field(default_factory=list)
    phases: list[Mapping[str, float]] = field(default_factory=list)
    epoch_seconds: list[list[float]] = field(default_factory=list)
    missing: str = ""

    def add(self, result: Finished | float) -> None:
        """Count a whole command, by its seconds, or a value."""
        if not isinstance(result, Finished):
            self.values.append(result)
            return
        self.values.append(result.seconds)
        self.peak_mb.append(result.peak_mb)
        self.child_peak_mb.append(result.child_peak_mb)
        self.phases.append(result.phases)

    @property
    def median(self) -> float | None:
        """None where nothing was measured."""
        return statistics.median(self.values) if self.values else None

    def median_phases(self) -> dict[str, float]:
        """The median of each phase."""
        names = self.phases[0] if self.phases else ()
        return {name: statistics.median(p[name] for p in self.phases) for name in names}


@dataclass(frozen=True, eq=False)
class Entry:
    """One who takes part in a comparison.

    Args:
        measurement: where it is written down.
        once: measures once more; what it raises as ``NotMeasured`` ends its taking part.
    """

    measurement: Measurement
    once: Callable[[], Finished | float]


def alternate(entries: Sequence[Entry], repeats: int, warm_up: int = 0) -> None:
    """Let everyone measure once, and again, so that all see the same noise.

    Args:
        entries: in order.
        repeats: values of each.
        warm_up: rounds before, which don't count.
    """
    for repeat in range(-warm_up, repeats):
        for entry in entries:
            measurement = entry.measurement
            if measurement.missing:
                continue
            try:
                result = entry.once()
            except NotMeasured as reason:
                measurement.missing = str(reason)
                print(f"  {measurement.name}: not measured: {reason}", flush=True)
                continue
            if repeat >= 0:
                measurement.add(result)
                value = f"{measurement.values[-1]:.4g} {measurement.unit}"
                print(f"  {measurement.name}: {value}", flush=True)


@dataclass(frozen=True)
class Target:
    """A figure that something is to reach.

    Args:
        name: what by what.
        value: None where one of them was not measured.
        bound: None where nothing is demanded.
        below: the value is to be at most the bound, else at least.
        unit: ``times``, or that of the value.
    """

    name: str
    value: float | None
    bound: float | None = None
    below: bool = False
    unit: str = "times"

    @property
    def reached(self) -> bool | None:
        """None where there is nothing to tell."""
        if self.value is None or self.bound is None:
            return None
        return self.value <= self.bound if self.below else self.value >= self.bound


@dataclass(frozen=True)
class Outcome:
    """A comparison that is over.

    Args:
        title: what was compared.
        measurements: of everybody.
        targets: what they come to.
    """

    title: str
    measurements: Sequence[Measurement]
    targets: Sequence[Target]


def times_faster(ours: Measurement, theirs: Measurement, bound: float | None = None) -> Target:
    """How many times faster ours is, by medians."""
    a, b = ours.median, theirs.median
    value = None if a is None or b is None else (a / b if ours.unit == RATE else b / a)
    return Target(f"{ours.name}, against {theirs.name}", value, bound)

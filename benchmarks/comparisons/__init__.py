"""The comparisons, each from a plan to an outcome, in the order they run."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.comparisons import finetune, loading, memory, prefix, startup, training
from benchmarks.outcome import Outcome
from benchmarks.plan import Plan

COMPARISONS: dict[str, Callable[[Plan], Outcome]] = {
    "startup": startup.compare,
    "pipeline": loading.compare,
    "prefix": prefix.compare,
    "finetune": finetune.compare,
    "memory": memory.compare,
    "freeze": training.compare_freeze,
    "partial": training.compare_partial,
}

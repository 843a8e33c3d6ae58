"""How soon a command answers, and how soon a run trains."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from benchmarks.commands import ROOT, msft, run
from benchmarks.outcome import Entry, Measurement, Outcome, Target, alternate
from benchmarks.plan import Plan
from benchmarks.runs import FIRST_TRAINED, ColdAndWarm, sets

TYPER = "python -c 'import typer'"
HELP = "msft --help"


def compare(plan: Plan) -> Outcome:
    """Short commands against what any typer application takes; then where a run's start goes."""
    commands = {
        TYPER: [sys.executable, "-c", "import typer"],
        HELP: msft("--help"),
        "msft plugins": msft("plugins"),
        "msft run --help": msft("run", "--help"),
        "python -c 'import mindspore'": [sys.executable, "-c", "import mindspore"],
    }
    short = {name: _entry(name, command) for name, command in commands.items()}
    alternate(list(short.values()), plan.starts, warm_up=1)
    both = ColdAndWarm("msft run, 1 view, 1 epoch", plan.work / "startup", _arguments(plan))
    runs = both.entries()
    alternate(runs[:1], 1)
    alternate(runs[1:], plan.repeats)
    first = Measurement("warm msft run, until its first epoch is trained", "s")
    first.values = [sum(_until_trained(phases)) for phases in both.warm.phases]
    first.missing = both.warm.missing
    typer = short[TYPER].measurement.median
    return Outcome(
        "start-up",
        [*(entry.measurement for entry in short.values()), both.cold, both.warm, first],
        [
            Target(
                f"{name}, by {TYPER}", _ratio(short[name].measurement.median, typer), bound, True
            )
            for name, bound in ((HELP, 2.5), ("msft plugins", None), ("msft run --help", None))
        ],
    )


def _entry(name: str, command: list[str]) -> Entry:
    return Entry(Measurement(name, "s"), lambda: run(command, ROOT).seconds)


def _arguments(plan: Plan) -> list[object]:
    return [
        "--dataset", "folder", "--data-dir", plan.photographs, "--backbone", "resnet50",
        "--weights", "none", "--strategy", "freeze", "--epochs", 1, "--batch-size", plan.batch,
        *sets(f"backbone.image_size={plan.size}", "training.views=1"),
    ]  # fmt: skip


def _until_trained(phases: Mapping[str, float]) -> list[float]:
    names = list(phases)
    return [phases[name] for name in names[: names.index(FIRST_TRAINED) + 1]]


def _ratio(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a / b

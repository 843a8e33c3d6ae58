"""Accuracy and loss of each strategy: ``python -m benchmarks.strategies DIR --seeds 5``.

Trains EfficientNet-Lite0 from its ImageNet weights on the photographs in ``DIR/train/CLASS`` and
``DIR/val/CLASS``, once for each strategy and each seed 0, 1, ... Each run has a fresh run folder
and an empty feature cache, so its seconds are those of a first run. Prints a Markdown table.

``--set key=value`` sets any setting of ``msft run``. A setting of one strategy is an error for a
strategy without it: choose with ``--strategies``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msft_core
from msft_core import MsftError
from msft_core.config import merge, parse_assignment
from msft_core.system.console import PlainReporter

STRATEGIES = ("freeze", "partial", "gradual", "finetune")


@dataclass(frozen=True)
class Result:
    """One run. Accuracies and loss are those of the validation images."""

    strategy: str
    seed: int
    epochs: int
    best_accuracy: float
    last_accuracy: float
    last_loss: float
    seconds: float


def main() -> None:
    """Run every strategy with every seed, then print the table."""
    asked = _parse()
    results: list[Result] = []
    for strategy in asked.strategies:
        for seed in range(asked.seeds):
            results.append(one_run(asked.folder, strategy, seed, asked.settings))
            print(results[-1], flush=True)
            if asked.out:
                asked.out.write_text(json.dumps([asdict(r) for r in results], indent=1))
    print("\n" + table(results))


def one_run(
    folder: Path, strategy: str, seed: int, settings: Sequence[Mapping[str, Any]] = ()
) -> Result:
    """Train one network in a fresh run folder, with an empty cache.

    Args:
        folder: photographs in train/CLASS and val/CLASS.
        strategy: name of the strategy.
        seed: ``training.seed``.
        settings: more of the run's configuration; later ones win, and all of them over the rest.
    """
    with tempfile.TemporaryDirectory(prefix="msft-strategies-") as work:
        os.environ["MSFT_CACHE"] = str(Path(work) / "cache")
        started = time.perf_counter()
        report = msft_core.run(
            configuration(folder, strategy, seed, settings),
            out=Path(work) / "run",
            reporter=PlainReporter(quiet=True, err=sys.stdout),
        )
        seconds = time.perf_counter() - started
    if not report.history or any("accuracy" not in record.val for record in report.history):
        raise SystemExit(f"{strategy}, seed {seed}: an epoch was not evaluated ({report.status})")
    last = report.history[-1].val
    best = max(record.val["accuracy"] for record in report.history)
    return Result(
        strategy, seed, len(report.history), best, last["accuracy"], last["loss"], seconds
    )


def configuration(
    folder: Path, strategy: str, seed: int, settings: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The configuration of a run, as ``msft_core.run`` takes it."""
    own = {
        "dataset": {"name": "folder", "data_dir": str(folder)},
        "backbone": {"name": "efficientnet_lite0"},
        "strategy": {"name": strategy},
        "training": {"seed": seed},
        "callback": {"figures": {"enabled": False}},
    }
    return merge(own, *settings)


def table(results: Sequence[Result]) -> str:
    """The results as a Markdown table, a line for each strategy."""
    seeds = sorted({result.seed for result in results})
    lines = [
        "| strategy | epochs | "
        + " | ".join(f"seed {seed}" for seed in seeds)
        + " | mean | accuracy, last epoch | loss, last epoch | seconds |",
        "|" + "---|" * (len(seeds) + 6),
    ]
    for strategy in dict.fromkeys(result.strategy for result in results):
        mine = {result.seed: result for result in results if result.strategy == strategy}
        lines.append(_line(strategy, [mine[seed] for seed in seeds]))
    return "\n".join(
        [
            "Seed columns and mean: accuracy of the best epoch. Last epoch: means over seeds. "
            "Seconds: median over seeds.",
            "",
            *lines,
        ]
    )


def _line(strategy: str, results: Sequence[Result]) -> str:
    epochs = sorted({result.epochs for result in results})
    cells = [
        f"`{strategy}`",
        " to ".join(map(str, (epochs[0], epochs[-1]) if len(epochs) > 1 else epochs)),
        *(f"{result.best_accuracy:.3f}" for result in results),
        f"{statistics.fmean(result.best_accuracy for result in results):.3f}",
        f"{statistics.fmean(result.last_accuracy for result in results):.3f}",
        f"{statistics.fmean(result.last_loss for result in results):.3f}",
        f"{statistics.median(result.seconds for result in results):.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _assignment(text: str) -> dict[str, Any]:
    """``section.key=value``, as in ``msft run --set``, but no whole section."""
    key, equals, _ = text.partition("=")
    if not equals or "." not in key:
        raise argparse.ArgumentTypeError(f"{text!r} is not section.key=value")
    return parse_assignment(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("there must be at least one seed")
    return count


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.strategies", description=__doc__)
    parser.add_argument("folder", type=Path, help="photographs in train/CLASS and val/CLASS")
    parser.add_argument("--seeds", type=_count, default=5, help="how many seeds, from 0")
    parser.add_argument(
        "--strategies", type=_names, default=STRATEGIES, help="names, separated by commas"
    )
    parser.add_argument(
        "--set",
        dest="settings",
        type=_assignment,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of every run, such as training.epochs=5",
    )
    parser.add_argument("--out", type=Path, help="JSON file of all results")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except MsftError as error:
        raise SystemExit(f"error: {error}") from None

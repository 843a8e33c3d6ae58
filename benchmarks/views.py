"""Accuracy against ``training.views`` and ``cache.dtype``: ``python -m benchmarks.views DIR``.

Cross-validation over every photograph below DIR, train and val joined: in each fold a part is held
out, and a head is trained on the rest with ``freeze`` and EfficientNet-Lite0's ImageNet weights.
The folds are stratified and the same for every number of views and every dtype. All runs share one
feature cache, which knows a view by the picture's content, so a later run finds what an earlier one
stored: its seconds are those of a warm cache.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import msft_core
from msft_core import DatasetSplits, hookimpl
from msft_core.folders import TRAIN_NAMES, VAL_NAMES, find_folder, scan_class_folders
from msft_core.images import FileTable, subset
from msft_core.system.console import PlainReporter


@dataclass(frozen=True)
class Result:
    """One run: accuracies and loss are of the part held out."""

    views: int
    dtype: str
    fold: int
    seed: int
    last_accuracy: float
    best_accuracy: float
    last_loss: float
    seconds: float


class Fold:
    """A plugin that answers for the dataset: a part of the photographs is held out.

    Args:
        classes: names, in label order.
        photographs: all of them.
        held_out: rows to validate on.
    """

    def __init__(
        self, classes: tuple[str, ...], photographs: FileTable, held_out: Sequence[int]
    ) -> None:
        out = set(held_out)
        rest = [row for row in range(len(photographs.ids)) if row not in out]
        self._splits = DatasetSplits(
            classes, subset(photographs, rest), subset(photographs, sorted(out))
        )

    @hookimpl
    def build_dataset(self) -> DatasetSplits:
        """These, whatever dataset the run names."""
        return self._splits


def main() -> None:
    """Run all of it, print a table, write a JSON file."""
    asked = _parse()
    classes, photographs = read_all(asked.folder)
    folds = stratified_folds(photographs.labels, asked.folds, asked.fold_seed)
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="msft-views-") as work:
        os.environ["MSFT_CACHE"] = str(Path(work) / "cache")
        each = product(asked.views, asked.dtypes, enumerate(folds), asked.seeds)
        for views, dtype, (fold, held_out), seed in each:
            plugin = Fold(classes, photographs, held_out)
            out = Path(work) / f"{views}-{dtype}-{fold}-{seed}"
            results.append(one_run(plugin, views, dtype, fold, seed, asked.epochs, out))
            print(results[-1], flush=True)
            if asked.out:
                asked.out.write_text(json.dumps([asdict(r) for r in results], indent=1))
    Console().print(_table(results))


def one_run(
    plugin: Fold, views: int, dtype: str, fold: int, seed: int, epochs: int, out: Path
) -> Result:
    """Train a head and say how good it is on what was held out."""
    started = time.perf_counter()
    report = msft_core.run(
        {
            "dataset": "sample",
            "backbone": "efficientnet_lite0",
            "strategy": "freeze",
            "training": {"epochs": epochs, "seed": seed, "views": views},
            "cache": {"dtype": dtype},
            "callback": {"figures": {"enabled": False}},
        },
        plugins=[plugin],
        out=out,
        reporter=PlainReporter(quiet=True),
    )
    seconds = time.perf_counter() - started
    last = report.history[-1].val
    best = max(record.val["accuracy"] for record in report.history)
    return Result(views, dtype, fold, seed, last["accuracy"], best, last["loss"], seconds)


def read_all(folder: Path) -> tuple[tuple[str, ...], FileTable]:
    """Class names, and the photographs of train and val in one table."""
    ids: list[str] = []
    paths: list[str] = []
    names: list[str] = []
    for split in (TRAIN_NAMES, VAL_NAMES):
        root = find_folder(folder, split)
        for name, files in scan_class_folders(root).items() if root else ():
            ids += [file.relative_to(folder).as_posix() for file in files]
            paths += map(str, files)
            names += [name] * len(files)
    classes = tuple(sorted(set(names)))
    labels = tuple(map(classes.index, names))
    return classes, FileTable(tuple(ids), labels, tuple(paths))


def stratified_folds(labels: Sequence[int], count: int, seed: int) -> list[list[int]]:
    """Rows of each fold; each class is spread over all of them as evenly as can be."""
    random = np.random.default_rng(seed)
    folds: list[list[int]] = [[] for _ in range(count)]
    place = 0
    for label in sorted(set(labels)):
        for row in random.permutation(np.flatnonzero(np.asarray(labels) == label)):
            folds[place % count].append(int(row))
            place += 1
    return folds


def mean_and_error(values: Sequence[float], folds: Sequence[int]) -> tuple[float, float]:
    """Mean, and its standard error over folds: seeds of a fold are averaged first."""
    of_fold = [
        statistics.fmean(v for v, f in zip(values, folds, strict=True) if f == fold)
        for fold in sorted(set(folds))
    ]
    error = statistics.stdev(of_fold) / len(of_fold) ** 0.5 if len(of_fold) > 1 else float("nan")
    return statistics.fmean(of_fold), error


def _table(results: Sequence[Result]) -> Table:
    table = Table(
        "views", "dtype", "accuracy, last epoch", "less that of the first row",
        "accuracy, best epoch", "loss, last epoch", "less that of the first row",
        "seconds of a run: first", "median of the others",
        title="means over folds, +- standard error over folds",
    )  # fmt: skip
    rows = list(dict.fromkeys((result.views, result.dtype) for result in results))
    of_row = {row: [r for r in results if (r.views, r.dtype) == row] for row in rows}
    first = of_row[rows[0]]
    for (views, dtype), mine in of_row.items():
        folds = [result.fold for result in mine]

        def cell(values: Sequence[float], folds: Sequence[int] = folds) -> str:
            return "{:.4f} +- {:.4f}".format(*mean_and_error(values, folds))

        seconds = [result.seconds for result in mine]
        table.add_row(
            str(views),
            dtype,
            cell([result.last_accuracy for result in mine]),
            # Pair by pair, since folds differ more from each other than numbers of views do.
            cell([m.last_accuracy - r.last_accuracy for m, r in zip(mine, first, strict=True)]),
            cell([result.best_accuracy for result in mine]),
            cell([result.last_loss for result in mine]),
            cell([m.last_loss - r.last_loss for m, r in zip(mine, first, strict=True)]),
            f"{seconds[0]:.1f}",
            f"{statistics.median(seconds[1:]):.1f}" if seconds[1:] else "-",
        )
    return table


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.views", description=__doc__)
    parser.add_argument("folder", type=Path, help="photographs in train/CLASS and val/CLASS")
    parser.add_argument("--views", nargs="+", type=int, default=[0, 1, 2, 4, 8])
    parser.add_argument("--dtypes", nargs="+", default=["float32"], help="cache.dtype")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--fold-seed", type=int, default=0)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, help="JSON file of all results")
    return parser.parse_args()


if __name__ == "__main__":
    main()

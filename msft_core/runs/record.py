"""What a run folder says about its run, read without MindSpore and without plugins."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msft_core.config.sources import read_toml, section_of
from msft_core.errors import UsageError, first_line
from msft_core.files import json_value
from msft_core.runs.folder import is_run_folder
from msft_core.runs.opening import best_file, made_the_predictions, read_facts, read_history
from msft_core.runs.predictions_file import NAME as PREDICTIONS
from msft_core.runs.predictions_file import read_predictions
from msft_core.types import Best, EpochRecord, Predictions


@dataclass(frozen=True)
class RunRecord:
    """What the files of a run folder say.

    Args:
        name: what the run is called beside others.
        folder: the run folder.
        config: the content of ``config.toml``.
        environment: the content of ``environment.json``; empty if there is none.
        classes: class names in label order.
        history: one record per finished epoch.
        best: the best epoch; None if none was chosen, or if the run has not ended yet, was killed,
            or was one of an msft before 0.4.
        predictions: those of the best checkpoint on the validation images; None if the folder has
            no ``predictions.csv``.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    classes: tuple[str, ...]
    history: tuple[EpochRecord, ...]
    best: Best | None
    predictions: Predictions | None

    @property
    def status(self) -> str:
        """As in ``RunReport``; empty if the run has not ended, was killed, or is that old."""
        return str(self.environment.get("status", ""))

    @property
    def trained(self) -> int:
        """Number of epochs that were trained: the last one may lack its line in metrics.jsonl."""
        return max(len(self.history), self.best.epoch if self.best else 0)

    @property
    def epochs(self) -> int:
        """Number of epochs that the configuration asks for; 0 if it does not say."""
        epochs = section_of(self.config, "training").get("epochs", 0)
        return epochs if isinstance(epochs, int) else 0

    def curve(self, metric: str) -> list[float]:
        """A figure of the validation images at each epoch that was evaluated."""
        return [one.val[metric] for one in self.history if metric in one.val]

    @property
    def seconds(self) -> float:
        """Training time of all finished epochs, without evaluation."""
        return sum(record.seconds for record in self.history)

    @property
    def seconds_per_epoch(self) -> float | None:
        """Median training time of an epoch; the first one often computes and compiles more."""
        return statistics.median(one.seconds for one in self.history) if self.history else None


def read_record(folder: Path) -> RunRecord:
    """Read a run folder. The run may have been interrupted, or may still be running.

    Raises:
        UsageError: it is no run folder, or one of its files is damaged.
    """
    _require_run_folder(folder)
    config = read_toml(folder / "config.toml")
    classes = _classes(folder / "classes.json")
    facts = read_facts(folder)
    metrics = folder / "metrics.jsonl"  # not there before the first epoch ends
    history = read_history(metrics) if metrics.is_file() else ()
    return RunRecord(
        name=folder.name,
        folder=folder,
        config=config,
        environment=facts,
        classes=classes,
        history=history,
        best=_best(folder, facts),
        predictions=_predictions(folder / PREDICTIONS, facts),
    )


def _require_run_folder(folder: Path) -> None:
    try:
        if is_run_folder(folder):
            return
        if not folder.exists():
            raise UsageError(f"there is no run folder {folder}.")
        if not folder.is_dir():
            what = "a checkpoint" if folder.suffix == ".ckpt" else "a file"
            inside = folder.parent if is_run_folder(folder.parent) else "the folder of the run"
            raise UsageError(f"{folder} is {what}, not a run folder: give {inside}.")
        holds = [str(one) for one in sorted(folder.iterdir()) if is_run_folder(one)]
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {error.strerror or error}.") from error
    if holds:
        more = " ..." if len(holds) > 4 else ""
        raise UsageError(f"{folder} holds run folders: give {' '.join(holds[:4])}{more}")
    raise UsageError(
        f"{folder} is not a run folder: it has no config.toml and classes.json. "
        "Each msft run writes a run folder, by default in runs/."
    )


def _classes(path: Path) -> tuple[str, ...]:
    try:
        classes = json_value(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {first_line(error)}.") from error
    if not isinstance(classes, list):
        raise UsageError(f"{path} is damaged: it has no list of classes.")
    return tuple(map(str, classes))


def _best(folder: Path, facts: Mapping[str, Any]) -> Best | None:
    best = facts.get("best")
    if not isinstance(best, dict):
        return None
    try:
        path = folder / best_file(folder)
        return Best(path, int(best["epoch"]), float(best["value"]), str(best["metric"]))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        place = folder / "environment.json"
        raise UsageError(f"{place} is damaged: {first_line(error)} in best.") from error


def _predictions(path: Path, facts: Mapping[str, Any]) -> Predictions | None:
    if not path.exists():
        return None
    checkpoint = path.with_name(best_file(path.parent))
    if checkpoint.is_file() and made_the_predictions(checkpoint, facts) is False:
        raise UsageError(
            f"{path} is not of the {checkpoint.name} beside it, which was replaced after the run: "
            "this run cannot be compared."
        )
    predictions = read_predictions(path)
    if len(set(predictions.ids)) < len(predictions.ids):
        raise UsageError(f"{path} is damaged: it names a file twice.")
    return predictions


def named_apart(records: list[RunRecord]) -> list[RunRecord]:
    """Give each run, of different folders, the shortest name that tells it from the others.

    It is the folder's name, without the time at its beginning if the rest is enough, or with as
    many of the parent folders as are needed.
    """
    folders = [record.folder.resolve() for record in records]
    names = [_without_time(folder.name) for folder in folders]
    depth = 1
    while len(set(names)) < len(names):
        names = ["/".join(folder.parts[-depth:]) for folder in folders]
        depth += 1
    return [replace(record, name=name) for record, name in zip(records, names, strict=True)]


def _without_time(name: str) -> str:
    day, _, rest = name.partition("-")
    time, _, rest = rest.partition("-")
    timed = rest and len(day) == 8 and len(time) == 6 and (day + time).isdigit()
    return rest if timed else name

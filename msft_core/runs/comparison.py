"""Compare what several runs predict for the same pictures."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from msft_core.runs.intervals import RESAMPLES, accuracy_interval, percentiles, resampled
from msft_core.runs.record import RunRecord
from msft_core.types import Array, Predictions

SIGNIFICANCE = 0.05
"""Greatest p of all pairs together that counts as evidence; shared equally among the pairs."""

ALL_PAIRS_UP_TO = 4
"""So many runs are all compared with each other; of more, the first with each other one."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Score:
    """How many of the common pictures a run is right on.

    Args:
        right: number of pictures.
        pictures: number of all common pictures.
        interval: of the accuracy, 95 %; see ``accuracy_interval``.
    """

    right: int
    pictures: int
    interval: Interval

    @property
    def accuracy(self) -> float:
        """Fraction of the pictures that are right."""
        return self.right / self.pictures


@dataclass(frozen=True)
class Pair:
    """Two runs on the same pictures.

    Args:
        first: name of a run.
        second: name of the other run.
        both: pictures on which both are right.
        only_first: pictures on which only the first is right.
        only_second: pictures on which only the second is right.
        neither: pictures on which both are wrong.
        interval: of the difference of the accuracies, 95 %, from a paired bootstrap over pictures;
            None if there is no picture on which only one is right: resampling would give 0 to 0,
            which claims too much.
        p_value: of McNemar's exact test, two-sided.
    """

    first: str
    second: str
    both: int
    only_first: int
    only_second: int
    neither: int
    interval: Interval | None
    p_value: float

    @property
    def difference(self) -> float:
        """Accuracy of the first minus accuracy of the second."""
        pictures = self.both + self.only_first + self.only_second + self.neither
        return (self.only_first - self.only_second) / pictures


@dataclass(frozen=True)
class Comparison:
    """What ``msft compare`` finds.

    Args:
        runs: the runs in the order in which they were given, with names that tell them apart.
        scores: by name of the run; runs without predictions are not in it.
        pairs: every pair of runs with predictions, or the first with each other one.
        differences: for each setting or fact that differs, its value in each run; None where the
            run does not have it.
        notes: what a reader has to know before they believe the figures.
        outcome: what came of it, in a sentence or two for everybody.
    """

    runs: tuple[RunRecord, ...]
    scores: Mapping[str, Score]
    pairs: tuple[Pair, ...]
    differences: Mapping[str, tuple[Any, ...]]
    notes: tuple[str, ...]
    outcome: str

    @property
    def significance(self) -> float:
        """Greatest p of a pair that counts as evidence (Bonferroni's correction)."""
        return SIGNIFICANCE / max(1, len(self.pairs))


def mcnemar(only_first: int, only_second: int) -> float:
    """The p value of McNemar's exact test, two-sided.

    If two classifiers are equally good, then each picture on which only one of them is right is a
    toss of a fair coin (McNemar 1947, doi:10.1007/BF02295996). The test counts how often so many
    tosses are as uneven as here.

    Args:
        only_first: pictures on which only the first classifier is right.
        only_second: pictures on which only the second is right.
    """
    from scipy.special import bdtr  # scipy.stats.binomtest gives the same, after 1.5 s of imports

    if abs(only_first - only_second) <= 1:
        return 1.0  # no tosses are more even
    return 2 * float(bdtr(min(only_first, only_second), only_first + only_second, 0.5))


def compare_hits(right: Mapping[str, Array]) -> tuple[dict[str, Score], tuple[Pair, ...]]:
    """Count, resample and test.

    Each resample of the pictures is the same for all runs, so it is paired.

    Args:
        right: bool (N,) for each run: whether it is right, for the same pictures in one order.

    Returns:
        The score of each run, and its pairs.
    """
    if not right:
        return {}, ()
    pictures = len(next(iter(right.values())))
    found: dict[str, list[Array]] = {name: [] for name in right}
    for drawn in resampled(pictures, RESAMPLES):
        for name, hits in right.items():
            found[name].append(hits[drawn].mean(axis=1))
    accuracies = {name: np.concatenate(values) for name, values in found.items()}
    scores = {
        name: Score(int(hits.sum()), pictures, accuracy_interval(hits, accuracies[name]))
        for name, hits in right.items()
    }
    pairs = [
        _pair(one, other, right, accuracies[one] - accuracies[other])
        for one, other in pairs_of(list(right))
    ]
    return scores, tuple(pairs)


def _pair(first: str, second: str, right: Mapping[str, Array], differences: Array) -> Pair:
    a, b = right[first], right[second]
    only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
    return Pair(
        first,
        second,
        both=int((a & b).sum()),
        only_first=only_first,
        only_second=only_second,
        neither=int((~a & ~b).sum()),
        interval=percentiles(differences) if only_first + only_second else None,
        p_value=mcnemar(only_first, only_second),
    )


def pairs_of(names: Sequence[str]) -> list[tuple[str, str]]:
    """All pairs of up to ``ALL_PAIRS_UP_TO`` runs; of more, the first with each other one."""
    if len(names) <= ALL_PAIRS_UP_TO:
        return list(itertools.combinations(names, 2))
    return [(names[0], name) for name in names[1:]]


def right_on(predictions: Predictions, ids: Sequence[str]) -> Array:
    """bool (N,): whether the pictures with these ids are predicted as what they are."""
    hits = dict(
        zip(predictions.ids, (predictions.predicted == predictions.labels).tolist(), strict=True)
    )
    return np.asarray([hits[one] for one in ids], bool)


def as_mapping(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON has it."""
    return {
        "outcome": comparison.outcome,
        "runs": [_run(one, comparison.scores.get(one.name)) for one in comparison.runs],
        "pairs": [{**asdict(one), "difference": one.difference} for one in comparison.pairs],
        "differences": {
            key: dict(zip((one.name for one in comparison.runs), values, strict=True))
            for key, values in comparison.differences.items()
        },
        "notes": list(comparison.notes),
    }


def _run(run: RunRecord, score: Score | None) -> dict[str, Any]:
    best = run.best
    return {
        "name": run.name,
        "folder": str(run.folder),
        "epochs": len(run.history),
        "epochs_asked": run.epochs,
        "seconds": run.seconds,
        "seconds_per_epoch": run.seconds_per_epoch,
        "best": {"metric": best.metric, "value": best.value, "epoch": best.epoch} if best else None,
        "score": {**asdict(score), "accuracy": score.accuracy} if score else None,
        "history": [
            {"epoch": one.epoch, "train": one.train, "val": one.val, "seconds": one.seconds}
            for one in run.history
        ],
    }

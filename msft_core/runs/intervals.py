"""95 % intervals of figures, by resampling the images.

The percentile bootstrap (Efron and Tibshirani 1993, "An introduction to the bootstrap", chapter
13): N images are drawn from the N images, with replacement, many times. Each time the figure is
computed. The interval is from the 2.5th to the 97.5th percentile of these values. It says how much
the figure depends on which images happened to be evaluated. It does not say how much another
training run would differ.

A resample may lack a class. Means over classes are then over the others, as ``Measures`` defines
them. A figure that does not exist for a resample, such as the AUROC of images of one class, is left
out; where more than 5 % of the resamples lack it, it gets no interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from msft_core.runs.measures import (
    BINS,
    FIGURES,
    calibration_bin_of,
    confidence,
    losses,
    measure,
    require_images,
)
from msft_core.types import Array, Predictions

RESAMPLES = 10_000
"""Resamples for msft's own figures."""

RESAMPLES_OF_FUNCTIONS = 2_000
"""Resamples for a figure that a function computes, such as a plugin's metric."""

SEED = 0
"""The same predictions always have the same intervals."""

_CHUNK = 1_000_000
"""Numbers that are drawn together: some arrays of this size are in memory at a time."""

_AUROC_BUDGET = 500_000_000
"""Images times classes times resamples that the AUROC gets: some seconds."""
_FEWEST_RESAMPLES = 200

_MOST_WITHOUT = 0.05
"""Greatest fraction of resamples without the figure."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval.

    Args:
        value: of all images; None if the figure does not exist for them.
        low: lower end of the interval; None if there is none.
        high: upper end; None if there is none.
        resamples: number of resamples.
        undefined: how many of these did not have the figure.
    """

    value: float | None
    low: float | None
    high: float | None
    resamples: int
    undefined: int = 0


def intervals(predictions: Predictions, resamples: int = RESAMPLES) -> dict[str, Estimate]:
    """Return every figure of ``Measures`` with its interval, by name.

    The AUROC gets fewer resamples, but at least 200, where images times classes are many. For the
    accuracy see ``accuracy_interval``.

    Raises:
        DataError: there are no images, or a probability is not finite.
    """
    figures = measure(predictions).figures
    sums = _Sums(predictions)
    rank_sums = _RankSums(predictions)
    enough = _AUROC_BUDGET // predictions.probabilities.size
    of_auroc = min(resamples, max(_FEWEST_RESAMPLES, enough))
    found: dict[str, list[Array]] = {name: [] for name in FIGURES}
    done = 0
    for drawn in resampled(len(predictions.labels), resamples):
        counts = _counts(drawn)
        for name, values in sums.figures(counts).items():
            found[name].append(values)
        if done < of_auroc:
            found["auroc"].append(rank_sums.auroc(counts[:, : of_auroc - done]))
        done += len(drawn)
    drawn_values = {name: np.concatenate(values) for name, values in found.items()}
    all_estimates = {
        name: _estimate(figures[name], values) for name, values in drawn_values.items()
    }
    right = predictions.predicted == predictions.labels
    low, high = accuracy_interval(right, drawn_values["accuracy"])
    return all_estimates | {"accuracy": replace(all_estimates["accuracy"], low=low, high=high)}


def estimates(
    predictions: Predictions,
    figures: Callable[[Predictions], Mapping[str, float]],
    resamples: int = RESAMPLES_OF_FUNCTIONS,
) -> dict[str, Estimate]:
    """Return the figures that a function computes, each with its interval.

    Args:
        predictions: for one image or more.
        figures: gets ``predictions`` and then each resample, and returns figures by name. NaN, or
            a missing name, means that there is no such figure.
        resamples: number of resamples.

    Raises:
        DataError: there are no images, or a probability is not finite.
    """
    require_images(predictions)
    whole = {name: float(value) for name, value in figures(predictions).items()}
    found = {name: np.full(resamples, np.nan) for name in whole}
    number = 0
    for drawn in resampled(len(predictions.labels), resamples):
        for indices in drawn:
            resample = take(predictions, indices)
            for name, value in figures(resample).items():
                if name in found:
                    found[name][number] = value
            number += 1
    return {name: _estimate(value, found[name]) for name, value in whole.items()}


def interval(
    predictions: Predictions,
    figure: Callable[[Predictions], float],
    resamples: int = RESAMPLES_OF_FUNCTIONS,
) -> Estimate:
    """Return one figure with its interval; see ``estimates``."""
    return estimates(predictions, lambda one: {"figure": figure(one)}, resamples)["figure"]


def resampled(images: int, resamples: int) -> Iterator[Array]:
    """Draw images with replacement: indices, int64 (some, images), until there are ``resamples``.

    The numbers depend on the arguments alone, so figures of two classifiers for the same images
    can be compared resample by resample.
    """
    random = np.random.default_rng(SEED)
    at_once = max(1, _CHUNK // images)
    for start in range(0, resamples, at_once):
        yield random.integers(0, images, (min(at_once, resamples - start), images))


def accuracy_interval(right: Array, accuracies: Array | None = None) -> tuple[float, float]:
    """Return the ends of the 95 % interval of an accuracy. All commands and pages use it.

    Where all images are right or all are wrong, every resample is the same. Then the interval is
    Clopper and Pearson's (1934, Biometrika 26), which has a closed form there. For 50,000 images
    the resamples take some seconds.

    Args:
        right: bool (N,), whether each image is classified correctly.
        accuracies: float (R,), of ``RESAMPLES`` resamples that were drawn already.
    """
    if right.all() or not right.any():
        end = float(0.025 ** (1 / len(right)))
        return (end, 1.0) if right.all() else (0.0, 1 - end)
    if accuracies is None:
        accuracies = np.concatenate(
            [right[drawn].mean(axis=1) for drawn in resampled(len(right), RESAMPLES)]
        )
    return percentiles(accuracies)


def percentiles(values: Array) -> tuple[float, float]:
    """Return the ends of the 95 % interval of a figure's values in resamples, float (R,)."""
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def take(predictions: Predictions, indices: Array) -> Predictions:
    """Return the predictions for these images, int64 (M,), in this order and as often."""
    labels, probabilities = predictions.labels[indices], predictions.probabilities[indices]
    return Predictions(
        tuple(predictions.ids[index] for index in indices.tolist()),
        labels,
        probabilities,
        predictions.classes,
    )


def _estimate(value: float | None, values: Array) -> Estimate:
    known = values[np.isfinite(values)]
    undefined = len(values) - len(known)
    if value is None or not math.isfinite(value):
        return Estimate(None, None, None, len(values), undefined)
    if undefined > _MOST_WITHOUT * len(values):
        return Estimate(value, None, None, len(values), undefined)
    return Estimate(value, *percentiles(known), len(values), undefined)


def _counts(drawn: Array) -> Array:
    """How often each image is in each resample: float64 (N, R), from indices (R, N)."""
    resamples, images = drawn.shape
    places = drawn * resamples + np.arange(resamples)[:, None]
    counts = np.bincount(places.ravel(), minlength=images * resamples)
    return counts.reshape(images, resamples).astype(np.float64)


class _Sums:
    """All figures but the AUROC, for many resamples at once: functions of sums over images."""

    def __init__(self, predictions: Predictions) -> None:
        from scipy import sparse

        labels, predicted = predictions.labels, predictions.predicted
        self.images, self.classes = len(labels), len(predictions.classes)
        right = labels == predicted
        of_bins = confidence(predictions) - right
        parts = (
            (np.zeros(self.images, np.int64), 1, losses(predictions)),
            (labels, self.classes, np.ones(self.images)),
            (predicted, self.classes, np.ones(self.images)),
            (labels, self.classes, right.astype(np.float64)),
            (calibration_bin_of(predictions), BINS, of_bins),
        )
        # One row for each sum, one column for each image.
        columns = np.arange(self.images)
        rows = [
            sparse.csr_matrix((values, (of_image, columns)), shape=(height, self.images))
            for of_image, height, values in parts
        ]
        self.matrix: Any = sparse.vstack(rows, format="csr")
        self.ends = np.cumsum([height for _, height, _ in parts])[:-1]

    def figures(self, counts: Array) -> dict[str, Array]:
        """Each figure, float64 (R,), from the counts of images in resamples, (N, R)."""
        sums = np.split(self.matrix @ counts, self.ends)
        loss, true, predicted, hits, off = sums
        there = true > 0
        classes = there.sum(axis=0)

        def mean(ratios: Array) -> Array:
            return np.asarray(np.where(there, ratios, 0).sum(axis=0) / classes)

        return {
            "accuracy": hits.sum(axis=0) / self.images,
            "loss": loss[0] / self.images,
            "precision": mean(hits / np.maximum(predicted, 1)),
            "recall": mean(hits / np.maximum(true, 1)),
            "f1": mean(2 * hits / np.maximum(true + predicted, 1)),
            "calibration_error": np.abs(off).sum(axis=0) / self.images,
        }


class _RankSums:
    """The AUROC of many resamples at once, from Mann and Whitney's U: equal to sklearn's.

    Each class needs its scores sorted once. A resample only changes how often each image counts.
    """

    def __init__(self, predictions: Predictions) -> None:
        labels, scores = predictions.labels, predictions.probabilities
        self.labels = labels
        chosen = [1] if scores.shape[1] == 2 else np.unique(labels).tolist()
        self.of_classes = []
        for label in chosen:
            order = np.argsort(scores[:, label], kind="stable")
            ascending = scores[order, label]
            of_class = np.flatnonzero(labels[order] == label)
            # The images with the same score as each image of the class: places [first, end).
            first = np.searchsorted(ascending, ascending[of_class], side="left")
            end = np.searchsorted(ascending, ascending[of_class], side="right")
            self.of_classes.append((order, of_class, first, end))

    def auroc(self, counts: Array) -> Array:
        """Float64 (R,), NaN where no class has images of it and others, from counts (N, R)."""
        images, resamples = counts.shape
        total, number = np.zeros(resamples), np.zeros(resamples)
        below = np.zeros((images + 1, resamples), np.float64)
        for order, of_class, first, end in self.of_classes:
            np.cumsum(counts[order], axis=0, out=below[1:])
            positive = counts[order[of_class]]
            positives = positive.sum(axis=0)
            # Pairs with an image of any class that has a lower score, where equal scores count
            # half; without the pairs of two images of the class.
            won = (positive * (below[first] + below[end])).sum(axis=0) / 2 - positives**2 / 2
            pairs = positives * (images - positives)
            total += np.where(pairs > 0, won / np.maximum(pairs, 1), 0)
            number += pairs > 0
        with np.errstate(invalid="ignore"):
            return total / number

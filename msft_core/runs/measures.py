"""How good predictions are: accuracy, loss, precision and recall, AUROC, calibration, mistakes.

scikit-learn computes the metrics. ``msft_core.runs.intervals`` says how sure they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from msft_core.errors import DataError
from msft_core.types import Array, Predictions

if TYPE_CHECKING:
    from collections.abc import Sequence

BINS = 15
"""Bins of the calibration error, as many as Guo et al. 2017 take."""


@dataclass(frozen=True)
class ClassMeasures:
    """How well one class is recognised: this class against all others.

    Args:
        name: the class.
        count: images of the class.
        predicted: images that are predicted to be of the class.
        precision: fraction of the predicted images that are of the class; 0 if none is predicted.
        recall: fraction of the images of the class that are predicted so; None without images.
        f1: harmonic mean of both; None without images.
        auroc: area under the ROC curve; None unless there are images of the class and others.
    """

    name: str
    count: int
    predicted: int
    precision: float
    recall: float | None
    f1: float | None
    auroc: float | None


@dataclass(frozen=True)
class CalibrationBin:
    """Images whose predicted class got a probability in (low, high].

    Args:
        low: lower end.
        high: upper end.
        count: number of images.
        confidence: mean probability of the predicted class; None without images.
        accuracy: fraction of the images that are classified correctly; None without images.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, eq=False)
class RocCurve:
    """The ROC curve of one class against all others; one point per threshold, T points.

    Args:
        false_positive_rate: float64 (T,), ascending from 0 to 1.
        true_positive_rate: float64 (T,).
        thresholds: float64 (T,), descending: an image counts as positive if the probability of the
            class is at least so high. The first is infinite.
    """

    false_positive_rate: Array
    true_positive_rate: Array
    thresholds: Array


@dataclass(frozen=True, eq=False)
class Measures:
    """How good the predictions for N images are. ``measure`` computes it.

    Means over classes ("macro") are over the classes that have images.

    Args:
        predictions: what was measured.
        accuracy: fraction of images classified correctly.
        loss: mean cross-entropy, nats, of probabilities clipped as in ``losses``.
        precision: mean over classes; a class that is never predicted has precision 0.
        recall: mean over classes.
        f1: mean over classes.
        auroc: with two classes that of the second one, otherwise the mean over classes, each
            against all others; None where the images are all of one class.
        calibration_error: expected calibration error, see ``calibration``.
        per_class: one entry per class, in label order.
        confusion: int64 (K, K): images of class [row] that were predicted as class [column].
        calibration: the bins of the calibration error, by ascending probability.
        mistakes: int64 (M,): indices of the images classified wrongly, surest first.
        hits: int64 (N - M,): indices of the other images, least sure first.
    """

    predictions: Predictions
    accuracy: float
    loss: float
    precision: float
    recall: float
    f1: float
    auroc: float | None
    calibration_error: float
    per_class: tuple[ClassMeasures, ...]
    confusion: Array
    calibration: tuple[CalibrationBin, ...]
    mistakes: Array
    hits: Array

    @property
    def figures(self) -> Mapping[str, float | None]:
        """The figures for all images together, by name."""
        return {name: getattr(self, name) for name in FIGURES}

    def roc_curve(self, label: int) -> RocCurve | None:
        """Return the ROC curve of a class; None unless there are images of it and of others."""
        from sklearn.metrics import roc_curve

        of_class = self.predictions.labels == label
        if of_class.all() or not of_class.any():
            return None
        return RocCurve(*roc_curve(of_class, self.predictions.probabilities[:, label]))


FIGURES = ("accuracy", "loss", "precision", "recall", "f1", "auroc", "calibration_error")
"""The figures of ``Measures`` for all images together."""


def measure(predictions: Predictions) -> Measures:
    """Measure predictions for one image or more.

    Raises:
        DataError: there are no images, or a probability is not finite.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    require_images(predictions)
    labels, predicted = predictions.labels, predictions.predicted
    classes = range(len(predictions.classes))
    precision, recall, f1, counts = precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0
    )
    there = counts > 0
    aurocs = [_auroc(predictions, label) for label in classes]
    right = predicted == labels
    sure = confidence(predictions)
    bins = calibration(predictions)
    mistakes, hits = np.flatnonzero(~right), np.flatnonzero(right)
    confusion = confusion_matrix(labels, predicted, labels=classes)
    return Measures(
        predictions=predictions,
        accuracy=float(right.mean()),
        loss=float(losses(predictions).mean()),
        precision=float(precision[there].mean()),
        recall=float(recall[there].mean()),
        f1=float(f1[there].mean()),
        auroc=_overall(aurocs),
        calibration_error=_calibration_error(bins),
        per_class=tuple(
            ClassMeasures(
                name=name,
                count=int(counts[label]),
                predicted=int(confusion[:, label].sum()),
                precision=float(precision[label]),
                recall=float(recall[label]) if there[label] else None,
                f1=float(f1[label]) if there[label] else None,
                auroc=aurocs[label],
            )
            for label, name in enumerate(predictions.classes)
        ),
        confusion=np.asarray(confusion, np.int64),
        calibration=bins,
        mistakes=mistakes[np.argsort(-sure[mistakes], kind="stable")],
        hits=hits[np.argsort(sure[hits], kind="stable")],
    )


def require_images(predictions: Predictions) -> None:
    """Raise DataError if there are no images or a probability is not finite."""
    if not len(predictions.labels):
        raise DataError("there are no predictions to measure: the split has no images")
    wrong = int((~np.isfinite(predictions.probabilities).all(axis=1)).sum())
    if wrong:
        raise DataError(
            f"the probabilities of {wrong} of {len(predictions.labels)} images are not finite"
        )


def losses(predictions: Predictions) -> Array:
    """Cross-entropy of each image, nats, float64 (N,).

    The probability of the true class is clipped to [e, 1 - e], e = 1.19e-7 being float32's
    resolution, as ``sklearn.metrics.log_loss`` does: no image counts more than 15.9. A loss that
    comes from logits, as in training, has no such limit.
    """
    images = np.arange(len(predictions.labels))
    of_truth = predictions.probabilities[images, predictions.labels]
    resolution = np.finfo(np.float32).eps
    clipped = np.clip(of_truth.astype(np.float32), resolution, 1 - resolution)
    return np.asarray(-np.log(clipped.astype(np.float64)))


def confidence(predictions: Predictions) -> Array:
    """Probability of each image's predicted class, float64 (N,)."""
    return predictions.probabilities.max(axis=1).astype(np.float64)


def calibration_bin_of(predictions: Predictions) -> Array:
    """Each image's bin of the calibration error, int64 (N,), from 0."""
    edges = np.linspace(0, 1, BINS + 1)
    return np.searchsorted(edges[1:-1], confidence(predictions), side="left")


def calibration(predictions: Predictions) -> tuple[CalibrationBin, ...]:
    """Divide the images into 15 bins of equal width by the probability of the predicted class.

    The expected calibration error is the mean of |accuracy - confidence| over the bins, weighted
    with their counts: equation 3 of Guo et al. 2017, "On calibration of modern neural networks",
    arXiv:1706.04599.
    """
    bins, sure = calibration_bin_of(predictions), confidence(predictions)
    right = predictions.predicted == predictions.labels
    edges = np.linspace(0, 1, BINS + 1)
    found = []
    for number in range(BINS):
        inside = bins == number
        count = int(inside.sum())
        found.append(
            CalibrationBin(
                low=float(edges[number]),
                high=float(edges[number + 1]),
                count=count,
                confidence=float(sure[inside].mean()) if count else None,
                accuracy=float(right[inside].mean()) if count else None,
            )
        )
    return tuple(found)


def _calibration_error(bins: Sequence[CalibrationBin]) -> float:
    total = sum(one.count for one in bins)
    return sum(
        one.count / total * abs(one.accuracy - one.confidence)
        for one in bins
        if one.accuracy is not None and one.confidence is not None
    )


def _auroc(predictions: Predictions, label: int) -> float | None:
    from sklearn.metrics import roc_auc_score

    of_class = predictions.labels == label
    if of_class.all() or not of_class.any():
        return None
    return float(roc_auc_score(of_class, predictions.probabilities[:, label]))


def _overall(aurocs: Sequence[float | None]) -> float | None:
    if len(aurocs) == 2:
        return aurocs[1]
    known = [one for one in aurocs if one is not None]
    return sum(known) / len(known) if known else None

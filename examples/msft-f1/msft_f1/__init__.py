"""The metrics ``f1`` and ``f1_weighted``: precision and recall of each class in one figure."""

from __future__ import annotations

from collections.abc import Mapping

from msft_core import Component, Predictions, hookimpl

msft_api = "0.3"


@hookimpl
def list_components() -> list[Component]:
    """Offer ``f1``."""
    return [Component("metric", "f1", "F1 over classes: f1 (macro) and f1_weighted")]


@hookimpl
def compute_metrics(predictions: Predictions) -> Mapping[str, float]:
    """F1, 0 to 1: the mean over classes, and the mean weighted by a class's number of images.

    The F1 of a class is ``2 TP / (2 TP + FP + FN)``, the harmonic mean of its precision and recall
    (van Rijsbergen, "Information Retrieval", 1979, chapter 7). A class with images that is never
    predicted has 0; one without images that is never predicted has none and is left out.
    """
    import numpy as np

    labels, predicted = predictions.labels, predictions.predicted
    count = len(predictions.classes)
    images = np.bincount(labels, minlength=count)  # TP + FN of each class
    answers = np.bincount(predicted, minlength=count)  # TP + FP
    right = np.bincount(labels[labels == predicted], minlength=count)  # TP
    there = images + answers > 0
    scores = 2 * right[there] / (images + answers)[there]
    return {
        "f1": float(scores.mean()),
        "f1_weighted": float(np.average(scores, weights=images[there])),
    }

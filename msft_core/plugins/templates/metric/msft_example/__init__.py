"""The metric ``example``: balanced accuracy, the mean of the accuracies of all classes.

A class with few images counts as much as a class with many. A metric has no settings except
``enabled``, which msft adds: the hook gets only the predictions.
"""

from __future__ import annotations

from collections.abc import Mapping

from msft_core import Component, Predictions, hookimpl

msft_api = "0.4"


@hookimpl
def list_components() -> list[Component]:
    """The components of this plugin. Keep it fast: import heavy modules only where needed."""
    summary = "mean of the accuracies of all classes"
    return [Component("metric", "example", summary)]


@hookimpl
def compute_metrics(predictions: Predictions) -> Mapping[str, float]:
    """Balanced accuracy, 0 to 1. Classes without images do not count."""
    right = predictions.predicted == predictions.labels
    present = sorted(set(predictions.labels.tolist()))
    of_classes = [float(right[predictions.labels == label].mean()) for label in present]
    return {"example": sum(of_classes) / len(of_classes)}

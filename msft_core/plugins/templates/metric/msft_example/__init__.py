"""The metric ``example``: balanced accuracy, the mean of the classes' own accuracies.

A class with few images counts as much as one with many. A metric has no settings but ``enabled``,
which msft adds: the hook gets the predictions alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from msft_core import Component, Predictions, hookimpl

msft_api = "0.3"


@hookimpl
def list_components() -> list[Component]:
    """What msft lists. Cheap: anything heavy is imported where it is needed."""
    summary = "mean of the classes' own accuracies"
    return [Component("metric", "example", summary)]


@hookimpl
def compute_metrics(predictions: Predictions) -> Mapping[str, float]:
    """Balanced accuracy, 0 to 1; classes without images are left out."""
    right = predictions.predicted == predictions.labels
    present = sorted(set(predictions.labels.tolist()))
    of_classes = [float(right[predictions.labels == label].mean()) for label in present]
    return {"example": sum(of_classes) / len(of_classes)}

"""The metric ``accuracy``: the fraction of images whose most probable class is the true one."""

from __future__ import annotations

from collections.abc import Mapping

from msft_core import Component, Predictions, hookimpl


@hookimpl
def list_components() -> list[Component]:
    """Offer ``accuracy``."""
    return [Component("metric", "accuracy", "fraction of images classified correctly")]


@hookimpl
def compute_metrics(predictions: Predictions) -> Mapping[str, float]:
    """Accuracy, 0 to 1."""
    return {"accuracy": float((predictions.predicted == predictions.labels).mean())}

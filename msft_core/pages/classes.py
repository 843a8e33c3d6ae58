"""The report's parts about classes and probabilities. scikit-learn computes, at the first call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from msft_core.pages import charts
from msft_core.pages.charts import COLOURS, Line, Scale, line_chart
from msft_core.pages.texts import counted, number, percent, whole_percent
from msft_core.types import Array, Predictions

_MATRIX_UP_TO = 40
"""So many classes are shown as a matrix. For more there is the list of frequent mistakes."""

_CONFUSED = 20
"""Rows of that list."""

_BINS = 10


def class_section(predictions: Predictions) -> dict[str, Any]:
    """Confusion matrix, most frequent mistakes, and precision, recall and F1 of each class."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    classes = predictions.classes
    labels = np.arange(len(classes))
    counts = confusion_matrix(predictions.labels, predictions.predicted, labels=labels)
    precision, recall, f1, support = precision_recall_fscore_support(
        predictions.labels, predictions.predicted, labels=labels, zero_division=np.nan
    )
    predicted = counts.sum(axis=0)
    rows = [
        (
            name,
            number(int(support[label])),
            number(int(predicted[label])),
            *(_or_dash(value[label]) for value in (precision, recall, f1)),
        )
        for label, name in enumerate(classes)
    ]
    wrong = counts - np.diag(np.diag(counts))
    pairs = [(int(wrong[t, p]), int(t), int(p)) for t, p in np.argwhere(wrong)]
    pairs.sort(key=lambda pair: (-pair[0], pair[1:]))
    confused = [
        (classes[t], classes[p], f"{number(n)} of {number(int(support[t]))}")
        for n, t, p in pairs[:_CONFUSED]
    ]
    show = len(classes) <= _MATRIX_UP_TO
    return {
        "confusion": _matrix(counts, classes) if show else None,
        "confused": {"columns": ("true class", "predicted class", "images"), "rows": confused}
        if confused and len(classes) > 4
        else None,
        "per_class": {
            "columns": ("class", "images", "predicted", "precision", "recall", "F1"),
            "rows": rows,
            "note": "Precision: the share of the images predicted as this class that are of it. "
            "Recall: the share of the images of this class that were found. "
            "F1: their harmonic mean.",
        },
    }


def _or_dash(value: float) -> str:
    return "–" if np.isnan(value) else percent(value)


def _matrix(counts: Array, classes: tuple[str, ...]) -> dict[str, Any]:
    totals = counts.sum(axis=1)
    few = len(classes) <= 12

    def cell(truth: int, guess: int) -> dict[str, Any]:
        shown, share = int(counts[truth, guess]), counts[truth, guess] / max(totals[truth], 1)
        return {
            "count": number(shown) if shown or few else "",
            "share": whole_percent(share) if shown and few else "",
            "right": truth == guess and shown > 0,
            "shade": round(0.15 + 0.85 * float(share), 3) if shown else 0,
        }

    every = range(len(classes))
    rows = [{"class": classes[t], "cells": [cell(t, p) for p in every]} for t in every]
    return {"classes": classes, "rows": rows}


def probability_section(predictions: Predictions) -> dict[str, Any]:
    """ROC and calibration, as far as the images have more than one class."""
    drawn = [chart for chart in (_roc(predictions), _calibration(predictions)) if chart]
    lead = "How well the probabilities tell the classes apart, and whether they mean what they say."
    return {"charts": drawn, "lead": lead}


def _roc(predictions: Predictions) -> charts.Chart | None:
    """One class against the rest. Two classes give one curve; many give a mean curve too."""
    from sklearn.metrics import auc, roc_curve

    classes, labels = predictions.classes, predictions.labels
    there = [c for c in range(len(classes)) if 0 < (labels == c).sum() < len(labels)]
    if not there:
        return None
    if len(classes) == 2:
        there = there[-1:]
    found = {c: roc_curve(labels == c, predictions.probabilities[:, c]) for c in there}
    areas = {c: float(auc(fpr, tpr)) for c, (fpr, tpr, _) in found.items()}
    grid = np.linspace(0, 1, 21)
    many = len(there) > len(COLOURS)
    lines = [
        Line(
            f"{classes[c]}, area {areas[c]:.3f}",
            _upper(fpr, tpr),
            charts.PALE if many else COLOURS[place],
            dots=False,
            steps=True,
        )
        for place, (c, (fpr, tpr, _)) in enumerate(found.items())
    ]
    if many:
        at = [_at(fpr, tpr, grid) for fpr, tpr, _ in found.values()]
        mean = np.mean(at, axis=0)
        name = f"mean of {len(there)} classes, area {np.mean(list(areas.values())):.3f}"
        points = list(zip(grid.tolist(), mean.tolist(), strict=True))
        lines.append(Line(name, points, COLOURS[0], dots=False, steps=True))
        lines = lines[-1:] + lines[:-1]
    more = None
    if len(classes) == 2:
        fpr, _, thresholds = found[there[0]]

        def more(at: float) -> Iterable[tuple[str, str]]:
            place = int(np.searchsorted(fpr, at, side="right")) - 1
            threshold = min(float(thresholds[place]), 1.0)
            return [(f"from probability of {classes[there[0]]}", f"{threshold:.2f}")]

    share = Scale("false positive rate", (0, 1), whole_percent, whole_percent)
    return line_chart(
        "ROC curve",
        lines,
        share,
        Scale("true positive rate", (0, 1), percent, whole_percent),
        spots_at=grid.tolist(),
        diagonal=True,
        square=True,
        more=more,
        note="each class against the others; the dotted line is guessing"
        if len(there) > 1
        else f"{classes[there[0]]} against {classes[1 - there[0]]}; the dotted line is guessing",
    )


def _upper(fpr: Array, tpr: Array) -> list[tuple[float, float]]:
    """The steps of a curve: the highest true positive rate at each false positive rate."""
    best: dict[float, float] = {}
    for x, y in zip(fpr.tolist(), tpr.tolist(), strict=True):
        best[x] = max(best.get(x, 0.0), y)
    return sorted(best.items())


def _at(fpr: Array, tpr: Array, grid: Array) -> Array:
    places = np.searchsorted(fpr, grid, side="right") - 1
    return tpr[places]


def _calibration(predictions: Predictions) -> charts.Chart | None:
    """How often predictions of a probability are right, in ten equally wide bins."""
    sure = predictions.probabilities.max(axis=1).astype(float)
    right = predictions.predicted == predictions.labels
    bins = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    points, told = [], {}
    for one in np.unique(bins):
        inside = bins == one
        at = float(sure[inside].mean())
        points.append((at, float(right[inside].mean())))
        told[at] = int(inside.sum())
    if not points:
        return None
    share = Scale("probability of the predicted class", (0, 1), percent, whole_percent)
    return line_chart(
        "Calibration",
        [Line("right", points)],
        share,
        Scale("predictions that are right", (0, 1), percent, whole_percent),
        diagonal=True,
        square=True,
        more=lambda at: [("of", counted(told[at], "image"))],
        note="on the dotted line, probabilities mean what they say",
    )

"""The report's parts about classes and probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from msft_core.pages import charts
from msft_core.pages.charts import COLOURS, Line, Scale, line_chart
from msft_core.pages.texts import counted, number, percent, short, whole_percent
from msft_core.runs.measures import ClassMeasures, Measures
from msft_core.types import Array

_MATRIX_UP_TO = 40
"""So many classes are shown as a matrix. For more there is the list of frequent mistakes."""

_CONFUSED = 10
"""Rows of that list."""

_PALE_CURVES = 30
"""So many ROC curves of single classes are drawn behind their mean."""

_FEW = 12
"""So many classes stand in their own order in the table; more, by F1, the lowest first."""


def class_section(measures: Measures) -> dict[str, Any]:
    """Confusion matrix, most frequent mistakes, and precision, recall and F1 of each class."""
    classes, counts = measures.predictions.classes, measures.confusion
    wrong = counts - np.diag(np.diag(counts))
    pairs = [(int(wrong[t, p]), int(t), int(p)) for t, p in np.argwhere(wrong)]
    pairs.sort(key=lambda pair: (-pair[0], pair[1:]))
    confused = [
        (
            short(classes[t], 60),
            short(classes[p], 60),
            f"{number(n)} of {number(int(counts[t].sum()))}",
        )
        for n, t, p in pairs[:_CONFUSED]
    ]
    rows = [
        (
            one.name,
            number(one.count),
            number(one.predicted),
            _or_dash(one.precision if one.predicted else None),
            _or_dash(one.recall),
            _or_dash(one.f1),
            "–" if one.auroc is None else f"{one.auroc:.3f}",
        )
        for one in _in_order(measures.per_class)
    ]
    return {
        "confusion": _matrix(counts, classes) if len(classes) <= _MATRIX_UP_TO else None,
        "confused": {"columns": ("true class", "predicted class", "images"), "rows": confused}
        if confused and len(classes) > 4
        else None,
        "per_class": {
            "columns": ("class", "images", "predicted", "precision", "recall", "F1", "AUROC"),
            "rows": rows,
            "note": "Precision: the share of the images predicted as this class that are of it. "
            "Recall: the share of the images of this class that were found. "
            "F1: the harmonic mean of both. AUROC: how well the probability of this class tells "
            "its images from the others; 0.5 is guessing, 1 is perfect."
            + (" The classes with the lowest F1 come first." if len(classes) > _FEW else ""),
        },
    }


def _in_order(classes: Sequence[ClassMeasures]) -> Sequence[ClassMeasures]:
    if len(classes) <= _FEW:
        return classes
    return sorted(classes, key=lambda one: 2.0 if one.f1 is None else one.f1)


def _or_dash(value: float | None) -> str:
    return "–" if value is None else percent(value)


def _matrix(counts: Array, classes: tuple[str, ...]) -> dict[str, Any]:
    totals = counts.sum(axis=1)
    few = len(classes) <= _FEW

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


def probability_section(measures: Measures) -> dict[str, Any]:
    """ROC and calibration, as far as the images have more than one class."""
    drawn = [chart for chart in (_roc(measures), _calibration(measures)) if chart]
    lead = (
        "How well the probabilities tell the classes apart, and whether they mean what they say. "
        f"The expected calibration error is {percent(measures.calibration_error)}: by so much the "
        "probability of a prediction differs from how often it is right, on average."
    )
    return {"charts": drawn, "lead": lead}


def _roc(measures: Measures) -> charts.Chart | None:
    """One class against the rest. Two classes give one curve; many give a mean curve too."""
    classes = measures.predictions.classes
    labels = range(1, 2) if len(classes) == 2 else range(len(classes))
    curves = {label: measures.roc_curve(label) for label in labels}
    found = {
        label: (curve.false_positive_rate, curve.true_positive_rate, curve.thresholds)
        for label, curve in curves.items()
        if curve is not None
    }
    if not found:
        return None
    there = list(found)
    areas = {label: measures.per_class[label].auroc or 0.0 for label in found}
    grid = np.linspace(0, 1, 21)
    many = len(there) > len(COLOURS)
    lines = [
        Line(
            classes[c] if len(classes) == 2 else f"{classes[c]}, area {areas[c]:.3f}",
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
        of_classes = lines if len(lines) <= _PALE_CURVES else []
        lines = [Line(name, points, COLOURS[0], dots=False), *of_classes]
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
        else f"{classes[1]} against {classes[0]}, area {areas[1]:.3f}; the dotted line is guessing",
    )


def _upper(fpr: Array, tpr: Array) -> list[tuple[float, float]]:
    """The steps of a curve: the highest true positive rate at each false positive rate."""
    best: dict[float, float] = {}
    for x, y in zip(fpr.tolist(), tpr.tolist(), strict=True):
        best[x] = max(best.get(x, 0.0), y)
    return [(0.0, 0.0), *sorted(best.items())]


def _at(fpr: Array, tpr: Array, grid: Array) -> Array:
    places = np.searchsorted(fpr, grid, side="right") - 1
    return tpr[places]


def _calibration(measures: Measures) -> charts.Chart:
    """How often predictions of a probability are right."""
    bins = {
        one.confidence: (one.accuracy, one.count)
        for one in measures.calibration
        if one.confidence is not None and one.accuracy is not None
    }
    total = len(measures.predictions.labels)
    share = Scale("probability of the predicted class", (0, 1), percent, whole_percent)
    return line_chart(
        "Calibration",
        [
            Line(
                "right",
                [(at, accuracy) for at, (accuracy, _) in sorted(bins.items())],
                weights=[count / total for _, (_, count) in sorted(bins.items())],
            )
        ],
        share,
        Scale("predictions that are right", (0, 1), percent, whole_percent),
        diagonal=True,
        square=True,
        more=lambda at: [("of", counted(bins[at][1], "image"))],
        note="on the dotted line, probabilities mean what they say; larger dots: more images",
    )

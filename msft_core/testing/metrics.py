"""The check of a metric. It needs no run and no MindSpore, so it is quick."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from msft_core.testing.asking import Asked, check, class_names, fail_if

if TYPE_CHECKING:
    from msft_core.types import Array, Predictions

__tracebackhide__ = True

_RELATIVE, _ABSOLUTE = 1e-4, 1e-6
"""Sums in another order may differ by so much in float32."""


@check
def assert_metric(name: str, *, plugins: Sequence[object] = ()) -> None:
    """Check a metric: its figures are finite or NaN, and depend on the predictions alone.

    Calls the hook with drawn predictions: right and wrong ones, ones that are certain, for a split
    without images of a class, of one class only, and of a single image. The figures must be the
    same in a second call and for another order of the images, and the hook must not change the
    predictions.

    Args:
        name: name of the metric.
        plugins: plugins besides the installed ones, as for ``msft_run``.

    Raises:
        AssertionError: the contract is broken; one line per breach.
        MsftError: raised by the plugin, or by the core, which refuses the hook result.
    """
    asked = Asked("metric", name, plugins)
    breaches: dict[str, str] = {}
    names: set[str] | None = None
    for where, predictions in _cases():
        for kind, breach in _breaches(asked, predictions).items():
            # The same mistake shows in many cases: one of them is enough.
            breaches.setdefault(kind, f"{where}: {breach}")
        if where in _OF_THE_SAME_LABELS and not breaches:
            found = set(_figures(asked, predictions))
            if names is not None and found != names:
                other = ", ".join(sorted(found ^ names))
                breaches["names"] = f"{where}: gives other figures for the same labels: {other}"
            names = found
    fail_if(list(breaches.values()), asked.what)


def _breaches(asked: Asked, predictions: Predictions) -> dict[str, str]:
    """What is wrong, by the kind of mistake."""
    given = _copy(predictions)
    figures = _figures(asked, given)
    if not figures:
        return {"nothing": "gives no figures"}
    breaches = {}
    if "loss" in figures:
        breaches["loss"] = "gives 'loss', which is the core's own name"
    for figure, value in figures.items():
        if math.isinf(value):
            breaches["infinite"] = f"gives {value} for {figure!r}: give a finite number or NaN"
    for field in ("labels", "probabilities"):
        if not _equal_arrays(getattr(given, field), getattr(predictions, field)):
            breaches["input"] = f"changes predictions.{field}, which all plugins share"
    again = _figures(asked, _copy(predictions))
    if difference := _difference(figures, again, exact=True):
        breaches["pure"] = f"gives {difference} for the same predictions"
    elif difference := _difference(figures, _figures(asked, _in_another_order(predictions))):
        breaches["order"] = f"gives {difference} for the same images in another order"
    return breaches


def _figures(asked: Asked, predictions: Predictions) -> dict[str, float]:
    with asked.loaded.named_by_package():
        result = asked.loaded.call_one("compute_metrics", asked.plugin, predictions=predictions)
    return {figure: float(value) for figure, value in (result or {}).items()}


def _difference(ours: Mapping[str, float], other: Mapping[str, float], exact: bool = False) -> str:
    if set(ours) != set(other):
        return f"{', '.join(ours)} and then {', '.join(other)}"
    for figure, value in ours.items():
        both_nan = math.isnan(value) and math.isnan(other[figure])
        relative, absolute = (0.0, 0.0) if exact else (_RELATIVE, _ABSOLUTE)
        close = math.isclose(value, other[figure], rel_tol=relative, abs_tol=absolute)
        if not both_nan and not close:
            return f"{figure!r} = {value} and then {other[figure]}"
    return ""


_OF_THE_SAME_LABELS = ("drawn predictions", "all right and certain", "all wrong and certain")


def _cases() -> Iterator[tuple[str, Predictions]]:
    import numpy as np

    random = np.random.default_rng(0)
    labels = random.permutation(np.arange(30) % 3)
    yield "drawn predictions", _drawn(labels, 3)
    yield "all right and certain", _certain(labels, labels, 3)
    yield "all wrong and certain", _certain(labels, (labels + 1) % 3, 3)
    without = random.permutation(np.arange(30) % 2) * 2
    yield "a class without images", _drawn(without, 3)
    yield "a class without images that is never predicted", _certain(without, without, 3)
    yield "images of one class only", _drawn(np.ones(5, np.int64), 3)
    yield "a single image", _drawn(np.ones(1, np.int64), 3)
    yield "two classes", _drawn(random.permutation(np.arange(8) % 2), 2)
    yield "more classes than images", _drawn(random.integers(0, 100, 12), 100)


def _drawn(labels: Array, classes: int) -> Predictions:
    import numpy as np

    random = np.random.default_rng(len(labels) + classes)
    return _predictions(labels, random.dirichlet(np.ones(classes), len(labels)))


def _certain(labels: Array, predicted: Array, classes: int) -> Predictions:
    import numpy as np

    return _predictions(labels, np.eye(classes)[predicted])


def _predictions(labels: Array, probabilities: Any) -> Predictions:
    import numpy as np

    from msft_core.types import Predictions

    return Predictions(
        ids=tuple(f"image {number}" for number in range(len(labels))),
        labels=np.asarray(labels, np.int64),
        probabilities=np.asarray(probabilities, np.float32),
        classes=class_names(probabilities.shape[1]),
    )


def _copy(predictions: Predictions) -> Predictions:
    # Not read-only, as a run's are: a hook that writes into them shall be told so.
    return replace(
        predictions,
        labels=predictions.labels.copy(),
        probabilities=predictions.probabilities.copy(),
    )


def _in_another_order(predictions: Predictions) -> Predictions:
    import numpy as np

    order = np.random.default_rng(1).permutation(len(predictions.labels))
    return replace(
        predictions,
        ids=tuple(predictions.ids[index] for index in order),
        labels=predictions.labels[order],
        probabilities=predictions.probabilities[order],
    )


def _equal_arrays(one: Array, other: Array) -> bool:
    import numpy as np

    return np.array_equal(one, other)

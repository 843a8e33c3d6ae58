"""The metric's values are right, a run computes it, and msft finds it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from msft_core import Predictions
from msft_core.testing import CommandLine, MsftRun, assert_metric

from msft_example import compute_metrics


def predictions(labels: list[int], predicted: list[int]) -> Predictions:
    return Predictions(
        ids=tuple(map(str, range(len(labels)))),
        labels=np.array(labels),
        probabilities=np.eye(3, dtype=np.float32)[predicted],
        classes=("a", "b", "c"),
    )


def test_it_keeps_the_contract() -> None:
    assert_metric("example")


@pytest.mark.parametrize(
    ("labels", "predicted", "value"),
    [
        ([0, 1, 2], [0, 1, 2], 1.0),
        ([0, 0, 0, 1], [0, 0, 0, 0], 0.5),
        ([0, 0, 1, 1], [0, 1, 2, 2], 0.25),
    ],
)
def test_each_class_counts_alike(labels: list[int], predicted: list[int], value: float) -> None:
    found = compute_metrics(predictions(labels, predicted))
    assert found == {"example": pytest.approx(value)}


def test_the_best_checkpoint_can_go_by_it(msft_run: MsftRun) -> None:
    report = msft_run(callback={"best_checkpoint": {"metric": "example"}})
    assert report.best is not None
    assert report.best.metric == "example"
    assert report.best.value == max(record.val["example"] for record in report.history)


def test_switched_off_it_is_not_computed(msft_run: MsftRun) -> None:
    report = msft_run(metric={"example": {"enabled": False}})
    assert "example" not in report.history[-1].val


def test_msft_lists_it_once_it_is_installed(msft_cli: CommandLine) -> None:
    result = msft_cli("plugins", "show", "example", "--json")
    assert result.returncode == 0, result.stderr
    shown = json.loads(result.stdout)
    assert (shown["status"], shown["warnings"]) == ("ok", [])
    (component,) = shown["components"]
    assert (component["kind"], component["name"]) == ("metric", "example")

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from msft_core import Predictions
from msft_core.testing import CommandLine, MsftRun, assert_metric
from sklearn.metrics import f1_score

from msft_f1 import compute_metrics


def predictions(labels: Any, predicted: Any, count: int) -> Predictions:
    """Answers that are sure of the predicted class."""
    probabilities = np.eye(count, dtype=np.float32)[np.asarray(predicted)]
    ids = tuple(str(i) for i in range(len(labels)))
    classes = tuple(f"class {i}" for i in range(count))
    return Predictions(ids, np.asarray(labels, dtype=np.int64), probabilities, classes)


def scikit_learn(labels: Any, predicted: Any) -> dict[str, float]:
    return {
        "f1": f1_score(labels, predicted, average="macro", zero_division=0),
        "f1_weighted": f1_score(labels, predicted, average="weighted", zero_division=0),
    }


def test_it_keeps_the_contract() -> None:
    assert_metric("f1")


@pytest.mark.parametrize("seed", range(50))
def test_any_answers_give_what_scikit_learn_says(seed: int) -> None:
    random = np.random.default_rng(seed)
    count, images = random.integers(1, 8), random.integers(1, 40)
    labels = random.integers(0, count, images)
    predicted = np.where(random.random(images) < 0.5, labels, random.integers(0, count, images))
    figures = compute_metrics(predictions(labels, predicted, count))
    assert figures == pytest.approx(scikit_learn(labels, predicted))


@pytest.mark.parametrize(
    ("labels", "predicted", "f1", "weighted"),
    [
        pytest.param([0, 1, 2], [0, 1, 2], 1.0, 1.0, id="all right"),
        pytest.param([0, 0, 1], [1, 1, 0], 0.0, 0.0, id="all wrong"),
        pytest.param([0, 0, 0, 1], [0, 0, 0, 0], 3 / 7, 9 / 14, id="a class never predicted"),
        pytest.param([1, 1], [1, 1], 1.0, 1.0, id="images of one class only"),
        pytest.param([1, 1], [1, 2], 1 / 3, 2 / 3, id="a class without images, predicted"),
        pytest.param([0], [0], 1.0, 1.0, id="one image"),
    ],
)
def test_a_case_worked_out_by_hand(
    labels: list[int], predicted: list[int], f1: float, weighted: float
) -> None:
    figures = compute_metrics(predictions(labels, predicted, 3))
    assert figures == pytest.approx({"f1": f1, "f1_weighted": weighted})
    assert figures == pytest.approx(scikit_learn(labels, predicted))


def test_figures_are_plain_floats_that_json_can_write() -> None:
    figures = compute_metrics(predictions([0, 1], [0, 0], 2))
    assert {type(value) for value in figures.values()} == {float}


@pytest.mark.parametrize("metric", ["f1", "f1_weighted"])
def test_best_checkpoint_keeps_the_epoch_with_the_highest_f1(
    msft_run: MsftRun, metric: str
) -> None:
    report = msft_run(training={"epochs": 4}, callback={"best_checkpoint": {"metric": metric}})
    lines = (report.folder / "metrics.jsonl").read_text().splitlines()
    values = [json.loads(line)["val"][metric] for line in lines]
    assert len(values) == 4
    assert report.best is not None
    assert report.best.metric == metric
    assert report.best.value == max(values)
    assert values[report.best.epoch - 1] == report.best.value


def test_the_command_line_takes_f1_as_what_the_best_checkpoint_is_chosen_by(
    msft_cli: CommandLine,
) -> None:
    done = msft_cli(
        *("run", "--plugin", "msft_core.testing.tiny", "--dataset", "tiny", "--backbone", "tiny"),
        *("--strategy", "finetune", "--epochs", "1"),
        *("--set", "callback.best_checkpoint.metric=f1"),
    )
    assert done.returncode == 0, done.stderr
    assert "f1" in done.stdout


def test_a_run_with_f1_switched_off_has_no_such_figure(msft_run: MsftRun) -> None:
    report = msft_run(training={"epochs": 1}, metric={"f1": {"enabled": False}})
    assert "accuracy" in report.history[0].val
    assert not {"f1", "f1_weighted"} & set(report.history[0].val)

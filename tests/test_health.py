"""Training that goes wrong by itself is said in the output and the report; healthy runs are silent.

The limits are judged as numbers first, then in runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_kit import encode, scene

from msft_core import DatasetSplits, Predictions, Run, hookimpl
from msft_core.images import MemoryTable
from msft_core.testing import MsftRun, RecordingReporter, tiny
from msft_plugins import health

CLASSES = ("cats", "dogs", "owls")


# The limits


def test_unequal_classes_are_told_with_their_numbers() -> None:
    message = health.imbalance(CLASSES, [900, 90, 400], [95, 3, 2])
    assert "train has 900 images of cats, but 90 of dogs" in message
    assert "val has 95 images of cats, but 2 of owls" in message
    assert "always answering cats would be right for 95 % of the validation images" in message
    assert "recall of each class" in message


@pytest.mark.parametrize(
    ("train", "val"),
    [([100, 11, 50], [9, 9, 9]), ([50, 50, 50], [9, 0, 1]), ([1, 1, 9], [0, 0, 5])],
    ids=["nine times", "a class without validation images", "nine to one"],
)
def test_classes_of_nearly_one_size_are_no_warning(train: list[int], val: list[int]) -> None:
    assert health.imbalance(CLASSES, train, val) == ""


def test_the_loss_of_guessing_is_the_entropy_of_the_labels() -> None:
    assert health.guessing_loss([5, 5]) == pytest.approx(np.log(2))
    assert health.guessing_loss([99, 1, 0]) == pytest.approx(0.0560, abs=1e-4)
    assert health.guessing_loss([7]) == 0


@pytest.mark.parametrize(
    ("epochs", "steps", "warmup", "fair"),
    [(10, 100, 0, 3), (10, 6, 0, 5), (40, 100, 0, 12), (10, 100, 2.5, 6), (2, 1, 0, 30)],
    ids=["usual", "few steps", "a long run", "after the warm-up", "a trial"],
)
def test_a_loss_is_judged_as_early_as_is_fair(
    epochs: int, steps: int, warmup: float, fair: int
) -> None:
    assert health.fair_epoch(epochs, steps, warmup) == fair


@pytest.mark.parametrize(
    ("losses", "falls"),
    [
        ([0.70, 0.71, 0.70], False),  # a learning rate that is too small
        ([3.68, 7.95, 5.2], False),  # and one that is too large
        ([61.8, 20.0, 5.0], True),  # the published tutorial's beginning
        ([0.70, 0.69, 0.66], True),
        ([0.12, 0.13, 0.14], True),  # it began from a good network
    ],
)
def test_a_loss_falls_below_the_first_or_below_guessing(losses: list[float], falls: bool) -> None:
    assert (health.does_not_fall(losses, np.log(2)) == "") is falls


@pytest.mark.parametrize(
    ("last", "advice"),
    [(0.70, "larger learning rate"), (0.69, "larger"), (4.6, "smaller learning rate"), (0.66, "")],
)
def test_a_last_loss_no_better_than_guessing_is_told_with_what_to_try(
    last: float, advice: str
) -> None:
    message = health.learned_nothing([0.8, last], np.log(2))
    assert advice in message
    assert bool(message) is bool(advice)


def test_with_one_class_alone_there_is_nothing_to_learn() -> None:
    assert health.learned_nothing([0.0, 0.0], 0.0) == ""


def predictions(labels: list[int], predicted: list[int]) -> Predictions:
    probabilities = np.eye(len(CLASSES), dtype=np.float32)[predicted]
    ids = tuple(map(str, range(len(labels))))
    return Predictions(ids, np.asarray(labels), probabilities, CLASSES)


def test_a_class_that_is_never_predicted_is_named() -> None:
    message = health.never_predicted(predictions([0] * 5 + [1] * 5 + [2] * 4, [0, 2] * 7))
    assert "1 class is never predicted for the validation images: dogs (5 images)" in message


def test_a_class_with_few_images_may_go_without_a_prediction() -> None:
    assert health.never_predicted(predictions([0] * 9 + [1] * 4, [0] * 12 + [2])) == ""


def test_all_images_predicted_as_one_class_are_told_as_that() -> None:
    message = health.never_predicted(predictions([0] * 5 + [1] * 5, [1] * 10))
    assert message == (
        "All 10 validation images are predicted as dogs, but 5 of them are of another class."
    )
    assert health.never_predicted(predictions([1] * 10, [1] * 10)) == ""


# In runs


def facts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "environment.json").read_text())
    return found


def test_a_run_that_learns_nothing_says_so_where_everybody_looks(
    msft_run: MsftRun, msft_reporter: RecordingReporter
) -> None:
    report = msft_run(
        strategy={"name": "freeze", "learning_rate": 1e-9},
        training={"epochs": 11, "batch_size": 4},
        dataset={"name": "tiny", "train_per_class": 6, "val_per_class": 5},
        callback={"report": {"enabled": True}},
    )
    warnings = facts(report.folder)["warnings"]
    starts = [" ".join(warning.split()[:4]) for warning in warnings]
    assert starts[0] == "the learning rate 1e-09"
    assert "far too low for freeze with adam, where 3e-05 to 0.3 is usual" in warnings[0]
    assert "The default of freeze is 0.003 with adam." in warnings[0]
    assert starts[1] in ("The training loss does", "The training loss of")
    assert len(starts) <= 3
    assert msft_reporter.warnings == warnings
    page = (report.folder / "report.html").read_text(encoding="utf-8")
    log = (report.folder / "log.txt").read_text(encoding="utf-8")
    for warning in warnings:
        assert f"warning: {warning}\n" in log
        assert warning.split(";")[0] in page


class Unequal:
    """31 pictures of one class and 3 of the other; every answer is the first class."""

    @hookimpl
    def build_dataset(self) -> DatasetSplits:
        counts = {"train": (31, 3), "val": (9, 6)}
        tables = []
        for place, (split, (many, few)) in enumerate(counts.items()):
            labels = (0,) * many + (1,) * few
            ids = tuple(f"{split}/{number}.jpg" for number in range(len(labels)))
            blobs = tuple(encode(scene(place, i, width=32, height=32)) for i in range(len(labels)))
            tables.append(MemoryTable(ids, labels, blobs))
        return DatasetSplits(tiny.CLASSES, *tables)

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        import mindspore as ms

        head = run.backbone.head
        head.weight.set_data(ms.Tensor(np.zeros(head.weight.shape, np.float32)))
        head.bias.set_data(ms.Tensor(np.asarray([9, -9], np.float32)))


def test_unequal_classes_and_a_class_never_predicted_are_told_in_a_run(
    msft_run: MsftRun, msft_reporter: RecordingReporter
) -> None:
    rate = {"name": "freeze", "learning_rate": 3e-5}
    report = msft_run([Unequal], strategy=rate, training={"epochs": 1})
    first, last = facts(report.folder)["warnings"]
    assert "train has 31 images of blue, but 3 of red" in first
    assert last.startswith("All 15 validation images are predicted as blue, but 6 of them")
    assert msft_reporter.warnings == [first, last]


def test_without_the_plugin_nothing_is_judged(msft_run: MsftRun) -> None:
    rate = {"name": "freeze", "learning_rate": 3e-5}
    report = msft_run([Unequal], strategy=rate, training={"epochs": 1}, without=["health"])
    assert facts(report.folder)["warnings"] == []


@pytest.mark.parametrize(("strategy", "rate"), [("freeze", 0.1), ("finetune", 0.03)])
def test_a_healthy_run_has_no_warning(
    msft_run: MsftRun, msft_reporter: RecordingReporter, strategy: str, rate: float
) -> None:
    settings = {"name": strategy, "learning_rate": rate}
    report = msft_run(strategy=settings, training={"epochs": 11, "batch_size": 4})
    assert len(report.history) == 11
    assert msft_reporter.warnings == []


def test_a_warning_at_the_end_of_a_run_is_in_environment_json_and_a_later_plugin_sees_it(
    msft_run: MsftRun,
) -> None:
    seen: list[list[str]] = []

    class Late:
        @hookimpl(tryfirst=True)
        def on_run_end(self, run: Run) -> None:
            run.reporter.warning("said at the end")

    class Later:
        @hookimpl(trylast=True)
        def on_run_end(self, run: Run) -> None:
            seen.append(facts(run.folder)["warnings"])

    report = msft_run([Late, Later], training={"epochs": 1})
    assert seen == [["said at the end"]]
    assert facts(report.folder)["warnings"] == ["said at the end"]


def test_a_resumed_run_says_no_warning_twice(tmp_path: Path, msft_run: MsftRun) -> None:
    class Stops:
        @hookimpl
        def on_epoch_end(self, epoch: int) -> None:
            if epoch == 1:
                raise KeyboardInterrupt

    settings: dict[str, Any] = {"strategy": {"name": "freeze", "learning_rate": 1e-9}}
    with pytest.raises(KeyboardInterrupt):
        msft_run([Stops], out=tmp_path / "run", **settings)
    before = facts(tmp_path / "run")["warnings"]
    assert any("the learning rate 1e-09" in warning for warning in before)
    msft_run.resume(tmp_path / "run")
    after = facts(tmp_path / "run")["warnings"]
    assert len(after) == len(set(after))

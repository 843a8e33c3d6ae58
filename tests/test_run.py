"""Whole runs through ``msft_core.run``, on a tiny dataset and backbone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import msft_core
from msft_core import DatasetSplits, MsftError, PluginError, UsageError, hookimpl
from msft_core.images import MemoryTable
from msft_core.testing import RecordingReporter, tiny

AUTO = {"mode": "auto"}
"""As it is by default: what is faster compiled is compiled."""


def config(**sections: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "dataset": "tiny",
        "backbone": "tiny",
        "strategy": {"name": "finetune", "learning_rate": 0.05},
        "training": {"epochs": 2, "batch_size": 6},  # of 16 images, so one batch is smaller
        "without": ["figures", "report"],
        "runtime": {"mode": "pynative"},  # compiling takes longer than all else
    }
    for name, section in sections.items():
        if isinstance(base.get(name), dict) and isinstance(section, dict):
            base[name] = {**base[name], **section}
        else:
            base[name] = section
    return base


def run(out: Path, *plugins: object, **sections: Any) -> msft_core.RunReport:
    return msft_core.run(
        config(**sections), plugins=[tiny, *plugins], out=out, reporter=RecordingReporter()
    )


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_times(folder: Path) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in line.items() if key not in ("seconds", "step_ms")}
        for line in metrics(folder)
    ]


def parameters(checkpoint: Path) -> dict[str, np.ndarray]:
    import mindspore as ms

    saved = ms.load_checkpoint(str(checkpoint))
    return {name: value.asnumpy() for name, value in saved.items() if hasattr(value, "asnumpy")}


def test_a_run_leaves_everything_the_design_promises(tmp_path: Path) -> None:
    report = run(tmp_path / "run", without=[], runtime=AUTO)

    assert report.status == "completed"
    assert {path.name for path in report.folder.iterdir()} == {
        "state",
        "config.toml",
        "environment.json",
        "metrics.jsonl",
        "best.ckpt",
        "last.ckpt",
        "classes.json",
        "skipped.jsonl",
        "log.txt",
        "train_batch.png",
        "predictions.csv",
        "predictions.png",
        "report.html",
        "curves.png",
        "confusion_matrix.png",
    }
    assert json.loads((report.folder / "classes.json").read_text()) == ["blue", "red"]
    lines = metrics(report.folder)
    assert [line["epoch"] for line in lines] == [1, 2]
    assert set(lines[0]) == {"epoch", "train", "val", "learning_rate", "seconds", "step_ms"}
    assert set(lines[0]["val"]) == {"loss", "accuracy"}
    assert report.best is not None
    assert report.best.value == max(line["val"]["accuracy"] for line in lines)


def test_the_best_checkpoint_says_all_that_prediction_needs(tmp_path: Path) -> None:
    from msft_core.weights import read_checkpoint

    report = run(tmp_path / "run")
    metadata = read_checkpoint(report.folder / "best.ckpt").metadata

    assert json.loads(metadata["classes"]) == ["blue", "red"]
    assert metadata["backbone"] == "tiny"
    assert metadata["strategy"] == "finetune"
    assert json.loads(metadata["preprocessing"])["size"] == 16


def test_one_seed_gives_the_same_metrics_and_checkpoints_with_any_number_of_workers(
    tmp_path: Path,
) -> None:
    folders = [
        run(tmp_path / str(workers), data={"workers": workers}, runtime=AUTO).folder
        for workers in (0, 1, 2)
    ]
    for folder in folders[1:]:
        assert without_times(folder) == without_times(folders[0])
        for name in ("best.ckpt", "last.ckpt"):
            assert (folder / name).read_bytes() == (folders[0] / name).read_bytes()


def test_another_seed_gives_another_network(tmp_path: Path) -> None:
    one = run(tmp_path / "one", training={"seed": 1}).folder
    two = run(tmp_path / "two", training={"seed": 2}).folder
    assert (one / "last.ckpt").read_bytes() != (two / "last.ckpt").read_bytes()


def test_the_run_folders_configuration_run_again_gives_the_same(tmp_path: Path) -> None:
    first = run(tmp_path / "first", training={"seed": 5}, runtime=AUTO).folder
    again = msft_core.run(
        first / "config.toml", plugins=[tiny], out=tmp_path / "again", reporter=RecordingReporter()
    ).folder

    assert (again / "config.toml").read_text() == (first / "config.toml").read_text()
    assert without_times(again) == without_times(first)
    assert (again / "best.ckpt").read_bytes() == (first / "best.ckpt").read_bytes()


def test_a_freeze_run_leaves_every_backbone_tensor_bit_identical(tmp_path: Path) -> None:
    before: dict[str, np.ndarray] = {}

    class Look:
        @hookimpl
        def on_run_start(self, run: msft_core.Run) -> None:
            for stage in run.backbone.stages:
                for parameter in stage.cell.get_parameters():
                    before[parameter.name] = parameter.asnumpy().copy()

    strategy = {"name": "freeze", "learning_rate": 0.1}
    report = run(tmp_path / "run", Look, strategy=strategy, runtime=AUTO)
    after = parameters(report.folder / "last.ckpt")

    assert len(before) == 10
    assert any("moving_mean" in name for name in before)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)
    assert set(after) - set(before) == {"head.weight", "head.bias"}


def test_a_hook_of_three_lines_replaces_the_dataset_and_the_output_says_so(tmp_path: Path) -> None:
    class Smaller:
        @hookimpl
        def build_dataset(self, name: str) -> DatasetSplits:
            return DatasetSplits(("a", "b"), tiny.table(3), tiny.table(1, start=50))

    reporter = RecordingReporter()
    report = msft_core.run(
        config(), plugins=[tiny, Smaller], out=tmp_path / "run", reporter=reporter
    )

    assert json.loads((report.folder / "classes.json").read_text()) == ["a", "b"]
    assert any("plugin 'Smaller' overrides build_dataset" in line for line in reporter.infos)
    overrides = json.loads((report.folder / "environment.json").read_text())["overrides"]
    assert overrides == {"build_dataset": "Smaller"}


def test_an_override_that_answers_none_leaves_it_to_the_owner(tmp_path: Path) -> None:
    class Shy:
        @hookimpl
        def build_dataset(self, name: str) -> None:
            return None

    assert run(tmp_path / "run", Shy).status == "completed"


def test_callbacks_are_called_in_order_and_see_the_epoch_evaluated_once(tmp_path: Path) -> None:
    calls: list[str] = []

    class Metric:
        @hookimpl
        def compute_metrics(self, predictions: msft_core.Predictions) -> dict[str, float]:
            calls.append("metric")
            return {"sure": float(predictions.probabilities.max(axis=1).mean())}

    class Tracker:
        @hookimpl
        def on_run_start(self, run: msft_core.Run) -> None:
            calls.append("start")

        @hookimpl(trylast=True)
        def on_epoch_end(self, epoch: int, run: msft_core.Run) -> None:
            assert run.best is not None
            assert run.evaluate("val") == run.evaluate("val")
            run.record("twice", 2 * epoch)
            calls.append(f"epoch {epoch}")

        @hookimpl
        def on_run_end(self, report: msft_core.RunReport) -> None:
            calls.append(f"end {report.status}")

    report = run(tmp_path / "run", Metric, Tracker)

    assert calls == ["start", "metric", "epoch 1", "metric", "epoch 2", "end completed"]
    assert [line["twice"] for line in metrics(report.folder)] == [2, 4]
    assert 0.5 <= metrics(report.folder)[0]["val"]["sure"] <= 1


def test_two_plugins_that_give_one_metric_are_an_error_that_names_both(tmp_path: Path) -> None:
    class Copycat:
        @hookimpl
        def compute_metrics(self) -> dict[str, float]:
            return {"accuracy": 1.0}

    with pytest.raises(PluginError, match=r"'Copycat', hook compute_metrics.*|plugin 'metrics'"):
        run(tmp_path / "run", Copycat)


def test_a_callback_that_is_switched_off_is_not_called(tmp_path: Path) -> None:
    report = run(tmp_path / "run", callback={"best_checkpoint": {"enabled": False}})
    assert report.best is None
    assert not (report.folder / "best.ckpt").exists()
    assert "val" not in metrics(report.folder)[0]


def test_the_best_checkpoint_is_what_the_end_of_the_run_sees(tmp_path: Path) -> None:
    seen: dict[str, np.ndarray] = {}

    class Worsen:
        """Ruins the head after the best epoch, so that last and best differ."""

        @hookimpl(tryfirst=True)
        def on_epoch_end(self, epoch: int, run: msft_core.Run) -> None:
            import mindspore as ms

            if epoch == 3:
                head = run.backbone.head.weight
                head.set_data(ms.Tensor(-5 * head.asnumpy()))

        @hookimpl
        def on_run_end(self, run: msft_core.Run) -> None:
            seen.update({"head": run.backbone.head.weight.asnumpy()})

    report = run(tmp_path / "run", Worsen, training={"epochs": 3}, runtime=AUTO)
    assert report.best is not None
    assert report.best.epoch < 3
    np.testing.assert_array_equal(
        seen["head"], parameters(report.folder / "best.ckpt")["head.weight"]
    )


def test_a_loss_that_is_not_a_number_ends_the_run_and_keeps_the_best(tmp_path: Path) -> None:
    class Poison:
        @hookimpl(trylast=True)
        def on_epoch_end(self, epoch: int, run: msft_core.Run) -> None:
            import mindspore as ms

            head = run.backbone.head.weight
            head.set_data(ms.Tensor(np.full_like(head.asnumpy(), math.inf)))

    with pytest.raises(msft_core.TrainingError) as caught:
        run(tmp_path / "run", Poison, runtime=AUTO)

    message, advice = str(caught.value).splitlines()
    assert message == (
        "the loss is nan at step 1 of epoch 2 (step 4 of the run, learning rate 0.025)."
    )
    best = json.loads((tmp_path / "run" / "environment.json").read_text())["best"]
    assert advice == (
        f"best.ckpt keeps epoch 1 (accuracy {best['value']:.4f}). "
        "Try a smaller learning rate, such as --lr 0.005."
    )
    assert f"error: {message}" in (tmp_path / "run" / "log.txt").read_text()
    report = caught.value.report
    assert report is not None
    assert report.status == "failed"
    assert report.best is not None
    assert np.isfinite(parameters(report.best.path)["head.weight"]).all()


def test_a_loss_that_is_nan_before_anything_trained_is_not_blamed_on_the_learning_rate(
    tmp_path: Path,
) -> None:
    class Poisoned:
        @hookimpl
        def on_run_start(self, run: msft_core.Run) -> None:
            import mindspore as ms

            head = run.backbone.head.weight
            head.set_data(ms.Tensor(np.full_like(head.asnumpy(), math.nan)))

    with pytest.raises(msft_core.TrainingError) as caught:
        run(tmp_path / "run", Poisoned)
    assert "at step 1 of epoch 1 (step 1 of the run" in str(caught.value)
    assert "No epoch was kept as the best one yet." in str(caught.value)
    assert "--weights" in str(caught.value)
    assert "--lr" not in str(caught.value)


def test_a_run_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    class Broken:
        @hookimpl
        def build_backbone(self, name: str) -> None:
            raise RuntimeError("no such network")

    with pytest.raises(PluginError, match=r"'Broken', hook build_backbone: RuntimeError") as caught:
        run(tmp_path / "deep" / "run", Broken)
    assert caught.value.report is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("hook", ["on_run_start", "on_epoch_end"])
def test_a_callback_that_raises_ends_the_run_and_names_itself(tmp_path: Path, hook: str) -> None:
    ended: list[BaseException | None] = []

    class Faulty:
        def on_run_start(self, run: msft_core.Run) -> None:
            raise ZeroDivisionError("oops")

        on_epoch_end = on_run_start

        def __init__(self) -> None:
            pass

    function = hookimpl(lambda run: 1 / 0)
    faulty = type("Faulty", (), {hook: staticmethod(function)})

    class Witness:
        @hookimpl
        def on_run_end(self, error: BaseException | None) -> None:
            ended.append(error)

    with pytest.raises(PluginError, match=f"'Faulty', hook {hook}: ZeroDivisionError"):
        run(tmp_path / "run", faulty, Witness)
    assert len(ended) == 1
    assert isinstance(ended[0], PluginError)


def test_an_end_of_run_that_raises_hinders_no_other_plugin(tmp_path: Path) -> None:
    reached: list[str] = []

    class First:
        @hookimpl(tryfirst=True)
        def on_run_end(self) -> None:
            raise ValueError("cannot say goodbye")

    class Second:
        @hookimpl(trylast=True)
        def on_run_end(self) -> None:
            reached.append("second")

    with pytest.raises(MsftError, match="cannot say goodbye") as caught:
        run(tmp_path / "run", First, Second)
    assert reached == ["second"]
    assert caught.value.report is not None
    assert (caught.value.report.folder / "best.ckpt").exists()


def test_patience_stops_a_run_that_gains_nothing(tmp_path: Path) -> None:
    report = run(
        tmp_path / "run",
        strategy={"name": "freeze", "learning_rate": 1e-9},
        training={"epochs": 9},
        callback={"best_checkpoint": {"patience": 2}},
    )
    assert report.status == "stopped"
    assert len(report.history) == 3
    assert "2 evaluations" in report.reason


def test_an_interval_and_a_first_epoch_leave_epochs_unevaluated(tmp_path: Path) -> None:
    report = run(
        tmp_path / "run",
        training={"epochs": 5},
        callback={"best_checkpoint": {"first_epoch": 2, "interval": 2}},
    )
    assert [bool(record.val) for record in report.history] == [False, True, False, True, False]


def test_a_strategy_that_changes_its_answer_is_followed(tmp_path: Path) -> None:
    class Gradual:
        @hookimpl
        def select_trainable(
            self, name: str, backbone: msft_core.Backbone, epoch: int
        ) -> msft_core.Trainable:
            names = ["head.weight", "head.bias"] + (["second.0.weight"] if epoch > 1 else [])
            return msft_core.Trainable(
                (msft_core.ParameterGroup(tuple(names)),),
                msft_core.OptimizerSpec("momentum", learning_rate=0.1),
            )

    seen: list[dict[str, np.ndarray]] = []

    class Look:
        @hookimpl
        def on_epoch_end(self, run: msft_core.Run) -> None:
            cells = [*(stage.cell for stage in run.backbone.stages), run.backbone.head]
            seen.append(
                {p.name: p.asnumpy().copy() for cell in cells for p in cell.get_parameters()}
            )

    run(tmp_path / "run", Gradual, Look, training={"epochs": 3}, runtime=AUTO)
    changed = [
        {name for name in seen[0] if not np.array_equal(seen[i][name], seen[i + 1][name])}
        for i in (0, 1)
    ]
    assert changed[0] == changed[1] == {"head.weight", "head.bias", "second.0.weight"}


def test_a_strategy_is_asked_once_for_each_epoch(tmp_path: Path) -> None:
    asked: list[int] = []

    class Ask:
        @hookimpl
        def select_trainable(self, name: str, epoch: int) -> None:
            asked.append(epoch)

    run(tmp_path / "run", Ask, training={"epochs": 3})
    assert asked == [1, 2, 3]


def test_an_epoch_of_one_batch_is_said_where_the_batch_is_above_the_image_count(
    tmp_path: Path,
) -> None:
    reporter = RecordingReporter()
    msft_core.run(
        config(training={"epochs": 1, "batch_size": 500}),
        plugins=[tiny],
        out=tmp_path / "run",
        reporter=reporter,
    )
    assert any("batch size 500 exceeds the 16 training images" in w for w in reporter.warnings)


def test_what_all_plugins_share_none_may_change(tmp_path: Path) -> None:
    class Metric:
        @hookimpl
        def compute_metrics(self, predictions: msft_core.Predictions) -> dict[str, float]:
            predictions.probabilities[:] = 0
            return {}

    class Callback:
        @hookimpl(tryfirst=True)
        def on_epoch_end(self, run: msft_core.Run) -> None:
            run.evaluate("val")["accuracy"] = 1.0  # type: ignore[index]

    for plugin, said in ((Metric, "read-only"), (Callback, "does not support item assignment")):
        with pytest.raises(msft_core.PluginError, match=f"{plugin.__name__}.*{said}"):
            run(tmp_path / plugin.__name__, plugin)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: run.set_best(Path("nowhere.ckpt"), 1, 1.0, "x"), "no file nowhere.ckpt"),
        (lambda run: run.record("epoch", 3.0), "msft itself writes 'epoch'"),
        (lambda run: run.stop(""), "stop: the reason is empty"),
        (lambda run: run.settings("callback", "best"), "this run has no callback 'best'"),
        (lambda run: run.read_images("val", ["zz"]), "val has no image 'zz'"),
    ],
)
def test_a_callback_that_says_what_cannot_be_is_named_at_once(
    tmp_path: Path, call: Any, message: str
) -> None:
    class Callback:
        @hookimpl
        def on_epoch_end(self, run: msft_core.Run) -> None:
            call(run)

    with pytest.raises(msft_core.PluginError, match=f"Callback.*{message}"):
        run(tmp_path / "run", Callback)


def test_numbers_of_numpy_and_whole_ones_do_for_an_optimizer(tmp_path: Path) -> None:
    class Strategy:
        @hookimpl
        def select_trainable(self, backbone: msft_core.Backbone) -> msft_core.Trainable:
            group = msft_core.ParameterGroup(("head.weight", "head.bias"), np.float32(0.5))  # type: ignore[arg-type]
            spec = msft_core.OptimizerSpec("momentum", np.float32(0.1), momentum=0)  # type: ignore[arg-type]
            return msft_core.Trainable((group,), spec)

    assert run(tmp_path / "run", Strategy).status == "completed"


def test_a_rate_that_rises_for_longer_than_the_run_is_said(tmp_path: Path) -> None:
    reporter = RecordingReporter()
    msft_core.run(
        config(strategy={"warmup_epochs": 3}), plugins=[tiny], out=tmp_path / "r", reporter=reporter
    )
    assert reporter.warnings == [
        "the warm-up of 3 epochs is longer than the run of 2: the learning rate never reaches 0.05."
    ]


def test_a_batch_above_the_image_count_with_the_remainder_dropped_is_refused(
    tmp_path: Path,
) -> None:
    with pytest.raises(msft_core.DataError, match="choose a smaller --batch-size"):
        run(tmp_path / "run", training={"batch_size": 500, "drop_remainder": True})
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_in_use_is_refused_and_untouched(tmp_path: Path) -> None:
    precious = tmp_path / "run" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("all of it")
    with pytest.raises(UsageError, match="already exists"):
        run(tmp_path / "run")
    assert precious.read_text() == "all of it"


def test_a_metric_nobody_computes_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'f1': no plugin computes it. There are: loss, accuracy"):
        run(tmp_path / "run", callback={"best_checkpoint": {"metric": "f1"}})


@pytest.mark.parametrize("mode", ["graph", "auto"])
def test_what_is_compiled_trains_like_pynative(tmp_path: Path, mode: str) -> None:
    eager = run(tmp_path / "eager", strategy={"name": "freeze"})
    compiled = run(tmp_path / mode, strategy={"name": "freeze"}, runtime={"mode": mode})
    one, two = (parameters(r.folder / "last.ckpt") for r in (eager, compiled))
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, atol=1e-5, err_msg=name)


def test_mindspores_own_pipeline_trains_too(tmp_path: Path) -> None:
    report = run(tmp_path / "run", data={"pipeline": "mindspore"})
    assert len(report.history) == 2


def test_images_that_do_not_decode_are_left_out_and_listed(tmp_path: Path) -> None:
    good, bad = tiny.table(6), {0: b"", 7: b"hello, I am text", 9: tiny.picture(1, 3)[:300]}

    class Dirty:
        @hookimpl
        def build_dataset(self, name: str) -> DatasetSplits:
            blobs = tuple(bad.get(row, blob) for row, blob in enumerate(good.blobs))
            train = MemoryTable(good.ids, good.labels, blobs)
            return DatasetSplits(("blue", "red"), train, tiny.table(2, start=70))

    report = run(tmp_path / "run", Dirty)
    lines = (report.folder / "skipped.jsonl").read_text().splitlines()
    skipped = [json.loads(line) for line in lines]
    assert [line["id"] for line in skipped] == [good.ids[row] for row in bad]
    assert all(line["split"] == "train" and line["reason"] for line in skipped)

    with pytest.raises(msft_core.DataError, match="3 images do not decode"):
        run(tmp_path / "strict", Dirty, data={"strict": True})
    assert not (tmp_path / "strict").exists()


def test_a_picture_in_both_splits_is_said(tmp_path: Path) -> None:
    class Leaky:
        @hookimpl
        def build_dataset(self, name: str) -> DatasetSplits:
            return DatasetSplits(("blue", "red"), tiny.table(4), tiny.table(2))

    reporter = RecordingReporter()
    msft_core.run(config(), plugins=[tiny, Leaky], out=tmp_path / "run", reporter=reporter)
    assert any("4 validation images are also training images" in w for w in reporter.warnings)


WRONG_SPLITS = {
    "None at all": ("a string", "returned str, not a DatasetSplits"),
    "one class": (
        lambda: DatasetSplits(("a",), tiny.table(1), tiny.table(1)),
        "needs at least two",
    ),
    "label": (
        lambda: DatasetSplits(("a", "b"), MemoryTable(("x",), (2,), (b"",)), tiny.table(1)),
        "label outside 0 to 1",
    ),
    "ids": (
        lambda: DatasetSplits(
            ("a", "b"), MemoryTable(("x", "x"), (0, 1), (b"", b"")), tiny.table(1)
        ),
        "two images with the same id",
    ),
    "empty": (
        lambda: DatasetSplits(("a", "b"), tiny.table(1), MemoryTable((), (), ())),
        "val has no images",
    ),
}


@pytest.mark.parametrize("case", WRONG_SPLITS)
def test_a_dataset_that_breaks_the_contract_is_named(tmp_path: Path, case: str) -> None:
    make, message = WRONG_SPLITS[case]

    class Wrong:
        @hookimpl
        def build_dataset(self, name: str) -> Any:
            return make() if callable(make) else make

    with pytest.raises(PluginError, match=f"'Wrong', hook build_dataset: .*{message}"):
        run(tmp_path / "run", Wrong)


def test_a_class_whose_images_all_fail_is_named(tmp_path: Path) -> None:
    class Empty:
        @hookimpl
        def build_dataset(self, name: str) -> DatasetSplits:
            train = MemoryTable(("x", "y"), (0, 1), (tiny.picture(0, 0), b"not an image"))
            return DatasetSplits(("cats", "dogs"), train, tiny.table(1))

    with pytest.raises(msft_core.DataError, match="class 'dogs' has no training image"):
        run(tmp_path / "run", Empty)


def test_a_head_of_the_wrong_size_is_reported_as_its_plugins(tmp_path: Path) -> None:
    class Wrong:
        @hookimpl
        def build_backbone(self, name: str, settings: Any) -> msft_core.Backbone | None:
            return tiny.build_backbone(name, 7, settings)

    with pytest.raises(PluginError, match=r"'Wrong', hook build_backbone: .*7\).*must be \(1, 2\)"):
        run(tmp_path / "run", Wrong)
    assert not (tmp_path / "run").exists(), "found before the run begins"

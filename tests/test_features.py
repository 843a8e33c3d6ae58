"""Frozen stages are computed once: what is stored, when it is used again, and when it is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from disk_kit import TOO_LARGE, disk_that_takes
from hypothesis import given
from hypothesis import strategies as st

import msft_core
from msft_core import (
    Component,
    DataError,
    DatasetSplits,
    FeatureExtractor,
    OptimizerSpec,
    ParameterGroup,
    PluginError,
    Settings,
    Trainable,
    UsageError,
    hookimpl,
)
from msft_core.config import merge
from msft_core.data.pipeline import KeyedPipeline, Recipe
from msft_core.data.views import Augmentation
from msft_core.features.keys import feature_keys
from msft_core.features.prefix import relative_difference
from msft_core.images import MemoryTable
from msft_core.system.cache_folder import cache_dir
from msft_core.testing import RecordingReporter, tiny

TRAIN, VAL = 16, 8
"""Images of ``tiny``."""


class Outcome:
    """A run, and what it said."""

    def __init__(self, out: Path, *plugins: object, **sections: Any) -> None:
        config: dict[str, Any] = {
            "dataset": "tiny",
            "backbone": "tiny",
            "strategy": {"name": "freeze", "learning_rate": 0.01},
            "training": {"epochs": 3, "batch_size": 8, "views": 2},
            "without": ["figures", "report"],
        }
        reporter = RecordingReporter()
        self.report = msft_core.run(
            merge(config, sections), plugins=[tiny, *plugins], out=out, reporter=reporter
        )
        self.warnings, self.infos = reporter.warnings, reporter.infos
        self.computed = [total for label, total in reporter.totals if " of " in label]
        lines = (self.report.folder / "metrics.jsonl").read_text().splitlines()
        self.metrics = [json.loads(line) for line in lines]

    @property
    def figures(self) -> list[float]:
        """Losses and accuracies of every epoch."""
        return [v for m in self.metrics for v in (m["train"]["loss"], *m["val"].values())]


Run = Callable[..., Outcome]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    count = iter(range(100))
    return lambda *plugins, **sections: Outcome(tmp_path / str(next(count)), *plugins, **sections)


def stored() -> list[Path]:
    return sorted((cache_dir() / "features").rglob("*.rows"))


def splits(train: MemoryTable) -> type:
    class Given:
        @hookimpl
        def build_dataset(self, name: str) -> DatasetSplits:
            return DatasetSplits(tiny.CLASSES, train, tiny.table(VAL // 2, start=1000))

    return Given


class Scripted:
    """A strategy of a third party that never heard of stored features: names by epoch."""

    def __init__(self, *prefixes: tuple[str, ...], batch_norm: Any = "frozen_eval") -> None:
        self.prefixes, self.batch_norm = prefixes, batch_norm

    @hookimpl
    def select_trainable(self, backbone: Any, epoch: int) -> Trainable:
        from msft_core.stages import learned_names

        cells = [*(s.cell for s in backbone.stages), backbone.head]
        wanted = self.prefixes[min(epoch, len(self.prefixes)) - 1]
        names = tuple(n for cell in cells for n in learned_names(cell) if n.startswith(wanted))
        spec = OptimizerSpec("momentum", learning_rate=0.05)
        return Trainable((ParameterGroup(names),), spec, self.batch_norm)


# What is computed, and how often


def test_each_view_of_each_training_image_is_computed_once_and_validation_once(run: Run) -> None:
    assert run(training={"epochs": 5, "views": 2}).computed == [TRAIN, VAL, TRAIN]


def test_no_more_views_are_computed_than_there_are_epochs(run: Run) -> None:
    assert run(training={"epochs": 2, "views": 8}).computed == [TRAIN, VAL, TRAIN]


def test_a_second_run_with_another_learning_rate_computes_nothing(run: Run) -> None:
    first = run()
    second = run(strategy={"learning_rate": 0.1})
    assert second.computed == []
    assert second.figures != first.figures


def test_the_same_run_again_gives_the_same_to_the_bit(run: Run) -> None:
    first, second = run(), run()
    assert second.computed == []
    assert second.figures == first.figures
    for name in ("best.ckpt", "last.ckpt"):
        one, two = (r.report.folder / name for r in (first, second))
        assert one.read_bytes() == two.read_bytes()


def test_with_a_view_for_each_epoch_a_run_is_the_same_as_without_stored_features(run: Run) -> None:
    cached, uncached = run(training={"views": 4}), run(training={"views": 0})
    assert cached.computed
    assert not uncached.computed
    np.testing.assert_allclose(cached.figures, uncached.figures, rtol=1e-4)


def test_graph_mode_trains_and_evaluates_on_stored_features_too(run: Run) -> None:
    pynative, graph = run(), run(runtime={"mode": "graph"})
    np.testing.assert_allclose(graph.figures, pynative.figures, rtol=1e-4)


def test_only_a_new_picture_is_computed(run: Run) -> None:
    run()
    more = splits(tiny.table(TRAIN // 2 + 1))
    assert run(more).computed == [2, 2]


def test_a_picture_that_changed_under_its_name_is_computed_anew(run: Run) -> None:
    table = tiny.table(TRAIN // 2)
    run(splits(table))
    changed = MemoryTable(table.ids, table.labels, (tiny.picture(0, 77), *table.blobs[1:]))
    assert run(splits(changed)).computed == [1, 1]


@pytest.mark.parametrize(
    ("sections", "computed"),
    [
        ({"training": {"seed": 1}}, [TRAIN, VAL, TRAIN]),
        ({"data": {"flip": 0.1}}, [TRAIN, TRAIN]),
        ({"backbone": {"image_size": 12}}, [TRAIN, VAL, TRAIN]),
        ({"training": {"batch_size": 5}}, []),
        ({"data": {"workers": 0}}, []),
    ],
)
def test_what_the_values_depend_on_decides_what_is_computed_anew(
    run: Run, sections: dict[str, Any], computed: list[int]
) -> None:
    run()  # seed 1 also draws other weights
    assert run(**sections).computed == computed


def test_augmented_validation_images_have_views_too(run: Run) -> None:
    assert run(data={"augment_validation": True}).computed == [TRAIN, VAL, TRAIN, VAL]


# Which stages


def test_a_third_partys_strategy_has_its_frozen_stages_stored(run: Run) -> None:
    strategy = Scripted(("second", "head"))
    cached = run(strategy, training={"views": 4})
    assert cached.computed
    np.testing.assert_allclose(
        cached.figures, run(strategy, training={"views": 0}).figures, rtol=1e-4
    )


@pytest.mark.parametrize(
    "strategy",
    [
        Scripted(("first", "head")),
        Scripted(("",)),
        Scripted(("head",), batch_norm="batch"),
    ],
)
def test_nothing_is_stored_where_no_leading_stage_stays(run: Run, strategy: Scripted) -> None:
    assert run(strategy).computed == []
    assert stored() == []


def test_finetune_stores_nothing(run: Run) -> None:
    assert run(strategy={"name": "finetune"}).computed == []
    assert stored() == []


def test_the_prefix_shrinks_with_the_strategy_and_what_is_stored_follows(run: Run) -> None:
    strategy = Scripted(("head",), ("head", "second"), ("",))
    cached = run(strategy, training={"views": 4, "epochs": 4})
    assert cached.computed == [TRAIN, VAL, TRAIN, VAL]
    uncached = run(strategy, training={"views": 0, "epochs": 4})
    np.testing.assert_allclose(cached.figures, uncached.figures, rtol=1e-4)


def test_stages_that_trained_before_they_froze_are_stored_as_they_became(run: Run) -> None:
    strategy = Scripted(("",), ("head",), ("head",))
    cached = run(strategy, training={"views": 4})
    assert cached.computed == [TRAIN, VAL, TRAIN]
    uncached = run(strategy, training={"views": 0})
    np.testing.assert_allclose(cached.figures, uncached.figures, rtol=1e-4)


def test_the_reloaded_best_network_is_evaluated_with_its_own_stages(run: Run) -> None:
    class FirstIsBest:
        @hookimpl
        def on_epoch_end(self, epoch: int, run: Any) -> None:
            if epoch == 1:
                run.set_best(run.save_checkpoint(run.folder / "first.ckpt"), 1, 1.0, "mine")
                self.loss = run.evaluate("val")["loss"]

        @hookimpl
        def on_run_end(self, run: Any) -> None:
            self.at_the_end = run.evaluate("val")["loss"]

    watcher = FirstIsBest()
    # The second epoch still trains the first stage, so the best one's is another.
    run(
        Scripted(("",), ("",), ("head",)),
        watcher,
        callback={"best_checkpoint": {"enabled": False}},
    )
    assert watcher.at_the_end == pytest.approx(watcher.loss, rel=1e-5)


def test_the_hash_of_leading_stages_is_part_of_the_hash_of_the_network() -> None:
    from mindspore import Parameter, Tensor, nn

    from msft_core.features.keys import parameters_digests
    from msft_core.stages import Chain

    def dense(name: str, value: float) -> nn.Cell:
        cell = nn.Dense(2, 2, weight_init="ones")
        cell.update_parameters_name(f"{name}.")
        cell.weight.set_data(cell.weight * value)
        return cell

    parts = [dense("first", 1.0), nn.ReLU(), dense("second", 2.0), dense("head", 3.0)]
    whole = parameters_digests(Chain(parts))
    for count in (1, 2, 3):
        assert parameters_digests(Chain(parts[:count])) == whole[:count]
    assert whole[0] == whole[1] != whole[2] != whole[3]  # a ReLU has no parameters
    parts[2].bias.set_data(Tensor([0.0, 1.0]))
    other = parameters_digests(Chain(parts))
    assert other[:2] == whole[:2]
    assert whole[2] != other[2] != other[3] != whole[3]
    # A parameter of two stages counts once, whichever of them are in the chain.
    parts[3].weight = parts[0].weight
    assert isinstance(parts[3].weight, Parameter)
    shared = parameters_digests(Chain(parts))
    assert shared[:3] == other[:3]
    assert shared[3] != other[3]


def test_the_pictures_shown_are_the_views_trained_on(run: Run) -> None:
    class Show:
        @hookimpl
        def on_run_start(self, run: Any) -> None:
            self.shown = run.images("train", 6).pixels

    cached, fresh = Show(), Show()
    run(cached, training={"views": 1, "epochs": 1})
    run(fresh, training={"views": 0, "epochs": 1})
    assert not np.array_equal(cached.shown, fresh.shown)  # view 0, and the view of epoch 1


# Never trusted, never lost


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_damaged_features_are_computed_anew(run: Run, damage: str) -> None:
    first = run()
    for path in stored():
        content = bytearray(path.read_bytes())
        if damage == "flip":
            content[100] ^= 1
        path.chmod(0o600)
        path.write_bytes(
            {"truncate": content[:-9], "flip": content, "empty": b""}[damage]  # type: ignore[arg-type]
        )
    second = run()
    assert second.computed
    assert second.figures == first.figures


def test_features_of_stages_whose_code_changed_are_computed_anew(run: Run) -> None:
    class Louder:
        """The same stages, settings and weights, but another function."""

        def __init__(self, factor: float) -> None:
            self.factor = factor

        @hookimpl
        def build_backbone(self, name: str, num_classes: int, settings: Any) -> Any:
            from mindspore import nn

            factor = self.factor

            class Scale(nn.Cell):
                def construct(self, x: Any) -> Any:
                    return x * factor

            made = tiny.build_backbone(name, num_classes, settings)
            pool = made.stages[-1]
            louder = nn.SequentialCell([pool.cell, Scale()])
            return replace(made, stages=(*made.stages[:-1], replace(pool, cell=louder)))

    run(Louder(1.0))
    second = run(Louder(3.0))
    assert "has its code changed?" in second.warnings[0]
    assert second.computed == [TRAIN, VAL, TRAIN]
    assert run(Louder(3.0)).computed == []


class Changed:
    """The tiny backbone's stages with a cell more; its weights do not hang on the seed."""

    def __init__(self, factor: float = 1.0, cut: int = 0, dtype: str = "float32") -> None:
        self.factor, self.cut, self.dtype = factor, cut, dtype

    @hookimpl
    def build_backbone(self, name: str, num_classes: int, settings: Any) -> Any:
        import mindspore as ms
        from mindspore import nn

        class Change(nn.Cell):
            def __init__(self, factor: float, cut: int, dtype: str) -> None:
                super().__init__()
                self.factor, self.cut, self.to = factor, cut, getattr(ms, dtype)

            def construct(self, x: Any) -> Any:
                return (x * self.factor)[:, self.cut :].astype(self.to)

        class Head(nn.Cell):
            def __init__(self, head: nn.Cell) -> None:
                super().__init__(auto_prefix=False)
                self.head = head

            def construct(self, x: Any) -> Any:
                return self.head(x.astype(ms.float32))

        made = tiny.build_backbone(name, num_classes, settings)
        made = replace(made, head=Head(made.head))
        pool = made.stages[-1]
        cell = nn.SequentialCell([pool.cell, Change(self.factor, self.cut, self.dtype)])
        return replace(made, stages=(*made.stages[:-1], replace(pool, cell=cell)))


def test_another_attribute_of_a_stage_gives_other_features_even_where_no_probe_is_stored(
    run: Run,
) -> None:
    run(Changed(1.0), training={"views": 1})
    # Of four views the one of the first epoch is not stored, so nothing there could be compared.
    second = run(Changed(3.0), training={"views": 4, "epochs": 4})
    assert VAL in second.computed
    assert second.warnings == []
    assert run(Changed(3.0), training={"views": 4, "epochs": 4}).computed == []


def test_the_same_stages_built_again_have_the_same_code(run: Run) -> None:
    from msft_core.features.keys import code_digest
    from msft_core.stages import Chain

    def code(*arguments: Any) -> str:
        made = Changed(*arguments).build_backbone("tiny", 2, tiny.TinyBackboneSettings())
        return code_digest(Chain([stage.cell for stage in made.stages]))

    assert code() == code()
    assert len({code(), code(2.0), code(1.0, 1)}) == 3


def test_features_that_cannot_be_stored_are_said_and_the_run_goes_on(run: Run) -> None:
    outcome = run(Changed(dtype="bfloat16"), training={"views": 1, "epochs": 1})
    assert "computes bfloat16, which cannot be stored" in outcome.warnings[0]


def test_a_picture_that_vanishes_is_named_and_the_cache_is_not_blamed(run: Run) -> None:
    class Vanishing:
        @hookimpl
        def build_dataset(self, name: str, settings: Any, context: Any) -> Any:
            splits = tiny.build_dataset(name, settings, context)
            read, read_before = splits.train.read, []

            class Table:
                ids, labels = splits.train.ids, splits.train.labels

                def read(self, index: int) -> bytes:
                    read_before.append(index)
                    if len(read_before) > len(self.ids):  # checked once
                        raise FileNotFoundError(2, "No such file or directory")
                    return read(index)

            return replace(splits, train=Table())

    with pytest.raises(DataError, match=r"can no longer be read: No such file or directory\."):
        run(Vanishing(), data={"workers": 0})


def test_above_the_limit_nothing_is_computed_beforehand_and_the_run_goes_on(run: Run) -> None:
    refused, uncached = run(cache={"limit_gb": 1e-9}), run(training={"views": 0})
    assert "cache.limit_gb" in refused.warnings[0]
    assert refused.computed == []
    assert refused.figures == uncached.figures


def test_a_cache_folder_that_cannot_be_written_is_said_and_the_run_goes_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("MSFT_CACHE", str(tmp_path / "file"))
    refused, uncached = run(), run(training={"views": 0})
    assert "features are not stored: the cache folder cannot be written" in refused.warnings[0]
    assert refused.figures == uncached.figures


def test_a_disk_that_fills_up_in_mid_run_is_said_and_the_run_goes_on(run: Run) -> None:
    class Filling:
        """From the second epoch on there is room for a checkpoint, but not for features."""

        def __init__(self) -> None:
            self.full = ExitStack()

        @hookimpl
        def on_epoch_end(self, epoch: int) -> None:
            if epoch == 1:
                self.full.enter_context(disk_that_takes(100_000))

    filling = Filling()
    with filling.full:
        # Of such an image the first stage gives 32 kB.
        outcome = run(filling, Scripted(("second", "head")), backbone={"image_size": 64})
    assert outcome.report.status == "completed"
    assert outcome.computed[:2] == [TRAIN, VAL]
    assert f"the cache folder cannot be written: {TOO_LARGE}" in outcome.warnings[0]


OFF = {"openvino": {"enabled": False}}
"""OpenVINO would try, and read the first images twice."""


def test_an_interrupted_computation_keeps_what_it_has(run: Run, tmp_path: Path) -> None:
    class Interrupting(MemoryTable):
        reads = 0

        def read(self, index: int) -> bytes:
            Interrupting.reads += 1
            if Interrupting.reads == 100 + 2 + 60:  # the check, the probe, a part of the rest
                raise KeyboardInterrupt
            return super().read(index)

    table = tiny.table(50)
    with pytest.raises(KeyboardInterrupt):
        run(
            splits(Interrupting(table.ids, table.labels, table.blobs)),
            data={"workers": 0},
            extractor=OFF,
        )
    again = run(splits(table), data={"workers": 0}, extractor=OFF)
    assert 0 < again.computed[0] < 100


# Where it cannot be


@pytest.mark.parametrize("sections", [{"data": {"pipeline": "mindspore"}}])
def test_what_keeps_features_from_being_stored_is_said(run: Run, sections: dict[str, Any]) -> None:
    outcome = run(**sections)
    assert any("not stored: with data.pipeline=mindspore" in line for line in outcome.infos)
    assert stored() == []


def test_stages_and_heads_that_do_not_compile_run_in_pynative_and_that_is_said(run: Run) -> None:
    import mindspore as ms
    from mindspore import nn

    class Uncompilable(nn.Cell):
        """Refused by MindSpore's parser.

        What only its evaluation refuses will not do here: 2.10 evaluates a branch (such as an
        assert) in a thread of its own, and where a Python list ends its life there, that aborts
        the process, once in some ten compilations: "PyThreadState_Get: the function must be called
        with the GIL held".
        """

        def __init__(self, cell: nn.Cell) -> None:
            super().__init__(auto_prefix=False)
            self.cell = cell

        def construct(self, x: ms.Tensor) -> ms.Tensor:
            try:
                return self.cell(x)
            finally:
                pass

    class Stubborn:
        @hookimpl
        def build_backbone(self, name: str, num_classes: int, settings: Any) -> Any:
            made = tiny.build_backbone(name, num_classes, settings)
            pool = made.stages[-1]
            stages = (*made.stages[:-1], replace(pool, cell=Uncompilable(pool.cell)))
            return replace(made, stages=stages, head=Uncompilable(made.head))

    outcome = run(Stubborn)
    assert any("does not compile, so it runs in PyNative mode" in line for line in outcome.infos)
    np.testing.assert_allclose(outcome.figures, run().figures, rtol=1e-4)


def test_pynative_on_request_compiles_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import mindspore as ms

    compiled = run()
    monkeypatch.setattr(ms, "jit", lambda function: pytest.fail("something is compiled"))
    again = run(runtime={"mode": "pynative"})
    np.testing.assert_allclose(again.figures, compiled.figures, rtol=1e-4)


# Another engine


class Engine:
    """An extractor that computes with MindSpore and changes the result."""

    def __init__(self, factor: float = 1.0, tolerance: float = 1e-5, name: str = "Engine") -> None:
        self.factor, self.tolerance, self.name = factor, tolerance, name
        self.shapes: list[tuple[int, ...]] = []

    @hookimpl
    def build_feature_extractor(self, prefix: Any, example: Any) -> FeatureExtractor:
        import mindspore as ms

        def compute(images: Any) -> Any:
            self.shapes.append(images.shape)
            return self.factor * prefix(ms.Tensor(images)).asnumpy()

        self.example = example.shape
        return FeatureExtractor(compute, self.name, self.tolerance)


def test_an_extractor_computes_every_batch_in_the_shape_it_was_shown(run: Run) -> None:
    engine = Engine()
    outcome = run(engine, training={"views": 4})
    assert set(engine.shapes) == {engine.example}
    assert len(engine.shapes) == len(outcome.computed)
    np.testing.assert_allclose(outcome.figures, run(training={"views": 4}).figures, rtol=1e-4)


def test_what_one_engine_stored_another_does_not_use(run: Run) -> None:
    run()
    assert run(Engine()).computed
    assert run(Engine()).computed == []
    assert run(Engine(name="Engine 2")).computed
    assert run().computed == []


def test_an_extractor_beyond_its_tolerance_is_refused(run: Run) -> None:
    with pytest.raises(PluginError, match=r"Engine.*relative difference of 0\.01 from") as caught:
        run(Engine(factor=1.01))
    assert caught.value.hook == "build_feature_extractor"
    assert caught.value.report is not None
    assert run(Engine(factor=1.01, tolerance=0.02)).computed


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        (lambda images: images[:, 0], r"returned shape \(16, 16, 16\), but MindSpore computes"),
        (lambda images: None, "compute returned NoneType, but"),
        (lambda images: 1 / 0, "ZeroDivisionError"),
        (
            lambda images: np.zeros((16, 8), np.float64),
            "compute returned float64, but MindSpore computes float32",
        ),
        (
            lambda images: np.full((16, 8), np.nan, np.float32),
            "compute returned numbers that are not finite",
        ),
    ],
)
def test_an_extractor_that_breaks_the_contract_is_named(
    run: Run, compute: Any, message: str
) -> None:
    class Broken:
        @hookimpl
        def build_feature_extractor(self) -> FeatureExtractor:
            return FeatureExtractor(compute, "broken", 1.0)

    with pytest.raises(PluginError, match=f"Broken.*{message}"):
        run(Broken)


def test_what_is_no_extractor_is_refused(run: Run) -> None:
    class Wrong:
        @hookimpl
        def build_feature_extractor(self) -> Any:
            return "fast"

    with pytest.raises(PluginError, match="returned str, not a FeatureExtractor"):
        run(Wrong)


class Listed:
    """An extractor with a component, so off unless enabled."""

    class Chosen(Settings):
        speed: int = 1

    @hookimpl
    def list_components(self) -> list[Component]:
        names = ("listed", "other")
        return [Component("extractor", name, "for tests", self.Chosen) for name in names]

    @hookimpl
    def build_feature_extractor(self, settings: Any) -> None:
        self.settings = settings


def test_an_extractor_component_is_asked_where_it_is_enabled_with_its_settings(run: Run) -> None:
    listed = Listed()
    run(listed)
    assert not hasattr(listed, "settings")
    run(listed, extractor={"listed": {"enabled": True, "speed": 3}})
    assert listed.settings.speed == 3


def test_two_enabled_extractors_are_refused(run: Run) -> None:
    both = {"listed": {"enabled": True}, "other": {"enabled": True}}
    with pytest.raises(UsageError, match="only one extractor may be enabled, not listed and other"):
        run(Listed(), extractor=both)


def test_an_extractor_that_will_not_be_used_is_said(run: Run) -> None:
    outcome = run(Listed(), extractor={"listed": {"enabled": True}}, training={"views": 0})
    assert "extractor listed is not used" in outcome.warnings[0]


# Keys


TABLE = tiny.table(3)
RECIPE = Recipe(
    preprocessing=msft_core.Preprocessing(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    augmentation=Augmentation(),
    seed=0,
    batch_size=6,
    shuffle=True,
    drop_remainder=False,
    workers=0,
    views=3,
)


def keys(epoch: int = 1, **changes: Any) -> list[bytes]:
    images = KeyedPipeline(TABLE, replace(RECIPE, **changes))
    return feature_keys(images, [str(i) for i in range(len(TABLE.ids))], epoch)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 9))
def test_two_epochs_share_their_rows_just_where_they_show_the_same_view(
    one: int, other: int, views: int
) -> None:
    same = set(keys(one, views=views)) == set(keys(other, views=views))
    assert same == (one % views == other % views)


def test_an_image_seen_as_in_evaluation_is_known_by_its_content_alone() -> None:
    assert keys(1, augmentation=None) == keys(2, augmentation=None, seed=9)
    assert not set(keys(1, augmentation=None)) & set(keys(1))


def test_the_relative_difference_is_that_of_all_rows_together() -> None:
    one, other = np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 0.0]])
    assert relative_difference(one, other) == pytest.approx(0.2)
    assert relative_difference(np.zeros((1, 2)), np.zeros((1, 2))) == 0

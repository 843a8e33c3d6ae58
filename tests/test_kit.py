"""The kit for authors of plugins: it runs, records, leaves nothing behind, and finds breaches."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, Msft

from msft_core import (
    Backbone,
    Component,
    Context,
    DatasetSplits,
    OptimizerSpec,
    ParameterGroup,
    PluginError,
    Predictions,
    Run,
    Settings,
    Stage,
    Trainable,
    UsageError,
    hookimpl,
)
from msft_core.images import MemoryTable
from msft_core.testing import (
    CommandLine,
    HookRecorder,
    MsftRun,
    RecordingReporter,
    assert_backbone,
    assert_callback,
    assert_dataset,
    assert_metric,
    assert_same_logits,
    assert_strategy,
    tiny,
)

pytest_plugins = ["pytester"]


class Offers:
    """A plugin with one component ``mine`` of a kind, answered by a function."""

    def __init__(self, kind: Any, answer: Callable[..., Any]) -> None:
        @hookimpl
        def list_components() -> list[Component]:
            return [Component(kind, "mine", "")]

        @hookimpl
        def build_dataset(name: str, context: Context) -> Any:
            return answer() if name == "mine" else None

        @hookimpl
        def build_backbone(name: str, num_classes: int) -> Any:
            return answer(num_classes) if name == "mine" else None

        @hookimpl
        def select_trainable(name: str, backbone: Backbone, epoch: int) -> Any:
            return answer(backbone, epoch) if name == "mine" else None

        self.list_components = list_components
        hook = {"dataset": build_dataset, "backbone": build_backbone}.get(kind, select_trainable)
        setattr(self, hook.__name__, hook)


def network(num_classes: int = 3) -> Backbone:
    backbone = tiny.build_backbone("tiny", num_classes, tiny.TinyBackboneSettings())
    assert backbone is not None
    return backbone


# Running and recording


def test_a_run_takes_two_epochs_and_what_was_said_is_kept(
    msft_run: MsftRun, msft_reporter: RecordingReporter
) -> None:
    report = msft_run()
    assert (report.status, len(report.history)) == ("completed", 2)
    assert any("Squares: 16 training and 8 validation images" in s for s in msft_reporter.infos)


def test_the_recorder_has_every_call_with_arguments_results_times_and_nesting(
    msft_run: MsftRun, msft_recorder: HookRecorder
) -> None:
    class Mine:
        @hookimpl
        def compute_metrics(self) -> dict[str, float]:
            return {"one": 1.0}

    msft_run([Mine], training={"epochs": 1})
    [call] = msft_recorder.of("compute_metrics", "Mine")
    assert (call.result, call.error, call.arguments) == ({"one": 1.0}, None, {})
    [end] = msft_recorder.of("on_epoch_end", "best_checkpoint")
    assert end.plugin == "best_checkpoint"
    assert (end.arguments["epoch"], end.depth, call.depth) == (1, 0, 1)
    assert end.seconds >= call.seconds > 0
    names = msft_recorder.names
    assert (
        names.index("msft_core.testing.tiny.build_dataset")
        < names.index("msft_core.testing.tiny.build_backbone")
        < names.index("strategies.select_trainable")
        < names.index("best_checkpoint.on_epoch_end")
    )


def test_the_recorder_has_what_a_hook_raised(
    msft_run: MsftRun, msft_recorder: HookRecorder
) -> None:
    class Breaks:
        @hookimpl
        def on_run_start(self, run: Run) -> None:
            raise ValueError("no")

    with pytest.raises(PluginError, match="'Breaks', hook on_run_start: ValueError: no"):
        msft_run([Breaks])
    [call] = msft_recorder.of("on_run_start")
    assert isinstance(call.error, PluginError)
    assert call.result is None


def test_nothing_of_a_run_is_left_for_the_next(
    msft_run: MsftRun, msft_recorder: HookRecorder
) -> None:
    class Mine:
        @hookimpl
        def on_run_start(self, run: Run) -> None:
            """Do nothing."""

    msft_run([Mine])
    assert "Mine.on_run_start" in msft_recorder.names
    msft_recorder.calls.clear()
    msft_run()
    assert msft_recorder.calls
    assert not msft_recorder.of(plugin="Mine")


def test_other_plugins_can_be_left_out_of_a_run(
    msft_run: MsftRun, msft_recorder: HookRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = {"without": ["best_checkpoint", "figures"], "training": {"epochs": 1}}
    assert msft_run(**without).best is None
    monkeypatch.setenv("MSFT_WITHOUT", "figures")
    msft_run(training={"epochs": 1}, strategy="freeze")
    assert not msft_recorder.of(plugin="figures")


def test_the_kit_is_there_in_a_stranger_s_pytest_and_puts_the_environment_back(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        mine="""
        from msft_core import hookimpl
        @hookimpl
        def on_epoch_end(epoch, run):
            run.record("ten", 10 * epoch)
        """,
        test_mine="""
        import os
        def test_it(msft_run, msft_cli, msft_context):
            assert msft_run(["mine"]).history[-1].extra == {"ten": 20}
            assert os.environ["MSFT_CACHE"] == str(msft_context.cache_dir)
            assert "tiny" in msft_cli("plugins", "--plugin", "msft_core.testing.tiny").stdout
        def test_the_environment_is_as_it_was():
            assert os.environ.get("MSFT_CACHE") == os.environ["BEFORE"]
        """,
    )
    os.environ["BEFORE"] = os.environ["MSFT_CACHE"]
    try:
        result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    finally:
        del os.environ["BEFORE"]
    result.assert_outcomes(passed=2)


def test_pytest_alone_does_not_import_anything_heavy_because_of_the_kit(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        import sys
        def test_it():
            assert not {"mindspore", "numpy", "matplotlib", "pydantic"} & set(sys.modules)
        """
    )
    pytester.runpytest_subprocess("-p", "no:hypothesispytest").assert_outcomes(passed=1)


def test_the_command_line_works_in_an_empty_folder(msft_cli: CommandLine) -> None:
    result = msft_cli("run", "--dataset", "nothing")
    assert result.returncode == 2
    assert "no dataset 'nothing'" in result.stderr
    assert list(msft_cli.cwd.iterdir()) == []


# Datasets


def splits(**changes: Any) -> DatasetSplits:
    return replace(DatasetSplits(tiny.CLASSES, tiny.table(3), tiny.table(2, start=50)), **changes)


def test_datasets_that_keep_the_contract_pass() -> None:
    assert_dataset("tiny")
    assert_dataset("tiny", settings={"train_per_class": 2})
    assert_dataset("mine", plugins=[Offers("dataset", splits)])


class Changing(MemoryTable):
    """Another picture at each reading."""

    def read(self, index: int) -> bytes:
        return tiny.picture(index % 2, np.random.randint(1 << 30))


def _unpicklable() -> Any:
    table = tiny.table(2)
    object.__setattr__(table, "lock", (lambda: None))
    return table


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            lambda: splits(train=Changing(("a", "b"), (0, 1), (b"", b""))),
            "train: image a is another when it is built again",
        ),
        (
            lambda: splits(val=MemoryTable(("a", "b"), (0, 1), (tiny.picture(0, 1), b"no"))),
            "val image b: ",
        ),
        (lambda: splits(val=tiny.table(2)), "of train is .* of val"),
        (lambda: splits(train=_unpicklable()), "train: the table cannot be pickled"),
    ],
    ids=["changing", "broken image", "twins", "unpicklable"],
)
def test_a_dataset_that_breaks_the_contract_is_found_out(
    answer: Callable[[], DatasetSplits], says: str
) -> None:
    with pytest.raises(AssertionError, match=says):
        assert_dataset("mine", plugins=[Offers("dataset", answer)])


class Reading(MemoryTable):
    """Reads its last image in another way."""

    def read(self, index: int) -> Any:
        return self.odd() if index == len(self.ids) - 1 else super().read(index)

    def odd(self) -> Any:
        raise KeyError("no such row")


class GivingText(Reading):
    """Gives a text instead of bytes."""

    def odd(self) -> Any:
        return "text"


class Missing(Reading):
    """A file that is not there."""

    def odd(self) -> Any:
        raise FileNotFoundError(2, "No such file or directory")


def of_kind(kind: type[MemoryTable], table: MemoryTable) -> MemoryTable:
    return kind(table.ids, table.labels, table.blobs)


@pytest.mark.parametrize(
    ("kind", "error", "says"),
    [
        (
            Reading,
            PluginError,
            r"plugin 'Offers': read\(3\) of its table raised KeyError: 'no such",
        ),
        (GivingText, PluginError, r"plugin 'Offers': read\(3\) of its table gave str, not bytes"),
        (Missing, AssertionError, "val image red/51.jpg: cannot be read: No such file"),
    ],
)
def test_an_error_in_the_read_of_a_table_names_the_plugin_or_the_image(
    kind: type[MemoryTable], error: type[Exception], says: str
) -> None:
    dataset = splits(val=of_kind(kind, tiny.table(2, start=50)))
    with pytest.raises(error, match=says):
        assert_dataset("mine", plugins=[Offers("dataset", lambda: dataset)])


def test_a_dataset_of_another_kind_is_refused_as_in_a_run() -> None:
    with pytest.raises(PluginError, match="returned list, not a DatasetSplits"):
        assert_dataset("mine", plugins=[Offers("dataset", list)])
    with pytest.raises(UsageError, match=r"no dataset 'tinny'\. Did you mean 'tiny'"):
        assert_dataset("tinny")
    with pytest.raises(UsageError, match=r"unknown setting dataset\.per_clas"):
        assert_dataset("tiny", settings={"per_clas": 1})


# Backbones


def test_backbones_that_keep_the_contract_pass() -> None:
    assert_backbone("tiny")
    assert_backbone("tiny", settings={"width": 3, "image_size": 20}, num_classes=5)


def test_without_training_a_backbone_is_checked_and_no_run_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(*_: object, **__: object) -> None:
        raise AssertionError("a run began")

    monkeypatch.setattr(MsftRun, "__call__", run)
    assert_backbone("tiny", train=False)
    with pytest.raises(AssertionError, match="the head gives probabilities"):
        assert_backbone("mine", plugins=[Offers("backbone", _broken(_softmax))], train=False)


def _broken(change: Callable[..., dict[str, Any]]) -> Callable[[int], Backbone]:
    def build(num_classes: int) -> Backbone:
        backbone = network(num_classes)
        return replace(backbone, **change(backbone, num_classes))

    return build


def _renamed(backbone: Backbone, _classes: int) -> dict[str, Any]:
    first, *others = backbone.stages
    return {"stages": (Stage("pool", first.cell), *others)}


def _dropout(backbone: Backbone, _classes: int) -> dict[str, Any]:
    from mindspore import nn

    return {"head": nn.SequentialCell([nn.Dropout(p=0.5), backbone.head])}


def _five(backbone: Backbone, _classes: int) -> dict[str, Any]:
    from mindspore import nn

    return {"head": nn.Dense(8, 5)}


def _random(backbone: Backbone, classes: int) -> dict[str, Any]:
    import mindspore as ms
    from mindspore import nn

    random = np.random.default_rng().normal(size=(classes, 8)).astype(np.float32)
    return {"head": nn.Dense(8, classes, weight_init=ms.Tensor(random))}


def _noisy(backbone: Backbone, _classes: int) -> dict[str, Any]:
    from mindspore import nn, ops

    class Noise(nn.Cell):
        def construct(self, x: Any) -> Any:
            return x + ops.randn_like(x)

    return {"stages": (*backbone.stages, Stage("noise", Noise()))}


def _mixing(backbone: Backbone, _classes: int) -> dict[str, Any]:
    from mindspore import nn

    class Centre(nn.Cell):
        def construct(self, x: Any) -> Any:
            return x - x.mean(0)

    return {"stages": (*backbone.stages, Stage("centre", Centre()))}


def _softmax(backbone: Backbone, _classes: int) -> dict[str, Any]:
    from mindspore import nn

    return {"head": nn.SequentialCell([backbone.head, nn.Softmax()])}


def _log_softmax(backbone: Backbone, _classes: int) -> dict[str, Any]:
    from mindspore import nn

    return {"head": nn.SequentialCell([backbone.head, nn.LogSoftmax()])}


def _cut(backbone: Backbone, _classes: int) -> dict[str, Any]:
    return {"stages": backbone.stages[:-1]}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_dropout, "head has nn.Dropout"),
        (_five, r"logits are \(2, 5\) for 2 images and 3 classes"),
        (_random, "built again with the same seed 1 parameters have other values"),
        (_noisy, "in evaluation mode the same images give other logits the second time"),
        (_mixing, "stage 'centre' gives an image something else alone than beside another"),
        (_softmax, "the head gives probabilities or their logarithms"),
        (_log_softmax, "the head gives probabilities or their logarithms"),
        (_cut, r"the head does not run on \(2, 8, 4, 4\)"),
    ],
)
def test_a_backbone_that_breaks_the_contract_is_found_out(
    change: Callable[..., dict[str, Any]], says: str
) -> None:
    with pytest.raises(AssertionError, match=says):
        assert_backbone("mine", plugins=[Offers("backbone", _broken(change))])


def test_two_stages_of_one_name_and_a_shared_parameter_are_refused_as_in_a_run() -> None:
    with pytest.raises(PluginError, match="stage names must be unique"):
        assert_backbone("mine", plugins=[Offers("backbone", _broken(_renamed))])

    def twice(backbone: Backbone, _classes: int) -> dict[str, Any]:
        return {"stages": (*backbone.stages, Stage("again", backbone.stages[0].cell))}

    with pytest.raises(PluginError, match=r"parameter .* of again is shared"):
        assert_backbone("mine", plugins=[Offers("backbone", _broken(twice))])


# Strategies


def head_of(backbone: Backbone, rate: float = 0.1) -> Trainable:
    names = tuple(p.name for p in backbone.head.get_parameters())
    return Trainable((ParameterGroup(names),), OptimizerSpec("momentum", rate))


@pytest.mark.parametrize("name", ["freeze", "finetune", "partial", "gradual"])
def test_the_built_in_strategies_keep_the_contract(name: str) -> None:
    assert_strategy(name, settings={"from": "second"} if name == "partial" else None, epochs=2)


def _moody() -> Callable[[Backbone, int], Trainable]:
    asked: list[int] = []

    def answer(backbone: Backbone, epoch: int) -> Trainable:
        asked.append(epoch)
        return head_of(backbone, 0.1 / len(asked))

    return answer


def _meddling(backbone: Backbone, epoch: int) -> Trainable:
    next(iter(backbone.stages[0].cell.get_parameters())).requires_grad = False
    return head_of(backbone)


def _idle(backbone: Backbone, epoch: int) -> Trainable:
    return head_of(backbone, 0.0)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (_moody(), "asked twice about epoch 1 it answers differently"),
        (_meddling, "it changed 'first"),
        (_idle, "nothing that it selected changed in training: is the learning rate 0?"),
    ],
)
def test_a_strategy_that_breaks_the_contract_is_found_out(
    answer: Callable[[Backbone, int], Trainable], says: str
) -> None:
    with pytest.raises(AssertionError, match=says):
        assert_strategy("mine", plugins=[Offers("strategy", answer)])


def test_a_strategy_that_selects_nothing_is_refused_as_in_a_run() -> None:
    def nothing(backbone: Backbone, epoch: int) -> Trainable:
        return Trainable((), OptimizerSpec("adam", 0.1))

    with pytest.raises(PluginError, match="selects no parameters"):
        assert_strategy("mine", plugins=[Offers("strategy", nothing)])


# Metrics


class Figures:
    """A plugin with the metric ``mine``."""

    def __init__(self, compute: Callable[[Predictions], Any]) -> None:
        @hookimpl
        def list_components() -> list[Component]:
            return [Component("metric", "mine", "")]

        @hookimpl
        def compute_metrics(predictions: Predictions) -> Any:
            return compute(predictions)

        self.list_components, self.compute_metrics = list_components, compute_metrics


def _right(predictions: Predictions) -> Any:
    return predictions.predicted == predictions.labels


def _recall_or_nan(predictions: Predictions) -> dict[str, float]:
    of_first = predictions.labels == 0
    return {"recall": float(_right(predictions)[of_first].mean()) if of_first.any() else np.nan}


def test_metrics_that_keep_the_contract_pass() -> None:
    assert_metric("accuracy")
    assert_metric("mine", plugins=[Figures(_recall_or_nan)])
    assert_metric("mine", plugins=[Figures(lambda p: {"mean": p.probabilities.mean()})])


def _cross_entropy(predictions: Predictions) -> dict[str, float]:
    true = predictions.probabilities[np.arange(len(predictions.labels)), predictions.labels]
    with np.errstate(divide="ignore"):
        return {"entropy": float(-np.log(true).mean())}


def _first_image(predictions: Predictions) -> dict[str, float]:
    return {"first": float(predictions.probabilities[0, 0])}


def _sorting(predictions: Predictions) -> dict[str, float]:
    predictions.probabilities.sort(axis=1)
    return {"top": float(predictions.probabilities[:, -1].mean())}


def _counting() -> Callable[[Predictions], dict[str, float]]:
    calls: list[Predictions] = []

    def compute(predictions: Predictions) -> dict[str, float]:
        calls.append(predictions)
        return {"calls": len(calls)}

    return compute


def _of_predicted_classes(predictions: Predictions) -> dict[str, float]:
    return {"all": 1.0} if _right(predictions).all() else {"some": 1.0}


@pytest.mark.parametrize(
    ("compute", "says"),
    [
        (_cross_entropy, "all wrong and certain: gives inf for 'entropy': give a finite number"),
        (_first_image, "drawn predictions: gives 'first' = .* in another order"),
        (_sorting, "drawn predictions: changes predictions.probabilities"),
        (_counting(), "drawn predictions: gives 'calls' = 1.0 and then 2.0 for the same pred"),
        (_of_predicted_classes, "gives other figures for the same labels: all, some"),
        (lambda _: {}, "gives no figures"),
        (lambda _: {"loss": 1.0}, "gives 'loss', which is the core's own name"),
    ],
)
def test_a_metric_that_breaks_the_contract_is_found_out(
    compute: Callable[[Predictions], Any], says: str
) -> None:
    with pytest.raises(AssertionError, match=says):
        assert_metric("mine", plugins=[Figures(compute)])


def test_a_metric_that_raises_for_a_class_without_images_is_named() -> None:
    def compute(predictions: Predictions) -> dict[str, float]:
        counts = [int((predictions.labels == label).sum()) for label in range(3)]
        return {"share": sum(1 / count for count in counts)}

    with pytest.raises(PluginError, match="'Figures', hook compute_metrics: ZeroDivisionError"):
        assert_metric("mine", plugins=[Figures(compute)])


# Callbacks


class Calls:
    """A plugin with the callback ``mine``: off by default, with a required setting."""

    class MineSettings(Settings):
        """Settings of the callback."""

        enabled: bool = False
        word: str

    def __init__(self, **hooks: Callable[..., None]) -> None:
        @hookimpl
        def list_components() -> list[Component]:
            return [Component("callback", "mine", "", self.MineSettings)]

        self.list_components = list_components
        for name, function in hooks.items():
            setattr(self, name, hookimpl(function))


def _log(epoch: int, run: Run) -> None:
    run.record(run.settings("callback", "mine").word, run.evaluate("val")["accuracy"])


def test_callbacks_that_keep_the_contract_pass() -> None:
    assert_callback("mine", plugins=[Calls(on_epoch_end=_log)], settings={"word": "hm"})


def _needs_an_epoch(run: Run) -> None:
    run.history[-1]


def _needs_figures(run: Run) -> None:
    if run.history:
        run.history[-1].val["accuracy"]


def _needs_its_start() -> dict[str, Callable[..., None]]:
    began: set[Path] = set()

    def on_run_start(run: Run) -> None:
        began.add(run.folder)

    def on_run_end(run: Run) -> None:
        began.remove(run.folder)

    return {"on_run_start": on_run_start, "on_run_end": on_run_end}


def _needs_two_epochs(run: Run) -> None:
    if run.history:
        run.history[1]


def _shifts(epoch: int, run: Run) -> None:
    import mindspore as ms

    bias = list(run.backbone.head.get_parameters())[-1]
    bias.set_data(bias + ms.Tensor(1.0))


def _ends(epoch: int, run: Run) -> None:
    run.stop("enough")


@pytest.mark.parametrize(
    ("hooks", "says"),
    [
        (_needs_its_start(), "another plugin ends at its start: on_run_end raised KeyError"),
        (
            {"on_run_end": _needs_an_epoch},
            "another plugin ends at its start: on_run_end raised IndexError: tuple index",
        ),
        (
            {"on_run_end": _needs_two_epochs},
            "that is stopped after its first epoch: on_run_end raised IndexError",
        ),
        (
            {"on_run_end": _needs_figures},
            "in a run that nobody evaluates: on_run_end raised KeyError: 'accuracy'",
        ),
        ({"on_epoch_end": _shifts}, "in epoch 2 train loss is .* with it and .* without"),
        ({"on_epoch_end": _ends}, "with it a run is stopped after 1 epochs, without it completed"),
        ({}, "the plugin has none of the hooks on_run_start, on_epoch_end, on_run_end"),
    ],
    ids=["start", "no epoch", "one epoch", "no figures", "shifts", "ends", "nothing"],
)
def test_a_callback_that_breaks_the_contract_is_found_out(
    hooks: dict[str, Callable[..., None]], says: str
) -> None:
    with pytest.raises(AssertionError, match=says):
        assert_callback("mine", plugins=[Calls(**hooks)], settings={"word": "hm"})


def test_a_callback_may_be_made_to_change_the_run() -> None:
    plugins = [Calls(on_epoch_end=_ends)]
    assert_callback("mine", plugins=plugins, settings={"word": "hm"}, same_result=False)


def test_a_setting_that_a_callback_lacks_is_refused_as_in_a_run() -> None:
    with pytest.raises(UsageError, match=r"callback\.word must be given"):
        assert_callback("mine", plugins=[Calls(on_epoch_end=_log)])


# Ports


def original(images: np.ndarray) -> dict[str, Any]:
    """What the tiny backbone of seed 0 gives, with its head."""
    import mindspore as ms

    ms.set_seed(0)
    backbone = network(2)
    found: dict[str, Any] = {}
    tensor = ms.Tensor(images)
    for stage in backbone.stages:
        tensor = stage.cell.set_train(False)(tensor)
        found[stage.name] = tensor.asnumpy()
    found["logits"] = backbone.head(tensor).asnumpy()
    return found | {p.name: p.asnumpy() for p in backbone.head.get_parameters()}


def test_a_port_that_computes_the_same_passes(tmp_path: Path) -> None:
    assert_same_logits("tiny", original)
    assert_same_logits("tiny", lambda images: original(images)["logits"])
    images = np.random.default_rng(1).normal(size=(3, 3, 16, 16)).astype(np.float32)
    reference = {"images": images, **original(images)}
    assert_same_logits("tiny", reference)
    np.savez(tmp_path / "reference.npz", **reference)
    assert_same_logits("tiny", tmp_path / "reference.npz")
    assert_same_logits("tiny", {"images": images, "first": reference["first"]})


def test_a_new_head_takes_the_values_of_the_original() -> None:
    def of_twice(images: np.ndarray) -> dict[str, Any]:
        found = original(images)
        found["head.weight"] = 2 * found["head.weight"]
        bias = found["head.bias"]
        return {**found, "logits": 2 * (found["logits"] - bias) + bias}

    assert_same_logits("tiny", of_twice)
    without_head = r"in the logits\. The reference has no parameters of the head: is the head a new"
    with pytest.raises(AssertionError, match=without_head):
        assert_same_logits("tiny", lambda images: of_twice(images)["logits"])


def test_a_port_that_differs_is_told_how_much_and_from_which_stage() -> None:
    def other(images: np.ndarray) -> dict[str, Any]:
        found = original(images)
        found["second"] = 1.5 * found["second"]
        found["logits"] = found["logits"] + 100
        return found

    with pytest.raises(AssertionError) as caught:
        assert_same_logits("tiny", other)
    heading, first, second, pool, logits = str(caught.value).splitlines()
    assert heading == (
        "backbone 'tiny' does not compute what its original computes. The first difference above "
        "the tolerance of 0.001 is after stage 'second'."
    )
    assert first.startswith("  after stage 'first': the largest difference is 0 of the largest")
    assert second.startswith("  after stage 'second': the largest difference is 0.33 of the larg")
    assert pool.startswith("  after stage 'pool': the largest difference is 0 ")
    assert "in the logits: the largest difference is 1 of" in logits


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (
            {"second": np.zeros((2, 8, 2, 2))},
            AssertionError,
            r"shape is \(2, 8, 4, 4\), not \(2, 8",
        ),
        ({"logits": np.full((2, 2), np.nan)}, AssertionError, "largest difference is nan of"),
        ({"secnd": np.zeros(1)}, UsageError, r"'secnd' is neither images .* Did you mean 'second'"),
        ({"head.bias": np.zeros(3)}, UsageError, r"head.bias has the shape \(3,\), the head's .*2"),
    ],
    ids=["shape", "nan", "unknown name", "head of another shape"],
)
def test_a_reference_that_does_not_fit_is_told(
    change: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        assert_same_logits("tiny", lambda images: {**original(images), **change})


def test_a_reference_without_outputs_is_refused() -> None:
    with pytest.raises(UsageError, match="give images, and logits or the outputs of a stage"):
        assert_same_logits("tiny", {"images": np.zeros((1, 3, 16, 16))})


def test_the_names_of_the_classes_reach_a_backbone_that_keeps_its_head() -> None:
    seen: list[tuple[str, ...]] = []

    class Keeps(Offers):
        def __init__(self) -> None:
            super().__init__("backbone", network)

            @hookimpl
            def build_backbone(num_classes: int, context: Context) -> Backbone:
                seen.append(context.classes)
                return network(num_classes)

            self.build_backbone = build_backbone

    assert_same_logits("mine", original, plugins=[Keeps()], classes=("blue", "red"))
    assert seen == [("blue", "red")] * 2


# Tracebacks


AUTHOR = """
from msft_core import Component, DatasetSplits, hookimpl
from msft_core.images import MemoryTable
from msft_core.testing import tiny


class Table(MemoryTable):
    def read(self, index):
        raise KeyError("line of the table")


@hookimpl
def list_components():
    return [Component("dataset", "mine", ""), Component("callback", "mine", "")]


@hookimpl
def build_dataset(name):
    if name != "mine":
        return None
    good = tiny.table(2)
    return DatasetSplits(tiny.CLASSES, Table(good.ids, good.labels, good.blobs), tiny.table(1))


@hookimpl
def on_run_start(run):
    run.settings("callback", "nobody")


@hookimpl
def on_run_end(run):
    raise ValueError("line of on_run_end")
"""


def test_a_traceback_ends_at_a_line_of_the_author(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        mine=AUTHOR,
        test_mine="""
        import numpy as np
        from msft_core.testing import assert_callback, assert_dataset, assert_same_logits

        def test_the_table():
            assert_dataset("mine", plugins=["mine"])

        def test_the_callback():
            assert_callback("mine", plugins=["mine"])

        def test_a_run(msft_run):
            msft_run(plugins=["mine"])

        def test_a_breach():
            assert_same_logits("tiny", lambda images: np.ones((2, 2)))
        """,
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--tb=short")
    result.assert_outcomes(failed=4)
    lines = [line.strip() for line in result.outlines]
    places = [line for line in lines if line.endswith((": in read", ": in on_run_end", "_start"))]
    assert places == [
        "mine.py:8: in read",
        "mine.py:31: in on_run_end",
        "mine.py:26: in on_run_start",
    ]
    assert "E   KeyError: 'line of the table'" in lines
    assert not [line for line in lines if "msft_core/" in line]
    assert not [line for line in lines if "pluggy/" in line]


# Tracing


def test_every_hook_call_is_printed_indented_with_arguments_result_and_time(
    msft: Msft, tmp_path: Path
) -> None:
    arguments = ("run", *TINY, "--epochs", "1", "--without", "figures")
    flag = msft(*arguments, "--trace", "--out", tmp_path / "a", env={"MSFT_TRACE": "0"})
    variable = msft(*arguments, "--out", tmp_path / "b", env={"MSFT_TRACE": "1"})
    both = msft(*arguments, "--trace", "--out", tmp_path / "c", env={"MSFT_TRACE": "1"})
    silent = msft(*arguments, "--out", tmp_path / "d", env={"MSFT_TRACE": "false"})
    assert "trace:" not in silent.stderr
    for result in (flag, variable, both):
        assert result.returncode == 0, result.stderr
        lines = [line for line in result.stderr.splitlines() if line.startswith("trace: ")]
        text = "\n".join(lines)
        assert (
            "trace: > strategies.select_trainable(name='finetune', backbone=Backbone 'tiny'" in text
        )
        assert "trace: > best_checkpoint.on_epoch_end(epoch=1, run=LiveRun)" in text
        assert "trace:   > metrics.compute_metrics(predictions=Predictions)" in text
        assert "trace:   < metrics.compute_metrics = {'accuracy': " in text
        assert len([line for line in lines if "> best_checkpoint.on_epoch_end" in line]) == 1
        assert all(line.endswith(" ms") for line in lines if "  < " in line or ": < " in line)


def test_the_trace_says_what_was_raised(msft: Msft, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "from msft_core import hookimpl\n@hookimpl\ndef on_run_start(): 1 / 0\n"
    )
    result = msft("run", *TINY, "--plugin", tmp_path / "bad.py", "--trace")
    assert result.returncode == 1
    assert "on_run_start raised plugin" in result.stderr
    assert "Traceback" not in result.stderr


class Odd(Settings):
    """Something without a name."""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (0.5, "0.5"),
        ("x" * 80, "'" + "x" * 56 + "..."),
        (np.zeros((2, 3), np.float32), "float32 (2, 3)"),
        ({"a": np.zeros(2)}, "{'a': float64 (2,)}"),
        ([1, "b"], "[1, 'b']"),
        (Odd(), "Odd"),
        (Component("dataset", "mine", ""), "Component 'mine'"),
    ],
)
def test_a_value_is_told_in_a_few_words(value: Any, text: str) -> None:
    from msft_core.plugins.trace import shortly

    assert shortly(value) == text

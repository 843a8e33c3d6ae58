"""The kit for authors of plugins: it runs, records, leaves nothing behind, and finds breaches."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msft_core import (
    Backbone,
    Component,
    Context,
    DatasetSplits,
    OptimizerSpec,
    ParameterGroup,
    PluginError,
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
    assert_dataset,
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
    [end] = msft_recorder.of("on_epoch_end")
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


def test_a_dataset_of_another_kind_is_refused_as_in_a_run() -> None:
    with pytest.raises(PluginError, match="gave list, not a DatasetSplits"):
        assert_dataset("mine", plugins=[Offers("dataset", list)])
    with pytest.raises(UsageError, match=r"no dataset 'tinny'\. Did you mean 'tiny'"):
        assert_dataset("tinny")
    with pytest.raises(UsageError, match=r"unknown setting dataset\.per_clas"):
        assert_dataset("tiny", settings={"per_clas": 1})


# Backbones


def test_backbones_that_keep_the_contract_pass() -> None:
    assert_backbone("tiny")
    assert_backbone("tiny", settings={"width": 3, "image_size": 20}, num_classes=5)


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
    with pytest.raises(PluginError, match="stage names must differ"):
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


# Tracing


def test_every_hook_call_is_printed_indented_with_arguments_result_and_time(
    msft_cli: CommandLine, tmp_path: Path
) -> None:
    arguments = ("run", "--plugin", "msft_core.testing.tiny", "--dataset", "tiny", "--backbone")
    arguments += ("tiny", "--epochs", "1", "--batch-size", "8", "--without", "figures")
    flag = msft_cli(*arguments, "--trace", "--out", "a", env={"MSFT_TRACE": "0"})
    variable = msft_cli(*arguments, "--out", "b", env={"MSFT_TRACE": "1"})
    both = msft_cli(*arguments, "--trace", "--out", "c", env={"MSFT_TRACE": "1"})
    silent = msft_cli(*arguments, "--out", "d", env={"MSFT_TRACE": "false"})
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


def test_the_trace_says_what_was_raised(msft_cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "from msft_core import hookimpl\n@hookimpl\ndef on_run_start(): 1 / 0\n"
    )
    result = msft_cli(
        "run", "--plugin", "msft_core.testing.tiny", "--plugin", tmp_path / "bad.py",
        "--dataset", "tiny", "--backbone", "tiny", "--trace",
    )  # fmt: skip
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

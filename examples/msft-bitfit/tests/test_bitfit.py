from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import mint, nn
from msft_core import Backbone, Component, Preprocessing, Run, Stage, UsageError, hookimpl
from msft_core.stages import Head, Pool, prefix_names
from msft_core.testing import CommandLine, MsftRun, assert_strategy

from msft_bitfit import BitfitSettings, biases_and_norms, select_trainable


class Body(nn.Cell):
    """A convolution with a bias, one without, and a batch norm.

    Without the ReLU the norm would take the bias out again, and its gradient would be nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, 2, has_bias=True)
        self.relu = nn.ReLU()
        self.second = nn.Conv2d(4, 4, 3, 2)
        self.norm = nn.BatchNorm2d(4)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.norm(self.second(self.relu(self.first(x))))


def small(body: nn.Cell) -> Backbone:
    return Backbone(
        name="small",
        stages=(Stage("body", prefix_names(body, "body")), Stage("pool", Pool())),
        head=Head(4, 2, seed=0),
        preprocessing=Preprocessing(16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
    )


class Small:
    """The backbone ``small`` as a plugin."""

    @hookimpl
    def list_components(self) -> list[Component]:
        return [Component("backbone", "small", "two convolutions")]

    @hookimpl
    def build_backbone(self, name: str) -> Backbone | None:
        return small(Body()) if name == "small" else None


class Watch:
    """Keeps the network's values, as they are before and after training."""

    def __init__(self) -> None:
        self.before: dict[str, Any] = {}
        self.after: dict[str, Any] = {}

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        self.before = self._values(run)

    @hookimpl
    def on_epoch_end(self, run: Run) -> None:
        self.after = self._values(run)

    def _values(self, run: Run) -> dict[str, Any]:
        cells = [*(stage.cell for stage in run.backbone.stages), run.backbone.head]
        return {p.name: p.asnumpy().copy() for cell in cells for p in cell.get_parameters()}


class OwnNorm(nn.Cell):
    """A norm that is none of MindSpore's."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = ms.Parameter(ms.Tensor(np.ones(4, np.float32)))
        self.beta = ms.Parameter(ms.Tensor(np.zeros(4, np.float32)))


class Attention(nn.Cell):
    """Biases as a transformer may call them, a table of position biases, and a layer scale."""

    def __init__(self) -> None:
        super().__init__()
        self.q_bias = ms.Parameter(ms.Tensor(np.zeros(4, np.float32)))
        self.position_bias = ms.Parameter(ms.Tensor(np.zeros((9, 2), np.float32)))
        self.gamma = ms.Parameter(ms.Tensor(np.ones(4, np.float32)))


def test_it_honours_the_contract() -> None:
    assert_strategy("bitfit")
    assert_strategy("bitfit", plugins=[Small()], backbone="small")


def test_biases_norms_and_the_head_change_and_nothing_else(msft_run: MsftRun) -> None:
    watch = Watch()
    msft_run(plugins=[Small(), watch], backbone="small", strategy="bitfit")
    changed = {
        name for name, value in watch.before.items() if not np.array_equal(value, watch.after[name])
    }
    assert changed == {
        "body.first.bias",
        "body.norm.gamma",
        "body.norm.beta",
        # A batch norm that trains goes by the batch and moves its statistics.
        "body.norm.moving_mean",
        "body.norm.moving_variance",
        "classifier.weight",
        "classifier.bias",
    }


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (nn.BatchNorm1d, (4,)),
        (nn.BatchNorm2d, (4,)),
        (nn.BatchNorm3d, (4,)),
        (nn.InstanceNorm2d, (4,)),
        (nn.LayerNorm, ((4,),)),
        (nn.LayerNorm, ((4, 2, 2),)),
        (nn.GroupNorm, (2, 4)),
        (mint.nn.BatchNorm2d, (4,)),
        (mint.nn.LayerNorm, (4,)),
        (mint.nn.GroupNorm, (2, 4)),
        (OwnNorm, ()),
    ],
)
def test_a_norm_is_recognised_by_what_it_holds(kind: type, arguments: tuple[Any, ...]) -> None:
    names = [name.rsplit(".", 1)[-1] for name in biases_and_norms(kind(*arguments))]
    assert sorted(names) in (["beta", "gamma"], ["bias", "weight"])


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(lambda: nn.Dense(3, 4), ["bias"], id="dense"),
        pytest.param(lambda: nn.Dense(3, 4, has_bias=False), [], id="dense without a bias"),
        pytest.param(lambda: nn.Conv2d(3, 4, 3), [], id="convolution"),
        pytest.param(
            lambda: nn.Conv2d(3, 4, 3, has_bias=True), ["bias"], id="convolution with a bias"
        ),
        pytest.param(lambda: nn.PReLU(4), [], id="an activation's slope"),
        pytest.param(Attention, ["q_bias"], id="attention"),
    ],
)
def test_of_another_layer_the_bias_alone_is_taken(
    make: Callable[[], nn.Cell], expected: list[str]
) -> None:
    assert biases_and_norms(make()) == expected


def test_a_parameter_that_two_layers_share_is_named_once() -> None:
    first, second = nn.Dense(4, 4), nn.Dense(4, 4)
    second.bias = first.bias
    backbone = small(nn.SequentialCell([first, second]))
    answer = select_trainable("bitfit", backbone, BitfitSettings())
    assert answer is not None
    (group,) = answer.groups
    assert len(set(group.names)) == len(group.names) == 3


def test_the_name_a_backbone_gives_a_parameter_does_not_matter() -> None:
    dense = nn.Dense(3, 4)
    dense.bias.name = "shift"
    dense.weight.name = "not_a_bias"
    assert biases_and_norms(dense) == ["shift"]


def test_a_backbone_without_either_is_refused(msft_run: MsftRun) -> None:
    class Bare(Small):
        @hookimpl
        def build_backbone(self, name: str) -> Backbone | None:
            return small(nn.Conv2d(3, 4, 3, 2)) if name == "small" else None

    with pytest.raises(UsageError, match="small has neither biases nor norms"):
        msft_run(plugins=[Bare()], backbone="small", strategy="bitfit")


def test_settings_reach_the_optimizer(msft_run: MsftRun) -> None:
    strategy = {"name": "bitfit", "learning_rate": 0.25, "optimizer": "momentum"}
    report = msft_run(strategy=strategy, training={"epochs": 1})
    assert 0 < report.history[0].learning_rate <= 0.25


def test_the_command_line_trains_with_it(msft_cli: CommandLine) -> None:
    done = msft_cli(
        *("run", "--plugin", "msft_core.testing.tiny", "--dataset", "tiny", "--backbone", "tiny"),
        *("--strategy", "bitfit", "--epochs", "1"),
    )
    assert done.returncode == 0, done.stderr

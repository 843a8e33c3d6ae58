"""A hook's result that breaks the contract is its plugin's failure, whoever called the hook."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mindspore as ms
import pytest
from mindspore import nn

from msft_core import (
    Backbone,
    OptimizerSpec,
    ParameterGroup,
    PluginError,
    Preprocessing,
    Settings,
    Stage,
    Trainable,
    hookimpl,
)
from msft_core.plugins.loading import load_plugins
from msft_core.stages import prefix_names
from msft_core.testing import tiny

HEAD = ("head.weight", "head.bias")
SPEC = OptimizerSpec("momentum", learning_rate=0.05)


def trainable(*names: str) -> Trainable:
    return Trainable((ParameterGroup(names),), SPEC)


class Gives:
    """A plugin whose hooks give one result."""

    def __init__(self, result: Any) -> None:
        self.result = result

    @hookimpl
    def select_trainable(self) -> Any:
        return self.result

    @hookimpl
    def build_backbone(self) -> Any:
        return self.result


def backbone() -> Backbone:
    ms.set_seed(0)
    made = tiny.build_backbone("tiny", 2, tiny.TinyBackboneSettings())
    assert made is not None
    return made


SELECTIONS = {
    "nothing": (trainable(), "selects no parameters"),
    "unknown": (trainable("head.wait"), "no parameter 'head.wait'. Did you mean 'head.weight'"),
    "statistics": (trainable("first.1.moving_mean"), "is a moving statistic"),
    "twice": (
        Trainable((ParameterGroup(HEAD), ParameterGroup(HEAD[:1])), SPEC),
        "'head.weight' is in two groups",
    ),
    "a list": (["head.weight"], "returned list, not a Trainable"),
    "no rate": (
        Trainable((ParameterGroup(HEAD),), OptimizerSpec("momentum", float("nan"))),
        "optimizer.learning_rate = nan must be a number",
    ),
}


@pytest.mark.parametrize("case", SELECTIONS)
def test_a_selection_that_breaks_the_contract_is_refused(case: str) -> None:
    result, message = SELECTIONS[case]
    plugins = load_plugins(objects=[Gives(result)])
    with pytest.raises(PluginError, match="plugin 'Gives', hook select_trainable") as caught:
        plugins.ask(
            "select_trainable",
            "strategy",
            "freeze",
            backbone=backbone(),
            settings=Settings(),
            epoch=1,
        )
    assert message in str(caught.value)


def test_a_shared_parameter_is_refused() -> None:
    cell = prefix_names(nn.Dense(4, 4), "x")
    preprocessing = Preprocessing(8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    stages = (Stage("a", cell), Stage("b", cell))
    shared = Backbone("shared", stages, nn.Dense(4, 2), preprocessing)
    plugins = load_plugins(objects=[Gives(shared)])
    with pytest.raises(PluginError, match=r"build_backbone: parameter 'x.weight' of b is shared"):
        plugins.ask(
            "build_backbone",
            "backbone",
            "resnet50",
            num_classes=2,
            settings=Settings(),
            context=None,
        )


SOURCE_NAMES: dict[str, tuple[Any, str]] = {
    "a list": (["fc.weight"], "source_names is a list, not a mapping"),
    "unknown": ({"head.wait": "fc.weight"}, "has 'head.wait', but the network has no such"),
    "a number": ({"head.weight": 3}, "source_names['head.weight'] = 3 must be a name"),
    "one name twice": (
        {"head.weight": "fc", "head.bias": "fc"},
        "gives 'head.weight' and 'head.bias' the same name, 'fc'",
    ),
    "a name that another parameter keeps": (
        {"head.weight": "head.bias"},
        "gives 'head.weight' and 'head.bias' the same name, 'head.bias'",
    ),
}


@pytest.mark.parametrize("case", SOURCE_NAMES)
def test_source_names_that_are_wrong_are_refused(case: str) -> None:
    source_names, message = SOURCE_NAMES[case]
    plugins = load_plugins(objects=[Gives(replace(backbone(), source_names=source_names))])
    with pytest.raises(PluginError, match="plugin 'Gives', hook build_backbone") as caught:
        plugins.ask(
            "build_backbone",
            "backbone",
            "resnet50",
            num_classes=2,
            settings=Settings(),
            context=None,
        )
    assert message in str(caught.value)

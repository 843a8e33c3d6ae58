"""The backbone keeps the contract, loads weights and trains, and msft finds it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from msft_core import Backbone, Context, UsageError, WeightsError
from msft_core.testing import CommandLine, MsftRun, assert_backbone, assert_same_logits
from msft_core.weights import read_checkpoint

import msft_example
from msft_example import RENAMED, ExampleSettings


def build(num_classes: int, context: Context, weights: object = "none") -> Backbone:
    settings = ExampleSettings.model_validate({"weights": str(weights)})
    backbone = msft_example.build_backbone("example", num_classes, settings, context)
    assert backbone is not None
    return backbone


@pytest.fixture
def original(msft_context: Context) -> Backbone:
    """Stands for the network whose weights are published. It has five classes."""
    ms.set_seed(7)
    return build(5, replace(msft_context, seed=7))


@pytest.fixture
def published(original: Backbone, tmp_path: Path) -> Path:
    """Stands for the published file: the original's weights under the names of PyTorch."""
    saved = []
    for cell in [*(stage.cell for stage in original.stages), original.head]:
        for parameter in cell.get_parameters():
            name = parameter.name
            for theirs, ours in RENAMED.items():
                name = name.replace(ours, theirs)
            saved.append({"name": name, "data": parameter})
    path = tmp_path / "published.ckpt"
    ms.save_checkpoint(saved, str(path))
    return path


@pytest.mark.parametrize("settings", [{}, {"width": 3, "image_size": 17, "dropout": 0.5}])
def test_it_keeps_the_contract(settings: dict[str, Any]) -> None:
    assert_backbone("example", settings=settings)


def test_with_its_weights_it_computes_what_the_original_computes(
    original: Backbone, published: Path
) -> None:
    def compute(images: Any) -> dict[str, Any]:
        found = {p.name: p.asnumpy() for p in original.head.get_parameters()}
        tensor = ms.Tensor(images)
        for stage in original.stages:
            tensor = stage.cell.set_train(False)(tensor)
            found[stage.name] = tensor.asnumpy()
        return {**found, "logits": original.head.set_train(False)(tensor).asnumpy()}

    assert_same_logits("example", compute, settings={"weights": str(published)})


def test_the_weights_are_downloaded_once(
    published: Path, msft_context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(msft_example, "URL", published.as_uri())
    settings = ExampleSettings.model_validate({"weights": "pretrained"})
    (path,) = msft_example.fetch(settings, msft_context)
    assert path.is_relative_to(msft_context.cache_dir)
    published.unlink()
    assert msft_example.fetch(settings, msft_context) == [path]


def test_a_checkpoint_of_a_run_keeps_its_head_where_the_classes_are_the_same(
    msft_run: MsftRun, msft_context: Context
) -> None:
    report = msft_run(backbone="example", strategy="freeze", training={"epochs": 1})
    assert report.best is not None
    saved = read_checkpoint(report.best.path).arrays["classifier.weight"]
    for classes, kept in ((("blue", "red"), True), (("cats", "dogs"), False)):
        backbone = build(2, replace(msft_context, classes=classes), report.best.path)
        assert np.array_equal(backbone.head.classifier.weight.asnumpy(), saved) == kept


def test_weights_of_another_network_are_refused(tmp_path: Path, msft_context: Context) -> None:
    ms.save_checkpoint([{"name": "other", "data": ms.Tensor([1.0])}], str(tmp_path / "x.ckpt"))
    with pytest.raises(WeightsError, match="unknown to the network: other"):
        build(2, msft_context, tmp_path / "x.ckpt")


@pytest.mark.parametrize("strategy", ["finetune", "freeze"])
def test_a_run_trains_it(msft_run: MsftRun, published: Path, strategy: str) -> None:
    settings = {"name": "example", "image_size": 32, "weights": str(published)}
    report = msft_run(backbone=settings, strategy=strategy)
    assert report.status == "completed"
    assert len(report.history) == 2


def test_a_setting_out_of_bounds_is_refused(msft_run: MsftRun) -> None:
    with pytest.raises(UsageError, match=r"backbone\.width = 0"):
        msft_run(backbone={"name": "example", "width": 0})


def test_msft_lists_it_once_it_is_installed(msft_cli: CommandLine) -> None:
    result = msft_cli("plugins", "show", "example", "--json")
    assert result.returncode == 0, result.stderr
    shown = json.loads(result.stdout)
    assert (shown["status"], shown["warnings"]) == ("ok", [])
    (component,) = shown["components"]
    assert (component["kind"], component["name"]) == ("backbone", "example")

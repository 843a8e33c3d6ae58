"""The networks themselves, through msft. The real weights are not needed: a file stands in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import mindcv
import mindspore as ms
import msft_mindcv
import numpy as np
import pytest
from msft_mindcv.table import models

from msft_core import Backbone, Context, UsageError, WeightsError
from msft_core.stages import Chain, learned_names
from msft_core.testing import MsftRun, RecordingReporter, assert_backbone

CLASSES = 3


@pytest.fixture(scope="module")
def plain() -> Any:
    """mindcv's own network with weights that are not those of the seed of the tests."""
    ms.set_seed(7)
    return mindcv.create_model("resnet18", num_classes=CLASSES).set_train(False)


@pytest.fixture(scope="module")
def checkpoint(plain: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet18.ckpt"
    ms.save_checkpoint(plain, str(path))
    return path


def build(context: Context, name: str, **settings: Any) -> Backbone:
    values = msft_mindcv.MindcvSettings(**{"weights": "none", **settings})
    backbone = msft_mindcv.build_backbone(f"mindcv/{name}", CLASSES, values, context)
    assert backbone is not None
    return backbone


def cells_of(backbone: Backbone) -> list[Any]:
    return [*(stage.cell for stage in backbone.stages), backbone.head]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("resnet18", {"image_size": 64}),
        ("squeezenet1_1", {"image_size": 64}),
    ],
)
def test_the_backbone_keeps_the_contract(name: str, settings: dict[str, Any]) -> None:
    assert_backbone(f"mindcv/{name}", settings={"weights": "none", **settings})


@pytest.mark.parametrize(
    ("name", "size"),
    [("mobilenet_v3_small_075", 64), ("dpn92", 64), ("nasnet_a_4x1056", 64), ("pit_ti", 224)],
)
def test_stages_and_head_together_are_the_network_of_mindcv(
    name: str, size: int, msft_context: Context
) -> None:
    backbone = build(msft_context, name, image_size=size)
    network = Chain(cells_of(backbone))
    network.set_train(False)
    net = mindcv.create_model(name, num_classes=CLASSES).set_train(False)
    theirs = {p.name: p for p in net.get_parameters()}
    ours = {p.name: p for p in network.get_parameters()}
    assert ours.keys() == theirs.keys()
    for parameter in theirs.values():
        parameter.set_data(ours[parameter.name])
    images = ms.Tensor(np.random.default_rng(0).normal(size=(2, 3, size, size)).astype(np.float32))
    assert np.array_equal(network(images).asnumpy(), net(images).asnumpy())


def test_weights_that_mindcv_saved_give_the_same_logits(
    plain: Any, checkpoint: Path, msft_context: Context
) -> None:
    backbone = build(msft_context, "resnet18", weights=str(checkpoint))
    # The head is new; with mindcv's classifier in it the whole is mindcv's network.
    weight, bias = backbone.head.get_parameters()
    assert weight.name == "classifier.weight"
    assert not np.array_equal(weight.asnumpy(), plain.classifier.weight.asnumpy())
    weight.set_data(plain.classifier.weight)
    bias.set_data(plain.classifier.bias)
    network = Chain(cells_of(backbone))
    network.set_train(False)
    images = ms.Tensor(np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32))
    assert np.array_equal(network(images).asnumpy(), plain(images).asnumpy())


def test_imagenet_weights_come_from_the_url_in_the_table(
    checkpoint: Path, msft_context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models()["mindcv/resnet18"]
    stand_in = replace(model, url=checkpoint.as_uri())
    monkeypatch.setitem(models(), "mindcv/resnet18", stand_in)
    backbone = build(msft_context, "resnet18", weights="imagenet")
    saved = ms.load_checkpoint(str(checkpoint))
    stem = next(iter(backbone.stages[0].cell.get_parameters()))
    assert np.array_equal(stem.asnumpy(), saved[stem.name].asnumpy())
    assert backbone.weights == "imagenet"


def test_weights_that_mindcv_does_not_publish_are_refused(msft_context: Context) -> None:
    name = next(model.name for model in models().values() if not model.url)
    with pytest.raises(WeightsError) as refused:
        build(msft_context, name, weights="imagenet")
    assert str(refused.value).startswith(f"mindcv/{name}: mindcv publishes no weights")
    assert "--weights none" in str(refused.value)


def test_unknown_weights_are_refused(msft_context: Context) -> None:
    with pytest.raises(WeightsError, match="Did you mean 'imagenet'"):
        build(msft_context, "resnet18", weights="imagnet")


def test_weights_of_another_network_are_refused(checkpoint: Path, msft_context: Context) -> None:
    with pytest.raises(WeightsError, match="does not fit the network"):
        build(msft_context, "squeezenet1_1", weights=str(checkpoint))


def test_an_auxiliary_classifier_is_left_out(
    tmp_path: Path, msft_context: Context, msft_reporter: RecordingReporter
) -> None:
    net = mindcv.create_model("inception_v3", num_classes=5)
    ms.save_checkpoint(net, str(tmp_path / "inception.ckpt"))
    backbone = build(msft_context, "inception_v3", weights=str(tmp_path / "inception.ckpt"))
    names = {p.name for cell in cells_of(backbone) for p in cell.get_parameters()}
    assert names == {p.name for p in net.get_parameters() if not p.name.startswith("aux.")}
    assert any("left out: aux.fc.weight" in line for line in msft_reporter.infos)


def test_masks_and_indices_are_no_parameters(msft_context: Context) -> None:
    net = mindcv.create_model("swin_tiny", num_classes=CLASSES)
    constants = {p.name for p in net.get_parameters() if not p.requires_grad}
    assert constants
    backbone = build(msft_context, "swin_tiny")
    learned = {name for cell in cells_of(backbone) for name in learned_names(cell)}
    assert learned == {p.name for p in net.get_parameters()} - constants


def test_a_network_for_one_size_refuses_another(msft_context: Context) -> None:
    with pytest.raises(UsageError, match=r"image_size = 96: mindcv/pit_ti .* its own is 224"):
        build(msft_context, "pit_ti", image_size=96)


def test_only_the_stage_that_partial_names_and_what_follows_train(
    checkpoint: Path, msft_run: MsftRun
) -> None:
    report = msft_run(
        backbone={"name": "mindcv/resnet18", "weights": str(checkpoint), "image_size": 32},
        strategy={"name": "partial", "from": "layer4"},
        training={"epochs": 1},
    )
    before = ms.load_checkpoint(str(checkpoint))
    after = ms.load_checkpoint(str(report.folder / "last.ckpt"))
    stages = {
        name: np.array_equal(value.asnumpy(), after[name].asnumpy())
        for name, value in before.items()
        if not name.startswith("classifier.")
    }
    assert not any(same for name, same in stages.items() if name.startswith("layer4."))
    assert all(same for name, same in stages.items() if not name.startswith("layer4."))


def test_a_checkpoint_of_a_run_is_loaded_by_its_own_network_only(
    msft_run: MsftRun, msft_context: Context
) -> None:
    report = msft_run(
        backbone={"name": "mindcv/resnet18", "weights": "none", "image_size": 32},
        training={"epochs": 1},
    )
    path = report.folder / "last.ckpt"
    saved = ms.load_checkpoint(str(path))
    backbone = build(msft_context, "resnet18", weights=str(path))
    for stage in backbone.stages:
        for parameter in stage.cell.get_parameters():
            assert np.array_equal(parameter.asnumpy(), saved[parameter.name].asnumpy())
    with pytest.raises(WeightsError, match="use --backbone mindcv/resnet18"):
        build(msft_context, "squeezenet1_1", weights=str(path))

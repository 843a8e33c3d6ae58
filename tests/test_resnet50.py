"""ResNet-50 answers as PyTorch's, in the geometry of each of the four dialects."""

from __future__ import annotations

import os

os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from network_kit import names, run
from pth_writer import write_arrays
from pydantic import ValidationError
from reference.drawn import fingerprint, images, resnet50_tensors

import msft_plugins.resnet as plugin
from msft_core import Backbone, Context, DownloadError, WeightsError
from msft_core.testing import RecordingReporter
from msft_core.weights import Checkpoint, read_checkpoint
from msft_plugins.resnet import ResNetSettings
from msft_plugins.resnet.dialects import DIALECTS, recognise

REFERENCE = json.loads((Path(__file__).parent / "reference" / "resnet50.json").read_text("utf-8"))

# How each dialect calls what torchvision calls `bn1.weight` and so on. Written out here, apart
# from the plugin's own table, from the network definitions of the four sources.
NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
NAMES = {
    "mindcv": {"downsample": "down_sample", "fc": "classifier"},
    "zoo": {"downsample": "down_sample_layer", "fc": "end_point"},
    "tutorial": {"downsample": "down_sample", "bn1": "norm", "bn2": "norm2", "bn3": "norm3"},
}


def name_in(dialect: str, key: str) -> str:
    """What a dialect calls an array that torchvision calls ``key``."""
    if dialect == "torchvision":
        return key
    *parts, last = key.split(".")
    if parts[-1].startswith("bn") or parts[-2:] == ["downsample", "1"]:
        last = NORM[last]
    table = NAMES[dialect]
    parts = [table.get(part, part) for part in parts]
    if dialect == "tutorial" and len(parts) > 1 and parts[-1] == "norm":
        parts[-1] = "norm1"
    return ".".join([*parts, last])


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(3, tmp_path / "cache", RecordingReporter())


@pytest.fixture(scope="module")
def tensors() -> dict[str, Any]:
    return resnet50_tensors()


def write(kind: str, dialect: str, tensors: dict[str, Any], folder: Path) -> Path:
    """Write the tensors as a file of a dialect."""
    import mindspore

    arrays = {name_in(dialect, key): value for key, value in tensors.items()}
    path = folder / f"resnet50.{kind}"
    if kind == "ckpt":
        parameters = [{"name": n, "data": mindspore.Tensor(a)} for n, a in arrays.items()]
        mindspore.save_checkpoint(parameters, str(path))
    elif kind == "safetensors":
        safetensors.numpy.save_file(arrays, path)
    else:
        counts = {
            key.replace("running_mean", "num_batches_tracked"): np.array(1)
            for key in arrays
            if key.endswith("running_mean")
        }
        write_arrays(path, arrays | counts, legacy=kind == "legacy.pth")
    return path


def build(context: Context, num_classes: int = 2, **settings: Any) -> Backbone:
    backbone = plugin.build_backbone(
        name="resnet50",
        num_classes=num_classes,
        settings=ResNetSettings(**settings),
        context=context,
    )
    assert backbone is not None
    return backbone


def test_the_weights_are_those_that_the_reference_was_computed_for(
    tensors: dict[str, Any],
) -> None:
    assert fingerprint(tensors.values()) == pytest.approx(REFERENCE["weights"], rel=1e-6)


@pytest.mark.parametrize(
    ("dialect", "kind"),
    [
        ("zoo", "ckpt"),
        ("mindcv", "ckpt"),
        ("tutorial", "ckpt"),
        ("torchvision", "safetensors"),
        ("torchvision", "pth"),
        ("torchvision", "legacy.pth"),
    ],
)
def test_a_file_of_each_dialect_gives_pytorchs_logits_in_its_geometry(
    dialect: str, kind: str, tensors: dict[str, Any], context: Context, tmp_path: Path
) -> None:
    from msft_plugins.resnet import network

    path = write(kind, dialect, tensors, tmp_path)
    checkpoint = read_checkpoint(path)
    path.unlink()  # a hundred megabytes each
    found = network.dialect_of(checkpoint)
    assert found.name == dialect
    stages, head = network.build(10, found)
    network.load(checkpoint, stages, head, context.reporter, keep_head=True)
    for name, shape in REFERENCE["inputs"].items():
        logits = run(stages, head, images(*shape))
        expected = np.array(REFERENCE["logits"][dialect][name])
        assert 0.1 < np.abs(expected).mean() < 10
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)


def test_the_reference_tells_the_dialects_apart() -> None:
    for size in REFERENCE["inputs"]:
        logits = [np.array(REFERENCE["logits"][dialect][size]) for dialect in DIALECTS]
        for number, one in enumerate(logits):
            for other in logits[:number]:
                assert np.abs(one - other).max() > 1e-3


def test_stages_and_head_own_exactly_the_networks_parameters(context: Context) -> None:
    backbone = build(context, weights="none")
    assert backbone.dialect == "zoo"
    assert [stage.name for stage in backbone.stages] == [
        "stem",
        "layer1",
        "layer2",
        "layer3",
        "layer4",
        "pool",
    ]
    every = names([*(stage.cell for stage in backbone.stages), backbone.head])
    assert len(every) == len(set(every)) == 267
    mindcvs = {name_in("mindcv", key) for key in resnet50_names()}
    assert set(every) == mindcvs


def resnet50_names() -> list[str]:
    # Names are cheap to know, weights are not: drawn once a session by the fixture.
    blocks = {1: 3, 2: 4, 3: 6, 4: 3}
    norm = list(NORM)
    found = ["conv1.weight", *(f"bn1.{last}" for last in norm), "fc.weight", "fc.bias"]
    for layer, count in blocks.items():
        for block in range(count):
            root = f"layer{layer}.{block}"
            for number in (1, 2, 3):
                found.append(f"{root}.conv{number}.weight")
                found += [f"{root}.bn{number}.{last}" for last in norm]
        found.append(f"layer{layer}.0.downsample.0.weight")
        found += [f"layer{layer}.0.downsample.1.{last}" for last in norm]
    return found


@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_the_backbone_knows_the_name_of_each_parameter_in_its_dialect(
    dialect: str, context: Context
) -> None:
    backbone = build(context, weights="none", dialect=dialect)
    ours = names([*(stage.cell for stage in backbone.stages), backbone.head])
    theirs = [backbone.source_names.get(name, name) for name in ours]
    assert set(theirs) == {name_in(dialect, key) for key in resnet50_names()}
    assert len(theirs) == len(set(theirs))
    # And each name belongs to the right parameter.
    assert [DIALECTS[dialect].parameter_name(name) for name in theirs] == ours


@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_every_name_of_a_dialect_is_known_with_or_without_the_head(dialect: str) -> None:
    keys = [name_in(dialect, key) for key in resnet50_names()]
    for given in (keys, [key for key in keys if not re.match("fc|end_point|classifier", key)]):
        assert recognise(given, "f").name == dialect
    ours = [DIALECTS[dialect].parameter_name(key) for key in keys]
    assert ours == [name_in("mindcv", key) for key in resnet50_names()]


def test_the_head_of_a_checkpoint_is_left_out_by_the_files_own_name(
    tensors: dict[str, Any], context: Context, tmp_path: Path
) -> None:
    path = write("ckpt", "zoo", tensors, tmp_path)
    backbone = build(context, num_classes=4, weights=str(path))
    assert context.reporter.lines == [  # type: ignore[attr-defined]
        "Delete parameter from checkpoint: end_point.weight",
        "Delete parameter from checkpoint: end_point.bias",
    ]
    assert backbone.dialect == "zoo"
    assert backbone.weights == str(path)
    assert backbone.head.classifier.weight.shape == (4, 2048)
    loaded = {p.name: p.asnumpy() for s in backbone.stages for p in s.cell.get_parameters()}
    np.testing.assert_array_equal(loaded["conv1.weight"], tensors["conv1.weight"])
    np.testing.assert_array_equal(
        loaded["layer4.2.bn3.moving_variance"], tensors["layer4.2.bn3.running_var"]
    )


def test_a_dialect_that_contradicts_the_file_is_refused(
    tensors: dict[str, Any], context: Context, tmp_path: Path
) -> None:
    path = write("safetensors", "torchvision", tensors, tmp_path)
    with pytest.raises(WeightsError, match=r"torchvision.*not of dialect zoo"):
        build(context, weights=str(path), dialect="zoo")
    assert build(context, weights=str(path), dialect="torchvision").dialect == "torchvision"


@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_a_runs_own_checkpoint_keeps_its_geometry(
    dialect: str, context: Context, tmp_path: Path
) -> None:
    import mindspore

    backbone = build(context, weights="none", dialect=dialect)
    cells = [*(stage.cell for stage in backbone.stages), backbone.head]
    path = tmp_path / "best.ckpt"
    mindspore.save_checkpoint(
        [{"name": p.name, "data": p} for cell in cells for p in cell.get_parameters()],
        str(path),
        append_dict={"backbone": "resnet50", "dialect": dialect, "classes": '["a", "b"]'},
    )
    again = build(context, weights=str(path))
    path.unlink()
    assert again.dialect == dialect
    features = mindspore.nn.Identity()
    x = images(1, 33)
    np.testing.assert_array_equal(run(again.stages, features, x), run(backbone.stages, features, x))


@pytest.mark.parametrize(
    ("metadata", "keys"),
    [
        ({"backbone": "efficientnet_lite0", "dialect": ""}, ["stem.conv.weight"]),
        ({"backbone": "resnet50", "dialect": "unheard-of"}, ["conv1.weight"]),
        ({}, ["_conv_stem.weight", "_bn0.weight"]),
        ({}, ["conv1.weight", "layer1.0.conv1.weight", "layer4.1.conv2.weight"]),  # ResNet-18
        ({}, []),
    ],
)
def test_a_file_of_another_network_is_refused_in_one_line(
    metadata: dict[str, str], keys: list[str]
) -> None:
    from msft_plugins.resnet import network

    arrays = {key: np.zeros(1, np.float32) for key in keys}
    with pytest.raises(WeightsError) as caught:
        network.dialect_of(Checkpoint(arrays, metadata, Path("file.ckpt")))
    message = str(caught.value)
    assert message.startswith("file.ckpt: ")
    assert "\n" not in message


def test_a_deeper_resnet_is_refused_by_what_is_left_over(
    tensors: dict[str, Any], context: Context, tmp_path: Path
) -> None:
    deeper = tensors | {
        key.replace("layer3.5", "layer3.6"): value
        for key, value in tensors.items()
        if "layer3.5" in key
    }
    path = write("safetensors", "torchvision", deeper, tmp_path)
    with pytest.raises(WeightsError, match=r"unknown to the network: layer3\.6"):
        build(context, weights=str(path))


def test_weights_that_cannot_be_downloaded_name_the_ways_out(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    from msft_core import downloads

    def refuse(url: str, _context: Context, **options: Any) -> Path:
        raise DownloadError("; ".join(options["ways_out"]))

    monkeypatch.setattr(downloads, "fetch", refuse)
    with pytest.raises(DownloadError) as caught:
        build(context)
    for part in (
        "msft fetch resnet50",
        str(context.cache_dir / "downloads"),
        "--weights FILE",
        "--backbone efficientnet_lite0",
    ):
        assert part in str(caught.value)


def test_fetch_downloads_the_weights_with_their_published_hash(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    from msft_core import downloads

    asked = []

    def pretend(url: str, _context: Context, **options: Any) -> Path:
        asked.append((url.rpartition("/")[2], options["sha256"]))
        return Path("there")

    monkeypatch.setattr(downloads, "fetch", pretend)
    (component,) = plugin.list_components()
    assert component.fetch is not None
    for weights in ("imagenet", "cifar10", "mindcv", "tutorial"):
        assert component.fetch(ResNetSettings(weights=weights), context) == [Path("there")]
    assert component.fetch(ResNetSettings(weights="none"), context) == []
    assert [(name, sha256 and sha256[:8]) for name, sha256 in asked] == [
        (
            "resnet50_ascend_v1100_imagenet2012_official_cv_top1acc76.97_top5acc93.44.ckpt",
            "41c14798",
        ),
        ("resnet50.ckpt", "242da26b"),
        ("resnet50-e0733ab8.ckpt", None),
        ("resnet50_224_new.ckpt", None),
    ]


def test_settings_are_checked() -> None:
    with pytest.raises(ValidationError):
        ResNetSettings(dialect="caffe")
    with pytest.raises(ValidationError):
        ResNetSettings(image_size=8)


def test_another_name_is_left_to_other_plugins(context: Context) -> None:
    assert plugin.build_backbone("efficientnet_lite0", 2, ResNetSettings(), context) is None


def test_importing_and_listing_the_plugin_is_cheap() -> None:
    program = (
        "import sys, msft_plugins.resnet as p; list(p.list_components());"
        "sys.exit(any(name in sys.modules for name in ('mindspore', 'numpy')))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

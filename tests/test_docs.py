"""What the documentation says is run: every command, every Python block, every configuration."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import tomlkit
from image_kit import write_classes
from loopback import Server
from test_end_to_end import canidae_zip, zoo_checkpoint  # noqa: F401

from msft_core import config as configuration
from msft_core.plugins import Plugins

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUICK_SAMPLE = "--set dataset.train_per_class=6 --set dataset.val_per_class=3"


def blocks(kind: str) -> list[tuple[str, str]]:
    """Page and text of each block of a kind, once where two pages have the same."""
    found = {
        text: page.relative_to(ROOT).as_posix()
        for page in reversed(PAGES)
        for language, text in BLOCK.findall(page.read_text(encoding="utf-8"))
        if language == kind
    }
    return [(page, text) for text, page in found.items()]


COMMANDS = list(
    dict.fromkeys(line for _, text in blocks("sh") for line in text.splitlines() if line)
)
INSTALLS = [command for command in COMMANDS if command.startswith("pip install ")]
MSFT = [command for command in COMMANDS if command.startswith("msft ")]


def test_every_command_is_one_that_is_run() -> None:
    assert len(MSFT) >= 10
    assert set(COMMANDS) == {*INSTALLS, *MSFT}


def test_ci_runs_the_installing_commands_exactly_as_they_stand_here() -> None:
    ci = (ROOT / ".ci" / "run").read_text().splitlines()
    readme = [command for command in INSTALLS if command in PAGES[0].read_text("utf-8")]
    assert len(readme) == 2
    for command in readme:
        assert command in ci


def test_what_other_commands_install_the_tests_have_too() -> None:
    project = tomlkit.parse((ROOT / "pyproject.toml").read_text()).unwrap()["project"]
    for command in INSTALLS:
        for extra in re.findall(r"\[(\w+)\]", command):
            assert extra == "test" or f"msft[{extra}]" in project["optional-dependencies"]["test"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A working directory as the documentation supposes it."""
    write_classes(tmp_path / "photos/train", {"cats": 8, "dogs": 8})
    write_classes(tmp_path / "photos/val", {"cats": 3, "dogs": 3}, size=(40, 30))
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for page, text in blocks("python"):
        named = re.match(r'"""(\w+\.py)', text)
        if named:
            assert page == "docs/plugins.md"
            (tmp_path / named[1]).write_text(text)
    return tmp_path


def quick(command: str, server: Server) -> str:
    """The same command, made small: fewer pictures, one epoch, loopback for the network."""
    run = command.startswith("msft run")
    if "--dataset sample" in command:
        command += f" {QUICK_SAMPLE}"
    if "canidae" in command or "configs/" in command:
        command += f" --set dataset.url={server.url('c.zip')}"
        command += f" --set backbone.weights={server.url('resnet50.ckpt')}"
    if "configs/" in command:
        command += " --batch-size 8"
    if run and "efficientnet_lite0" not in command:
        command += " --set backbone.image_size=32"
    return command + (" --epochs 1" if run else "")


@pytest.mark.slow
@pytest.mark.parametrize("command", MSFT)
def test_a_documented_command_works(
    place: Path,
    server: Server,
    zoo_checkpoint: bytes,  # noqa: F811
    command: str,
) -> None:
    server.files = {"/c.zip": canidae_zip(), "/resnet50.ckpt": zoo_checkpoint}
    arguments = shlex.split(quick(command, server))[1:]
    result = subprocess.run(
        [sys.executable, "-m", "msft_core", *arguments],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    if command.startswith("msft run"):
        assert list(place.glob("runs/*/best.ckpt"))


@pytest.mark.slow
def test_the_readmes_python_works(place: Path) -> None:
    code = next(text for page, text in blocks("python") if page == "README.md")
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "build_dataset is answered by plugin 'MyPhotos'" in result.stdout


@pytest.mark.slow
def test_the_documented_plugins_work_together(place: Path) -> None:
    plugins = []
    for number, (page, text) in enumerate(blocks("python")):
        if page == "docs/plugins.md":
            plugins += ["--plugin", f"documented{number}.py"]
            (place / plugins[-1]).write_text(text)
    assert len(plugins) == 2 * 5
    result = subprocess.run(
        [sys.executable, "-m", "msft_core", "run", *plugins, "--dataset", "stripes",
         "--backbone", "small", "--strategy", "last_stage", "--epochs", "2", "--out", "out",
         "--set", "callback.best_checkpoint.metric=confidence"],
        cwd=place, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "the best confidence is" in result.stdout
    assert float((place / "out" / "accuracy.txt").read_text()) >= 0


@pytest.mark.parametrize("text", [text for _, text in blocks("toml")])
def test_a_documented_configuration_is_valid(text: str) -> None:
    parsed = tomlkit.parse(text).unwrap()
    if "project" in parsed:
        assert set(parsed["project"]["entry-points"]) == {"msft"}
    else:
        configuration.resolve(parsed, Plugins.load())


def test_every_setting_of_the_core_and_every_component_is_documented() -> None:
    page = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    for section, model in configuration.SECTIONS.items():
        for name in model.model_fields:
            assert f"`{section}.{name}`" in page, f"{section}.{name}"
    plugins = Plugins.load()
    for kind in ("dataset", "backbone", "strategy", "callback", "extractor"):
        for name, component in plugins.components(kind).items():  # type: ignore[arg-type]
            assert f"`{name}`" in page
            for field in (f.alias or n for n, f in component.settings.model_fields.items()):
                assert f"`{field}`" in page or field == "enabled", f"{name}: {field}"


def test_the_two_readmes_have_the_same_blocks_links_and_headings() -> None:
    english, chinese = (page.read_text(encoding="utf-8") for page in PAGES[:2])
    code = [block for block in BLOCK.findall(english) if block[0] != "text"]
    assert code == [block for block in BLOCK.findall(chinese) if block[0] != "text"]
    for pattern in (r"^#+ ", r"\]\([^)]*\)", r"^\| "):
        ours = re.findall(pattern, english, re.MULTILINE)
        theirs = re.findall(pattern, chinese, re.MULTILINE)
        if pattern == r"\]\([^)]*\)":
            switch = {"](README.md)", "](README.zh-CN.md)"}
            ours, theirs = (
                [link for link in links if link not in switch] for links in (ours, theirs)
            )
        assert len(ours) == len(theirs), pattern


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (page.parent / link).exists(), link

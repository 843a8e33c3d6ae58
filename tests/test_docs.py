"""What the documentation says is run: every command, every Python block, every configuration."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tomlkit
from docs_kit import (
    DEPLOYING,
    DOCS,
    NARRATED,
    PAGES,
    READMES,
    REFERENCE,
    ROOT,
    WALKED,
    Block,
    Reader,
    blocks_of,
    documented_files,
    lines_of,
)
from fork_kit import Forks
from image_kit import write_classes
from loopback import Server
from test_compare import write_run
from test_doctor import FAST, ISA
from test_doctor import MAIN as DOCTOR
from test_end_to_end import canidae_zip, zoo_checkpoint  # noqa: F401

import msft_core
from msft_core import config as configuration
from msft_core import hookspecs
from msft_core.plugins.loading import load_plugins
from msft_core.testing import CommandLine

QUICK_SAMPLE = "--set dataset.train_per_class=6 --set dataset.val_per_class=3"
BARE = "--set runtime.mode=pynative --without figures --without report"

OTHERS = [page for page in PAGES if page not in (*NARRATED, *WALKED, DEPLOYING)]
COMMANDS = list(dict.fromkeys(line for page in OTHERS for line in lines_of(page, "sh")))
WALKED_COMMANDS = [line for page in (*WALKED, DEPLOYING) for line in lines_of(page, "sh")]
INSTALLS = [one for one in (*COMMANDS, *WALKED_COMMANDS) if one.startswith("pip install ")]
MSFT = [command for command in COMMANDS if command.startswith("msft ")]
FIRST_RUN = next(command for command in MSFT if command.startswith("msft run"))
TOML = [block for page in PAGES for block in blocks_of(page) if block.language == "toml"]
FILES = documented_files()
TESTS = [name for name in FILES if name.startswith("test_")]
REFUSED = ["tomorrow.py"]


def test_every_block_is_of_a_language_that_is_looked_at() -> None:
    for page in PAGES:
        assert {block.language for block in blocks_of(page)} <= {"sh", "python", "toml", "text"}


def test_every_command_is_one_that_is_run() -> None:
    assert len(MSFT) >= 10
    assert set(COMMANDS) <= {*INSTALLS, *MSFT}


def test_ci_runs_the_installing_commands_exactly_as_they_stand_here() -> None:
    ci = (ROOT / ".ci" / "run").read_text().splitlines()
    readme = [command for command in INSTALLS if command in READMES[0].read_text("utf-8")]
    assert len(readme) == 2
    for command in readme:
        assert command in ci


def test_what_other_commands_install_the_tests_have_too() -> None:
    project = tomlkit.parse((ROOT / "pyproject.toml").read_text()).unwrap()["project"]
    for command in INSTALLS:
        for extra in re.findall(r"\[(\w+)\]", command):
            assert extra == "test" or f"msft[{extra}]" in project["optional-dependencies"]["test"]


# The readme, and how to run msft


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A working directory as the documentation supposes it."""
    write_classes(tmp_path / "photos/train", {"cats": 8, "dogs": 8})
    write_classes(tmp_path / "photos/val", {"cats": 3, "dogs": 3}, size=(40, 30))
    write_classes(tmp_path / "photos/test", {"cats": 2, "dogs": 2}, size=(36, 30))
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    return tmp_path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Path:
    """The run folder that commands of the documentation open."""
    folder = tmp_path_factory.mktemp("trained")
    write_classes(folder / "photos/train", {"cats": 8, "dogs": 8})
    write_classes(folder / "photos/val", {"cats": 3, "dogs": 3}, size=(40, 30))
    options = f"--epochs 1 --out run --set backbone.image_size=32 {BARE}"
    command = "-m msft_core run --data-dir photos --backbone efficientnet_lite0 --strategy freeze"
    done = forks.python(*command.split(), *options.split(), cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def quick(command: str, server: Server) -> str:
    """The same command, made small: fewer pictures, one epoch, loopback for the network.

    The first run of all is otherwise as it stands; the others compile nothing, and write neither
    pictures nor a report.
    """
    if "--resume" in command:  # it has the settings of its run
        return command
    run = command.startswith("msft run")
    options = []
    if "--dataset sample" in command:
        options.append(QUICK_SAMPLE)
    if "canidae" in command or "configs/" in command:
        options.append(f"--set dataset.url={server.url('c.zip')}")
        options.append(f"--set backbone.weights={server.url('resnet50.ckpt')}")
    if "configs/" in command:
        options.append("--batch-size 8")
    if run and "image_size" not in command:
        options.append("--set backbone.image_size=32")
    if run and command != FIRST_RUN:
        options.append(BARE)
    if run:
        options.append("--epochs 1")
    if command == "msft doctor":
        options.append("--without canidae --without resnet --plugin reached.py")
    return " ".join([command, *options])


REACHED = """
from msft_core import Component, hookimpl
@hookimpl
def list_components():
    return [Component("dataset", "reached", "", urls=("{}",))]
"""


@pytest.mark.slow
@pytest.mark.parametrize("command", MSFT)
def test_a_documented_command_works(
    place: Path,
    server: Server,
    zoo_checkpoint: bytes,  # noqa: F811
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    trained: Path,
    forks: Forks,
) -> None:
    if "runs/pets" in command and "--out runs/pets" not in command:
        shutil.copytree(trained, place / "runs" / "pets")
    server.files = {"/c.zip": canidae_zip(), "/resnet50.ckpt": zoo_checkpoint}
    program = ["-m", "msft_core"]
    if command.startswith("msft doctor"):  # what it measures depends on what else goes on here
        (place / "reached.py").write_text(REACHED.format(server.url("c.zip")))
        monkeypatch.delenv(ISA, raising=False)
        program = ["-c", DOCTOR, json.dumps(FAST)]
    if command.startswith("msft compare"):
        for word in shlex.split(command):
            if word.startswith("runs/"):
                write_run(place / word)
    result = forks.python(*program, *shlex.split(quick(command, server))[1:], cwd=place)
    assert result.returncode == 0, result.stdout + result.stderr
    if command.startswith("msft run"):
        assert list(place.glob("runs/**/best.ckpt"))
    if command == "msft doctor":
        assert server.asked


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    WALKED,
    ids=lambda page: page.stem,
)
def test_what_a_page_for_users_says_can_be_done_from_top_to_bottom(
    page: Path, place: Path, server: Server, trained: Path, forks: Forks
) -> None:
    shutil.copytree(trained, place / "runs" / "pets")
    Reader(place, place / "site", forks, shorten=lambda line: quick(line, server)).follow(page)


@pytest.mark.slow
def test_the_readmes_python_works(place: Path, trained: Path, forks: Forks) -> None:
    code = [b.text for page in READMES for b in blocks_of(page) if b.language == "python"]
    use, override = dict.fromkeys(code)
    shutil.copytree(trained, place / "runs" / "pets")
    assert re.fullmatch(r"(cats|dogs) 0\.\d+\n", python(forks, "-c", use, cwd=place))
    assert "plugin 'MyPhotos' overrides build_dataset" in python(forks, "-c", override, cwd=place)


@pytest.mark.parametrize("block", TOML, ids=lambda block: block.page)
def test_a_documented_configuration_is_valid(block: Block) -> None:
    parsed = tomlkit.parse(block.text).unwrap()
    if "project" in parsed:
        assert set(parsed["project"]["entry-points"]) == {"msft"}
        bound = f"msft>={msft_core.API_VERSION},<"
        assert parsed["project"]["dependencies"][0].startswith(bound)
    else:
        configuration.resolve(parsed, load_plugins())


def test_every_setting_of_the_core_and_every_component_is_documented() -> None:
    page = (DOCS / "running.md").read_text(encoding="utf-8")
    for section, model in configuration.SECTIONS.items():
        for name in model.model_fields:
            assert f"`{section}.{name}`" in page, f"{section}.{name}"
    plugins = load_plugins()
    for kind in ("dataset", "backbone", "strategy", "callback", "extractor"):
        for name, component in plugins.components(kind).items():  # type: ignore[arg-type]
            assert f"`{name}`" in page
            for field in (f.alias or n for n, f in component.settings.model_fields.items()):
                assert f"`{field}`" in page or field == "enabled", f"{name}: {field}"


# Writing plugins


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file that the pages about plugins show."""
    folder = tmp_path_factory.mktemp("documented")
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def python(forks: Forks, *arguments: str, cwd: Path) -> str:
    """Run Python, and give what it printed."""
    result = forks.python(*arguments, cwd=cwd)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", NARRATED, ids=lambda page: page.stem)
def test_what_a_page_about_plugins_says_can_be_done_from_top_to_bottom(
    page: Path, written: Path, tmp_path: Path, forks: Forks
) -> None:
    Reader(written, tmp_path / "site", forks).follow(page)


@pytest.mark.slow
def test_the_documented_tests_pass(written: Path, forks: Forks) -> None:
    assert len(TESTS) >= 7
    out = python(forks, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS, cwd=written)
    assert "skipped" not in out


@pytest.mark.slow
def test_the_documented_scripts_work(written: Path, forks: Forks) -> None:
    """Plugins are only imported by it."""
    scripts = [name for name in FILES if name not in TESTS]
    code = "import runpy, sys\nfor name in sys.argv[1:]: runpy.run_path(name, run_name='__main__')"
    out = python(forks, "-c", code, *scripts, cwd=written)
    assert re.search(r"^\w+\.\w+: \d+\.\d+ s$", out, re.MULTILINE)


def test_every_documented_plugin_is_short_and_loads_without_a_warning(written: Path) -> None:
    # In a process of its own, where a plugin that imports MindSpore is noticed.
    plugins = [name for name, text in FILES.items() if "\n@hookimpl\n" in text]
    plugins = [
        name for name in plugins if name not in REFUSED and "msft_core.run" not in FILES[name]
    ]
    assert len(plugins) >= 9
    given = [word for name in plugins for word in ("--plugin", name)]
    listed = json.loads(CommandLine(written)("plugins", "--json", *given).stdout)
    ours = {info["name"]: info for info in listed if info["origin"] == "--plugin"}
    assert set(ours) == set(plugins)
    for name, info in ours.items():
        assert (info["status"], info["warnings"]) == ("ok", []), name
        assert len(FILES[name].splitlines()) < 80, name


def refusals(page: Path) -> list[str]:
    """What the tables of what is refused say that the user reads."""
    found, inside = [], False
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        inside = line.startswith("|") and (inside or cells[-1] == "what the user reads")
        if inside and cells[-1].startswith("`"):
            found.append(cells[-1].strip("`"))
    return found


def test_what_the_pages_say_that_a_user_reads_is_what_the_core_says() -> None:
    core = "".join(path.read_text() for path in sorted((ROOT / "msft_core").rglob("*.py")))
    core = re.sub(r'"\s*\n\s*f?"', "", core)
    count = 0
    for page in NARRATED:
        for message in refusals(page):
            count += 1
            for part in filter(None, (part.strip() for part in message.split("..."))):
                assert part in core, f"{page.name}: {message}"
    assert count >= 25


# The reference, and the site


def test_the_reference_is_what_the_source_says() -> None:
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert REFERENCE.read_text(encoding="utf-8") == script.page(), (
        "run: python docs/make_reference.py"
    )


@pytest.mark.parametrize("hook", hookspecs.HOOK_NAMES)
def test_every_hook_has_a_section_in_the_reference_and_a_page(hook: str) -> None:
    _, _, section = REFERENCE.read_text(encoding="utf-8").partition(f"\n### `{hook}`\n")
    section = section.partition("\n### ")[0]
    for heading in ("Called", "Raises", "Since"):
        assert f"**{heading}:**" in section
    # A sentence of its own, between the signature and the headings.
    assert re.search(r"```\n\n[A-Z][^*]+\.\n\n", section)
    assert any(f"`{hook}" in page.read_text(encoding="utf-8") for page in NARRATED)


def test_every_public_name_and_module_has_its_place() -> None:
    reference = REFERENCE.read_text(encoding="utf-8")
    for name in dir(msft_core):
        assert f"\n### `{name}`\n" in reference, name
    compatibility = (DOCS / "plugins" / "compatibility.md").read_text(encoding="utf-8")
    modules = re.findall(r"^## `(msft_core[.\w]*)`$", reference, re.MULTILINE)
    assert len(modules) == 12
    for module in modules:
        assert f"`{module}`" in compatibility


def test_what_plugins_and_examples_import_of_the_core_is_in_the_reference() -> None:
    reference = REFERENCE.read_text(encoding="utf-8")
    found: dict[tuple[str, str], Path] = {}
    for path in (p for folder in ("plugins", "examples") for p in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("msft_core"):
                found.update({(str(node.module), alias.name): path for alias in node.names})
    assert len(found) >= 30
    for (module, name), path in found.items():
        _, _, section = reference.partition(f"\n## `{module}`\n")
        section = section.partition("\n## ")[0]
        assert f"\n### `{name}`\n" in section or name == "tiny", f"{path}: {module}.{name}"


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_asks_nothing_of_others(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    for page in DOCS.rglob("*.md"):
        where = page.relative_to(DOCS).with_suffix("")
        parts = where.parts[:-1] if where.name == "index" else where.parts
        html = tmp_path.joinpath(*parts, "index.html").read_text(encoding="utf-8")
        text = page.read_text(encoding="utf-8")
        assert html.count("<table>") == len(re.findall(r"^\|[-|]+\|$", text, re.MULTILINE))
        assert html.count('<div class="highlight"') == len(blocks_of(page))
        article = html.partition("<article")[2].partition("</article>")[0]
        prose = re.sub(r"<(pre|code)\b.*?</\1>", "", article, flags=re.DOTALL)
        # Markdown that was not understood, such as a list without an empty line before it.
        assert not re.search(r"\]\(|```|\*\*|^- |^\|", prose, re.MULTILINE), page
        # What a browser would load by itself.
        assert not re.findall(r'<(?:script|img)[^>]*src="(?:https?:)?//', html)
        assert not re.findall(r'<link[^>]*rel="stylesheet"[^>]*href="(?:https?:)?//', html)
    assert not (tmp_path / "make_reference.py").exists()


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r": ([\w/-]+\.md)$", text, re.MULTILINE)
    assert sorted(listed) == sorted(p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md"))


def test_the_two_readmes_have_the_same_blocks_links_and_headings() -> None:
    english, chinese = (page.read_text(encoding="utf-8") for page in READMES)
    code, theirs_too = (
        [(b.language, b.text) for b in blocks_of(page) if b.language != "text"] for page in READMES
    )
    assert code == theirs_too
    for pattern in (r"^#+ ", r"\]\([^)]*\)", r"^\| "):
        ours = re.findall(pattern, english, re.MULTILINE)
        theirs = re.findall(pattern, chinese, re.MULTILINE)
        if pattern == r"\]\([^)]*\)":
            switch = {"](README.md)", "](README.zh-CN.md)"}
            ours, theirs = (
                [link for link in links if link not in switch] for links in (ours, theirs)
            )
        assert len(ours) == len(theirs), pattern


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link, anchor in re.findall(r"\]\(([^)#]*)(#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        target = page.parent / link if link else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in headings]
            assert anchor[1:] in slugs, f"{link}{anchor}"

"""``msft plugins new``: what it writes works as it is, and what it refuses leaves nothing."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import tomlkit
from conftest import Msft
from fork_kit import Forks
from strangers import python_path

from msft_core import API_VERSION, UsageError
from msft_core.plugins import scaffold
from msft_core.plugins.loading import load_plugins
from msft_core.plugins.scaffold import KINDS

ROOT = Path(__file__).parent.parent
# A digit, both separators, and a word that the templates have in their own names.
NAME, MODULE = "example-2_x", "msft_example_2_x"


def run(
    *arguments: object, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def write(kind: str, out: Path) -> Path:
    return scaffold.write(NAME, kind, out, load_plugins()).folder


def installed(package: Path, site: Path) -> dict[str, str]:
    """The environment in which a package is installed, as pip would from its pyproject.toml."""
    project = tomlkit.parse((package / "pyproject.toml").read_text()).unwrap()["project"]
    information = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    (information / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
            for group, points in project["entry-points"].items()
        )
    )
    return {"PYTHONPATH": python_path(package, site)}


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_package_is_written(msft: Msft, tmp_path: Path, kind: str) -> None:
    result = msft("plugins", "new", f"msft-{NAME}", "--kind", kind, "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    package = tmp_path / "msft-example-2-x"
    expected = [
        ".github/workflows/test.yml",
        ".gitignore",
        "README.md",
        f"{MODULE}/__init__.py",
        f"{MODULE}/py.typed",
        "pyproject.toml",
        "tests/test_example_2_x.py",
    ]
    assert files(package) == expected
    lines = result.stdout.splitlines()
    assert lines == [
        f"{package}: a package with the {kind} {NAME}",
        *(f"    {file}" for file in expected),
        "Next:",
        f"    cd {package}",
        '    pip install -e ".[test]"',
        "    pytest",
        f"    msft plugins show {NAME}",
    ]
    for file in expected:
        text = (package / file).read_text()
        for name in re.findall(r"[\w-]*example[\w-]*", text, re.IGNORECASE):
            assert name in (NAME, "msft-example-2-x", MODULE, "Example2XSettings"), file


def test_what_was_written_is_told_as_json(msft: Msft, tmp_path: Path) -> None:
    result = msft("plugins", "new", "birds", "--kind", "dataset", "--out", tmp_path, "--json")
    written = json.loads(result.stdout)
    assert written["files"] == files(tmp_path / "msft-birds")
    assert {key: written[key] for key in ("name", "kind", "package", "module", "folder")} == {
        "name": "birds",
        "kind": "dataset",
        "package": "msft-birds",
        "module": "msft_birds",
        "folder": str(tmp_path / "msft-birds"),
    }
    assert written["next"][-1] == "msft plugins show birds"


def test_a_package_is_written_into_the_working_directory(tmp_path: Path, forks: Forks) -> None:
    result = forks.python(
        "-m", "msft_core", "plugins", "new", "birds", "--kind", "metric", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert "    cd msft-birds\n" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["msft-birds"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_package_asks_for_this_msft_and_its_contract(tmp_path: Path, kind: str) -> None:
    package = write(kind, tmp_path)
    project = tomlkit.parse((package / "pyproject.toml").read_text()).unwrap()["project"]
    major = int(API_VERSION.split(".")[0])
    assert project["name"] == "msft-example-2-x"
    assert project["dependencies"] == [f"msft>={API_VERSION},<{major + 1}"]
    assert f'\nmsft_api = "{API_VERSION}"\n' in (package / MODULE / "__init__.py").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_listed_once_it_is_installed_and_imports_nothing_heavy(
    tmp_path: Path, forks: Forks, kind: str
) -> None:
    package = write(kind, tmp_path)
    env = installed(package, tmp_path / "site")
    shown = forks.python(
        "-m", "msft_core", "plugins", "show", NAME, "--json", cwd=tmp_path, env=env
    )
    assert shown.returncode == 0, shown.stderr
    info = json.loads(shown.stdout)
    assert (info["status"], info["warnings"]) == ("ok", [])
    assert info["origin"] == "msft-example-2-x 0.1.0"
    (component,) = info["components"]
    assert (component["kind"], component["name"]) == (kind, NAME)
    own = [row for row in component["settings"] if not row["key"].endswith(".enabled")]
    assert all(row["help"] for row in own)
    assert own or kind == "metric"  # its hook gets no settings
    code = (
        f"import sys, {MODULE}; sys.exit(bool({{'mindspore', 'numpy', 'PIL'}} & set(sys.modules)))"
    )
    assert run("-c", code, cwd=tmp_path, env=env).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_its_own_tests_pass(tmp_path: Path, forks: Forks, kind: str) -> None:
    package = write(kind, tmp_path)
    env = installed(package, tmp_path / "site")
    result = forks.python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=package, env=env)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout
    assert "skipped" not in result.stdout
    left = [file for file in files(package) if "__pycache__" not in file]
    assert len(left) == 7, left


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_its_readme_says_works(tmp_path: Path, forks: Forks, kind: str) -> None:
    package = write(kind, tmp_path)
    env = installed(package, tmp_path / "site")
    text = (package / "README.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# msft-example-2-x",
        "## Install",
        "## Use",
        "## Test",
        "## License",
    ]
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    # What pip and pytest do is tried above and, with a network, by hand.
    ran = [command for command in commands if command.startswith("msft ")]
    assert len(ran) == 3
    others = {
        "pip install -e .",
        'pip install -e ".[test]"',
        'pip install "msft[sample]"',
        "pytest",
    }
    assert set(commands) - set(ran) <= others
    quick = "--set dataset.train_per_class=6 --set dataset.val_per_class=3 --epochs 1"
    # Nothing of msft's own that another test sees.
    quick += " --set backbone.image_size=32 --set runtime.mode=pynative --without figures"
    quick += " --without report"
    for command in ran:
        if command.startswith("msft run"):
            command += f" {quick}"
            # All of a network takes ten seconds to compile, its head one.
            command += "" if "--strategy" in command else " --strategy freeze"
        result = forks.python("-m", "msft_core", *shlex.split(command)[1:], cwd=tmp_path, env=env)
        assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_short_typed_and_tidy(tmp_path: Path, kind: str) -> None:
    package = write(kind, tmp_path)
    longest = 140 if kind == "backbone" else 80  # it loads weights
    assert len((package / MODULE / "__init__.py").read_text().splitlines()) < longest
    tidy = run(
        "-m", "ruff", "check", "--config", ROOT / "pyproject.toml",
        "--extend-ignore", "TID251",  # an exporter loads the graph that it has just written
        ".", cwd=package,
    )  # fmt: skip
    assert tidy.returncode == 0, tidy.stdout
    checked = run(
        "-m", "mypy", "--strict", "--ignore-missing-imports", "--python-version", "3.10",
        "--cache-dir", tmp_path / "mypy", MODULE, "tests", cwd=package,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout


REFUSED = {
    "capitals": ("Birds", "'Birds' is not a valid name for a plugin: use lower-case letters"),
    "a space": ("my birds", "'my birds' is not a valid name"),
    "a digit first": ("2birds", "'2birds' is not a valid name"),
    "a hyphen last": ("birds-", "'birds-' is not a valid name"),
    "a path": ("../birds", "'../birds' is not a valid name"),
    "nothing": ("msft-", "'' is not a valid name"),
    "another alphabet": ("vögel", "'vögel' is not a valid name"),
    "a keyword": ("class", "'class' is a keyword of Python"),
    "a keyword behind the prefix": ("msft-lambda", "'lambda' is a keyword of Python"),
    "an installed plugin's": ("figures", "a plugin 'figures' already exists (msft "),
    "an installed plugin's but for the hyphen": (
        "best-checkpoint",
        "a plugin 'best_checkpoint' already exists (msft ",
    ),
    "a component's": ("resnet50", "plugin 'resnet' (msft "),
    "msft's own": ("core", "a module msft_core already exists"),
}


def refused(result: subprocess.CompletedProcess[str]) -> str:
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    return line


@pytest.mark.parametrize("case", REFUSED)
def test_a_name_that_will_not_do_is_refused_and_nothing_written(
    msft: Msft, tmp_path: Path, case: str
) -> None:
    name, reason = REFUSED[case]
    out = tmp_path / "out"
    out.mkdir()
    result = msft("plugins", "new", "--kind", "backbone", "--out", out, "--", name)
    assert refused(result).startswith(f"error: {reason}")
    assert list(out.iterdir()) == []


def test_the_name_of_a_component_of_another_kind_is_free(msft: Msft, tmp_path: Path) -> None:
    result = msft("plugins", "new", "resnet50", "--kind", "metric", "--out", tmp_path)
    assert result.returncode == 0, result.stderr


def test_a_stranger_whose_name_is_taken_is_named(msft: Msft, tmp_path: Path) -> None:
    env = installed(write("metric", tmp_path), tmp_path / "site")
    result = msft("plugins", "new", "example-2-x", "--kind", "dataset", "--out", tmp_path, env=env)
    assert "a plugin 'example-2_x' already exists (msft-example-2-x 0.1.0)" in refused(result)


def test_an_unknown_kind_is_refused_with_a_suggestion(msft: Msft, tmp_path: Path) -> None:
    line = refused(msft("plugins", "new", "birds", "--kind", "datasets", "--out", tmp_path))
    assert line.endswith(
        "choose one of dataset, backbone, strategy, callback, metric, exporter. "
        "Did you mean 'dataset'?"
    )
    line = refused(msft("plugins", "new", "birds", "--kind", "extractor", "--out", tmp_path))
    assert line.endswith("there is no template; see the example in docs/plugins/extractors.md.")


@pytest.mark.parametrize("what", ["folder", "file", "dangling link"])
def test_what_is_there_already_is_not_touched(msft: Msft, tmp_path: Path, what: str) -> None:
    target = tmp_path / "msft-birds"
    if what == "folder":
        target.mkdir()
    elif what == "file":
        target.write_text("mine")
    else:
        target.symlink_to("nowhere")
    line = refused(msft("plugins", "new", "birds", "--kind", "dataset", "--out", tmp_path))
    assert line.startswith(f"error: {target} already exists")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["msft-birds", "work"]


def test_a_place_that_is_no_folder_is_refused(msft: Msft, tmp_path: Path) -> None:
    line = refused(msft("plugins", "new", "birds", "--kind", "dataset", "--out", tmp_path / "no"))
    assert line.startswith(f"error: no folder {tmp_path / 'no'}")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a folder that nobody may write")
def test_a_place_that_cannot_be_written_is_refused(msft: Msft) -> None:
    line = refused(msft("plugins", "new", "birds", "--kind", "dataset", "--out", "/proc/self"))
    assert line.startswith("error: /proc/self/msft-birds cannot be written: ")


def test_a_failure_in_the_middle_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def write_text(self: Path, text: str, encoding: str) -> None:
        written.append(self)
        if len(written) == 4:
            raise OSError(28, "No space left on device")
        self.write_bytes(text.encode(encoding))

    monkeypatch.setattr(Path, "write_text", write_text)
    with pytest.raises(UsageError, match="msft-birds cannot be written: No space left on device"):
        scaffold.write("birds", "dataset", tmp_path, load_plugins())
    assert list(tmp_path.iterdir()) == []
    assert len(written) == 4


def test_no_template_has_a_name_that_packaging_tools_leave_out() -> None:
    templates = Path(scaffold.__file__).parent / "templates"
    names = [path.name for path in templates.rglob("*")]
    assert not [name for name in names if name.startswith(".")]
    assert names.count("README.md") == len(KINDS)

"""Shell completion, as a shell asks for it: one process a press of Tab."""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent

import pytest

Complete = Callable[..., list[str]]
Install = Callable[[str, str], None]

DATASETS = ["canidae", "folder", "packed", "sample"]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages, beside those that are there already."""
    folder = tmp_path / "site"
    folder.mkdir()
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *([before] if before else [])]))
    return folder


@pytest.fixture
def install(site: Path) -> Install:
    """Install a package with one plugin."""

    def make(name: str, source: str) -> None:
        module = f"stranger_{name}"
        (site / f"{module}.py").write_text(dedent(source))
        information = site / f"{module}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n"
        )
        (information / "entry_points.txt").write_text(f"[msft]\n{name} = {module}\n")

    return make


def asked(line: str, shell: str = "bash") -> Mapping[str, str]:
    """The environment in which a shell asks for the rest of a line; it ends where the cursor is."""
    words = line.split()
    return {
        **os.environ,
        "_MSFT_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) if line.endswith(" ") else len(words) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }


@pytest.fixture
def complete(tmp_path: Path) -> Complete:
    """What msft offers a shell, a line each. It writes nothing else, and nothing on stderr."""
    folder = tmp_path / "work"
    folder.mkdir()

    def run(line: str, shell: str = "bash", code: str = "") -> list[str]:
        result = subprocess.run(
            [sys.executable, *(["-c", code] if code else ["-m", "msft_core"])],
            cwd=folder,
            env=asked(line, shell),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (result.returncode, result.stderr) == (0, "")
        return result.stdout.split("\n")[:-1] if result.stdout.strip() else []

    return run


OWL_KINDS = ("dataset", "backbone", "strategy", "extractor")
OWL = f"""
    from msft_core import Component, hookimpl

    @hookimpl
    def list_components():
        return [
            Component(kind, "owl_" + kind, "an owl") for kind in {OWL_KINDS}
        ]
"""


@pytest.mark.parametrize(
    ("kind", "built_in"),
    [
        ("dataset", DATASETS),
        ("backbone", ["efficientnet_lite0", "resnet50"]),
        ("strategy", ["finetune", "freeze", "gradual", "partial"]),
        ("extractor", ["openvino"]),
    ],
)
def test_components_are_completed_those_of_other_packages_too(
    complete: Complete, install: Install, kind: str, built_in: list[str]
) -> None:
    install("owls", OWL)
    assert sorted(complete(f"msft run --{kind} ")) == sorted([*built_in, f"owl_{kind}"])
    assert complete(f"msft run --epochs 3 --{kind} owl_") == [f"owl_{kind}"]
    assert complete(f"msft run --{kind} zebra") == []


def test_zsh_and_fish_show_what_a_component_is(complete: Complete) -> None:
    assert complete("msft run --strategy fin", "fish") == ["finetune\tevery parameter trains"]
    assert complete("msft run --strategy fin", "zsh") == [
        """_arguments '*: :(("finetune":"every parameter trains"))'"""
    ]
    assert "--extractor" in "\n".join(complete("msft run --ex", "zsh"))


def test_a_summary_may_have_any_characters(complete: Complete, install: Install) -> None:
    odd = r"[/red] an [bold]owl[/] in `ls` \"$HOME\" 'x'"
    install("owls", OWL.replace("an owl", rf"{odd}\n    two lines"))
    for shell in ("bash", "zsh", "fish"):
        (line,) = complete("msft run --dataset owl", shell)
        assert "owl_dataset" in line


def test_a_plugin_of_the_same_line_is_completed(complete: Complete, tmp_path: Path) -> None:
    (tmp_path / "work" / "owls.py").write_text(dedent(OWL))
    assert complete("msft run --plugin owls.py --dataset ") == [*DATASETS, "owl_dataset"]
    assert complete("msft run --without sample --dataset ") == ["canidae", "folder", "packed"]
    assert complete("msft plugins --plugin owls.py show owl_d") == ["owl_dataset"]


def test_a_wrong_plugin_of_the_same_line_does_no_harm(complete: Complete, tmp_path: Path) -> None:
    (tmp_path / "work" / "bad.py").write_text("1 / 0")
    for wrong in ("--plugin bad.py", "--plugin nowhere", "--without nobody", "--epochs many"):
        assert complete(f"msft run {wrong} --dataset ") == DATASETS


def test_plugins_are_completed_without_being_imported(
    complete: Complete, install: Install, tmp_path: Path
) -> None:
    touched = tmp_path / "touched"
    install("owls", f"open({str(touched)!r}, 'w')\n" + dedent(OWL))
    names = complete("msft run --without ")
    assert {"owls", "sample", "best_checkpoint"} < set(names)
    assert "efficientnet_lite0" not in names
    for command in ("fetch", "doctor", "plugins", "plugins show"):
        assert complete(f"msft {command} --without ow") == ["owls"]
    assert not touched.exists()


def test_plugins_to_show_are_completed_and_components_once_begun(
    complete: Complete, install: Install
) -> None:
    install("owls", OWL)
    names = complete("msft plugins show ")
    assert {"owls", "sample", "best_checkpoint"} < set(names)
    assert "owl_dataset" not in names
    assert complete("msft plugins show ow") == [
        "owls", "owl_dataset", "owl_backbone", "owl_strategy", "owl_extractor",
    ]  # fmt: skip
    assert complete("msft plugins show sam") == ["sample"]


def test_what_else_has_a_name_is_completed(complete: Complete) -> None:
    assert sorted(complete("msft fetch ")) == sorted([*DATASETS, "efficientnet_lite0", "resnet50"])
    assert complete("msft fetch canidae res") == ["resnet50"]
    assert complete("msft run --device ") == ["auto", "cpu", "gpu", "ascend"]
    assert complete("msft plugins new birds --kind ") == [
        "dataset", "backbone", "strategy", "callback", "metric", "exporter",
    ]  # fmt: skip
    assert complete("msft pl") == ["plugins"]
    assert "--batch-size" in complete("msft run --")
    assert complete("msft export runs --format ") == ["mindir", "onnx", "safetensors"]


def test_where_there_are_no_names_the_shell_completes_files(complete: Complete) -> None:
    for line in ("msft run --config ", "msft run --data-dir ", "msft check "):
        assert complete(line) == []
        assert complete(line, "zsh") == ["_files"]


BROKEN = {
    "raises": "1 / 0",
    "exits": "import sys; sys.exit('bye')",
    "prints": "import sys; print('hello'); print('hello', file=sys.stderr)",
    "warns": "import warnings; warnings.warn('hello', FutureWarning, stacklevel=1)",
    "writes below Python": "import os; os.write(1, b'hello'); os.write(2, b'hello')",
    "starts a program": "import os; os.system('echo hello; echo hello >&2')",
    "speaks at the end": "import atexit, os; atexit.register(os.write, 2, b'bye')",
    "misspells a hook": "from msft_core import hookimpl\n@hookimpl\ndef on_epoch_ends(): pass",
    "lists nonsense": "from msft_core import hookimpl\n@hookimpl\ndef list_components(): return 3",
    "claims a name": OWL.replace('"owl_" + kind', '"sample"'),
}


def test_broken_and_loud_plugins_do_no_harm(complete: Complete, install: Install) -> None:
    for number, source in enumerate(BROKEN.values()):
        install(f"broken{number}", source)
    install("owls", "print('hello')\n" + dedent(OWL))
    assert complete("msft run --dataset ") == [*DATASETS, "owl_dataset"]
    assert complete("msft run --dataset owl", "fish") == ["owl_dataset\tan owl"]
    assert "broken3" in complete("msft plugins show ")


AND_SAY_WHAT_WAS_IMPORTED = """
import atexit, pathlib, sys
from msft_core.cli import main

heavy = ("mindspore", "numpy", "matplotlib")
def say():
    imported = [name for name in heavy if sys.modules.get(name)]
    pathlib.Path("imported").write_text(str(imported))
atexit.register(say)
main()
"""


def test_neither_mindspore_nor_numpy_is_imported_even_if_a_plugin_does(
    complete: Complete, install: Install, tmp_path: Path
) -> None:
    install("heavy", "import numpy, mindspore\n" + dedent(OWL))
    install("owls", "try: import numpy\nexcept ImportError: pass\n" + dedent(OWL))
    imported = tmp_path / "work" / "imported"
    for line, names in (
        ("msft run --dataset ", [*DATASETS, "owl_dataset"]),
        ("msft plugins show owl", ["owls", *(f"owl_{kind}" for kind in OWL_KINDS)]),
        ("msft run --device c", ["cpu"]),
    ):
        assert complete(line, code=AND_SAY_WHAT_WAS_IMPORTED) == names
        assert imported.read_text() == "[]"


OF_A_RUN = """
import typer
from typing import Annotated
from msft_core.cli.completion import run_folders

app = typer.Typer()

@app.command()
def evaluate(run: Annotated[str, typer.Argument(autocompletion=run_folders)]): ...

app(prog_name="msft")
"""


def test_run_folders_are_completed_the_newest_first(complete: Complete, tmp_path: Path) -> None:
    work = tmp_path / "work"
    for name in ("runs/20250101-a", "runs/20250203-b", "runs/.20250204-c.staging-1", "best", "o/x"):
        (work / name).mkdir(parents=True)
        for file in ("config.toml", "classes.json"):
            (work / name / file).touch()
    (work / "runs" / "notes").mkdir()
    (work / "runs" / "config.toml").touch()
    runs = ["runs/20250203-b", "runs/20250101-a"]

    def offered(begun: str) -> list[str]:
        return complete(f"msft {begun}", code=OF_A_RUN)

    assert offered("") == ["best", *runs]
    assert offered("runs/") == runs
    assert offered("runs/202501") == ["runs/20250101-a"]
    assert offered("o/") == ["o/x"]
    assert offered(f"{work}/runs/20250203") == [f"{work}/runs/20250203-b"]
    assert offered("nowhere/") == []
    shutil.rmtree(work / "runs")
    assert offered("") == ["best"]


def test_bash_completes_with_the_script_that_msft_prints(tmp_path: Path) -> None:
    program = tmp_path / "msft"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m msft_core "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        # typer's own switch, with which the option takes the name of the shell
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    commands = """
        eval "$(msft --show-completion bash)"
        complete -p msft
        COMP_WORDS=(msft run --dataset sa) COMP_CWORD=3
        _msft_completion msft
        echo "${COMPREPLY[*]}"
    """
    result = subprocess.run(
        ["bash", "--norc", "-c", commands],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.stdout.splitlines() == ["complete -o default -F _msft_completion msft", "sample"]
    assert result.stderr == ""


def seconds_of(command: list[str], environment: Mapping[str, str]) -> float:
    """Of the processor, since other processes may delay this one."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = used()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return used() - before


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_takes_less_than_three_tenths_of_a_second(shell: str) -> None:
    libraries, completions = [], []
    for _ in range(5):
        libraries.append(
            seconds_of([sys.executable, "-c", "import typer, pydantic.main"], os.environ)
        )
        completions.append(
            seconds_of([sys.executable, "-m", "msft_core"], asked("msft run --dataset ", shell))
        )
    # As in test_plugins_command: the libraries alone take 0.1 s on a machine that is not busy.
    slowness = max(1.0, statistics.median(libraries) / 0.1)
    # The quickest: of a moment in which nothing else ran.
    assert min(completions) < 0.3 * slowness, (libraries, completions)

"""Every bad input ends as the table in docs/reliability.md says."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


bad_inputs = load(HERE / "bad_inputs.py")


@pytest.mark.slow
@pytest.mark.parametrize("kind", bad_inputs.KINDS)
def test_every_bad_input_ends_as_documented(kind: str) -> None:
    """In one process a kind: status, line, memory, time, and files outside run and cache."""
    done = subprocess.run(
        [sys.executable, HERE / "bad_inputs.py", "--quick", kind],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        timeout=900,
        check=False,
    )
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    wrong = [
        f"{one['name']}: {problem}\n{one['said'][-2000:]}"
        for one in outcomes
        for problem in one["problems"]
    ]
    assert not wrong, "\n".join(wrong)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    tried = {one["name"] for one in outcomes if not one["here"]}
    left_out = {one["name"]: one["here"] for one in outcomes if one["here"]}
    expected = {case.name for case in bad_inputs.CASES if case.kind == kind and not case.long}
    assert expected <= tried | left_out.keys()
    assert len(left_out) <= 3, left_out


def test_there_are_enough_bad_inputs_of_each_kind() -> None:
    assert len(bad_inputs.CASES) >= 150
    for kind in bad_inputs.KINDS:
        assert sum(case.kind == kind for case in bad_inputs.CASES) >= 20, kind


def test_the_table_of_bad_inputs_is_current() -> None:
    script = load(ROOT / "docs" / "make_bad_inputs.py")
    assert script.PAGE.read_text(encoding="utf-8") == script.page(), (
        "run: python docs/make_bad_inputs.py"
    )


def test_what_watches_a_case_sees_a_stray_file_memory_and_a_wrong_end(tmp_path: Path) -> None:
    """In a process of its own: what Python writes can be heard, but not unheard."""
    code = f"""
import json, os, sys
from pathlib import Path
sys.path[:0] = [{str(HERE)!r}, {str(HERE.parent)!r}]
import bad_inputs
from bad_kit import Case
trial = bad_inputs.Trial(Path({str(tmp_path)!r}))

def command(arguments):
    what, _, path = arguments[0].partition(" ")
    if what == "write":
        Path(path).write_text("stray")
    if what == "remove":
        Path(path).unlink()
    if what == "fill":
        bytearray(os.urandom(1)) * 10
        content = b"x" * 2_100_000_000
    return (1, "Traceback: no") if what == "fail" else (2, "error: as it should be")

bad_inputs.command = command
def tried(what, path=""):
    (Path.home() / "there").write_text("")
    case = Case("images", what, lambda place: [f"{{what}} {{path}}"], "refused", "as it should")
    return trial(case).problems
print(json.dumps([tried("well"), tried("write", "/tmp/msft-stray-{os.getpid()}"),
      tried("write", "here"), tried("remove", Path.home() / "there"), tried("fill"),
      tried("fail")]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    Path(f"/tmp/msft-stray-{os.getpid()}").unlink()
    well, outside, in_work, removed, filled, failed = json.loads(done.stdout)
    assert well == []
    assert ["msft-stray" in one for one in outside] == [True]
    assert ["here" in one for one in in_work] == [True]
    assert ["there" in one for one in removed] == [True]
    assert ["MB of memory" in one for one in filled] == [True]
    assert len(failed) == 4

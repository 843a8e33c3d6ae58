"""``msft doctor``: what it finds, what it advises, and that no check ends the others."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from loopback import Server
from strangers import python_path

from msft_core import API_VERSION, Context, doctor, downloads
from msft_core.doctor import Finding, machine, network, probe
from msft_core.plugins.loading import load_plugins
from msft_core.system import device as runtime
from msft_core.system import onednn
from msft_core.system.console import PlainReporter

ISA = "ONEDNN_MAX_CPU_ISA"
WORK = 1.85e9
FAST: dict[str, Any] = {
    "mindspore": "2.10.0",
    "device": "cpu",
    "said": f"msft sets {ISA}=AVX2: this MindSpore is slow with AVX-512.",
    "product": [0.012, 0.012, 0.013],
    "convolution": [0.027, 0.026, 0.9],
}
SLOW = {**FAST, "convolution": [2.5, 2.4, 2.6]}
UNCAPPED = {**SLOW, "said": ""}
MAIN = """
import functools, json, sys
from msft_core import doctor
probed = json.loads(sys.argv.pop(1))
doctor.checks = functools.partial(doctor.checks, run_probe=lambda **_: probed)
from msft_core.cli import main
main()
"""
"""``msft``, but what doctor would measure is the first argument."""
Usage = namedtuple("Usage", "total used free")
Examined = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def unset_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user has it: the tests' own processes have set it."""
    monkeypatch.delenv(ISA, raising=False)


@pytest.fixture
def examine(tmp_path: Path) -> Examined:
    """The command line in a process of its own, where measuring costs nothing."""

    def run(
        *arguments: object, probed: Mapping[str, Any] = FAST, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", MAIN, json.dumps(probed), "doctor", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[[str, str], Path]:
    def write(name: str, source: str) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(dedent(source))
        return path

    return write


def with_urls(*urls: str, kind: str = "dataset") -> str:
    return f"""
        from msft_core import Component, hookimpl
        @hookimpl
        def list_components():
            return [Component("{kind}", "far", "is downloaded", urls={urls!r})]
    """


def listed(result: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """What ``--json`` printed, by subject and name."""
    found = json.loads(result.stdout)["checks"]
    by_name = {f"{each['subject']}/{each['name']}": each for each in found}
    assert len(by_name) == len(found)
    return by_name


def find(subject: str, **arguments: Any) -> list[Finding]:
    """What is found of a subject, in this process, where measuring costs nothing."""
    arguments = {"run_probe": probed(FAST), **arguments}
    checks = [check for check in doctor.checks(**arguments) if check.subject == subject]
    assert checks
    return [finding for check in checks for finding in check.findings()]


def find_one(subject: str, name: str, **arguments: Any) -> Finding:
    (finding,) = (each for each in find(subject, **arguments) if each.name == name)
    return finding


def probed(found: Mapping[str, Any], unset: Mapping[str, Any] | None = None) -> probe.Prober:
    """Stands for the other process; what that finds is given.

    Args:
        found: with the environment as it is.
        unset: without the user's own choice of instructions.
    """

    def run_probe(*, without: str = "") -> Mapping[str, Any]:
        assert without in ("", ISA)
        if not without:
            return found
        assert unset is not None
        return unset

    return run_probe


# The command


def test_where_all_is_well_each_subject_has_a_section_and_the_status_is_0(
    examine: Examined,
) -> None:
    result = examine("--offline")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    sections = [line for line in lines[:-1] if not line.startswith(" ")]
    assert sections == ["versions", "device", "oneDNN", "plugins", "cache", "disk"]
    assert lines[-1].startswith("no problems, ")
    assert (
        f"    ok       msft: {importlib.metadata.version('msft')}, plugin API {API_VERSION}"
        in lines
    )


def test_the_listing_as_json(examine: Examined) -> None:
    result = examine("--offline", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["ok"] is True
    found = listed(result)
    for each in found.values():
        assert each.keys() - {"value"} == {"subject", "name", "status", "found", "advice"}
        assert "\n" not in each["found"] + each["advice"]
        assert each["status"] == "ok" or each["advice"]
    assert found["oneDNN/convolution"]["value"]["gflops"] == pytest.approx(68.5, rel=0.01)
    assert found["device/cpus"]["value"]["cpus"] == runtime.cpu_count()
    assert found["plugins/loaded"]["value"]["plugins"] >= 10
    assert found["disk/cache"]["value"]["free_bytes"] > 0
    assert not [name for name in found if name.startswith("network/")]


def test_a_problem_is_told_with_what_to_do_and_ends_with_status_1(examine: Examined) -> None:
    result = examine("--offline", probed=UNCAPPED)
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    (number,) = (i for i, line in enumerate(lines) if line.startswith("    problem"))
    assert "convolution" in lines[number]
    assert (
        lines[number + 1].strip() == f"set {ISA}=AVX2 in the environment and run msft doctor again"
    )
    assert lines[-1].startswith("1 problem, ")
    result = examine("--offline", "--json", probed=UNCAPPED)
    assert result.returncode == 1
    assert json.loads(result.stdout)["ok"] is False


def test_only_the_other_process_imports_mindspore(tmp_path: Path) -> None:
    checked = MAIN.replace("main()", "try: main()\nfinally: assert 'mindspore' not in sys.modules")
    arguments = [json.dumps(FAST), "doctor", "--offline"]
    for code, given in ((checked, arguments), (checked.replace("mindspore", "re"), arguments)):
        result = subprocess.run(
            [sys.executable, "-c", code, *given], capture_output=True, text=True, check=False
        )
        assert ("AssertionError" in result.stderr) is ("'re'" in code)


def test_its_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom msft_core.cli import app\n"
        "try: app(['doctor', '--help'], prog_name='msft')\nexcept SystemExit: pass\n"
        "print('loaded:', *({'mindspore', 'numpy', 'pooch', 'pluggy'} & {*sys.modules}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "--offline" in result.stdout
    assert result.stdout.splitlines()[-1] == "loaded:"


# Checks that fail


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


def test_a_check_that_fails_is_a_problem_and_the_others_go_on(examine: Examined) -> None:
    nonsense = {**FAST, "convolution": "soon"}
    result = examine("--offline", "--json", probed=nonsense)
    assert result.returncode == 1
    assert result.stderr == ""
    found = listed(result)
    failed = [name for name, each in found.items() if each["status"] == "problem"]
    assert failed == ["oneDNN/convolution"]
    assert "this check failed: TypeError: " in found["oneDNN/convolution"]["found"]
    assert {"device/memory", "disk/cache", "plugins/loaded"} <= found.keys()
    assert "statistics.median(" in examine("--offline", "--verbose", probed=nonsense).stderr


@pytest.mark.parametrize(
    ("subject", "owner", "name"),
    [
        ("versions", importlib.metadata, "version"),
        ("device", os, "cpu_count"),
        ("oneDNN", None, ""),
        ("plugins", importlib.metadata, "entry_points"),
        ("cache", tempfile, "TemporaryFile"),
        ("disk", shutil, "disk_usage"),
        ("network", threading, "Thread"),
    ],
)
def test_whatever_a_check_runs_into_is_a_finding(
    subject: str, owner: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail = raising(RuntimeError("out of\norder"))
    if owner is None:
        found = find(subject, run_probe=fail)
    else:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            found = find(subject)
    problems = [each for each in found if each.status == "problem"]
    assert problems
    for each in problems:
        assert each.found == "this check failed: RuntimeError: out of"


def test_ctrl_c_is_not_a_finding() -> None:
    with pytest.raises(KeyboardInterrupt):
        find("oneDNN", run_probe=raising(KeyboardInterrupt()))


# Versions


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    real = importlib.metadata.version

    def fake(name: str, version: str | None) -> None:
        def look_up(asked: str) -> str:
            if asked != name:
                return real(asked)
            if version is None:
                raise importlib.metadata.PackageNotFoundError(asked)
            return version

        monkeypatch.setattr(importlib.metadata, "version", look_up)

    return fake


@pytest.mark.parametrize(
    ("version", "right"),
    [
        ("2.10", True),
        ("2.10.0", True),
        ("2.10.3", True),
        ("2.10.0rc1", True),
        ("2.9.9", False),
        ("2.11.0", False),
        ("2.11.0rc1", False),
        ("3.0", False),
        (None, False),
    ],
)
def test_mindspore_must_be_within_the_bounds(
    version: str | None,
    right: bool,
    installed: Callable[..., None],
) -> None:
    installed("mindspore", version)
    finding = find_one("versions", "mindspore")
    assert finding.status == ("ok" if right else "problem")
    if not right:
        assert (version or "not installed") in finding.found
        assert finding.advice == 'pip install "mindspore>=2.10,<2.11"'


def test_a_mindspore_that_is_not_installed_is_only_told_so(installed: Callable[..., None]) -> None:
    installed("mindspore", None)
    measured = probed({"import_error": "ModuleNotFoundError: No module named 'mindspore'"})
    assert find_one("versions", "mindspore", run_probe=measured).found == "not installed"


@pytest.mark.parametrize(
    ("version", "bounds", "right"),
    [
        ("1.0", "==1", True),
        ("1", ">=1.0.0", True),
        ("1.2", "<=1.2.0", True),
        ("1.10", ">1.9", True),
        ("1.2", "!=1.2.0", False),
        ("1.2.1", "<=1.2", False),
        ("1.9", ">1.9", False),
    ],
)
def test_versions_are_compared_by_their_numbers(
    version: str,
    bounds: str,
    right: bool,
    installed: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed("pluggy", version)
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: [f"pluggy{bounds}"])
    assert find_one("versions", "pluggy").status == ("ok" if right else "problem")


def test_numpy_2_is_a_problem_and_it_is_said_why(installed: Callable[..., None]) -> None:
    installed("numpy", "2.1.0")
    assert find_one("versions", "numpy") == Finding(
        "numpy",
        "problem",
        "2.1.0, msft needs >=1.26,<2 (MindSpore 2.10 prints tracebacks with NumPy 2)",
        'pip install "numpy>=1.26,<2"',
    )


def test_every_package_that_msft_needs_is_looked_at() -> None:
    names = {finding.name for finding in find("versions")}
    assert {"pillow", "pydantic", "pluggy", "matplotlib", "typer", "rich", "pooch"} <= names
    assert "pytest" not in names


def test_the_bounds_are_those_of_msfts_own_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["mindspore>=2.10", "pluggy<0.5", "pillow!=1.0 ; extra == 'test'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: lines)
    found = {finding.name: finding for finding in find("versions")}
    assert found.keys() == {"python", "msft", "mindspore", "pluggy"}
    assert found["pluggy"].status == "problem"
    assert found["pluggy"].advice == 'pip install "pluggy<0.5"'


def test_openvino_is_optional(installed: Callable[..., None]) -> None:
    installed("openvino", None)
    finding = find_one("versions", "openvino")
    assert finding.status == "ok"
    assert "optional" in finding.found
    installed("openvino", "2020.1")
    finding = find_one("versions", "openvino")
    assert finding.status == "note"
    assert finding.advice == 'pip install "msft[openvino]"'


def test_another_python_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_one("versions", "python").status == "ok"
    monkeypatch.setattr("platform.python_version", lambda: "3.13.0")
    finding = find_one("versions", "python")
    assert finding.status == "problem"
    assert finding.found == "3.13.0 (supported: >=3.10,<3.13)"


def test_a_mindspore_that_does_not_import_is_a_problem_of_versions() -> None:
    measured = probed({"import_error": "ImportError: libgomp.so.1: cannot open shared object file"})
    finding = find_one("versions", "mindspore", run_probe=measured)
    assert finding.status == "problem"
    assert "libgomp.so.1" in finding.found
    assert finding.advice == 'pip install "mindspore>=2.10,<2.11" --force-reinstall'
    for subject, name in (("device", "auto"), ("oneDNN", "convolution")):
        following = find_one(subject, name, run_probe=measured)
        assert (following.status, following.advice) == ("problem", "see versions")


# The device


def test_the_device_of_a_run_is_told() -> None:
    measured = probed({**FAST, "device": "ascend"})
    assert find_one("device", "auto", run_probe=measured) == Finding(
        "auto", "ok", "a run here computes on ascend"
    )
    assert find_one("oneDNN", "convolution", run_probe=measured).status == "ok"


def test_a_device_that_mindspore_cannot_use_is_a_problem() -> None:
    measured = probed(
        {"mindspore": "2.10.0", "device_error": "--device ascend: MindSpore cannot use it here"}
    )
    finding = find_one("device", "auto", run_probe=measured)
    assert finding.status == "problem"
    assert finding.advice == "run with --device cpu"
    assert find_one("versions", "mindspore", run_probe=measured).status == "ok"
    assert find_one("oneDNN", "convolution", run_probe=measured).advice == "see device"


def test_a_container_with_fewer_cpus_than_the_machine_is_a_note() -> None:
    for quota, status in ((None, "ok"), (8.0, "ok"), (2.5, "note"), (0.5, "note")):
        (finding,) = machine.check_cpus(8, quota)
        assert (finding.status, finding.value) == (status, {"cpus": 8, "quota": quota})
        if status == "note":
            assert finding.advice == f"run with --set data.workers={max(1, int(quota or 0))}"


@pytest.mark.parametrize(
    ("files", "cpus", "memory"),
    [
        ({}, None, None),
        ({"cpu.max": "max 100000\n", "memory.max": "max\n"}, None, None),
        ({"cpu.max": "150000 100000\n", "memory.max": "4000000000\n"}, 1.5, 4_000_000_000),
        (
            {
                "cpu/cpu.cfs_quota_us": "50000\n",
                "cpu/cpu.cfs_period_us": "100000\n",
                "memory/memory.limit_in_bytes": "1000\n",
            },
            0.5,
            1000,
        ),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n"}, None, None),
    ],
)
def test_a_containers_limits_are_read(
    files: dict[str, str], cpus: float | None, memory: int | None, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine.cpu_quota(tmp_path) == cpus
    assert machine.memory_limit(tmp_path) == memory


def test_a_containers_memory_counts() -> None:
    (finding,) = machine.check_memory(3_000_000)
    assert finding.value == {"bytes": 3_000_000, "free_bytes": 3_000_000}
    assert finding.status == "note"
    assert "--batch-size" in finding.advice


# oneDNN


def test_a_fast_convolution_is_right() -> None:
    finding = find_one("oneDNN", "convolution")
    assert finding.status == "ok"
    # Of the median call.
    assert finding.value["gflops"] == pytest.approx(WORK / 0.027 / 1e9, rel=0.01)
    assert finding.value["fraction"] == pytest.approx(0.012 / 0.027, rel=0.01)
    assert "68.5 GFLOP/s" in finding.found
    assert f"msft sets {ISA}=AVX2" in finding.found


def test_a_slow_convolution_is_a_problem_although_the_guard_is_set() -> None:
    measured = probed(SLOW)
    finding = find_one("oneDNN", "convolution", run_probe=measured)
    assert finding.status == "problem"
    assert "0.74 GFLOP/s" in finding.found
    assert "0.5%" in finding.found
    assert finding.value["slow_below"] > finding.value["fraction"]
    assert "another MindSpore >=2.10,<2.11 than 2.10.0" in finding.advice


def test_a_users_own_slow_value_is_to_be_unset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(ISA, "AVX512_CORE")
    measured = probed(UNCAPPED, unset=FAST)
    finding = find_one("oneDNN", "convolution", run_probe=measured)
    assert finding.status == "problem"
    assert f"{ISA}=AVX512_CORE, set by you" in finding.found
    assert finding.advice == f"unset {ISA}: without it a convolution reaches 68.5 GFLOP/s"


def test_a_users_own_value_that_is_half_as_fast_is_a_note(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(ISA, "SSE41")
    measured = probed({**FAST, "said": "", "convolution": [0.06]}, unset=FAST)
    finding = find_one("oneDNN", "convolution", run_probe=measured)
    assert finding.status == "note"
    assert finding.advice.startswith(f"unset {ISA}")


def test_a_users_own_value_that_costs_nothing_is_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(ISA, "AVX2")
    measured = probed({**FAST, "said": "", "convolution": [0.03]}, unset=FAST)
    assert find_one("oneDNN", "convolution", run_probe=measured).status == "ok"
    measured = probed({**SLOW, "said": ""}, unset=SLOW)
    finding = find_one("oneDNN", "convolution", run_probe=measured)
    assert (finding.status, "another MindSpore" in finding.advice) == ("problem", True)


def test_a_convolution_that_does_not_end_is_a_problem() -> None:
    told = {key: FAST[key] for key in ("mindspore", "device", "said", "product")}
    child = (
        f"import time; print({json.dumps(told)!r}, flush=True); print('{{', end='', flush=True); "
    )
    endless = partial(probe.run_probe, code=child + "time.sleep(60)", seconds=1.0)
    started = time.monotonic()
    found = find("versions", run_probe=endless)
    assert time.monotonic() - started < 10
    assert [finding.status for finding in found if finding.name == "mindspore"] == ["ok"]
    finding = find_one("oneDNN", "convolution", run_probe=endless)
    assert finding.status == "problem"
    assert "did not come to an end within 1 s" in finding.found


def test_the_measuring_process_has_this_ones_environment_and_modules(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "only_here.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(ISA, "SSE41")
    print_it = (
        f"import json, os; print('noise'); print(json.dumps({{'isa': os.environ.get({ISA!r})}}))"
    )
    code = probe.CHILD.split("from")[0] + f"import only_here; {print_it}"
    assert probe.run_probe(code=code) == {"isa": "SSE41"}
    assert probe.run_probe(code=code, without=ISA) == {"isa": None}


def test_a_mindspore_that_kills_its_process_is_a_problem() -> None:
    child = "import os, sys; print('Illegal', file=sys.stderr, flush=True); os.abort()"
    killed = partial(probe.run_probe, code=child)
    finding = find_one("versions", "mindspore", run_probe=killed)
    assert finding.status == "problem"
    assert "the process ended with status -6: Illegal" in finding.found


def test_a_mindspore_that_crashes_at_its_end_is_a_problem() -> None:
    measured = probed({**FAST, "failed": "the process ended with status -11"})
    finding = find_one("oneDNN", "convolution", run_probe=measured)
    assert finding.status == "problem"
    assert "68.5 GFLOP/s" in finding.found
    assert "status -11" in finding.found
    assert "another MindSpore" in finding.advice


def test_a_slow_computation_is_called_only_a_few_times() -> None:
    clock = [0.0]

    def calls(seconds: Iterator[float]) -> list[list[float]]:
        def compute() -> None:
            clock[0] += next(seconds)

        return list(probe.call_times(compute, lambda: clock[0]))

    assert calls(iter([9.0] + [1.0] * 20))[-1] == [1.0]
    assert calls(iter([20.0])) == [[20.0]]
    assert calls(iter([0.5] + [0.25] * 20))[-1] == [0.25] * 7


@pytest.mark.slow
def test_the_convolution_is_measured_as_a_run_would_compute_it() -> None:
    found = probe.run_probe()
    assert found["device"] == "cpu"
    assert found["mindspore"] == importlib.metadata.version("mindspore")
    assert "failed" not in found
    guarded = onednn.mindspore_is_slow_with_avx512() and onednn.cpu_has_avx512()
    assert (f"msft sets {ISA}=AVX2" in found["said"]) is guarded
    assert len(found["convolution"]) == len(found["product"]) == 7


@pytest.mark.slow
@pytest.mark.skipif(
    not (onednn.mindspore_is_slow_with_avx512() and onednn.cpu_has_avx512()),
    reason="this MindSpore is fast on this CPU whatever is set",
)
def test_a_users_own_avx512_is_measured_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ISA, "AVX512_CORE")
    finding = find_one("oneDNN", "convolution", run_probe=probe.run_probe)
    assert finding.status == "problem"
    assert finding.advice.startswith(f"unset {ISA}")
    assert finding.value["gflops_without_own"] > 10 * finding.value["gflops"]


# Plugins


def test_a_broken_plugin_that_was_given_is_told_and_the_others_are_listed(
    examine: Examined, plugin: Callable[[str, str], Path]
) -> None:
    raises = plugin("raises", "raise RuntimeError('never')")
    exits = plugin("exits", "import sys; sys.exit(3)")
    good = plugin("good", with_urls())
    result = examine("--offline", "--json", "--plugin", raises, "--plugin", good, "--plugin", exits)
    assert result.returncode == 1
    found = listed(result)
    problems = {name: each for name, each in found.items() if each["status"] == "problem"}
    assert problems.keys() == {f"plugins/{raises}", f"plugins/{exits}"}
    assert "RuntimeError: never" in problems[f"plugins/{raises}"]["found"]
    assert "SystemExit: 3" in problems[f"plugins/{exits}"]["found"]
    installed = importlib.metadata.entry_points(group="msft")
    assert found["plugins/loaded"]["value"]["plugins"] == len(installed) + 1
    assert "blocked" not in found["plugins/loaded"]["found"]


def hook(name: str) -> str:
    return f"from msft_core import hookimpl\n@hookimpl\ndef {name}(run):\n    pass\n"


def install(folder: Path, name: str, source: str, distribution: str) -> None:
    (folder / f"{distribution}.py").write_text(dedent(source))
    info = folder / f"{distribution}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[msft]\n{name} = {distribution}\n")


def test_installed_plugins_with_problems_are_told_with_their_package(
    examine: Examined, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    install(site, "misspelt", hook("on_epoch_ende"), "one")
    install(site, "taking", with_urls().replace('"far"', '"sample"'), "two")
    install(site, "folder", "", "three")
    install(site, "heavy", "import numpy\n" + hook("on_run_start"), "four")
    result = examine("--offline", "--json", env={"PYTHONPATH": python_path(site)})
    assert result.returncode == 1
    assert result.stderr == ""
    found = listed(result)
    status = {
        name.partition("/")[2]: each for name, each in found.items() if name.startswith("plugins/")
    }
    assert status.keys() == {
        "loaded", "misspelt", "taking", "folder (three)", "heavy", "dataset sample",
    }  # fmt: skip
    assert "Did you mean 'on_epoch_end'?" in status["misspelt"]["found"]
    assert "(one 1.0)" in status["misspelt"]["found"]
    assert (
        status["misspelt"]["advice"] == "tell the authors of one, or block it: --without misspelt"
    )
    said = status["dataset sample"]["found"]
    assert "two plugins offer the dataset 'sample', 'sample' and 'taking'" in said
    assert status["dataset sample"]["advice"] == "block one with --without NAME."
    assert status["folder (three)"]["advice"].endswith("pip uninstall three")
    assert status["heavy"]["status"] == "note"
    assert "imports numpy" in status["heavy"]["found"]


def test_a_name_that_no_plugin_has_is_a_problem_and_the_others_go_on(examine: Examined) -> None:
    result = examine("--json", env={"MSFT_WITHOUT": "fodler"})
    assert result.returncode == 1
    found = listed(result)
    assert "Did you mean 'folder'?" in found["plugins/--without"]["found"]
    assert found["network/urls"]["status"] == "note"


def test_a_plugin_left_out_is_listed_and_its_urls_are_not_asked_for(examine: Examined) -> None:
    result = examine("--json", "--without", "canidae", "--without", "resnet")
    assert result.returncode == 0
    found = listed(result)
    assert found["plugins/loaded"]["found"].endswith("blocked: canidae, resnet")
    assert found["network/urls"]["found"] == "no plugin lists a URL"


def test_what_a_plugin_prints_is_not_part_of_the_json(
    examine: Examined, plugin: Callable[[str, str], Path]
) -> None:
    path = plugin("chatty", "print('hello')\n" + dedent(with_urls()))
    result = examine("--offline", "--json", "--plugin", path)
    assert json.loads(result.stdout)["ok"]
    assert result.stderr == "hello\n"


# Cache and disk


def test_a_cache_that_cannot_be_written_is_a_problem(examine: Examined, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    folder = tmp_path / "file" / "cache"
    result = examine("--offline", "--json", env={"MSFT_CACHE": str(folder)})
    assert result.returncode == 1
    found = listed(result)["cache/folder"]
    assert found["status"] == "problem"
    assert found["found"] == f"{folder} (MSFT_CACHE) cannot be written: Not a directory"
    assert "MSFT_CACHE" in found["advice"]


def test_a_cache_that_is_not_there_yet_is_right_and_is_not_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MSFT_CACHE", str(tmp_path / "new" / "cache"))
    assert {finding.status for finding in find("cache")} == {"ok"}
    assert list(tmp_path.iterdir()) == []


def test_what_the_cache_holds_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSFT_CACHE", str(tmp_path))
    old = time.time() - 2 * 86_400
    for name, size, when in (
        ("features/space/1.rows", 1000, None),
        ("features/space/.2.rows.tmp", 200, old),
        ("features/space/.3.rows.tmp", 30, None),
        ("downloads/0123456789-tmpfile", 5000, old),
        ("downloads/tmpab12cd34", 700, old),
        ("sample/one.png", 9, old),
        ("note", 1, old),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
        if when:
            os.utime(path, (when, when))
    found = {finding.name: finding for finding in find("cache")}
    sizes = {name: each.value["bytes"] for name, each in found.items() if each.value}
    assert sizes == {"features": 1230, "downloads": 5700, "all else": 10, "unfinished": 900}
    assert found["features"].value["limit_bytes"] == 10**10
    assert found["unfinished"].status == "note"
    assert found["unfinished"].value["files"] == 2
    assert str(tmp_path / "downloads" / "tmpab12cd34") in found["unfinished"].advice


@pytest.mark.parametrize(
    ("free", "status"), [(5e9, "ok"), (4.9e9, "note"), (0.5e9, "note"), (0.4e9, "problem")]
)
def test_a_disk_that_is_nearly_full_is_told(
    free: float, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, round(free)))
    found = find("disk")
    assert [(each.name, each.status) for each in found] == [
        ("cache", status),
        ("working directory", status),
    ]
    if status != "ok":
        assert "MSFT_CACHE" in found[0].advice
        assert "--out" in found[1].advice


# The network


def reached(server: Server, *names: str) -> list[str]:
    return [server.url(name) for name in names]


def test_urls_that_can_be_reached_and_that_cannot_are_told_and_none_is_a_problem(
    examine: Examined, plugin: Callable[[str, str], Path], server: Server
) -> None:
    server.files["/there.zip"] = b"content"
    there, gone = reached(server, "there.zip", "gone.zip")
    closed = "http://127.0.0.1:9/file"
    path = plugin("far", with_urls(there, gone, closed, there))
    built_in = ("--without", "canidae", "--without", "resnet")
    result = examine("--json", "--plugin", path, *built_in)
    assert result.returncode == 0, result.stdout
    found = {
        name.partition("/")[2]: each
        for name, each in listed(result).items()
        if name.startswith("network/")
    }
    assert found.keys() == {there, gone, closed}
    assert (found[there]["status"], found[there]["found"]) == ("ok", "can be downloaded")
    assert found[there]["value"]["for"] == ["dataset far"]
    assert (found[gone]["status"], found[gone]["found"]) == ("note", "the server answered 404")
    assert (found[closed]["status"], found[closed]["found"]) == (
        "note",
        "127.0.0.1 cannot be reached",
    )
    for url in (gone, closed):
        assert "--data-dir DIR" in found[url]["advice"]
        assert "needs no network" in found[url]["advice"]
    assert sorted(server.asked) == ["/gone.zip", "/there.zip"]


def test_offline_asks_for_nothing(
    examine: Examined, plugin: Callable[[str, str], Path], server: Server
) -> None:
    path = plugin("far", with_urls(*reached(server, "a")))
    assert examine("--offline", "--plugin", path).returncode == 0
    assert server.asked == []
    assert examine("--plugin", path).returncode == 0
    assert server.asked == ["/a"]


def test_a_file_that_is_in_the_cache_needs_no_network(
    plugin: Callable[[str, str], Path], server: Server
) -> None:
    (url,) = reached(server, "gone.zip")
    path = plugin("far", with_urls(url))
    assert find_one("network", url, modules=[str(path)]).status == "note"
    cache = Path(os.environ["MSFT_CACHE"])
    file = downloads.cached_path(url, Context(0, cache, PlainReporter()))
    file.parent.mkdir(parents=True)
    file.write_bytes(b"content")
    finding = find_one("network", url, modules=[str(path)])
    assert finding.status == "ok"
    assert "the cache already has the file" in finding.found


def test_findings_that_differ_only_in_the_url_are_told_in_one_line(
    examine: Examined, plugin: Callable[[str, str], Path], server: Server
) -> None:
    urls = reached(server, *(f"{number}.ckpt" for number in range(8)))
    path = plugin("far", with_urls(*urls, kind="backbone"))
    arguments = ("--plugin", path, "--without", "canidae", "--without", "resnet")
    lines = examine(*arguments).stdout.splitlines()
    shown = lines[lines.index("network") + 1 : -1]
    assert shown[0].endswith(
        f"{urls[0]} and 7 more (--verbose lists them): the server answered 404"
    )
    assert "--weights FILE" in shown[1]
    assert len(shown) == 2
    everything = examine(*arguments, "--verbose").stdout
    assert all(f"{url}: the server answered 404" in everything for url in urls)


@pytest.fixture
def other_server() -> Iterator[tuple[str, list[str]]]:
    """Knows HEAD; /slow never answers. Its address, and what it was asked."""
    asked: list[str] = []
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(f"{self.command} {self.path}")
            if self.path.startswith("/slow"):
                over.wait(30)
            self.send_response(403 if self.path == "/refused" else 200)
            self.end_headers()

        def do_GET(self) -> None:
            asked.append(f"{self.command} {self.path} {self.headers['Range']}")
            self.send_response(206)
            self.end_headers()
            self.wfile.write(b"x")

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}", asked
    over.set()
    http.shutdown()
    http.server_close()
    thread.join()


def test_a_file_is_not_downloaded_to_see_whether_it_can_be(
    other_server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    address, asked = other_server
    answers = network.ask_all([f"{address}/file", f"{address}/refused"])
    assert [reason for reason, _ in answers.values()] == ["", ""]
    assert sorted(asked) == ["GET /refused bytes=0-0", "HEAD /file", "HEAD /refused"]


def test_servers_that_never_answer_are_waited_for_together(
    other_server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    address, _ = other_server
    urls = [f"{address}/slow{number}" for number in range(8)] + [f"{address}/file"]
    started = time.monotonic()
    answers = network.ask_all(urls, seconds=2.0)
    assert time.monotonic() - started < 8
    assert answers.pop(urls[-1])[0] == ""
    assert {reason for reason, _ in answers.values()} == {"no answer within 2 s"}


def test_more_urls_than_are_asked_for_at_once_are_all_asked_for(
    other_server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    address, asked = other_server
    answers = network.ask_all([f"{address}/{number}" for number in range(5)], at_once=2)
    assert [reason for reason, _ in answers.values()] == [""] * 5
    assert len(asked) == 5


def test_a_proxy_that_is_not_there_is_told(
    plugin: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    path = plugin("far", with_urls("http://far.invalid/file"))
    finding = find_one("network", "http://far.invalid/file", modules=[str(path)])
    assert finding.found == "the proxy cannot be reached"
    assert "HTTPS_PROXY" in finding.advice


def test_the_urls_of_the_built_in_plugins_are_those_that_they_download_from() -> None:
    from msft_plugins.canidae import CanidaeSettings
    from msft_plugins.resnet import ResNetSettings, _known_weights

    plugins = load_plugins()
    assert plugins.component("dataset", "canidae").urls == (CanidaeSettings().url,)
    weights = _known_weights()
    assert ResNetSettings().weights in weights
    urls = plugins.component("backbone", "resnet50").urls
    assert urls == tuple(each.url for each in weights.values())
    assert all(url.startswith("https://") for url in urls)


def test_of_many_urls_on_one_host_a_few_are_asked_for(
    examine: Examined, plugin: Callable[[str, str], Path], server: Server
) -> None:
    urls = reached(server, *(f"{number}.ckpt" for number in range(30)))
    path = plugin("many", with_urls(*urls))
    result = examine("--json", "--plugin", path, "--without", "canidae", "--without", "resnet")
    found = [each for name, each in listed(result).items() if name.startswith("network/")]
    assert len(found) == network.URLS_ON_A_HOST + 1
    assert found[0]["found"] == "22 more URLs of this host are not checked"

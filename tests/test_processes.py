"""``msft run --processes N``: several processes train one classifier."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from msft_core import UsageError, resume
from msft_core.testing import (
    CommandLine,
    MsftRun,
    RecordingReporter,
    assert_same_in_processes,
)

TINY = ("--plugin", "msft_core.testing.tiny", "--dataset", "tiny", "--backbone", "tiny")
TINY += ("--strategy", "freeze", "--batch-size", "7", "--without", "report")
LONGEST = 200


def metrics(run: Path) -> list[dict[str, Any]]:
    """The figures of each epoch."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]


@contextmanager
def started(folder: Path, epochs: int, *more: str) -> Iterator[subprocess.Popen[str]]:
    """``msft run`` in a process of its own, which begins its second epoch."""
    run = folder / "run"
    command = [sys.executable, "-m", "msft_core", "run", *TINY, *more]
    process = subprocess.Popen(
        [*command, "--epochs", str(epochs), "--out", str(run)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until = time.monotonic() + LONGEST
        while not (run / "metrics.jsonl").is_file():
            assert time.monotonic() < until
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        yield process
    finally:
        process.kill()


def ranks(run: Path) -> list[psutil.Process]:
    """The processes of a run, as its environment.json has them."""
    facts = json.loads((run / "environment.json").read_text("utf-8"))
    return [psutil.Process(one["pid"]) for one in facts["processes"]]


def lives(process: psutil.Process) -> bool:
    """Whether it has not ended. Where nobody asks for its status, its number stays for a while."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_two_processes_give_what_one_gives_as_stages_join() -> None:
    assert_same_in_processes(
        [Path(__file__).with_name("no_norm.py")],
        backbone="no_norm",
        strategy={"name": "gradual", "at": [2]},
    )


@pytest.mark.slow
def test_a_batch_with_fewer_images_than_processes_counts_each_image_once() -> None:
    # 18 images in batches of 8: the last has 2, so two of the processes have none.
    assert_same_in_processes(
        [Path(__file__).with_name("no_norm.py")],
        processes=4,
        backbone="no_norm",
        strategy="finetune",
        dataset={"name": "tiny", "train_per_class": 9, "val_per_class": 3},
        training={"epochs": 1, "batch_size": 8},
        runtime={"mode": "pynative"},
    )


@pytest.mark.slow
def test_a_killed_process_ends_the_run_which_goes_on_in_one(
    tmp_path: Path, msft_run: MsftRun
) -> None:
    with started(tmp_path, 30, "--processes", "2") as process:
        run = tmp_path / "run"
        all_ = ranks(run)
        began = time.monotonic()
        other = all_[1]
        other.kill()
        _, errors = process.communicate(timeout=60)
        assert time.monotonic() - began < 15
    assert process.returncode == 1
    # Rank 0 may notice it before the launcher does, and then says so itself.
    assert f"process 1 of 2 (pid {other.pid})" in errors
    assert "Its last words:" in errors
    assert f"msft run --resume {run}" in errors
    assert not any(lives(one) for one in all_)
    assert "Run folder" in (run / "logs" / "rank_1.txt").read_text("utf-8")
    assert 1 <= len(metrics(run)) < 30
    done = len(metrics(run))
    reporter = RecordingReporter()
    resume(run, {"runtime": {"processes": 1}, "training": {"epochs": 30}}, reporter=reporter)
    assert any("with runtime.processes = 1, not 2" in line for line in reporter.lines)
    undisturbed = msft_run(
        strategy="freeze",
        training={"epochs": 30, "batch_size": 7},
        runtime={"mode": "auto"},
        without=["report"],
    )
    assert done < len(metrics(run)) == 30
    for one, other in zip(metrics(run), metrics(undisturbed.folder), strict=True):
        assert one["train"]["loss"] == pytest.approx(other["train"]["loss"], abs=1e-5)
        assert one["val"] == pytest.approx(other["val"], abs=1e-5)


@pytest.mark.slow
def test_a_signal_ends_all_processes_in_order(tmp_path: Path, msft_process: CommandLine) -> None:
    with started(tmp_path, 1000, "--processes", "2") as process:
        run = tmp_path / "run"
        all_ = ranks(run)
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted." in errors
    assert "Traceback" not in out + errors
    assert not any(lives(one) for one in all_)
    facts = json.loads((run / "environment.json").read_text("utf-8"))
    assert facts["status"] == "interrupted"
    assert len(facts["processes"]) == 2
    done = len(metrics(run))
    # Its own number of processes, from config.toml.
    again = msft_process("run", "--resume", run, "--epochs", str(done + 1))
    assert again.returncode == 0, again.stderr
    assert len(metrics(run)) == done + 1
    assert len(json.loads((run / "environment.json").read_text("utf-8"))["processes"]) == 2


@pytest.mark.slow
def test_a_strategy_that_fails_leaves_the_next_one_to_all_processes(
    tmp_path: Path, msft_process: CommandLine
) -> None:
    plugin = tmp_path / "failing.py"
    plugin.write_text(
        "from msft_core import hookimpl\n"
        "@hookimpl\n"
        "def on_epoch_end(run):\n"
        "    if run.config.strategy.name == 'freeze':\n"
        "        raise ValueError('enough')\n"
    )
    words = [word for word in TINY if word != "freeze"]
    words.insert(words.index("--strategy") + 1, "freeze,finetune")
    out = tmp_path / "each"
    options = ("--plugin", plugin, "--epochs", "2", "--processes", "2", "--out", out)
    ended = msft_process("run", *words, *options)
    assert ended.returncode == 1
    assert "the run freeze failed: " in ended.stderr
    assert "is gone" not in ended.stderr
    runs = {path.parent.name: metrics(path.parent) for path in out.glob("*/metrics.jsonl")}
    (finetune,) = (found for name, found in runs.items() if "finetune" in name)
    assert len(finetune) == 2


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Two network namespaces with a cable between them: 10.77.0.1 and 10.77.0.2."""
    names = [f"msft-{os.getpid()}-{number}" for number in (1, 2)]
    ends = [f"m{os.getpid()}{letter}" for letter in "ab"]

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        try:
            for name in names:
                ip("netns", "add", name)
            (one, first), (other, second) = zip(ends, names, strict=True)
            ip("link", "add", one, "netns", first, "type", "veth", "peer", other, "netns", second)
            for number, (end, name) in enumerate(zip(ends, names, strict=True), 1):
                ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", end)
                ip("-n", name, "link", "set", end, "up")
                ip("-n", name, "link", "set", "lo", "up")
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"needs network namespaces: {error}")
        yield names
    finally:
        for name in names:
            with suppress(OSError):
                subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.mark.slow
def test_two_hosts_train_as_one_and_both_say_when_the_run_fails(
    tmp_path: Path, hosts: list[str], msft_run: MsftRun
) -> None:
    (tmp_path / "failing.py").write_text(
        "from msft_core import hookimpl\n"
        "@hookimpl\n"
        "def on_epoch_end(epoch):\n"
        "    if epoch == 3:\n"
        "        raise ValueError('enough')\n"
    )
    run = tmp_path / "run"
    command = [sys.executable, "-m", "msft_core", "run", *TINY, "--plugin", "failing.py"]
    command += ["--epochs", "3", "--out", str(run), "--processes", "1", "--nodes", "2"]
    command += ["--master-addr", "10.77.0.1"]
    both = [
        subprocess.Popen(
            ["ip", "netns", "exec", host, *command, "--node-rank", str(number)],
            cwd=tmp_path,
            env={**os.environ, "MSFT_CACHE": str(tmp_path / host)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, host in enumerate(hosts)
    ]
    told = [process.communicate(timeout=LONGEST)[1] for process in both]
    assert [process.returncode for process in both] == [1, 1], told
    assert "ValueError: enough" in told[0]
    assert "the run failed: what process 0 printed says why." in told[1]
    alone = msft_run(
        strategy="freeze",
        training={"epochs": 3, "batch_size": 7},
        runtime={"mode": "auto"},
        without=["report"],
    )
    # The third epoch failed before it was noted.
    for one, other in zip(metrics(run), metrics(alone.folder)[:2], strict=True):
        assert one["train"]["loss"] == pytest.approx(other["train"]["loss"], abs=1e-5)
        assert one["val"] == pytest.approx(other["val"], abs=1e-5)


def test_more_processes_than_were_started_are_refused(msft_run: MsftRun) -> None:
    with pytest.raises(UsageError, match=r"runtime.processes = 2: one process was started"):
        msft_run(runtime={"processes": 2})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--nodes", "2"), "--nodes needs --master-addr"),
        (("--nodes", "2", "--master-addr", "lab1", "--node-rank", "2"), "the 2 hosts are 0 to 1"),
        (("--processes", "0"), "--processes"),
    ],
)
def test_hosts_that_do_not_fit_are_refused(
    options: tuple[str, ...], told: str, msft: CommandLine
) -> None:
    ended = msft("run", *TINY, *options)
    assert ended.returncode == 2
    assert told in ended.stderr


def test_hosts_are_not_given_to_processes_that_another_launcher_has_started(
    msft: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    ended = msft("run", *TINY, "--nodes", "2", "--master-addr", "lab1")
    assert ended.returncode == 2
    assert "RANK and WORLD_SIZE has started 2 processes already" in ended.stderr

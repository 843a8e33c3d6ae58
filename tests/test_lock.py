"""The lock on a run folder: one run at a time, whoever holds it is named, none is ever stale."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from disk_kit import read_only

from msft_core import UsageError
from msft_core.runs.lock import NAME, lock_run_folder

HOLDS = """
import sys, time
from pathlib import Path
from msft_core.runs.lock import lock_run_folder
lock = lock_run_folder(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def another_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock until its standard input closes, or it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    with another_process(tmp_path) as holder:
        with pytest.raises(UsageError) as caught:
            lock_run_folder(tmp_path)
        message = str(caught.value)
        assert f"{tmp_path} is in use by process {holder.pid} on {socket.gethostname()}" in message
        assert len(message.splitlines()) == 1

        # The one that was refused has taken nothing from the holder.
        with pytest.raises(UsageError, match=f"process {holder.pid}"):
            lock_run_folder(tmp_path)

        # A killed process leaves its file behind, and hinders nobody.
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert (tmp_path / NAME).exists()
        with lock_run_folder(tmp_path) as lock:
            assert lock.warning == ""
            assert f'"pid": {os.getpid()}' in (tmp_path / NAME).read_text()


def test_what_a_killed_run_was_writing_is_removed(tmp_path: Path) -> None:
    for inside in (tmp_path, tmp_path / "state"):
        (inside / ".best.ckpt.x.tmp").mkdir(parents=True)
        (inside / ".best.ckpt.x.tmp" / "best.ckpt").write_text("half")
    with lock_run_folder(tmp_path):
        assert sorted(path.name for path in tmp_path.rglob("*")) == [NAME, "state"]


def test_two_runs_of_one_process_do_not_share_a_folder_either(tmp_path: Path) -> None:
    with lock_run_folder(tmp_path), pytest.raises(UsageError, match=f"process {os.getpid()}"):
        lock_run_folder(tmp_path)


def test_a_released_lock_leaves_no_file_and_can_be_taken_again(tmp_path: Path) -> None:
    lock = lock_run_folder(tmp_path)
    lock.release()
    assert list(tmp_path.iterdir()) == []
    with lock_run_folder(tmp_path):
        lock.release()  # a second time: not the lock of the other
        with pytest.raises(UsageError, match="is in use"):
            lock_run_folder(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "host": 1, "since": 2}', "\xff" * 10]
)
def test_whatever_is_in_the_file_a_holder_is_a_holder(content: str, tmp_path: Path) -> None:
    with lock_run_folder(tmp_path):
        (tmp_path / NAME).write_text(content, encoding="latin-1")
        with pytest.raises(UsageError, match="in use by another process"):
            lock_run_folder(tmp_path)


def test_a_file_of_another_host_or_boot_that_nobody_holds_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text('{"pid": 1, "host": "elsewhere", "since": "2020"}')
    with lock_run_folder(tmp_path) as lock:
        assert lock.warning == ""


def refusing(number: int) -> Any:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return flock


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_a_warning(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setattr(fcntl, "flock", refusing(number))
    with lock_run_folder(tmp_path) as lock:
        assert f"{tmp_path} cannot be locked ({os.strerror(number)})" in lock.warning
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_folder_is_refused_in_a_line(tmp_path: Path) -> None:
    with read_only(tmp_path), pytest.raises(UsageError, match="cannot be written: Permission"):
        lock_run_folder(tmp_path)


def test_a_vanished_folder_is_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written: there is no such folder"):
        lock_run_folder(tmp_path / "gone")


def test_a_folder_in_the_place_of_the_file_is_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        lock_run_folder(tmp_path)

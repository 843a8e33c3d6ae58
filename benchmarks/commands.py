"""Commands run from start to end: how long, what they printed and when, and how much memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
MARK = "mark: "
"""What a line begins with that tells how far a command has got."""

_LOOK_EVERY_SECONDS = 0.2
_ABSENT = re.compile(r"No module named '(\w+)")


class NotMeasured(Exception):
    """Why there is no figure, as a clause."""


@dataclass(frozen=True)
class Finished:
    """A command that has ended well.

    Args:
        seconds: from its start to its end.
        lines: of its output, standard error included, each with the seconds since the start.
        peak_mb: VmHWM of the process, 10^6 bytes; 0 where the system does not tell.
        child_peak_mb: greatest VmHWM of a process that it started. Pages that a fork shares with
            its parent count in both, so the two don't add up.
        phases: seconds that led to each mark, and from the last one to the end.
    """

    seconds: float
    lines: tuple[tuple[float, str], ...]
    peak_mb: float
    child_peak_mb: float
    phases: Mapping[str, float]


def run(command: Sequence[str], cwd: Path, **variables: str) -> Finished:
    """Run a command to its end.

    Args:
        command: and its arguments.
        cwd: working directory.
        variables: of the environment, besides ours.

    Raises:
        NotMeasured: it failed.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    peaks = _Peaks(process.pid)
    try:
        lines = tuple((time.perf_counter() - started, line.rstrip()) for line in process.stdout)
        status = process.wait()
        seconds = time.perf_counter() - started
    finally:
        process.kill()  # nothing where it has ended
        process.wait()
        peaks.stop()
    if status:
        raise NotMeasured(why(status, [text for _, text in lines]))
    own, of_children = peaks.split()
    return Finished(seconds, lines, own, of_children, _phases(lines, seconds))


def environment(**variables: str) -> dict[str, str]:
    """Ours, with these variables and without what another part of the benchmark may have set."""
    ours = {key: value for key, value in os.environ.items() if key != "ONEDNN_MAX_CPU_ISA"}
    return {**ours, "PYTHONUNBUFFERED": "1", **variables}


def msft(*arguments: str) -> list[str]:
    """The command ``msft`` as it is installed beside this interpreter."""
    script = Path(sys.executable).with_name("msft")
    return [
        *([str(script)] if script.exists() else [sys.executable, "-m", "msft_core"]),
        *arguments,
    ]


def module(name: str, *arguments: str, python: str = sys.executable) -> list[str]:
    """A module of this package as a command; its working directory must be ``ROOT``."""
    return [python, "-m", f"benchmarks.{name}", *arguments]


def why(status: int, lines: Sequence[str]) -> str:
    """The reason for a failure: what is not installed, else the last line."""
    said = [line.strip() for line in lines if line.strip()] or ["no output"]
    absent = _ABSENT.search(said[-1])
    return f"{absent[1]} is not installed" if absent else f"exit status {status}: {said[-1]}"


def vm_hwm(pid: int) -> float:
    """Greatest resident memory of a live process so far, 10^6 bytes, or 0 where it is not told.

    Not ``ru_maxrss``: a child inherits that from its parent.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    sizes = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return int(sizes[0]) * 1024 / 1e6 if sizes else 0.0  # a process that is ending has none


class _Peaks:
    """Looks at a process and those it started now and then: the kernel keeps the peak itself."""

    def __init__(self, pid: int) -> None:
        self._pid, self._peaks = pid, {pid: 0.0}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """The process has ended."""
        self._over.set()
        self._thread.join()

    def split(self) -> tuple[float, float]:
        """Of the process, and the greatest of its children."""
        children = [peak for pid, peak in self._peaks.items() if pid != self._pid]
        return self._peaks[self._pid], max(children, default=0.0)

    def _look(self) -> None:
        while not self._over.wait(_LOOK_EVERY_SECONDS):
            try:
                processes = psutil.Process(self._pid).children(recursive=True)
            except psutil.NoSuchProcess:
                return
            for pid in (self._pid, *(process.pid for process in processes)):
                self._peaks[pid] = max(self._peaks.get(pid, 0.0), vm_hwm(pid))


def _phases(lines: Sequence[tuple[float, str]], seconds: float) -> dict[str, float]:
    phases, before = {}, 0.0
    for at, text in (*lines, (seconds, f"{MARK}end")):
        if text.startswith(MARK):
            phases[text.removeprefix(MARK)] = at - before
            before = at
    return phases

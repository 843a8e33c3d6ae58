"""Runs that are killed and resumed, and what must hold at each moment and at the end."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import fault_shim
from fork_kit import Fork, Forks

from msft_core.errors import WeightsError
from msft_core.weights import read_checkpoint

_PROGRAM = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import fault_shim
fault_shim.install()
from msft_core.cli import main
main()
"""

_TINY = ("--plugin", "msft_core.testing.tiny", "--dataset", "tiny", "--backbone", "tiny")
_TINY += ("--batch-size", "8", "--without", "report")
_LITE = ("--dataset", "sample", "--backbone", "efficientnet_lite0")
_LITE += ("--without", "report", "--without", "openvino")
_LITE += ("--set", "backbone.image_size=64", "--set", "dataset.train_per_class=20")
_LITE += ("--set", "dataset.val_per_class=8")

CASES: dict[str, tuple[str, ...]] = {
    "tiny": (*_TINY, "--strategy", "freeze", "--epochs", "3"),
    "tiny-finetune": (*_TINY, "--strategy", "finetune", "--epochs", "3"),
    "sample-tiny": (
        *("--plugin", "msft_core.testing.tiny", "--dataset", "sample", "--backbone", "tiny"),
        *("--without", "report", "--without", "openvino", "--strategy", "freeze", "--epochs", "3"),
        *("--set", "dataset.train_per_class=20", "--set", "dataset.val_per_class=8"),
    ),
    "lite-freeze": (*_LITE, "--strategy", "freeze", "--epochs", "3"),
    "lite-partial": (*_LITE, "--strategy", "partial", "--epochs", "3"),
    "lite-gradual": (
        *(*_LITE, "--strategy", "gradual", "--epochs", "3"),
        *("--set", "strategy.at=[2, 3]"),
    ),
    "lite-finetune": (*_LITE, "--strategy", "finetune", "--epochs", "2"),
}
"""Arguments of ``msft run`` for each kind of training."""

COMPARED = ("best.ckpt", "last.ckpt", "predictions.csv", "classes.json", "skipped.jsonl")
_TIMES = ("seconds", "step_ms")

_LAST = 12
"""So many of the last calls of a run come after all that a signal could interrupt."""


def fingerprint(run: Path) -> dict[str, str]:
    """A hash of what a run must leave the same, by file: pictures too; metrics without times."""
    found = {}
    for path in sorted(run.iterdir()) if run.exists() else ():
        if path.name in COMPARED or path.suffix == ".png":
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.name == "metrics.jsonl":
            records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
            told = [{k: v for k, v in one.items() if k not in _TIMES} for one in records]
            found[path.name] = hashlib.sha256(json.dumps(told).encode()).hexdigest()
    return found


def unloadable(run: Path) -> str:
    """Why a checkpoint of the run that is there cannot be loaded; ``""`` if all can."""
    for name in ("best.ckpt", "last.ckpt"):
        with suppress(FileNotFoundError):
            path = run / name
            if path.exists():
                try:
                    read_checkpoint(path)
                except WeightsError as error:
                    return str(error)
    return ""


def hidden(folder: Path) -> list[str]:
    """Temporary files and folders below a folder."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.name.startswith(".") or path.name.endswith(".tmp")
    )


class Failed(Exception):
    """A run did not go on as it should."""


@dataclass
class Harness:
    """Starts, kills and resumes runs of one kind.

    Args:
        case: a key of ``CASES``.
        work: a folder for all files.
        forks: makes the processes; None to start each from the beginning.
        more: further arguments of ``msft run``.
    """

    case: str
    work: Path
    forks: Forks | None = None
    more: Sequence[str] = ()
    kills: int = 0
    seconds: float = 0.0
    calls: list[str] = field(default_factory=list)
    same: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.work.mkdir(parents=True, exist_ok=True)

    @property
    def arguments(self) -> list[str]:
        return [*CASES[self.case], *self.more]

    def reference(self) -> dict[str, str]:
        """What a run leaves that nobody disturbs; ``self.calls`` are the calls it made."""
        if self.forks:
            self.forks.python("-c", "pass", cwd=self.work)  # its imports do not count
        place = Place(self.work / "reference")
        log = self.work / "calls.txt"
        log.unlink(missing_ok=True)  # of an earlier run of the harness in this folder
        began = time.monotonic()
        status = self.start(place, {fault_shim.LOG: str(log)}).wait()
        self.seconds = time.monotonic() - began
        if status:
            raise Failed(f"the undisturbed run ended with {status}:\n{place.said()}")
        self.calls = fault_shim.read_log(log)
        self.same = fingerprint(place.run)
        return self.same

    def start(self, place: Place, shim: Mapping[str, str] | None = None) -> Fork | Spawned:
        """Start or resume the run, whichever its folder asks for."""
        there = (place.run / "config.toml").exists()
        how = ["--resume", str(place.run)] if there else ["--out", str(place.run)]
        arguments = ["run", *([] if there else self.arguments), *how]
        environment = {
            "MSFT_CACHE": str(place.cache),
            fault_shim.ROOTS: str(place.folder),
            **(shim or {}),
        }
        words = ["-c", _PROGRAM, *arguments]
        begin = self.forks.start if self.forks else Spawned
        with place.output.open("ab") as output:
            out = output.fileno()
            return begin(words, self.work, {**os.environ, **environment}, out, out)

    def killed_at(self, *numbers: int) -> None:
        """Kill a run at a call, what resumes it at another, and compare the end. Raises Failed."""
        place = Place(self.work / f"call-{numbers[0]}")
        for number in numbers:
            status = self.start(place, {fault_shim.AT: str(number)}).wait()
            self._require_killed(status, place)
        first = self.calls[numbers[0] - 1]
        self._finish(place, f"killed at call {', '.join(map(str, numbers))} ({first})")

    def signalled_at(self, number: int, sent: int) -> str:
        """Send a signal to a run at a call, resume it, and compare the end.

        Returns: what the run printed. Raises Failed.
        """
        place = Place(self.work / f"signal-{sent}-{number}")
        how = f"signal {sent} at call {number} ({self.calls[number - 1]})"
        shim = {fault_shim.AT: str(number), fault_shim.SIGNAL: str(sent)}
        status, said = self.start(place, shim).wait(), place.said()
        # Before msft catches signals, and after all is done, they end the process by themselves.
        late = status == 0 and number > len(self.calls) - _LAST
        if status not in (130, -sent) and not late:
            raise Failed(f"{how}: ended with {status}:\n{said}")
        self._require_clear(said, how)
        if left := hidden(place.folder):
            raise Failed(f"{how}: {', '.join(left)} left")
        self._finish(place, how)
        return said

    def without_room_at(self, number: int, error: int = errno.ENOSPC) -> str:
        """From a call on the disk is full; then resume the run where there is room.

        Returns: what the run printed. Raises Failed.
        """
        place = Place(self.work / f"full-{number}")
        how = f"full disk at call {number} ({self.calls[number - 1]})"
        shim = {fault_shim.AT: str(number), fault_shim.ERRNO: str(error)}
        status, said = self.start(place, shim).wait(), place.said()
        if status not in (0, 1, 2):
            raise Failed(f"{how}: ended with {status}:\n{said}")
        self._require_clear(said, how)
        if os.strerror(error) not in " ".join(said.split()) and fingerprint(place.run) != self.same:
            raise Failed(f"{how}: the reason is not told:\n{said}")
        if left := hidden(place.folder):
            raise Failed(f"{how}: {', '.join(left)} left")
        if reason := unloadable(place.run):
            raise Failed(f"{how}: {reason}")
        self._finish(place, how)
        return said

    def _require_clear(self, said: str, how: str) -> None:
        for word in ("Traceback", "bug in msft", "Exception ignored"):
            if word in said:
                raise Failed(f"{how}: {word}:\n{said}")

    def killed_at_random(self, draw: random.Random, times: int) -> None:
        """Kill a run and what resumes it, at most so often, and compare the end."""
        place = Place(self.work / f"random-{self.kills}")
        told = []
        for _ in range(times):
            if draw.random() < 0.5:  # at a call that changes a file
                number = draw.randint(1, len(self.calls))
                child = self.start(place, {fault_shim.AT: str(number)})
                told.append(f"call {number}")
            else:
                child = self.start(place)
                wait = draw.uniform(0, self.seconds)
                told.append(f"{wait:.2f} s")
                time.sleep(wait)
                child.kill()
            status = child.wait()
            if status == 0:
                break
            self._require_killed(status, place)
        self._finish(place, f"killed at {', '.join(told)}")

    def _require_killed(self, status: int, place: Place) -> None:
        if status != -signal.SIGKILL:
            raise Failed(f"a run ended with {status} instead of being killed:\n{place.said()}")
        self.kills += 1
        if reason := unloadable(place.run):
            raise Failed(f"after a kill a checkpoint cannot be loaded: {reason}")

    def _finish(self, place: Place, how: str) -> None:
        status = self.start(place).wait()
        if status:
            raise Failed(f"{how}: resuming ended with {status}:\n{place.said()}")
        found = fingerprint(place.run)
        if found != self.same:
            names = [n for n in {**found, **self.same} if found.get(n) != self.same.get(n)]
            raise Failed(f"{how}: {', '.join(sorted(names))} differ ({place.folder})")
        if left := hidden(place.run):
            raise Failed(f"{how}: {', '.join(left)} left in the run folder")
        shutil.rmtree(place.folder)


class Place:
    """The folder of one attempt: a run folder, a cache, and what was printed."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder, self.run, self.cache = folder, folder / "run", folder / "cache"
        self.output = folder.with_name(folder.name + ".txt")
        self.output.unlink(missing_ok=True)

    def said(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")


class Spawned:
    """A process that was started from the beginning."""

    def __init__(
        self, words: Sequence[str], cwd: Path, env: Mapping[str, str], out: int, err: int
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *words], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            cwd=cwd, env=env,
        )  # fmt: skip

    def kill(self) -> None:
        """Kill it, if it still runs."""
        self._process.kill()

    def wait(self) -> int:
        """The exit status; negative after a signal."""
        return self._process.wait()


def every(first: int, last: int, most: int) -> list[int]:
    """Numbers from ``first`` to ``last``, evenly spaced if these are more than ``most``."""
    count = last + 1 - first
    if count <= most:
        return list(range(first, last + 1))
    return sorted({first + i * count // most for i in range(most)})

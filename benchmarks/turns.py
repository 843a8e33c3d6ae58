"""Child processes that take turns, so that all see the same noise and only one computes."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from typing import Any

from benchmarks.commands import ROOT, NotMeasured, environment, vm_hwm, why


class Worker:
    """A process that serves tasks (``serving.Channel``), stopped whenever it is not its turn.

    It starts at its first turn. Use it in a ``with`` block, which ends it.

    Args:
        command: one that makes a ``Channel``.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.peak_mb = 0.0
        self._command = command
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process: subprocess.Popen[str] | None = None
        self._missing: dict[str, str] = {}
        self._failure = ""

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def turn(self, task: str) -> float:
        """Seconds that a task takes now.

        Raises:
            NotMeasured: the process can't do it, or has ended.
        """
        if self._failure:
            raise NotMeasured(self._failure)
        if self._process is None:
            self._process = self._start()
            self._missing = self._answer(self._process)["missing"]
        if task in self._missing:
            raise NotMeasured(self._missing[task])
        assert self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        print(task, file=self._process.stdin, flush=True)
        return float(self._answer(self._process)["seconds"])

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def _answer(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            self._errors.seek(0)
            self._failure = why(process.wait(), self._errors.read().splitlines())
            raise NotMeasured(self._failure)
        self.peak_mb = max(self.peak_mb, vm_hwm(process.pid))
        # Idle threads of a runtime may spin: those of a stopped process can't.
        process.send_signal(signal.SIGSTOP)
        return dict(json.loads(line))

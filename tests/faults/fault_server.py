"""Starts many processes of msft quickly: one that has imported everything forks for each of them.

A forked process is a process like any other: it can be killed, and gets signals. Only the import of
MindSpore and of msft is behind it, which takes most of the time of a small run.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

_IMPORTED = (
    *("matplotlib.figure", "mindspore", "pytest", "scipy.stats", "sklearn.metrics"),
    *("msft_core.cli.run", "msft_core.engine.resume", "msft_core.pages", "msft_core.runs.live"),
    *("msft_core.testing.tiny", "msft_plugins.figures", "msft_plugins.best_checkpoint"),
)
"""What each process would import: none of it starts a thread that a fork would lose."""


class Child:
    """A process of msft.

    Args:
        server: that forked it.
        pid: of the process.
        output: the file of its standard output and error.
    """

    def __init__(self, server: Server, pid: int, output: Path) -> None:
        self._server, self.pid, self.output = server, pid, output

    def send(self, number: int) -> None:
        """Send a signal, if the process still runs."""
        os.kill(self.pid, number)  # a zombie until `wait`, so the id is its own

    def wait(self) -> int:
        """The exit status; negative after a signal."""
        return int(self._server.ask({"wait": self.pid})["status"])

    def said(self) -> str:
        """Standard output and error so far."""
        return self.output.read_text(encoding="utf-8", errors="replace")


class Server:
    """Forks processes of ``msft``. A context manager."""

    def __init__(self) -> None:
        environment = {**os.environ, "GLOG_v": "3", "ONEDNN_MAX_CPU_ISA": "AVX2"}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "fault_server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self.ask({})  # until all is imported

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request to the server, and wait for what it says."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the server of processes has ended")
        return dict(json.loads(line))

    def start(
        self, arguments: Sequence[str], output: Path, environment: Mapping[str, str]
    ) -> Child:
        """Start ``msft ARGUMENTS``."""
        request = {"arguments": list(arguments), "output": str(output), "env": dict(environment)}
        return Child(self, int(self.ask(request)["pid"]), output)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _serve() -> None:
    _import_all()
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any] = {}
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            answer = {"status": os.waitstatus_to_exitcode(status)}
        elif "arguments" in request:
            pid = os.fork()
            if not pid:
                _run(request)
            answer = {"pid": pid}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _import_all() -> None:
    for name in _IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def _run(request: Mapping[str, Any]) -> None:
    """What a forked process does; does not return."""
    status = 70
    try:
        output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ.update(request["env"])
        sys.argv = ["msft", *request["arguments"]]
        import fault_shim

        fault_shim.install()
        from msft_core.cli import main

        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1 if end.code else 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()

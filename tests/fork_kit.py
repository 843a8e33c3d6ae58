"""Runs Python programs in forks of one process that has already imported what they import.

The import of MindSpore, matplotlib and the rest takes longer than most of what tests of the command
line do. A fork starts with them, and is otherwise a process of its own: its environment, working
directory, streams, module path and exit are those of ``python -m ...``. What differs:

- modules are in ``sys.modules`` that the program did not import;
- all forks have one seed of ``hash()``, so a set of strings has one order in all of them;
- variables that are read at the start of a process or by an import (``AT_START``) must be as they
  are in the test session.

So tests of these things, of signals, of the time of a start and of what is equal in two processes
start a process of their own: fixture ``msft_process``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from msft_core.testing import CommandLine

AT_START = (
    "GLOG_", "LANG", "LC_", "LD_PRELOAD", "MKL_", "MPL", "MS_", "OMP_", "OPENBLAS_", "PYTHON", "TZ",
)  # fmt: skip
"""How the names of variables begin that have no effect on a fork."""
SERVER = Path(__file__).with_name("fork_server.py")
HEARD = ("PYTHONPATH", "MS_OM_PATH")
"""Those of them that have: the fork sees to the first, MindSpore reads the other late."""

_LONGEST = 1 << 20


class Forks:
    """Starts the process that is forked, when it is first needed.

    Linux only: elsewhere, every program gets a process of its own.
    """

    def __init__(self) -> None:
        self._line: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._at_start: dict[str, str] = {}

    def python(
        self,
        *arguments: object,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``python ARGUMENTS``, which begin with ``-m MODULE``, ``-c CODE`` or a file.

        Args:
            arguments: after ``python``.
            cwd: the working directory.
            env: added to the environment.
            timeout: seconds.

        Raises:
            subprocess.TimeoutExpired: it took longer, and was killed.
        """
        words = [*map(str, arguments)]
        whole = {**os.environ, **(env or {})}
        if sys.platform != "linux":
            return subprocess.run(
                [sys.executable, *words], cwd=cwd, env=whole, stdin=subprocess.DEVNULL,
                capture_output=True, text=True, timeout=timeout, check=False,
            )  # fmt: skip
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            fork = self.start(words, cwd, whole, out.fileno(), err.fileno())
            try:
                status = fork.wait(timeout)
            except TimeoutError:
                os.kill(fork.pid, signal.SIGKILL)
                fork.wait()
                raise subprocess.TimeoutExpired(words, timeout) from None
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(words, status, out.read(), err.read())

    def start(
        self, words: Sequence[str], cwd: Path, env: Mapping[str, str], out: int, err: int
    ) -> Fork:
        """Start ``python WORDS``. Only one program runs at a time.

        Args:
            words: after ``python``.
            cwd: the working directory.
            env: the whole environment.
            out: descriptor of standard output.
            err: descriptor of standard error.
        """
        line = self._line or self._start()
        changed = {n for n in {*env, *self._at_start} if env.get(n) != self._at_start.get(n)}
        deaf = sorted(n for n in changed if n.startswith(AT_START) and n not in HEARD)
        assert not deaf, f"a fork does not heed {', '.join(deaf)}: use the fixture msft_process"
        request = json.dumps({"arguments": [*words], "cwd": str(cwd), "env": dict(env)})
        socket.send_fds(line, [request.encode()], [out, err])
        return Fork(line, _answer(line))

    def close(self) -> None:
        """End the process."""
        if self._line is not None and self._process is not None:
            self._line.close()
            self._process.wait()

    def _start(self) -> socket.socket:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._at_start = dict(os.environ)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, SERVER, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,  # as of a program whose output is captured
            )
        return self._line


class Fork:
    """A program that runs.

    Args:
        line: to the process that was forked.
        pid: of the program. It stays its own until ``wait``.
    """

    def __init__(self, line: socket.socket, pid: int) -> None:
        self._line, self.pid = line, pid

    def wait(self, timeout: float | None = None) -> int:
        """The exit status; negative after a signal. Raises TimeoutError."""
        self._line.settimeout(timeout)
        try:
            return _answer(self._line)
        finally:
            self._line.settimeout(None)


def _answer(line: socket.socket) -> int:
    answer = line.recv(_LONGEST)
    assert answer, "the process that is forked has ended"
    return int(answer)


class ForkedCommandLine(CommandLine):
    """Runs ``msft`` as ``CommandLine`` does, in forks.

    Args:
        cwd: the working directory.
        forks: makes them.
    """

    def __init__(self, cwd: Path, forks: Forks) -> None:
        super().__init__(cwd)
        self._forks = forks

    def __call__(
        self,
        *arguments: object,
        env: Mapping[str, str] | None = None,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``msft`` with these arguments."""
        words = ("-m", "msft_core", *arguments)
        return self._forks.python(*words, cwd=self.cwd, env=env, timeout=timeout)


@contextmanager
def forks_of_one_process() -> Iterator[Forks]:
    """Give ``Forks``, and end its process."""
    forks = Forks()
    try:
        yield forks
    finally:
        forks.close()

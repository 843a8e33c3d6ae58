"""Start a run in several processes with MindSpore's ``msrun``, and end them together."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from msft_core.errors import MsftError, UsageError
from msft_core.system.interrupts import SIGNALS
from msft_core.system.ranks import HERE, LAUNCH, PORT
from msft_core.system.relay import outputs_for_rank_0
from msft_core.types import RunReport

POLL_SECONDS = 0.2
_GRACE_SECONDS = 2.0
"""So long do the other processes live on when one has died: one of them may say why."""

_END_SECONDS = 10.0
"""So long may the others take to end after rank 0 has ended in order."""

LOST = "lost"
"""The file with the rank of the process that rank 0 saw die first."""

LAUNCHER = "MSFT_LAUNCHER"
"""The variable with the process id of the launcher."""

_MSRUN = "from mindspore.parallel.cluster.run import main; main()"
_EXITS = re.compile(r"Worker process (\d+) exit with exception\. Error code: (-?\d+)")
_LAST_LINES = 5


@dataclass(frozen=True)
class Cluster:
    """Where the processes run.

    Args:
        processes: on this host.
        nodes: number of hosts, each with as many processes.
        node_rank: number of this host, from 0.
        master_addr: address of host 0.
        master_port: of MindSpore's scheduler there; 0 for a free one, on one host.
    """

    processes: int
    nodes: int = 1
    node_rank: int = 0
    master_addr: str = "127.0.0.1"
    master_port: int = 0


def launch(arguments: Sequence[str], cluster: Cluster) -> int:
    """Run ``msft`` with these arguments in several processes.

    Rank 0 writes to this terminal. Signals are passed on to all processes. When one dies, the
    others are ended within seconds.

    Args:
        arguments: of ``msft``, ``run`` first.
        cluster: where.

    Returns: the exit status of the first process of this host.

    Raises:
        UsageError: they cannot be started.
        MsftError: a process died.
        KeyboardInterrupt: a signal came before there was a run.
    """
    folder = Path(tempfile.mkdtemp(prefix="msft-launch-"))
    try:
        with outputs_for_rank_0(folder) as terminal:
            started = _Launch(folder, cluster, terminal)
            status = started.run(arguments)
        # After all that rank 0 said.
        if status and (about := started.about_lost()):
            print(about, file=sys.stderr)
        return status
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Launch:
    folder: Path
    cluster: Cluster
    terminal: dict[str, str]
    signals: list[int] = field(default_factory=list)
    told: set[int] = field(default_factory=set)
    port: int = 0

    def run(self, arguments: Sequence[str]) -> int:
        msrun = self._start(arguments)
        try:
            with self._passing_on_signals():
                return self._watch(msrun)
        finally:
            self._end_all(msrun)

    def _start(self, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        cluster = self.cluster
        python, path = _python(self.folder)
        self.port = cluster.master_port or (_free_port() if cluster.nodes == 1 else PORT)
        options = {
            "worker_num": cluster.processes * cluster.nodes,
            "local_worker_num": cluster.processes,
            "node_rank": cluster.node_rank,
            "master_addr": cluster.master_addr,
            "master_port": self.port,
            "join": True,
            "log_dir": self.folder,
            # Not to the console: rank 0 writes there by itself.
            "tail_worker_log": str(cluster.processes * cluster.nodes),
        }
        command = [sys.executable, "-c", _MSRUN]
        command += [f"--{name}={value}" for name, value in options.items()]
        command += [python, "-m", "msft_core", *arguments]
        env = {
            **os.environ,
            **self.terminal,
            "PATH": path,
            LAUNCH: str(self.folder),
            LAUNCHER: str(os.getpid()),
            HERE: str(cluster.processes),
            # `python -m` looks for modules in the working directory, where msft does not.
            **({} if str(Path.cwd()) in sys.path else {"PYTHONSAFEPATH": "1"}),
            # msrun and the scheduler tell each attempt to connect.
            **({} if "GLOG_v" in os.environ else {"GLOG_v": "3"}),
        }
        with (self.folder / "msrun.log").open("wb") as log:
            return subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C must not reach msrun, which would kill all processes at once.
                start_new_session=True,
            )

    def _watch(self, msrun: subprocess.Popen[bytes]) -> int:
        """Wait for the end. Returns the status of the first of this host."""
        first = self.cluster.node_rank * self.cluster.processes
        while True:
            time.sleep(POLL_SECONDS)
            if (status := self._ended(first)) is not None:
                until = time.monotonic() + _END_SECONDS
                while time.monotonic() < until and self._living():
                    time.sleep(POLL_SECONDS)
                return status
            if self.signals:  # a process may have begun after it came
                self._pass_on(self.signals[-1], self.told)
            if len(self.signals) > 2 or (self.signals and not self._pids()):
                raise KeyboardInterrupt
            dead = [name for name, pid in self._pids().items() if not lives(pid)]
            gone = [name for name in dead if name == "scheduler" or self._ended(name) is None]
            if gone or msrun.poll() is not None:
                until = time.monotonic() + _GRACE_SECONDS
                while time.monotonic() < until and self._ended(first) is None:
                    time.sleep(POLL_SECONDS)
                if (status := self._ended(first)) is not None:
                    return status
                if self.signals:
                    raise KeyboardInterrupt
                raise self._death(gone)

    def about_lost(self) -> str:
        """What to tell of a process that rank 0 saw die before it ended itself; else empty."""
        text = read_text(self.folder / LOST)
        # On another host, or one that left in order before rank 0 did.
        if not text or int(text) not in self._pids() or self._ended(int(text)) is not None:
            return ""
        rank = int(text)
        return self._told(f"{self._how_died(rank)}.", self._last_words(rank))

    def _told(self, what: str, words: Sequence[str]) -> str:
        """What happened, and how the run is taken up if it has begun."""
        go_on = [f"Go on with: msft run --resume {shlex.quote(self._run)}"] if self._run else []
        return "\n".join([what, *words, *go_on])

    @property
    def _run(self) -> str:
        """The run folder; empty before the run begins."""
        return read_text(self.folder / "run").strip()

    def _how_died(self, rank: int | str) -> str:
        pid = self._pids()[rank]
        code = int(self._codes().get(str(pid), 0))
        how = f"was killed by signal {-code}" if code < 0 else "died"
        size = self.cluster.processes * self.cluster.nodes
        return f"process {rank} of {size} (pid {pid}) {how}"

    def _codes(self) -> dict[str, str]:
        """Process ids, with the exit status where it is not 0. msrun stops at the first."""
        return dict(_EXITS.findall(read_text(self.folder / "msrun.log")))

    def _death(self, gone: Sequence[int | str]) -> MsftError:
        """What to tell of processes that died."""
        if not gone:
            log = read_text(self.folder / "msrun.log")
            return UsageError("\n".join(["msrun could not start the processes.", *_words(log)]))
        # msrun kills the others when one has died: its own first word names that one.
        by_pid = {str(pid): name for name, pid in self._pids().items()}
        first = next((by_pid[pid] for pid in self._codes() if pid in by_pid), gone[0])
        pid = self._pids()[first]
        if first == "scheduler":
            what = f"MindSpore's scheduler (pid {pid}) died"
            words: list[str] = []
            if not self._run:
                address = self.cluster.master_addr
                words = [
                    f"Is port {self.port} in use on {address}? Then give another --master-port."
                ]
        else:
            what = self._how_died(first)
            words = self._last_words(first)
        error = MsftError(self._told(f"{what}, so all were ended.", words))
        if run := self._run:
            error.report = _report(Path(run), what)
        return error

    def _last_words(self, rank: int | str) -> list[str]:
        run = self._run
        of_run = Path(run) / "logs" / f"rank_{rank}.txt"
        log = of_run if run and of_run.exists() else self.folder / f"worker_{rank}.log"
        return _words(read_text(log))

    def _pids(self) -> dict[int | str, int]:
        found: dict[int | str, int] = {}
        for path in self.folder.glob("pid-*"):
            name = path.name.removeprefix("pid-")
            with contextlib.suppress(ValueError):
                found[int(name) if name.isdecimal() else name] = int(read_text(path))
        return found

    def _living(self) -> list[int]:
        return [pid for name, pid in self._pids().items() if name != "scheduler" and lives(pid)]

    def _ended(self, rank: int | str) -> int | None:
        text = read_text(self.folder / f"ended-{rank}")
        return int(text) if text else None

    def _pass_on(self, number: int, but: Iterable[int] = ()) -> None:
        """Send a signal to all processes but these, rank 0 first: it says what comes next."""
        ranks = {name: pid for name, pid in self._pids().items() if isinstance(name, int)}
        for _, pid in sorted(ranks.items()):
            if pid not in but:
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
        self.told.update(ranks.values())

    @contextlib.contextmanager
    def _passing_on_signals(self) -> Iterator[None]:
        def pass_on(number: int, frame: FrameType | None) -> None:
            self.signals.append(number)
            self._pass_on(number)

        before = {number: signal.getsignal(number) for number in SIGNALS}
        for number, handler in before.items():
            if handler != signal.SIG_IGN:
                signal.signal(number, pass_on)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end_all(self, msrun: subprocess.Popen[bytes]) -> None:
        """Kill what is left. msrun first: it would tell of the others."""
        with contextlib.suppress(OSError):
            os.killpg(msrun.pid, signal.SIGKILL)
        for pid in self._pids().values():
            if lives(pid):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        msrun.wait()


def lives(pid: int) -> bool:
    """Whether a process of this host has not ended."""
    import psutil  # type: ignore[import-untyped,unused-ignore]

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _python(folder: Path) -> tuple[str, str]:
    """What msrun calls this interpreter, and the PATH with which it finds it.

    msrun takes the names python and python3 alone.
    """
    here = Path(sys.executable)
    if here.name not in ("python", "python3"):
        starter = folder / "python"
        starter.write_text(f'#!/bin/sh\nexec {shlex.quote(str(here))} "$@"\n', "utf-8")
        starter.chmod(0o700)
        here = starter
    return here.name, os.pathsep.join([str(here.parent), os.environ.get("PATH", os.defpath)])


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def read_text(path: Path) -> str:
    """The text of a file; empty if it cannot be read."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _words(text: str) -> list[str]:
    """The last lines of a log, under a title."""
    # Without what MindSpore tells of its connections when a process ends.
    lines = [line.strip() for line in text.splitlines() if not line.startswith("[INFO]")]
    lines = [f"  {line}" for line in lines if line]
    return ["Its last words:", *lines[-_LAST_LINES:]] if lines else []


def _report(run: Path, reason: str) -> RunReport:
    """How a run ended that could not write it."""
    from msft_core.runs.record import read_record

    try:
        record = read_record(run)
    except MsftError:
        return RunReport("failed", run, None, (), reason)
    return RunReport("failed", run, record.best, record.history, reason)

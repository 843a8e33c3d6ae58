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
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from msft_core.errors import MsftError, UsageError
from msft_core.system.interrupts import SIGNALS
from msft_core.system.ranks import HERE, LAUNCH, PORT, is_scheduler, ranks_of
from msft_core.types import RunReport

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 2.0
"""So long do the other processes live on when one has died: one of them may say why."""

_END_SECONDS = 10.0
"""So long may the others take to end after rank 0 has ended in order."""

_SPEAK_SECONDS = 5.0
"""So long does a process that failed wait for rank 0 to say the same."""

_LAUNCHER, _OUT, _ERR = "MSFT_LAUNCHER", "MSFT_OUT", "MSFT_ERR"
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

    Returns: the exit status of rank 0.

    Raises:
        UsageError: they cannot be started.
        MsftError: a process died.
        KeyboardInterrupt: a signal came before there was a run.
    """
    folder = Path(tempfile.mkdtemp(prefix="msft-launch-"))
    try:
        with _terminal(folder) as terminal:
            return _Launch(folder, cluster, terminal).run(arguments)
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
            _LAUNCHER: str(os.getpid()),
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
            time.sleep(_POLL_SECONDS)
            if (status := self._ended(first)) is not None:
                until = time.monotonic() + _END_SECONDS
                while time.monotonic() < until and self._living():
                    time.sleep(_POLL_SECONDS)
                return status
            if self.signals:  # a process may have begun after it came
                self._pass_on(self.signals[-1], self.told)
            if len(self.signals) > 2 or (self.signals and not self._pids()):
                raise KeyboardInterrupt
            dead = [name for name, pid in self._pids().items() if not _lives(pid)]
            gone = [name for name in dead if name == "scheduler" or self._ended(name) is None]
            if gone or msrun.poll() is not None:
                until = time.monotonic() + _GRACE_SECONDS
                while time.monotonic() < until and self._ended(first) is None:
                    time.sleep(_POLL_SECONDS)
                if (status := self._ended(first)) is not None:
                    return status
                if self.signals:
                    raise KeyboardInterrupt
                raise self._death(gone)

    def _death(self, gone: Sequence[int | str]) -> MsftError:
        """What to tell of processes that died."""
        log = _read(self.folder / "msrun.log")
        codes = dict(
            re.findall(r"Worker process (\d+) exit with exception\. Error code: (-?\d+)", log)
        )
        if not gone:
            return UsageError("\n".join(["msrun could not start the processes.", *_words(log)]))
        # msrun kills the others when one has died: its own first word names that one.
        by_pid = {str(pid): name for name, pid in self._pids().items()}
        first = next((by_pid[pid] for pid in codes if pid in by_pid), gone[0])
        pid = self._pids()[first]
        if first == "scheduler":
            what = f"MindSpore's scheduler (pid {pid}) died"
            words = [
                f"Is port {self.port} in use on {self.cluster.master_addr}? Then give another "
                "--master-port."
            ]
            if (self.folder / "run").exists():
                words = []
        else:
            code = int(codes.get(str(pid), 0))
            how = f"was killed by signal {-code}" if code < 0 else "died"
            size = self.cluster.processes * self.cluster.nodes
            what = f"process {first} of {size} (pid {pid}) {how}"
            words = _words(_read(self._log_of(first)))
        run = _read(self.folder / "run").strip()
        go_on = f"Go on with: msft run --resume {shlex.quote(run)}" if run else ""
        error = MsftError("\n".join([f"{what}, so all were ended.", *words, go_on]).strip())
        if run:
            error.report = _report(Path(run), what)
        return error

    def _log_of(self, rank: int | str) -> Path:
        run = _read(self.folder / "run").strip()
        of_run = Path(run) / "logs" / f"rank_{rank}.txt"
        return of_run if run and of_run.exists() else self.folder / f"worker_{rank}.log"

    def _pids(self) -> dict[int | str, int]:
        found: dict[int | str, int] = {}
        for path in self.folder.glob("pid-*"):
            name = path.name.removeprefix("pid-")
            with contextlib.suppress(ValueError):
                found[int(name) if name.isdecimal() else name] = int(_read(path))
        return found

    def _living(self) -> list[int]:
        return [pid for name, pid in self._pids().items() if name != "scheduler" and _lives(pid)]

    def _ended(self, rank: int | str) -> int | None:
        text = _read(self.folder / f"ended-{rank}")
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
            if _lives(pid):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        msrun.wait()


def _lives(pid: int) -> bool:
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


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _words(text: str) -> list[str]:
    """The last lines of a log, under a title."""
    lines = [f"  {line.strip()}" for line in text.splitlines() if line.strip()]
    return ["Its last words:", *lines[-_LAST_LINES:]] if lines else []


def _report(run: Path, reason: str) -> RunReport:
    """How a run ended that could not write it."""
    from msft_core.runs.record import read_record

    try:
        record = read_record(run)
    except MsftError:
        return RunReport("failed", run, None, (), reason)
    return RunReport("failed", run, record.best, record.history, reason)


# The terminal, for rank 0


@contextlib.contextmanager
def _terminal(folder: Path) -> Iterator[dict[str, str]]:
    """Where rank 0 writes instead of standard output and standard error: environment variables.

    To a terminal it writes itself, so that its display works. What goes to a file or a pipe, or to
    a terminal that cannot be opened again, is passed on by this process.
    """
    found, relays = {}, []
    # First of all: what is opened next would take the number of an output that is closed.
    outputs = {_OUT: _name_of(1), _ERR: _name_of(2)}
    for number, (variable, name) in enumerate(outputs.items(), 1):
        if name:
            found[variable] = name
            continue
        pipe = folder / variable.lower()
        os.mkfifo(pipe)
        # Open for reading and writing, so that neither end waits for the other.
        ends = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        relays.append(_Relay(ends, number))
        found[variable] = str(pipe)
    try:
        yield found
    finally:
        for relay in relays:
            relay.finish()


def _name_of(output: int) -> str:
    """The path under which rank 0 can open an output of this process; empty if there is none."""
    try:
        os.fstat(output)
    except OSError:  # closed
        return os.devnull
    try:
        name = os.ttyname(output)
    except OSError:  # no terminal, or one that has no name in this container
        return ""
    return name if os.access(name, os.W_OK) else ""  # another user's, after sudo


class _Relay:
    """Copies what is written into a pipe to one of this process's outputs."""

    def __init__(self, source: int, target: int) -> None:
        self._source, self._target = source, target
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Copy what is left, and end."""
        self._done.set()
        self._thread.join()
        os.close(self._source)

    def _copy(self) -> None:
        import select

        while True:
            last = self._done.is_set()
            ready, _, _ = select.select([self._source], [], [], 0.05)
            data = os.read(self._source, 1 << 16) if ready else b""
            try:
                while data:
                    data = data[os.write(self._target, data) :]
            except OSError:  # the reader of this process's output is gone
                self._target = os.open(os.devnull, os.O_WRONLY)
            if last and not ready:
                return


# In the processes


_launch: Path | None = None
"""The folder of the launch that started this process."""


def is_started() -> bool:
    """Whether a launch started this process."""
    return _launch is not None


def work(command: Callable[[], Any]) -> NoReturn:
    """Do the command as one of the processes of a launch, and end.

    Args:
        command: of the command line; ends by ``SystemExit`` or returns.
    """
    global _launch
    # Not for processes that a plugin starts: they are no part of the launch.
    folder = _launch = Path(os.environ.pop(LAUNCH))
    launcher = int(os.environ.pop(_LAUNCHER))
    if is_scheduler():
        from msft_core.system.group import schedule

        _write(folder / "pid-scheduler", os.getpid())
        schedule()
        os._exit(0)
    ranks = ranks_of()
    if ranks.rank == 0:
        for variable, number in ((_OUT, 1), (_ERR, 2)):
            os.dup2(os.open(os.environ[variable], os.O_WRONLY | os.O_NOCTTY), number)
    _take_share_of_cpus(ranks.local, ranks.local_size)
    _end_with_launcher(launcher)
    _write(folder / f"pid-{ranks.rank}", os.getpid())
    status = 1
    try:
        command()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except KeyboardInterrupt:
        status = 130
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        if status in (0, 130) or ranks.rank == 0:
            # MindSpore tells of its connections when the process ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            _write(folder / f"ended-{ranks.rank}", status)
        else:
            _let_first_speak(folder)
        if not _lives(launcher):
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(status)


def _let_first_speak(folder: Path) -> None:
    """Wait until rank 0 has ended too, if it is on this host: it may have failed as this one did.

    Its message is for the user, and msrun kills it as soon as this process is gone.
    """
    until = time.monotonic() + _SPEAK_SECONDS
    first = folder / "pid-0"
    while time.monotonic() < until and first.exists() and not (folder / "ended-0").exists():
        time.sleep(_POLL_SECONDS)


def note_run(run: Path) -> None:
    """Tell the launcher the run folder, if there is a launcher."""
    if _launch and ranks_of().rank == 0:
        _write(_launch / "run", run)


def log_into(run: Path, rank: int) -> None:
    """Write what this process prints into ``logs/`` of the run folder, if there is a launcher.

    What it has printed so far is copied. Where the folder is not on this host, nothing happens.
    """
    if not _launch or rank == 0 or not run.is_dir():
        return
    target = run / "logs" / f"rank_{rank}.txt"
    with contextlib.suppress(OSError):
        target.parent.mkdir(exist_ok=True)
        sys.stdout.flush()
        so_far = _read(_launch / f"worker_{rank}.log")
        number = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.write(number, so_far.encode())
        os.dup2(number, 1)
        os.dup2(number, 2)


def _write(path: Path, value: object) -> None:
    part = path.with_name(f".{path.name}")
    part.write_text(str(value), "utf-8")
    part.replace(path)


def _take_share_of_cpus(local: int, here: int) -> None:
    """Use only these CPUs, where there are enough for all processes of this host."""
    if not hasattr(os, "sched_getaffinity"):
        return
    cpus = sorted(os.sched_getaffinity(0))
    share = cpus[len(cpus) * local // here : len(cpus) * (local + 1) // here]
    if len(cpus) >= here:
        os.sched_setaffinity(0, share)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(share))))


def _end_with_launcher(launcher: int) -> None:
    """End in order when the launcher is gone: nobody would watch the processes any more."""

    def watch() -> None:
        while _lives(launcher):
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="msft-launcher").start()

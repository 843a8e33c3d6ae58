"""What the processes of a launch do before and after the command, see ``launch.py``."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from msft_core.engine.launch import LAUNCHER, LOST, POLL_SECONDS, lives, read_text
from msft_core.system.ranks import LAUNCH, is_scheduler, ranks_of
from msft_core.system.relay import write_to_launcher

_SPEAK_SECONDS = 5.0
"""So long does a process that failed wait for rank 0 to say the same."""

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
    launcher = int(os.environ.pop(LAUNCHER))
    if is_scheduler():
        from msft_core.system.group import schedule

        _write(folder / "pid-scheduler", os.getpid())
        schedule()
        os._exit(0)
    ranks = ranks_of()
    if ranks.rank == 0:
        write_to_launcher()
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
        if status and ranks.rank:
            _let_first_speak(folder)
        if not lives(launcher):
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(status)


def _let_first_speak(folder: Path) -> None:
    """Wait until rank 0 has ended too, if it is on this host: it may have failed as this one did.

    Its message is for the user, and msrun kills it as soon as this process is gone.
    """
    until = time.monotonic() + _SPEAK_SECONDS
    first = folder / "pid-0"
    while time.monotonic() < until and first.exists() and not (folder / "ended-0").exists():
        time.sleep(POLL_SECONDS)


def note_run(run: Path) -> None:
    """Tell the launcher the run folder, if there is a launcher."""
    if _launch and ranks_of().local == 0:
        _write(_launch / "run", run)


def note_lost(rank: int) -> None:
    """Tell the launcher, if there is one, that rank 0 saw another process die."""
    if not _launch or ranks_of().rank:
        return
    # Those that fail as rank 0 does leave after it.
    if not any((_launch / name).exists() for name in ("ended-0", LOST)):
        with contextlib.suppress(OSError):
            _write(_launch / LOST, rank)


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
        so_far = read_text(_launch / f"worker_{rank}.log")
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
        while lives(launcher):
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="msft-launcher").start()

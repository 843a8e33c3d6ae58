"""Counts the calls by which a process changes files, and does something at one of them.

It replaces Python's functions, so it sees what msft, its plugins and Python libraries do. At the
call the process is killed, or gets another signal; or the disk is full from there on. A kill cuts a
write in half: half of the bytes are in the file. At any other call it comes before the call. So all
states that a kill can leave on disk come up when each number is tried once.
"""

from __future__ import annotations

import builtins
import io
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOTS = "FAULT_ROOTS"
"""Variable of the environment: folders below which calls count, separated by ``os.pathsep``."""

AT = "FAULT_AT"
"""The number of the call at which something happens, from 1."""

LOG = "FAULT_LOG"
"""A file that gets a line for each call."""

SIGNAL = "FAULT_SIGNAL"
"""The signal that the process gets at the call; by default SIGKILL."""

ERRNO = "FAULT_ERRNO"
"""No signal: from the call on, whatever takes room on the disk fails with this error."""


@dataclass
class Shim:
    """What happens at each call.

    Args:
        roots: absolute paths; other files do not count.
        at: number of the call at which the process dies; 0 for none.
        log: descriptor of a file that gets a line for each call; None for none.
        signal: what the process gets at the call.
        fails: an error number: no signal, but every write from that call on fails.
    """

    roots: tuple[str, ...]
    at: int
    log: int | None
    signal: int = signal.SIGKILL
    fails: int = 0
    calls: int = 0

    def counts(self, path: Any, dir_fd: int | None = None) -> str:
        """The absolute path if calls on it count, otherwise an empty text."""
        if isinstance(path, int):
            name = str(Path(f"/proc/self/fd/{path}").readlink())
        else:
            parent = Path.cwd() if dir_fd is None else Path(f"/proc/self/fd/{dir_fd}").readlink()
            name = str(parent / os.fsdecode(path))
        return name if name.startswith(self.roots) else ""

    def note(self, call: str, path: str) -> bool:
        """Count a call; True if it is the one."""
        self.calls += 1
        if self.log is not None:
            os_write(self.log, f"{self.calls} {call} {path}\n".encode())
        return self.at == self.calls

    def fails_now(self, call: str) -> bool:
        """Whether a call that takes room on the disk is refused."""
        takes = call in ("write", "open", "mkdir", "fsync")
        return bool(self.fails and self.at and self.calls >= self.at and takes)

    def strike(self) -> None:
        """Get the signal as if it came from outside."""
        if not self.fails:
            os.kill(os.getpid(), self.signal)

    @property
    def kills(self) -> bool:
        """Whether the process ends at once."""
        return self.signal == signal.SIGKILL and not self.fails

    def error(self, path: str) -> OSError:
        return OSError(self.fails, os.strerror(self.fails), path)


os_write = os.write


def install() -> Shim | None:
    """Begin to count, if the environment says so."""
    roots = os.environ.get(ROOTS)
    if not roots:
        return None
    log = os.environ.get(LOG)
    shim = Shim(
        tuple(roots.split(os.pathsep)),
        int(os.environ.get(AT, "0")),
        os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if log else None,
        int(os.environ.get(SIGNAL, "9")),
        int(os.environ.get(ERRNO, "0")),
    )
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup
    _replace_calls(shim)
    _replace_open(shim)
    return shim


def _replace_calls(shim: Shim) -> None:
    def counting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **named: Any) -> Any:
            dir_fd = named.get("dir_fd", named.get("dst_dir_fd"))
            target = rest[0] if name in ("replace", "rename") else path
            if where := shim.counts(target, dir_fd):
                if shim.note(name, where):
                    shim.strike()
                if shim.fails_now(name):
                    raise shim.error(where)
            return real(path, *rest, **named)

        return call

    for name in ("fsync", "replace", "rename", "unlink", "remove", "mkdir", "rmdir", "truncate"):
        setattr(os, name, counting(name, getattr(os, name)))


def _replace_open(shim: Shim) -> None:
    plain_open, plain_io = builtins.open, io.FileIO

    class Counting(plain_io):  # type: ignore[misc, valid-type]
        """A file whose writes count."""

        def __init__(self, file: Any, mode: str = "r", *rest: Any, **named: Any) -> None:
            where = shim.counts(file) if set(mode) & set("wax+") else ""
            self.where = where
            if where:
                if shim.note("open", where):
                    shim.strike()
                if shim.fails_now("open"):
                    raise shim.error(where)
            super().__init__(file, mode, *rest, **named)

        def write(self, data: Any, /) -> int:
            if self.where:
                it = shim.note("write", self.where)
                if it and shim.kills:
                    content = memoryview(data).cast("B")
                    super().write(content[: len(content) // 2])
                if it:
                    shim.strike()
                if shim.fails_now("write"):
                    raise shim.error(self.where)
            return int(super().write(data))

    def counting_open(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        writes = set(mode) & set("wax+")
        if not writes or isinstance(file, int) or opener or not shim.counts(file):
            return plain_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = Counting(file, mode.replace("b", "").replace("t", ""))
        if buffering == 0:
            return raw
        buffered: Any = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        encoding = io.text_encoding(encoding)
        return io.TextIOWrapper(buffered, encoding, errors, newline)

    builtins.open = io.open = counting_open  # type: ignore[assignment]
    io.FileIO = Counting  # type: ignore[misc]
    for module in list(sys.modules.values()):  # those that have imported the name
        if getattr(module, "FileIO", None) is plain_io and module is not io:
            module.FileIO = Counting  # type: ignore[attr-defined]


def read_log(path: Path) -> list[str]:
    """The calls that were logged, such as ``rename /run/best.ckpt``."""
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return [line.split(" ", 1)[1] for line in lines]

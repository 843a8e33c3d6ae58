"""The lock on a run folder: two processes never write to one run.

The operating system holds the lock (``flock``), and releases it when the process ends, however it
ends. So there is no stale lock: the file that a killed process leaves behind locks nothing.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from msft_core.errors import UsageError
from msft_core.files import json_value, remove_leftovers

if TYPE_CHECKING:
    from filelock import BaseFileLock

NAME = ".lock"
"""The locked file in the run folder. It says who holds the lock, and is removed by ``release``."""


class RunLock:
    """A lock that this process holds, until ``release`` or the end of the ``with`` block.

    Args:
        path: the locked file.
        lock: of the library; None where the file system has no locks.
        warning: what the user should know, in one line; ``""`` if nothing.
    """

    def __init__(self, path: Path, lock: BaseFileLock | None, warning: str = "") -> None:
        self._path, self._lock, self.warning = path, lock, warning

    def release(self) -> None:
        """Let other runs use the folder. A second call does nothing."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        # Before the release: afterwards it may be the file of another process.
        with suppress(OSError):
            self._path.unlink()
        with suppress(OSError):
            lock.release()

    def __enter__(self) -> RunLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def lock_run_folder(folder: Path, what: str = "run folder") -> RunLock:
    """Take the lock of a run folder, without waiting for it.

    Removes the temporary files that a killed run has left there.

    Args:
        folder: is there, and keeps its name while the lock is held.
        what: what kind of folder it is, for messages.

    Raises:
        UsageError: another process (or another run of this one) holds the lock; or the folder
            cannot be written.
    """
    from filelock import FileLock, Timeout

    path = folder / NAME
    if not folder.is_dir():  # the library would make it
        raise UsageError(f"{what} {folder} cannot be written: there is no such folder.")
    # Without the library's fallback, a file that is there or not: a killed process would leave it.
    lock = FileLock(path, timeout=0, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(
            f"{what} {folder} is in use by {_holder(path)}. Wait until it ends, or stop it."
        ) from None
    except PermissionError as error:
        raise _unwritable(folder, error) from error
    except OSError as error:
        if not _can_be_written(path):
            raise _unwritable(folder, error) from error
        return RunLock(
            path,
            None,
            f"{what} {folder} cannot be locked ({error.strerror or error}): see to it that no "
            "other run uses it.",
        )
    for one in (folder, *(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink())):
        remove_leftovers(one, seconds=0)  # nobody else writes there now
    with suppress(OSError):  # the lock is held all the same, but by nobody with a name
        path.write_text(json.dumps(_this_process()), encoding="utf-8")
    return RunLock(path, lock)


def _unwritable(folder: Path, error: OSError) -> UsageError:
    return UsageError(f"run folder {folder} cannot be written: {error.strerror or error}.")


def _can_be_written(path: Path) -> bool:
    """Whether the folder is there and takes files, so that only the lock is missing."""
    try:
        path.open("ab").close()
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _this_process() -> dict[str, Any]:
    started = datetime.now().astimezone().isoformat(" ", "seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": started}


def _holder(path: Path) -> str:
    """Who holds the lock, in words. The file may be empty for a moment, or hold anything."""
    try:
        told = json_value(path.read_text(encoding="utf-8"))
        pid, host, since = int(told["pid"]), str(told["host"]), str(told["since"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return "another process"
    host, since = (" ".join(text.split())[:80] for text in (host, since))
    return f"process {pid} on {host} (since {since})"

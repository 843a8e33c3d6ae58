"""Where rank 0 writes: to the terminal of the ``msft run`` that started it, or through a pipe."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

OUT, ERR = "MSFT_OUT", "MSFT_ERR"
"""The variables that name the paths of rank 0's standard output and standard error."""


@contextlib.contextmanager
def outputs_for_rank_0(folder: Path) -> Iterator[dict[str, str]]:
    """Where rank 0 writes instead of standard output and standard error: environment variables.

    To a terminal it writes itself, so that its display works. What goes to a file or a pipe, or to
    a terminal that cannot be opened again, is passed on by this process.
    """
    found, relays = {}, []
    # First of all: what is opened next would take the number of an output that is closed.
    outputs = {OUT: _name_of(1), ERR: _name_of(2)}
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


def write_to_launcher() -> None:
    """In rank 0: write where the launcher writes."""
    for variable, number in ((OUT, 1), (ERR, 2)):
        os.dup2(os.open(os.environ[variable], os.O_WRONLY | os.O_NOCTTY), number)

"""A terminal for tests: a program runs in it, and the test sees its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path

import pyte

_LINK = re.compile(r"\x1b\]8;[^;]*;([^\x1b]+)\x1b\\")


class Terminal:
    """Runs Python in a pseudo-terminal.

    Args:
        arguments: of the interpreter.
        cwd: the working directory.
        columns: width of the terminal.
        env: added to the environment.
        stderr: a file for standard error; by default it is the terminal too.
    """

    def __init__(
        self,
        *arguments: object,
        cwd: Path,
        columns: int = 80,
        env: Mapping[str, str] | None = None,
        stderr: Path | None = None,
    ) -> None:
        self.raw = ""
        self._screen = pyte.HistoryScreen(columns, 24, history=1000)
        self._stream = pyte.Stream(self._screen)
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        around = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
        error = stderr.open("wb") if stderr else None
        self.process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=cwd,
            env={**around, "TERM": "xterm-256color", **(env or {})},
            stdin=slave,
            stdout=slave,
            stderr=error or slave,
            start_new_session=True,
            # So that Ctrl-C reaches the program.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        if error:
            error.close()

    def until(self, text: str = "", timeout: float = 240) -> str:
        """Read until ``text`` was printed, by default to the end. Returns all that was printed."""
        end = time.monotonic() + timeout
        pending = b""
        while not (text and text in self.raw):
            ready, _, _ = select.select([self._master], [], [], max(0, end - time.monotonic()))
            assert ready, f"{text!r} does not come; so far:\n{self.raw}"
            try:
                data = os.read(self._master, 65536)
            except OSError:  # Linux says so at the end
                data = b""
            if not data:
                break
            pending += data
            try:
                new, pending = pending.decode(), b""
            except UnicodeDecodeError:  # half a character
                continue
            self.raw += new
            self._stream.feed(new)
        return self.raw

    def press(self, key: bytes) -> None:
        """Press a key."""
        os.write(self._master, key)

    def close(self) -> None:
        """Close the terminal, as its window is closed or a connection breaks."""
        os.close(self._master)

    def wait(self) -> int:
        """Read to the end, and return the exit status."""
        self.until()
        os.close(self._master)
        return self.process.wait(60)

    @property
    def lines(self) -> list[str]:
        """All that a user who scrolls up sees, without empty lines at the end."""
        columns = self._screen.columns
        above = [
            "".join(line[x].data for x in range(columns)).rstrip()
            for line in self._screen.history.top
        ]
        lines = above + [line.rstrip() for line in self._screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    @property
    def links(self) -> list[str]:
        """The addresses that one can click."""
        return list(dict.fromkeys(_LINK.findall(self.raw)))

    @property
    def shows_cursor(self) -> bool:
        """Whether the cursor is visible."""
        return not self._screen.cursor.hidden

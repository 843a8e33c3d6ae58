"""``log.txt`` in the run folder: what a run said, whatever the terminal showed."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

from msft_core.types import Reporter


class LogFile:
    """A reporter that passes everything on to another one, and writes each line to a file.

    Lines that came before ``open`` are written first. Each line reaches the operating system at
    once, so the log of a killed run ends with its last line. A file that cannot be written is a
    warning and never ends a run.

    Args:
        reporter: receives everything. Its other attributes are also attributes of this object, so
            a plugin finds those of the reporter that the user gave.
    """

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._early: list[str] = []
        self._file: FileIO | None = None
        self._done = False
        self.warnings: list[str] = []
        """The text of each warning so far."""

    def open(self, path: Path) -> None:
        """Create the file or add to it, and write the lines that came before."""
        try:
            if path.is_symlink():  # in a run folder of somebody else it may lead anywhere
                raise OSError("it is a link")
            self._file = path.open("ab+", buffering=0)
            if self._file.tell():
                self._file.seek(-1, os.SEEK_END)
                if self._file.read(1) != b"\n":  # a killed run has left half a line
                    self._file.write(b"\n")
        except OSError as error:
            self._fail(error)
            return
        early, self._early = self._early, []
        for message in early:
            self.write(message)

    def close(self) -> None:
        """Close the file. Later lines are only passed on."""
        self._done = True
        self._early = []
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()

    def write(self, message: str) -> None:
        """Write a line to the file only."""
        if self._file is None:
            if not self._done:
                self._early.append(message)
            return
        # A name that is not UTF-8 is shown with escapes: every reader takes the file.
        content = f"{message}\n".encode("utf-8", "backslashreplace")
        try:
            while content:
                content = content[self._file.write(content) :]
        except OSError as error:
            self._fail(error)

    def info(self, message: str) -> None:
        """See ``msft_core.types.Reporter``."""
        self.write(message)
        self._reporter.info(message)

    def warning(self, message: str) -> None:
        """See ``msft_core.types.Reporter``."""
        if message not in self.warnings:  # those before an interruption, for one
            self.warnings.append(message)
        self.write(f"warning: {message}")
        self._reporter.warning(message)

    def progress(
        self, description: str, total: int | None = None, unit: str = ""
    ) -> AbstractContextManager[Callable[[int], None]]:
        """See ``msft_core.types.Reporter``. Progress is not written to the file."""
        return self._reporter.progress(description, total, unit)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._reporter, name)

    def _fail(self, error: OSError) -> None:
        self.close()
        self.warning(
            f"log.txt cannot be written: {error.strerror or error}. The run continues without it."
        )

"""The run folder. It has a temporary name until the run has begun."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from msft_core.errors import UsageError
from msft_core.files import write_json, write_json_lines, write_text


class RunFolder:
    """The folder of one run. It has a temporary name until ``commit``.

    Args:
        final: the final path.

    Raises:
        UsageError: the path exists and is not an empty folder, or cannot be written.
    """

    def __init__(self, final: Path) -> None:
        self.final = final.absolute()
        self.path = self.final.with_name(f".{self.final.name}.staging-{os.getpid()}")
        if self.final.exists() and (not self.final.is_dir() or any(self.final.iterdir())):
            raise UsageError(
                f"output folder {final} already exists: choose another --out, or remove it."
            )
        self._made = [p for p in (self.final.parent, *self.final.parents) if not p.exists()]
        try:
            self.path.mkdir(parents=True)
        except OSError as error:
            self._remove_parents()
            raise UsageError(
                f"output folder {final} cannot be written: {error.strerror}."
            ) from error

    def commit(self) -> None:
        """Give the folder its final name."""
        self.path.replace(self.final)
        self.path = self.final

    def discard(self) -> None:
        """Remove the folder, and the parent folders created for it: the run never began."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._remove_parents()

    def _remove_parents(self) -> None:
        for folder in dict.fromkeys(self._made):
            try:
                folder.rmdir()
            except OSError:
                return

    def write_text(self, name: str, text: str) -> None:
        """Write a text file."""
        write_text(self.path / name, text)

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file."""
        write_json(self.path / name, value)

    def write_lines(self, name: str, values: Iterable[Mapping[str, Any]]) -> None:
        """Write a file of one JSON value a line."""
        write_json_lines(self.path / name, values)


def unused_name(parent: Path, name: str) -> Path:
    """``parent/name``, or ``parent/name-2``, ``-3`` ... if that path exists."""
    path, number = parent / name, 2
    while path.exists():
        path, number = parent / f"{name}-{number}", number + 1
    return path

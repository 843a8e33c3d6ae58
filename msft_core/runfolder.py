"""What a run writes, atomically: a file has its old content or its new one, never half."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from msft_core.errors import UsageError


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Let ``write`` write a file beside ``path``, flush it to disk, and give it its name.

    Args:
        path: the final name.
        write: called with a temporary path of the same suffix in the same folder.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        write(temporary)
        temporary.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text atomically."""
    return write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


class RunFolder:
    """The folder of one run, under a temporary name until the run has begun.

    Args:
        final: the name it will have.

    Raises:
        UsageError: it is there already and not empty, or cannot be written.
    """

    def __init__(self, final: Path) -> None:
        self.final = final.absolute()
        self.path = self.final.with_name(f".{self.final.name}.staging-{os.getpid()}")
        if self.final.exists() and (not self.final.is_dir() or any(self.final.iterdir())):
            raise UsageError(
                f"output folder {final} is there already: choose another --out, or remove it."
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
        """Give the folder its name."""
        self.path.replace(self.final)
        self.path = self.final

    def discard(self) -> None:
        """Leave nothing of a run that never began."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._remove_parents()

    def _remove_parents(self) -> None:
        for folder in dict.fromkeys(self._made):
            try:
                folder.rmdir()
            except OSError:
                return

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file."""
        write_text(self.path / name, json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def write_lines(self, name: str, values: Iterable[Mapping[str, Any]]) -> None:
        """Write a file of one JSON value a line."""
        lines = (json.dumps(value, ensure_ascii=False) + "\n" for value in values)
        write_text(self.path / name, "".join(lines))


def unused_name(parent: Path, name: str) -> Path:
    """``parent/name``, or with -2, -3 ... where that is taken."""
    path, number = parent / name, 2
    while path.exists():
        path, number = parent / f"{name}-{number}", number + 1
    return path

"""Where a command may write what the user asks for: nothing the user had is lost."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from msft_core.errors import UsageError


def require_output(
    path: Path, suffix: str, *, run: Path | None = None, inputs: Iterable[str] = ()
) -> None:
    """Check a file to write, before any work.

    Args:
        path: the file.
        suffix: that its name must end in, such as ``.csv``. So ``--picture photo.jpg`` replaces no
            photograph.
        run: a run folder, or a checkpoint in one: its own files are not replaced.
        inputs: files that are read.

    Raises:
        UsageError: the file cannot be written, or would replace another one than its own kind.
    """
    if path.is_dir():
        raise UsageError(f"{path} cannot be written: it is a folder.")
    if not path.parent.is_dir():
        raise UsageError(f"{path} cannot be written: there is no folder {path.parent}.")
    if path.suffix.lower() != suffix:
        raise UsageError(f"{path}: give a name that ends in {suffix}.")
    folder = run if run is None or run.is_dir() else run.parent
    if folder is not None and path.exists() and path.parent.resolve() == folder.resolve():
        raise UsageError(f"{path} is a file of the run: name another file.")
    if any(path.resolve() == Path(one).resolve() for one in inputs):
        raise UsageError(f"{path} is one of the images: name another file.")

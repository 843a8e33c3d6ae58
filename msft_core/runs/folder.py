"""The run folder. It has a temporary name until the run has begun."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from msft_core.errors import UsageError
from msft_core.files import flush, follow_umask, write_json, write_json_lines, write_text
from msft_core.runs import lock
from msft_core.runs.lock import lock_run_folder

_OF_THE_DISK = {"lost+found", lock.NAME}
"""What a new file system has in its top folder; and a lock, which ``commit`` takes."""

_BEFORE_CONFIG = {"classes.json", "environment.json", "skipped.jsonl"}
"""What is in a run folder before its config.toml is."""

_STAGING = ".staging"


class RunFolder:
    """The folder of one run. It has a temporary name until ``commit``.

    An empty folder that is there already, such as a mount point or what a link points to, is used
    as it is: the run is prepared in a hidden folder inside.

    Args:
        final: the name it will have.
        numbered: where the name is taken, take the name with -2, -3 ... instead.

    Raises:
        UsageError: the path exists and is not an empty folder, or cannot be written.
    """

    def __init__(self, final: Path, *, numbered: bool = False) -> None:
        self._asked, self._numbered = final, numbered
        # Through links: what they point to cannot be replaced by a folder with their name.
        try:
            self.final = Path(final).resolve()
        except (OSError, RuntimeError) as error:  # links that lead round in a circle
            raise UsageError(f"output folder {final} cannot be written: {error}.") from error
        self._inside = self.final.is_dir() and not numbered
        if self.final.exists() and not numbered and not (self._inside and _is_empty(self.final)):
            raise self._taken()
        parents = (self.final.parent, *self.final.parents)
        self._made = list(dict.fromkeys(p for p in parents if not p.exists()))
        where = self.final if self._inside else self.final.parent
        try:
            where.mkdir(parents=True, exist_ok=True)
            name = f".{self.final.name}."
            self.path = Path(tempfile.mkdtemp(prefix=name, suffix=_STAGING, dir=where))
            follow_umask(self.path)
        except OSError as error:
            self._remove_parents()
            raise UsageError(
                f"output folder {final} cannot be written: {error.strerror}."
            ) from error

    def commit(self) -> None:
        """Give the folder its name.

        Raises:
            UsageError: another run has taken it meanwhile, or it cannot be written.
        """
        try:
            self._commit()
            flush(self.path.parent)
        except OSError as error:
            reason = error.strerror or error
            raise UsageError(f"output folder {self._asked} cannot be written: {reason}.") from error

    def _commit(self) -> None:
        if self._inside:
            with lock_run_folder(self.final):
                if not _is_empty(self.final):
                    raise self._taken()
                # config.toml last: with it the folder is that of a run.
                entries = sorted(self.path.iterdir(), key=lambda entry: entry.name == "config.toml")
                for entry in entries:
                    entry.replace(self.final / entry.name)
                self.path.rmdir()
            self.path = self.final
            flush(self.path)
            return
        for name in self._names():
            try:
                self.path = self.path.rename(name)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    continue
                raise
            self.final = name
            return
        raise self._taken()

    def _names(self) -> Iterator[Path]:
        yield self.final
        number = 2
        while self._numbered:
            yield self.final.with_name(f"{self.final.name}-{number}")
            number += 1

    def _taken(self) -> UsageError:
        return UsageError(
            f"output folder {self._asked} already exists: choose another --out, or remove it."
        )

    def discard(self) -> None:
        """Remove the folder, and the parent folders created for it: the run never began."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._remove_parents()

    def _remove_parents(self) -> None:
        for folder in self._made:
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


class ReopenedFolder(RunFolder):
    """The folder of a run that goes on. Files are written where they are.

    Args:
        final: the run folder.
    """

    def __init__(self, final: Path) -> None:
        self.path = self.final = final

    def commit(self) -> None:
        """It has its name."""

    def discard(self) -> None:
        """The run stays as it was."""


class FolderOfFirst(RunFolder):
    """The run folder as the other processes of a run have it: rank 0 alone writes it."""

    def __init__(self) -> None:
        self.path = self.final = Path()

    def commit(self) -> None:
        """Rank 0 does that."""

    def discard(self) -> None:
        """Rank 0 does that."""

    def write_text(self, name: str, text: str) -> None:
        """Nothing is written."""

    def write_json(self, name: str, value: Any) -> None:
        """Nothing is written."""

    def write_lines(self, name: str, values: Iterable[Mapping[str, Any]]) -> None:
        """Nothing is written."""


@contextmanager
def group_folder(final: Path, *, numbered: bool = False) -> Iterator[Path]:
    """Make a folder for several run folders. It is removed at the end if nothing is in it.

    Args:
        final: its name; an empty folder may be there already.
        numbered: where the name is taken, take the name with -2, -3 ... instead.

    Raises:
        UsageError: the path exists and is not an empty folder, or cannot be written.
    """
    folder = final.absolute()
    # Not the folder itself yet: another run may make one of this name, and may have it empty.
    made = [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if numbered:
            folder = _make_numbered(folder)
            made.insert(0, folder)
        elif not folder.exists():
            folder.mkdir()
            made.insert(0, folder)
        elif not (folder.is_dir() and _is_empty(folder)):
            raise UsageError(
                f"output folder {final} already exists: choose another --out, or remove it."
            )
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"output folder {final} cannot be written: {reason}.") from error
    try:
        yield folder
    finally:
        for one in made:
            try:
                one.rmdir()
            except OSError:
                break


def _make_numbered(final: Path) -> Path:
    """Make a folder that nobody else has, even if another process looks for one now."""
    folder, number = final, 1
    while True:
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            folder = final.with_name(f"{final.name}-{number}")
        else:
            return folder


def default_folder(dataset: str, strategy: str) -> Path:
    """Where a run goes without ``--out``: a folder in ``runs/`` named by the time and its parts."""
    started = datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path("runs", f"{started}-{dataset}-{strategy}")


def is_run_folder(folder: Path) -> bool:
    """Whether a run has begun there. May raise OSError where the folder cannot be looked into."""
    return all((folder / name).is_file() for name in ("config.toml", "classes.json"))


def _is_empty(folder: Path) -> bool:
    """Whether nothing is in it but what a file system, or a run that was killed, leaves there."""
    entries = [path for path in folder.iterdir() if path.name not in _OF_THE_DISK]
    staged = [one for one in entries if one.name.startswith(f".{folder.name}.")]
    staged = [one for one in staged if one.suffix == _STAGING]
    # A run that was killed while it moved its first files to their places: see `commit`.
    left = _BEFORE_CONFIG if staged else set()
    return all(path in staged or path.name in left for path in entries)

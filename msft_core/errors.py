"""The errors that a user may see.

Every message is one or two lines: what is wrong, where, and what to do.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from msft_core.types import RunReport


class MsftError(Exception):
    """Base class of every error with a message for the user. msft prints no traceback for it.

    ``report`` is set if the run began before it failed.
    """

    report: RunReport | None = None


class UsageError(MsftError):
    """The command line, the configuration or the set of plugins is wrong."""


class DataError(MsftError):
    """The images cannot be used."""


class WeightsError(MsftError):
    """A checkpoint cannot be fetched or read, or does not fit the network."""


class DownloadError(MsftError):
    """A download failed. The message names the address, the reason and what to do."""


class DeviceError(MsftError):
    """The chosen device is not available."""


class ExportError(MsftError):
    """A classifier cannot be exported, or the exported file computes something else."""


OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE)
"""Error numbers that say that a disk is full, broken, or takes no files."""


class OutputError(MsftError, OSError):
    """A file cannot be written: the disk is full, say, or the folder is read-only or gone.

    What was there before is intact. ``errno``, ``strerror`` and ``filename`` are those of the
    OSError that is behind it.

    Args:
        path: of the file.
        error: what the operating system said.
        before: what became of an earlier file, as a clause; ``""`` to say nothing.
    """

    def __init__(self, path: object, error: OSError, before: str = "") -> None:
        super().__init__(error.errno, error.strerror or str(error), str(path))
        self._text = f"{path} cannot be written: {error.strerror or error}"
        self._text += f"; {before}. " if before else ". "
        self._text += _WHAT_TO_DO.get(error.errno or 0, "Make room, or write elsewhere.")

    def __str__(self) -> str:
        return self._text


_WHAT_TO_DO = {
    errno.EACCES: "Give yourself the right to write there, or write elsewhere.",
    errno.EPERM: "Give yourself the right to write there, or write elsewhere.",
    errno.EROFS: "Make the disk writable, or write elsewhere.",
    errno.ENOENT: "Has the folder been removed or renamed?",
    errno.ENOTDIR: "Write elsewhere.",
    errno.ESTALE: "Has the folder been removed or renamed?",
    errno.EIO: "The disk may be broken: write elsewhere.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


class TrainingError(MsftError):
    """Training cannot continue, for example because the loss is not a number."""


class PluginError(MsftError):
    """A plugin broke the contract, or one of its hooks raised an exception.

    Args:
        plugin: name of the plugin.
        hook: name of the hook; ``""`` if there is none, for example for a failed import.
        message: what happened.
    """

    package: str = ""
    """The distribution of the plugin, such as ``msft-digits 0.1.0``, if it is known."""

    def __init__(self, plugin: str, hook: str, message: str) -> None:
        self.plugin = plugin
        self.hook = hook
        self.message = message
        super().__init__(plugin, hook, message)

    def __str__(self) -> str:
        package = f" ({self.package})" if self.package else ""
        hook = f", hook {self.hook}" if self.hook else ""
        return f"plugin {self.plugin!r}{package}{hook}: {self.message}"


@contextmanager
def blaming(plugin: str, hook: str, what: str = "") -> Iterator[None]:
    """Turn an exception raised inside into a ``PluginError``. A ``MsftError`` passes unchanged.

    Args:
        plugin: the plugin whose code runs inside.
        hook: the hook that returned the code.
        what: text before the reason.
    """
    try:
        yield
    except MsftError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(plugin, hook, what + first_line(error)) from error


def first_line(error: BaseException) -> str:
    """Return an exception as one line; MindSpore's exceptions have many lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" -\t")]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def in_a_line(error: BaseException) -> str:
    """Return any exception as a line for the user, with advice where there is any."""
    if isinstance(error, MemoryError):
        return (
            f"there is too little memory ({first_line(error)}). Try a smaller batch size or image "
            "size, or fewer workers (data.workers)"
        )
    return first_line(error)


@contextmanager
def enough_memory() -> Iterator[None]:
    """Turn a MemoryError raised inside into a ``MsftError``."""
    try:
        yield
    except MemoryError as error:
        raise MsftError(f"{in_a_line(error)}.") from error


def suggest(word: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the end of a message, or ``""`` if no name is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""

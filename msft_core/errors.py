"""The errors a user may see, each with the exit status it ends the command with.

Every message is one or two lines: what is wrong, where, what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from msft_core.types import RunReport


class MsftError(Exception):
    """Base of every error whose message is meant for the user, without a traceback.

    ``report`` is set where a run had begun before it failed.
    """

    report: RunReport | None = None


class UsageError(MsftError):
    """The command line, the configuration or the set of plugins is wrong."""


class DataError(MsftError):
    """The images cannot be used as they are."""


class WeightsError(MsftError):
    """A checkpoint cannot be fetched, read or fitted to the network."""


class DownloadError(MsftError):
    """A file could not be downloaded; the message says what was tried and the ways out."""


class DeviceError(MsftError):
    """The device asked for is not there."""


class TrainingError(MsftError):
    """Training cannot go on, for example because the loss is not a number."""


class PluginError(MsftError):
    """A plugin broke the contract, or one of its hooks raised.

    Args:
        plugin: name of the plugin.
        hook: name of the hook, or ``""`` where none is involved (an import that fails).
        message: what happened.
    """

    package: str = ""
    """The distribution that the plugin came with, such as ``msft-digits 0.1.0``, where known."""

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
    """Turn whatever is raised inside into a ``PluginError``, but for errors that say it already.

    Args:
        plugin: whose code runs inside.
        hook: the hook that handed it over.
        what: goes before the reason.
    """
    try:
        yield
    except MsftError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(plugin, hook, what + first_line(error)) from error


def first_line(error: BaseException) -> str:
    """An exception on one line: MindSpore's run over many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" -\t")]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def suggest(word: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` or nothing, for the end of a message."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""

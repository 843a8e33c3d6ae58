"""The errors a user may see, each with the exit status it ends the command with.

Every message is one or two lines: what is wrong, where, what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
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

    def __init__(self, plugin: str, hook: str, message: str) -> None:
        self.plugin = plugin
        self.hook = hook
        where = f"plugin {plugin!r}, hook {hook}" if hook else f"plugin {plugin!r}"
        super().__init__(f"{where}: {message}")


def suggest(word: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` or nothing, for the end of a message."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""

"""Which contract this msft has, and what it still takes from older plugins.

The contract has the number of the msft release that it came with, major and minor: "0.3" is what
hooks, arguments and public types were in msft 0.3. A plugin may say which it needs::

    msft_api = "0.3"

What is renamed keeps its old name for one minor version, with a warning that names the plugin:
put it into one of the tables below, and take it out a minor version later.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

API_VERSION = "0.3"
"""The contract of this msft."""

OLDEST_API_VERSION = "0.1"
"""The oldest one whose plugins still work."""

REQUIREMENT = "msft_api"
"""The attribute of a plugin that says which contract it needs."""


@dataclass(frozen=True)
class Renamed:
    """What an old name has become.

    Args:
        new: the name now.
        until: the contract in which the old name works no more.
    """

    new: str
    until: str


RENAMED_HOOKS: dict[str, Renamed] = {}
"""By old name."""

RENAMED_ARGUMENTS: dict[str, dict[str, Renamed]] = {}
"""By (new) name of the hook, then by old name of the argument."""


def why_refused(required: object) -> str:
    """Why a plugin that needs this contract cannot be used; empty where it can."""
    if not isinstance(required, str) or not re.fullmatch(r"\d+\.\d+", required):
        return f'{REQUIREMENT} = {required!r} is not a version such as "{API_VERSION}"'
    if _numbers(required) > _numbers(API_VERSION):
        return (
            f"it needs plugin API {required}, this msft has {API_VERSION}: "
            "pip install --upgrade msft"
        )
    if _numbers(required) < _numbers(OLDEST_API_VERSION):
        return (
            f"it was written for plugin API {required}, this msft takes {OLDEST_API_VERSION} and "
            "later: look for a newer release of the plugin"
        )
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))

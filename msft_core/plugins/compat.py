"""The version of the contract (the plugin API) of this msft, and the old names it still accepts.

The contract is the hooks, their arguments and the public types. Its version is the major and minor
number of the msft release that introduced it, such as "0.3". A plugin may declare the version that
it needs::

    msft_api = "0.3"

A renamed hook or argument keeps its old name for one minor version, with a warning that names the
plugin. Put it into one of the tables below, and remove it one minor version later.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

API_VERSION = "0.4"
"""The version of the contract of this msft."""

OLDEST_API_VERSION = "0.1"
"""The oldest version of the contract whose plugins still work."""

REQUIREMENT = "msft_api"
"""The attribute with which a plugin declares the version that it needs."""


@dataclass(frozen=True)
class Renamed:
    """The new name of a renamed hook or argument.

    Args:
        new: the new name.
        until: the first version of the contract without the old name.
    """

    new: str
    until: str


RENAMED_HOOKS: dict[str, Renamed] = {}
"""By old name."""

RENAMED_ARGUMENTS: dict[str, dict[str, Renamed]] = {}
"""By the new name of the hook, then by the old name of the argument."""


def why_refused(required: object) -> str:
    """Why a plugin that needs this version cannot be used; empty if it can."""
    if not isinstance(required, str) or not re.fullmatch(r"\d+\.\d+", required):
        return f'{REQUIREMENT} = {required!r} is not a version such as "{API_VERSION}"'
    if _numbers(required) > _numbers(API_VERSION):
        return (
            f"it needs plugin API {required}, but this msft has {API_VERSION}: "
            "pip install --upgrade msft"
        )
    if _numbers(required) < _numbers(OLDEST_API_VERSION):
        return (
            f"it was written for plugin API {required}, but this msft accepts only "
            f"{OLDEST_API_VERSION} and later: look for a newer release of the plugin"
        )
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))

"""Join the user's settings (a TOML file, flags and ``--set key=value``) into one mapping."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
import tomlkit.exceptions

from msft_core.errors import UsageError, first_line
from msft_core.plugins.loading import absolute_if_module_file, names_in_environment
from msft_core.types import CHOSEN_KINDS

LISTS = ("plugins", "without")


def read_toml(path: Path) -> dict[str, Any]:
    """Read a configuration file.

    Raises:
        UsageError: it cannot be read, or is not TOML.
    """
    try:
        # With a byte order mark or without: editors on Windows write one.
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
        return tomlkit.parse(text).unwrap()
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise UsageError(f"cannot read configuration {path}: {reason}.") from error
    except (tomlkit.exceptions.TOMLKitError, ValueError, RecursionError) as error:
        reason = str(error).rstrip(".")[:300] or type(error).__name__
        raise UsageError(f"configuration {path} is not valid TOML: {reason}.") from error


def parse_assignment(text: str) -> dict[str, Any]:
    """``training.batch_size=16`` as ``{"training": {"batch_size": 16}}``.

    A value that is not TOML is read as text, so that ``strategy.from=layer4`` needs no quotes.

    Raises:
        UsageError: there is no ``=``, or a part of the key is empty.
    """
    key, equals, value = text.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise UsageError(f"--set {text}: write it as key=value, such as training.batch_size=16.")
    nested: Any = _literal(value.strip())
    for part in reversed(parts):
        nested = {part: nested}
    return dict(nested)


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Configurations joined key by key; later ones win. ``dataset = "x"`` names a dataset.

    Raises:
        UsageError: a layer has a value where another has a section, which would replace it unseen.
    """
    sections = [{key: _section(key, value) for key, value in one.items()} for one in layers]
    for key in {key for one in sections for key in one}:
        values = [one[key] for one in sections if key in one]
        are = [isinstance(value, Mapping) for value in values]
        if any(are) and not all(are):
            wrong = reprlib.repr(values[are.index(False)])
            raise UsageError(f"{key} must be a section, such as [{key}], not {wrong}.")
    return _joined(*sections)


def _section(key: str, value: Any) -> Any:
    # At the top only: further in, a plugin's setting may be called so.
    return {"name": value} if key in CHOSEN_KINDS and isinstance(value, str) else value


def _joined(*layers: Mapping[str, Any]) -> dict[str, Any]:
    joined: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if isinstance(value, Mapping):
                old = joined.get(key)
                value = _joined(old if isinstance(old, Mapping) else {}, value)
            joined[key] = value
    return joined


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """All settings of nested sections by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def section_of(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section of a configuration; empty where there is none, or something else in its place."""
    section = config.get(name)
    return section if isinstance(section, Mapping) else {}


def plugin_lists(raw: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The lists ``plugins`` and ``without``. They are needed before anything else is checked.

    Those of the environment (``MSFT_PLUGINS``, ``MSFT_WITHOUT``) come first, so that the written
    configuration names every plugin that took part.

    Raises:
        UsageError: one of them is not a list of names.
    """
    lists = []
    for key, variable in zip(LISTS, ("MSFT_PLUGINS", "MSFT_WITHOUT"), strict=True):
        value = raw.get(key, [])
        if isinstance(value, str):
            raise UsageError(f'{key} must be a list of names, such as {key} = ["{value}"].')
        if not isinstance(value, Sequence) or not all(isinstance(name, str) for name in value):
            raise UsageError(f"{key} must be a list of names, not {reprlib.repr(value)}.")
        names = [*names_in_environment(variable), *map(absolute_if_module_file, value)]
        lists.append(list(dict.fromkeys(names)))
    return lists[0], lists[1]


def _literal(text: str) -> Any:
    try:
        return tomlkit.parse(f"value = {text}").unwrap()["value"]
    except (tomlkit.exceptions.TOMLKitError, ValueError, RecursionError):
        return text

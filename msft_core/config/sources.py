"""Join the user's settings (a TOML file, flags and ``--set key=value``) into one mapping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
import tomlkit.exceptions

from msft_core.errors import UsageError
from msft_core.types import CHOSEN_KINDS

LISTS = ("plugins", "without")


def read_toml(path: Path) -> dict[str, Any]:
    """Read a configuration file.

    Raises:
        UsageError: it cannot be read, or is not TOML.
    """
    try:
        return tomlkit.parse(path.read_text(encoding="utf-8")).unwrap()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UsageError(f"cannot read configuration {path}: {reason}.") from error
    except tomlkit.exceptions.ParseError as error:
        raise UsageError(f"configuration {path} is not valid TOML: {error}.") from error


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
    """Join nested mappings key by key. Later values win."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if key in CHOSEN_KINDS and isinstance(value, str):
                value = {"name": value}
            if isinstance(value, Mapping):
                old = merged.get(key)
                merged[key] = merge(old if isinstance(old, Mapping) else {}, value)
            else:
                merged[key] = value
    return merged


def plugin_lists(raw: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The lists ``plugins`` and ``without``. They are needed before anything else is checked.

    Raises:
        UsageError: one of them is not a list of names.
    """
    lists = []
    for key in LISTS:
        value = raw.get(key, [])
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise UsageError(f'{key} must be a list of names, such as {key} = ["{value}"].')
        # A file's path is made absolute: config.toml may be run again from another folder.
        lists.append([str(Path(v).absolute()) if str(v).endswith(".py") else str(v) for v in value])
    return lists[0], lists[1]


def _literal(text: str) -> Any:
    try:
        return tomlkit.parse(f"value = {text}").unwrap()["value"]
    except tomlkit.exceptions.ParseError:
        return text

"""The resolved configuration of a run: every setting has its value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from msft_core.config.sections import (
    SECTIONS,
    CacheSettings,
    DataSettings,
    RuntimeSettings,
    TrainingSettings,
)
from msft_core.config.sources import LISTS
from msft_core.types import CHOSEN_KINDS, NONE, SWITCHED_KINDS, Component, Kind, Settings


class Choice(BaseModel):
    """A chosen component, with its settings."""

    name: str
    settings: Settings


class RunConfig(BaseModel):
    """The resolved configuration of a run: every setting has its value.

    Args:
        plugins: modules given with ``--plugin``.
        without: plugins blocked with ``--without``.
        callback: settings of each loaded callback. ``metric`` and ``extractor`` are alike.
    """

    plugins: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    dataset: Choice
    backbone: Choice
    strategy: Choice
    training: TrainingSettings
    data: DataSettings
    runtime: RuntimeSettings
    cache: CacheSettings
    callback: dict[str, Settings]
    metric: dict[str, Settings]
    extractor: dict[str, Settings]

    def settings(self, kind: Kind, name: str) -> Any:
        """The settings of a component that takes part in the run.

        Raises:
            KeyError: the component does not take part.
        """
        if kind in CHOSEN_KINDS:
            choice: Choice = getattr(self, kind)
            if choice.name != name:
                raise KeyError(f"the {kind} of this run is {choice.name!r}, not {name!r}")
            return choice.settings
        return getattr(self, kind)[name]

    def enabled(self, kind: Kind, name: str) -> bool:
        """Whether a callback, metric or extractor is switched on.

        An extractor that is enabled by name keeps those with ``enabled = "auto"`` out.
        """
        enabled = self.settings(kind, name).enabled
        if enabled == "auto":
            return not any(other.enabled is True for other in self.extractor.values())  # type: ignore[attr-defined]
        return bool(enabled)

    def extractor_settings(self, components: Sequence[Component]) -> Settings:
        """Settings of the enabled extractor among a plugin's components; else empty settings."""
        names = [c.name for c in components if c.kind == "extractor"]
        enabled = [self.extractor[name] for name in names if self.enabled("extractor", name)]
        return enabled[0] if enabled else Settings()

    def to_mapping(self) -> dict[str, Any]:
        """The configuration with TOML's structure. Resolving it again gives an equal configuration.

        Empty sections and lists are left out.
        """
        mapping: dict[str, Any] = {key: list(getattr(self, key)) for key in LISTS}
        for kind in CHOSEN_KINDS:
            choice: Choice = getattr(self, kind)
            mapping[kind] = {"name": choice.name, **_dump(choice.settings)}
        for section in SECTIONS:
            mapping[section] = _dump(getattr(self, section))
        for kind in SWITCHED_KINDS:
            mapping[kind] = {name: _dump(s) for name, s in getattr(self, kind).items()}
        return {key: value for key, value in mapping.items() if value not in ({}, [])}

    def to_toml(self) -> str:
        """The configuration as TOML text."""
        return tomlkit.dumps(self.to_mapping())


def _dump(model: BaseModel) -> dict[str, Any]:
    """Settings, or a model in one of them, as TOML has them."""
    dumped = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name, None)  # one that is left out may lack what is required
        if value is None and field.default is None:
            continue
        dumped[field.alias or name] = _plain(value)
    return dumped


def _plain(value: Any) -> Any:
    """A value of a setting as TOML has it, at any depth: paths become absolute texts."""
    if isinstance(value, BaseModel):
        return _dump(value)
    if isinstance(value, Path):
        return str(value.expanduser().absolute())
    if value is None:
        return NONE
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    return to_jsonable_python(value, fallback=str, inf_nan_mode="constants")

"""The resolved configuration of a run: every setting has its value."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import BaseModel

from msft_core.config.sections import (
    SECTIONS,
    CacheSettings,
    DataSettings,
    RuntimeSettings,
    TrainingSettings,
)
from msft_core.config.sources import LISTS
from msft_core.types import CHOSEN_KINDS, SWITCHED_KINDS, Component, Kind, Settings


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
        """Whether a callback, metric or extractor is switched on."""
        return bool(self.settings(kind, name).enabled)

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


def _dump(settings: Settings) -> dict[str, Any]:
    dumped = settings.model_dump(mode="json", by_alias=True, exclude_none=True)
    for name, field in type(settings).model_fields.items():
        # A component that is switched off may lack its required settings.
        value = getattr(settings, name, None)
        if isinstance(value, Path):
            dumped[field.alias or name] = str(value.absolute())
    return dumped

"""Turn a TOML file, flags and ``--set key=value`` into a ``RunConfig``."""

from msft_core.config.checking import component_settings, resolve, section_settings, settings_model
from msft_core.config.each import for_each_strategy, listed_strategies, with_strategy
from msft_core.config.run_config import RunConfig
from msft_core.config.sections import SECTIONS, DataSettings, RuntimeSettings
from msft_core.config.sources import (
    flat,
    merge,
    parse_assignment,
    plugin_lists,
    read_toml,
    section_of,
)

__all__ = [
    "SECTIONS",
    "DataSettings",
    "RunConfig",
    "RuntimeSettings",
    "component_settings",
    "flat",
    "for_each_strategy",
    "listed_strategies",
    "merge",
    "parse_assignment",
    "plugin_lists",
    "read_toml",
    "resolve",
    "section_of",
    "section_settings",
    "settings_model",
    "with_strategy",
]

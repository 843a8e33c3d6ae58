"""Check all settings at once.

A component's settings are checked with the model that it declares. All mistakes are reported
together. For an unknown name the message suggests the most similar valid name.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, cast, get_args

from pydantic import Field, ValidationError, create_model

from msft_core.config.run_config import Choice, RunConfig
from msft_core.config.sections import SECTIONS
from msft_core.config.sources import LISTS, merge, plugin_lists
from msft_core.errors import PluginError, UsageError, first_line, suggest
from msft_core.plugins.registry import Plugins
from msft_core.types import CHOSEN_KINDS, SWITCHED_KINDS, Component, Kind, Settings

_DEFAULT_NAMES = {"backbone": "resnet50", "strategy": "finetune"}

_MISSING = "must be given: "

_MOST_LINES, _LONGEST_LINE = 20, 600

_FLAGS = {
    "dataset.data_dir": "--data-dir DIR",
    "backbone.weights": "--weights FILE",
    "strategy.learning_rate": "--lr RATE",
}


def resolve(raw: Mapping[str, Any], plugins: Plugins, *, lenient: bool = False) -> RunConfig:
    """Check everything and fill in the defaults.

    Args:
        raw: the user's settings, joined by ``merge``.
        plugins: the loaded plugins. Their components declare settings.
        lenient: accept a dataset, backbone or strategy that no plugin offers, without its settings:
            for a run that has ended.

    Raises:
        UsageError: with a line for each mistake.
    """
    raw = merge(raw)
    problems: list[str] = []
    known = [*LISTS, *CHOSEN_KINDS, *SECTIONS, *SWITCHED_KINDS]
    for key in raw:
        if key not in known:
            problems.append(f"unknown setting {key!r}.{suggest(key, known)}")
    values: dict[str, Any] = dict(zip(LISTS, plugin_lists(raw), strict=True))
    for section, model in SECTIONS.items():
        values[section] = _validate(model, raw.get(section, {}), section, problems)
    for kind in CHOSEN_KINDS:
        section = raw.get(kind, {})
        name = section.get("name") if isinstance(section, Mapping) else None
        if lenient and name and name not in plugins.components(kind):
            values[kind] = Choice.model_construct(name=name, settings=Settings())
        else:
            values[kind] = _choose(kind, section, plugins, problems)
    for kind in SWITCHED_KINDS:
        values[kind] = _settle_all(kind, raw.get(kind, {}), plugins, problems)
    extractors = [name for name, s in values["extractor"].items() if s and s.enabled is True]
    if len(extractors) > 1:
        problems.append(f"only one extractor may be enabled, not {' and '.join(extractors)}.")
    if problems:
        raise UsageError(_listed(problems))
    return RunConfig.model_construct(**values)


def _listed(problems: list[str]) -> str:
    """A line for each mistake, short enough to be read, whatever the settings contain."""
    lines = [_shortened(line) for line in dict.fromkeys(problems)]
    more = [f"... and {len(lines) - _MOST_LINES} more."] if len(lines) > _MOST_LINES else []
    return "\n".join([*lines[:_MOST_LINES], *more])


def _shortened(line: str) -> str:
    half = _LONGEST_LINE // 2
    return line if len(line) <= _LONGEST_LINE else f"{line[:half]} ... {line[-half:]}"


def component_settings(
    component: Component, values: Mapping[str, Any], plugin: str = ""
) -> Settings:
    """Check a component's settings, for commands other than ``run``.

    Raises:
        UsageError: with a line for each mistake.
    """
    problems: list[str] = []
    settings = _validate(
        settings_model(component), values, component.kind, problems, component, plugin
    )
    if settings is None:
        raise UsageError(_listed(problems))
    return settings


def section_settings(section: str, values: Mapping[str, Any]) -> Any:
    """Check a section of the core, for commands other than ``run``.

    Raises:
        UsageError: with a line for each mistake.
    """
    problems: list[str] = []
    settings = _validate(SECTIONS[section], values, section, problems)
    if settings is None:
        raise UsageError(_listed(problems))
    return settings


@functools.cache
def settings_model(component: Component) -> type[Settings]:
    """The component's settings model. For a callback, metric or extractor it has ``enabled``."""
    model = component.settings
    if component.kind not in SWITCHED_KINDS or "enabled" in model.model_fields:
        return model
    default = component.kind != "extractor"
    enabled = Field(default, description=f"whether the {component.kind} takes part")
    return create_model(model.__name__, __base__=model, enabled=(bool, enabled))


def _choose(kind: Kind, section: Any, plugins: Plugins, problems: list[str]) -> Choice | None:
    if not isinstance(section, Mapping):
        problems.append(f"{kind} must be a name or a section.")
        return None
    settings = dict(section)
    name = settings.pop("name", _DEFAULT_NAMES.get(kind))
    if name is None and kind == "dataset" and "data_dir" in settings:
        name = "folder"
    if name is None:
        there_are = ", ".join(sorted(plugins.components(kind)))
        problems.append(f"no {kind} is chosen: give --{kind} NAME. There are: {there_are}.")
        return None
    try:
        component = plugins.component(kind, str(name))
    except UsageError as error:
        problems.append(str(error))
        return None
    plugin = plugins.owner(kind, component.name)
    checked = _validate(settings_model(component), settings, kind, problems, component, plugin)
    return (
        None if checked is None else Choice.model_construct(name=component.name, settings=checked)
    )


def _settle_all(
    kind: Kind, section: Any, plugins: Plugins, problems: list[str]
) -> dict[str, Settings | None]:
    components = plugins.components(kind)
    if not isinstance(section, Mapping):
        problems.append(f"{kind} must be a section, such as [{kind}.NAME].")
        return {}
    for name in section:
        if name not in components:
            problems.append(f"unknown {kind} {name!r}.{suggest(name, components)}")
    return {
        name: _settle(component, section.get(name, {}), problems, plugins.owner(kind, name))
        for name, component in components.items()
    }


def _settle(component: Component, values: Any, problems: list[str], plugin: str) -> Settings | None:
    """The settings of a callback, metric or extractor. The user may not even know of it."""
    model, where = settings_model(component), f"{component.kind}.{component.name}"
    found: list[str] = []
    settings = _validate(model, values, where, found, component, plugin)
    if settings is None and all(_MISSING in problem for problem in found):
        if values.get("enabled", model.model_fields["enabled"].default) is False:
            unchecked: Any = model.model_construct
            return cast(Settings, unchecked(enabled=False))
        switch_off = f", or switch it off: --set {where}.enabled=false."
        found = [problem.removesuffix(".") + switch_off for problem in found]
    problems += found
    return settings


def _validate(
    model: type[Settings],
    values: Any,
    where: str,
    problems: list[str],
    component: Component | None = None,
    plugin: str = "",
) -> Settings | None:
    """Check a section against its model; each mistake becomes a line of ``problems``.

    Raises:
        PluginError: a validator of the component's raised something else than ValueError.
    """
    if not isinstance(values, Mapping):
        problems.append(f"{where} must be a section, such as [{where}].")
        return None
    for name, field in model.model_fields.items():
        value = values.get(field.alias or name)
        if isinstance(value, bool) and _takes_numbers(field.annotation):  # pydantic: true is 1
            problems.append(f"{where}.{name} = {str(value).lower()}: must be a number.")
            return None
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        problems += [_line_for(item, where, model, component) for item in error.errors()]
        return None
    except Exception as error:
        what = f"checking its settings {where} raised {first_line(error)}"
        raise PluginError(plugin or (component.name if component else where), "", what) from error


def _takes_numbers(annotation: Any) -> bool:
    """Whether a field takes numbers, and perhaps None, and nothing else."""
    kinds = set(get_args(annotation)) - {type(None)} or {annotation}
    return kinds <= {int, float}


def _line_for(
    item: Mapping[str, Any], where: str, model: type[Settings], component: Component | None
) -> str:
    """One mistake, as pydantic reports it, in a line."""
    key = ".".join([where, *(str(part) for part in item["loc"])])
    if item["type"] == "extra_forbidden":
        names = [field.alias or name for name, field in model.model_fields.items()]
        word = str(item["loc"][-1])
        of = f" (of {component.name})" if component and component.kind in CHOSEN_KINDS else ""
        there_are = f" There are: {', '.join(names)}." if names else " It has none."
        return f"unknown setting {key}{of}.{suggest(word, names) or there_are}"
    if item["type"] == "missing":
        return f"{key} {_MISSING}{_FLAGS.get(key, f'--set {key}=VALUE')}."
    message = item["msg"].removeprefix("Value error, ")
    return f"{key} = {item['input']!r}: {message[:1].lower() + message[1:]}."

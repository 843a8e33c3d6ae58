"""Configuration: a TOML file, then flags, then ``--set key=value``, checked all at once.

A component's settings are checked by the model it declares; every mistake found is reported
together, each with the nearest name that would have worked.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import tomlkit
import tomlkit.exceptions
from pydantic import AfterValidator, BaseModel, Field, ValidationError, create_model

from msft_core.errors import UsageError, suggest
from msft_core.plugins import CHOSEN_KINDS, SWITCHED_KINDS, Plugins
from msft_core.types import Component, Kind, Settings


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("the first must not be above the second")
    return pair


Range = Annotated[
    tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]], AfterValidator(_ascending)
]
AreaRange = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]],
    AfterValidator(_ascending),
]


class TrainingSettings(Settings):
    """``training.*``: how long and in what portions."""

    epochs: int = Field(10, ge=1, description="passes over the training images")
    batch_size: int = Field(24, ge=1, description="images a step")
    seed: int = Field(0, ge=0, lt=2**32, description="decides the head, the order and the views")
    drop_remainder: bool = Field(False, description="leave out the last, smaller batch")
    views: int = Field(
        4,
        ge=0,
        description="views of each training image whose frozen part is computed once and stored; "
        "0: nothing is stored, and each epoch has new views",
    )


class DataSettings(Settings):
    """``data.*``: from files to arrays."""

    pipeline: Literal["keyed", "mindspore"] = Field(
        "keyed", description="keyed: views depend on seed, image and epoch only; mindspore: C++"
    )
    workers: int | None = Field(None, ge=0, description="decoding threads; one a CPU by default")
    strict: bool = Field(False, description="an image that does not decode is an error")
    crop_scale: AreaRange = Field(
        (0.7, 1.0), description="area of a training crop, as a fraction of the image's"
    )
    crop_ratio: Range = Field((0.75, 1.333), description="width by height of a training crop")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    augment_validation: bool = Field(
        False, description="treat validation images like training ones, as tutorial r1.6 does"
    )


class RuntimeSettings(Settings):
    """``runtime.*``: where and how MindSpore computes."""

    device: Literal["auto", "cpu", "gpu", "ascend"] = Field("auto", description="what computes")
    mode: Literal["auto", "graph", "pynative"] = Field(
        "auto", description="auto: graph on an accelerator; on a CPU only training steps"
    )
    sink: bool | None = Field(
        None, description="dataset sink mode; by default where the device supports it"
    )


class CacheSettings(Settings):
    """``cache.*``: what frozen stages gave, kept on disk between runs."""

    limit_gb: float = Field(
        10.0, ge=0, description="greatest size of all stored features, in units of 10^9 bytes"
    )


SECTIONS: dict[str, type[Settings]] = {
    "training": TrainingSettings,
    "data": DataSettings,
    "runtime": RuntimeSettings,
    "cache": CacheSettings,
}
_LISTS = ("plugins", "without")
_DEFAULT_NAMES = {"backbone": "resnet50", "strategy": "finetune"}


class Choice(BaseModel):
    """A component that was chosen, with its settings."""

    name: str
    settings: Settings


class RunConfig(BaseModel):
    """The resolved configuration of a run: every setting has its value.

    Args:
        plugins: modules given with ``--plugin``.
        without: plugins blocked with ``--without``.
        callback: settings of each loaded callback; likewise ``metric`` and ``extractor``.
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
            KeyError: it does not.
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
        """Those of the enabled extractor among a plugin's components; none where it has none."""
        names = [c.name for c in components if c.kind == "extractor"]
        enabled = [self.extractor[name] for name in names if self.enabled("extractor", name)]
        return enabled[0] if enabled else Settings()

    def to_mapping(self) -> dict[str, Any]:
        """The configuration as TOML has it; resolving that again gives an equal one."""
        mapping: dict[str, Any] = {key: list(getattr(self, key)) for key in _LISTS}
        for kind in CHOSEN_KINDS:
            choice: Choice = getattr(self, kind)
            mapping[kind] = {"name": choice.name, **_dump(choice.settings)}
        for section in SECTIONS:
            mapping[section] = _dump(getattr(self, section))
        for kind in SWITCHED_KINDS:
            mapping[kind] = {name: _dump(s) for name, s in getattr(self, kind).items()}
        return {key: value for key, value in mapping.items() if value not in ({}, [])}

    def to_toml(self) -> str:
        """The same as text."""
        return tomlkit.dumps(self.to_mapping())


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

    The value is read as TOML where it is TOML, and as text otherwise, so that
    ``strategy.from=layer4`` needs no quotes.

    Raises:
        UsageError: there is no ``=``, or nothing before it.
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
    """Nested mappings joined key by key; later ones win."""
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
    """``plugins`` and ``without``, which must be known before anything else is checked.

    Raises:
        UsageError: one of them is not a list of names.
    """
    lists = []
    for key in _LISTS:
        value = raw.get(key, [])
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise UsageError(f'{key} must be a list of names, such as {key} = ["{value}"].')
        # A file's path is made absolute: the written configuration is run again from elsewhere.
        lists.append([str(Path(v).absolute()) if str(v).endswith(".py") else str(v) for v in value])
    return lists[0], lists[1]


def resolve(raw: Mapping[str, Any], plugins: Plugins) -> RunConfig:
    """Check everything and fill in the defaults.

    Args:
        raw: what the user gave, as ``merge`` joins it.
        plugins: the loaded plugins, whose components declare settings.

    Raises:
        UsageError: with a line for each mistake.
    """
    raw = merge(raw)
    problems: list[str] = []
    known = [*_LISTS, *CHOSEN_KINDS, *SECTIONS, *SWITCHED_KINDS]
    for key in raw:
        if key not in known:
            problems.append(f"unknown setting {key!r}.{suggest(key, known)}")
    values: dict[str, Any] = dict(zip(_LISTS, plugin_lists(raw), strict=True))
    for section, model in SECTIONS.items():
        values[section] = _validate(model, raw.get(section, {}), section, problems)
    for kind in CHOSEN_KINDS:
        values[kind] = _choose(kind, raw.get(kind, {}), plugins, problems)
    for kind in SWITCHED_KINDS:
        values[kind] = _settle_all(kind, raw.get(kind, {}), plugins, problems)
    extractors = [name for name, s in values["extractor"].items() if s and s.enabled]
    if len(extractors) > 1:
        problems.append(f"only one extractor may be enabled, not {' and '.join(extractors)}.")
    if problems:
        raise UsageError("\n".join(dict.fromkeys(problems)))
    return RunConfig.model_construct(**values)


def component_settings(component: Component, values: Mapping[str, Any]) -> Settings:
    """A component's settings from what the user gave, for commands other than ``run``.

    Raises:
        UsageError: with a line for each mistake.
    """
    problems: list[str] = []
    settings = _validate(
        settings_model(component), values, component.kind, problems, component.name
    )
    if settings is None:
        raise UsageError("\n".join(problems))
    return settings


@functools.cache
def settings_model(component: Component) -> type[Settings]:
    """The component's model; for a callback, metric or extractor with ``enabled``."""
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
    if name is None:
        there_are = ", ".join(sorted(plugins.components(kind)))
        problems.append(f"name a {kind}: --{kind} NAME. There are: {there_are}.")
        return None
    try:
        component = plugins.component(kind, str(name))
    except UsageError as error:
        problems.append(str(error))
        return None
    checked = _validate(settings_model(component), settings, kind, problems, component.name)
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
        name: _settle(component, section.get(name, {}), problems)
        for name, component in components.items()
    }


def _settle(component: Component, values: Any, problems: list[str]) -> Settings | None:
    """Of a callback, metric or extractor, which the user may never have heard of."""
    model, where = settings_model(component), f"{component.kind}.{component.name}"
    found: list[str] = []
    settings = _validate(model, values, where, found)
    if settings is None and all(problem.endswith(_MISSING) for problem in found):
        if values.get("enabled") is False:
            unchecked: Any = model.model_construct
            return cast(Settings, unchecked(enabled=False))
        leave_out = f", or leave it out: --set {where}.enabled=false."
        found = [problem.removesuffix(".") + leave_out for problem in found]
    problems += found
    return settings


_MISSING = "must be given."


def _validate(
    model: type[Settings], values: Any, where: str, problems: list[str], owner: str = ""
) -> Settings | None:
    if not isinstance(values, Mapping):
        problems.append(f"{where} must be a section, such as [{where}].")
        return None
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        names = [field.alias or name for name, field in model.model_fields.items()]
        for item in error.errors(include_url=False):
            key = ".".join([where, *(str(part) for part in item["loc"])])
            if item["type"] == "extra_forbidden":
                word = str(item["loc"][-1])
                of = f" (of {owner})" if owner else ""
                there_are = f" There are: {', '.join(names)}." if names else " It has none."
                problems.append(f"unknown setting {key}{of}.{suggest(word, names) or there_are}")
            elif item["type"] == "missing":
                problems.append(f"{key} {_MISSING}")
            else:
                message = item["msg"].removeprefix("Value error, ")
                message = message[:1].lower() + message[1:]
                problems.append(f"{key} = {item['input']!r}: {message}.")
        return None


def _dump(settings: Settings) -> dict[str, Any]:
    dumped = settings.model_dump(mode="json", by_alias=True, exclude_none=True)
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name, None)  # one that is left out may lack what is required
        if isinstance(value, Path):
            dumped[field.alias or name] = str(value.absolute())
    return dumped


def _literal(text: str) -> Any:
    try:
        return tomlkit.parse(f"value = {text}").unwrap()["value"]
    except tomlkit.exceptions.ParseError:
        return text

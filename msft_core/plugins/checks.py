"""Check hook results. All callers of hooks use these checks, and there are no others.

Every field is checked, so that a run cannot train with a wrong word or number unnoticed. This
module imports neither MindSpore nor NumPy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from msft_core.errors import suggest
from msft_core.types import (
    CHOSEN_KINDS,
    MOVING_STATISTICS,
    SWITCHED_KINDS,
    Backbone,
    Component,
    DatasetSplits,
    FeatureExtractor,
    Kind,
    OptimizerSpec,
    ParameterGroup,
    Preprocessing,
    Settings,
    Stage,
    Trainable,
)


def problem_of(hook: str, result: Any, arguments: Mapping[str, Any] | None = None) -> str:
    """The first problem of a hook result, as a clause; empty if there is none.

    Args:
        hook: name of the hook.
        result: the hook result, not None.
        arguments: the arguments that the hook was called with.
    """
    check = _CHECKS.get(hook)
    return check(result, arguments or {}) if check else ""


# list_components


def _problem_of_components(listed: object, _arguments: Mapping[str, Any]) -> str:
    if isinstance(listed, Component):
        return "gave a Component, not a list of them: return [Component(...)]"
    if not isinstance(listed, Iterable):
        return f"gave {type(listed).__name__}, not a list of Component"
    for component in listed:
        if not isinstance(component, Component):
            return f"returned {type(component).__name__}, not a msft_core.Component"
        if problem := _problem_of_component(component):
            return f"returned {problem}"
    return ""


def _problem_of_component(component: Component) -> str:
    if not isinstance(component.name, str) or not component.name:
        return f"a component with the name {component.name!r}, which must be text"
    if not re.fullmatch(r"[\w/-]+", component.name):
        return (
            f"the component {component.name!r}: a name has letters, digits, _, - and /, so that "
            "--set takes it"
        )
    named = f"the component {component.name!r} with"
    if component.kind not in get_args(Kind):
        kinds = get_args(Kind)
        known = f"must be one of {', '.join(kinds)}.{suggest(str(component.kind), kinds)}"
        return f"{named} kind {component.kind!r}, which {known}"
    if not (isinstance(component.settings, type) and issubclass(component.settings, Settings)):
        return f"{named} settings that are not a subclass of msft_core.Settings"
    fields = component.settings.model_fields
    keys = {field.alias or name for name, field in fields.items()}
    if component.kind in CHOSEN_KINDS and "name" in keys:
        return f"{named} a setting called 'name': msft uses this key for the component's name"
    if component.kind in SWITCHED_KINDS and "enabled" in keys:
        own = fields.get("enabled")
        allowed = (bool, bool | Literal["auto"]) if component.kind == "extractor" else (bool,)
        if own is None or own.annotation not in allowed:
            return (
                f"{named} a setting called 'enabled' that is not a bool: it switches the component "
                "on and off"
            )
    if not isinstance(component.urls, tuple):
        return f"{named} urls that are not a tuple"
    return ""


# build_dataset


def _problem_of_splits(splits: object, _arguments: Mapping[str, Any]) -> str:
    if not isinstance(splits, DatasetSplits):
        return f"returned {type(splits).__name__}, not a DatasetSplits"
    if not _is_words(splits.classes):
        return f"classes = {splits.classes!r:.60} must be a tuple of class names"
    if len(set(splits.classes)) != len(splits.classes):
        return f"classes = {splits.classes!r:.60} names a class twice"
    if not _is_words(splits.notes):
        return f"notes = {splits.notes!r:.60} must be a tuple of lines"
    for name in ("train", "val"):
        if problem := _problem_of_table(name, getattr(splits, name)):
            return problem
    classes = len(splits.classes)
    if classes < 2:
        return f"returned {classes} classes; a classifier needs at least two"
    from msft_core.columns import has_repeats  # imports NumPy

    for name in ("train", "val"):
        table = getattr(splits, name)
        if len(table.ids) != len(table.labels):
            return f"{name} has {len(table.ids)} ids and {len(table.labels)} labels"
        if has_repeats(table.ids):
            return f"{name} has two images with the same id"
        if any(not 0 <= label < classes for label in table.labels):
            return f"{name} has a label outside 0 to {classes - 1}"
        if not len(table.ids):
            return f"{name} has no images"
    return ""


def _problem_of_table(name: str, table: Any) -> str:
    for needed in ("ids", "labels", "read"):
        if not hasattr(table, needed):
            what = type(table).__name__
            return f"{name} is a {what} without {needed}: see msft_core.images.MemoryTable"
    if not all(isinstance(one, str) for one in table.ids):
        return f"{name} has an id that is not text"
    if not all(_is_integer(one) for one in table.labels):
        return f"{name} has a label that is not an integer"
    return ""


# build_backbone


def _problem_of_backbone(backbone: object, _arguments: Mapping[str, Any]) -> str:
    if not isinstance(backbone, Backbone):
        return f"returned {type(backbone).__name__}, not a Backbone"
    if not isinstance(backbone.stages, Sequence):
        return f"stages must be a tuple of Stage, not {type(backbone.stages).__name__}"
    for stage in backbone.stages:
        if not isinstance(stage, Stage):
            return f"stages contains a {type(stage).__name__}, not a Stage(name, cell)"
    cells = {f"stage {stage.name!r}": stage.cell for stage in backbone.stages}
    for where, cell in {**cells, "the head": backbone.head}.items():
        if isinstance(cell, type) or not hasattr(cell, "get_parameters"):
            what = cell.__name__ if isinstance(cell, type) else f"a {type(cell).__name__}"
            return f"{where} is {what}, not a Cell"
    for field in ("name", "dialect", "weights"):
        if not isinstance(getattr(backbone, field), str):
            return f"{field} = {getattr(backbone, field)!r} must be text"
    names = [stage.name for stage in backbone.stages]
    for name in names:
        if names.count(name) > 1 or name == "head":
            return f"stage names must be unique and must not be 'head': {names!r:.80}"
    return problem_of_preprocessing(backbone.preprocessing) or _problem_of_parameters(backbone)


def problem_of_preprocessing(given: Preprocessing) -> str:
    """What is wrong with it, such as a deviation of 0; empty if nothing is."""
    if not isinstance(given, Preprocessing):
        return f"preprocessing is a {type(given).__name__}, not a Preprocessing"
    if not _is_integer(given.size) or given.size < 1:
        return f"preprocessing.size = {given.size!r} must be a number of pixels"
    for name, lowest in (("mean", 0.0), ("std", 1e-6)):
        values = getattr(given, name)
        if not isinstance(values, Sequence) or len(values) != 3:
            return f"preprocessing.{name} = {values!r} must be three numbers, for R, G and B"
        if not all(_is_number(value) and lowest <= value <= 1 for value in values):
            return f"preprocessing.{name} = {values!r} must be on a scale of 0 to 1"
    if not _is_number(given.crop_fraction) or not 0 < given.crop_fraction <= 1:
        return f"preprocessing.crop_fraction = {given.crop_fraction!r} must be above 0, at most 1"
    return _problem_of_choices(given, "preprocessing.", ("interpolation",))


def _problem_of_parameters(backbone: Backbone) -> str:
    """A shared parameter, a parameter name that occurs twice, or a head without parameters."""
    owned: dict[str, Any] = {}
    for where, cell in [*((s.name, s.cell) for s in backbone.stages), ("head", backbone.head)]:
        for parameter in cell.get_parameters():
            if parameter.name in owned:
                if owned[parameter.name] is parameter:
                    what = "is shared with another stage"
                else:
                    what = "has the name of another parameter"
                return f"parameter {parameter.name!r} of {where} {what}"
            owned[parameter.name] = parameter
    if not list(backbone.head.get_parameters()):
        return "the head has no parameters"
    return _problem_of_source_names(backbone.source_names, owned)


def _problem_of_source_names(names: object, owned: Mapping[str, Any]) -> str:
    if not isinstance(names, Mapping):
        return f"source_names is a {type(names).__name__}, not a mapping of parameter names"
    for name, there in names.items():
        if name not in owned:
            known = suggest(str(name), owned)
            return f"source_names has {name!r}, but the network has no such parameter.{known}"
        if not isinstance(there, str) or not there:
            return f"source_names[{name!r}] = {there!r} must be a name"
    taken: dict[str, str] = {}
    for name in owned:
        there = names.get(name, name)
        if there in taken:
            return f"source_names gives {taken[there]!r} and {name!r} the same name, {there!r}"
        taken[there] = name
    return ""


# select_trainable


def _problem_of_trainable(trainable: object, arguments: Mapping[str, Any]) -> str:
    if not isinstance(trainable, Trainable):
        return f"returned {type(trainable).__name__}, not a Trainable"
    if not isinstance(trainable.groups, tuple):
        return f"groups must be a tuple of ParameterGroup, not {type(trainable.groups).__name__}"
    for group in trainable.groups:
        if problem := _problem_of_group(group):
            return problem
    spec = trainable.optimizer
    if not isinstance(spec, OptimizerSpec):
        return f"optimizer is a {type(spec).__name__}, not an OptimizerSpec"
    amounts = ("learning_rate", "momentum", "weight_decay", "warmup_epochs")
    return (
        _problem_of_amounts(spec, "optimizer.", amounts)
        or _problem_of_choices(spec, "optimizer.", ("name", "schedule"))
        or _problem_of_choices(trainable, "", ("batch_norm",))
        or _problem_of_selection(trainable, arguments["backbone"])
    )


def _problem_of_group(group: object) -> str:
    if not isinstance(group, ParameterGroup):
        return f"groups contains a {type(group).__name__}, not a ParameterGroup"
    if not _is_words(group.names):
        return f"names = {group.names!r:.60} must be a tuple of parameter names"
    if problem := _problem_of_amounts(group, "", ("rate_factor",)):
        return problem
    decay = group.weight_decay
    if decay is not None and not _is_amount(decay):
        return f"weight_decay = {decay!r} of a group must be a number, 0 or above, or None"
    return ""


def _problem_of_selection(trainable: Trainable, backbone: Backbone) -> str:
    """Names that the network does not have, that cannot train, or that occur twice."""
    if not trainable.names:
        return "selects no parameters, so nothing would train"
    cells = [*(stage.cell for stage in backbone.stages), backbone.head]
    there = {parameter.name for cell in cells for parameter in cell.get_parameters()}
    seen: set[str] = set()
    for group in trainable.groups:
        for name in group.names:
            if name not in there:
                return f"the network has no parameter {name!r}.{suggest(name, there)}"
            if name.endswith(MOVING_STATISTICS):
                return f"{name!r} is a moving statistic: it cannot train"
            if name in seen:
                return f"{name!r} is in two groups"
            seen.add(name)
    return ""


# build_feature_extractor


def _problem_of_extractor(extractor: object, _arguments: Mapping[str, Any]) -> str:
    if not isinstance(extractor, FeatureExtractor):
        return f"returned {type(extractor).__name__}, not a FeatureExtractor"
    if not callable(extractor.compute):
        return f"compute is a {type(extractor.compute).__name__}, not a function"
    if not isinstance(extractor.description, str):
        return f"description = {extractor.description!r} must be text"
    return _problem_of_amounts(extractor, "", ("tolerance",))


# compute_metrics


def _problem_of_metrics(metrics: object, _arguments: Mapping[str, Any]) -> str:
    if not isinstance(metrics, Mapping):
        return f"returned {type(metrics).__name__}, not a mapping"
    for name, value in metrics.items():
        try:
            if isinstance(value, str):  # float("1") is 1.0
                raise TypeError
            float(value)
        except (TypeError, ValueError, OverflowError):
            return f"returned {type(value).__name__} for {name!r}, not a number"
    return ""


# export_model


def _problem_of_export(written: object, arguments: Mapping[str, Any]) -> str:
    path: Path = arguments["path"]
    if not isinstance(written, Path):
        return f"returned {type(written).__name__}, not the path of the file that it wrote"
    if written != path:
        return f"returned {written}, but the file to write is {path}"
    if not path.is_file():
        return f"returned {path}, but wrote no such file"
    if not path.stat().st_size:
        return f"wrote an empty file, {path}"
    others = sorted(other.name for other in path.parent.iterdir() if other != path)
    if others:
        return f"wrote {', '.join(others)} beside {path.name}: an export is one file"
    return ""


# save_state


def _problem_of_state(state: object, _arguments: Mapping[str, Any]) -> str:
    if not isinstance(state, Mapping):
        return f"returned {type(state).__name__}, not a mapping from names to values"
    for name, value in state.items():
        if not isinstance(name, str):
            return f"returned a state with the key {name!r}, which must be text"
        if problem := _problem_of_value(value, top=True):
            return f"returned a state whose {name!r} {problem}"
    return ""


def _problem_of_value(value: object, *, top: bool = False) -> str:
    """Why a value cannot be saved and read back equal; empty if it can."""
    if value is None or isinstance(value, (str, bool)) or type(value) in (int, float):
        return ""
    dtype: Any = getattr(value, "dtype", None)
    if top and dtype is not None and type(value).__name__ == "ndarray":
        return "" if dtype.kind in "biuf" else f"is an array of {dtype}, not of numbers"
    items: list[Any] = []
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            return "has keys that are no text"
        items = list(value.values())
    elif isinstance(value, (list, tuple)):
        items = list(value)
    else:
        where = "" if top else "holds "
        return f"{where or 'is '}{type(value).__name__}, which is neither JSON nor an array"
    return next(filter(None, map(_problem_of_value, items)), "")


_CHECKS: dict[str, Callable[[Any, Mapping[str, Any]], str]] = {
    "list_components": _problem_of_components,
    "build_dataset": _problem_of_splits,
    "build_backbone": _problem_of_backbone,
    "select_trainable": _problem_of_trainable,
    "build_feature_extractor": _problem_of_extractor,
    "compute_metrics": _problem_of_metrics,
    "save_state": _problem_of_state,
    "export_model": _problem_of_export,
}

# Fields


def _problem_of_amounts(value: Any, where: str, fields: Sequence[str]) -> str:
    for field in fields:
        if not _is_amount(getattr(value, field)):
            return f"{where}{field} = {getattr(value, field)!r} must be a number, 0 or above"
    return ""


def _problem_of_choices(value: Any, where: str, fields: Sequence[str]) -> str:
    """Fields whose type allows only a few words."""
    for field in fields:
        allowed = get_args(_hints(type(value))[field])
        word = getattr(value, field)
        if word not in allowed:
            known = " or ".join(map(repr, allowed))
            return f"{where}{field} = {word!r} must be {known}.{suggest(str(word), allowed)}"
    return ""


def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, localns={"nn": None})


def _is_words(value: object) -> bool:
    return isinstance(value, (tuple, list)) and all(isinstance(word, str) for word in value)


def _is_integer(value: object) -> bool:
    # NumPy's integers too.
    return hasattr(value, "__index__") and not isinstance(value, bool)


def _is_amount(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_number(value: object) -> bool:
    # NumPy's numbers too.
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)

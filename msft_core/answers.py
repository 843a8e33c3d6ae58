"""What is wrong with a hook's answer, field by field: no wrong word or number trains quietly.

Imports neither MindSpore nor NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, get_args, get_type_hints

from msft_core.errors import suggest
from msft_core.types import (
    Backbone,
    DatasetSplits,
    FeatureExtractor,
    OptimizerSpec,
    ParameterGroup,
    Preprocessing,
    Stage,
    Trainable,
)


def problem_of_splits(splits: DatasetSplits) -> str:
    """What is wrong with the fields of a dataset's answer; empty where nothing is."""
    if not _is_words(splits.classes):
        return f"classes = {splits.classes!r:.60} must be a tuple of class names"
    if len(set(splits.classes)) != len(splits.classes):
        return f"classes = {splits.classes!r:.60} names a class twice"
    if not _is_words(splits.notes):
        return f"notes = {splits.notes!r:.60} must be a tuple of lines"
    for name in ("train", "val"):
        table = getattr(splits, name)
        for needed in ("ids", "labels", "read"):
            if not hasattr(table, needed):
                what = type(table).__name__
                return f"{name} is a {what} without {needed}: see msft_core.images.MemoryTable"
        if not all(isinstance(one, str) for one in table.ids):
            return f"{name} has an id that is no text"
        if not all(_is_integer(one) for one in table.labels):
            return f"{name} has a label that is no integer"
    return ""


def problem_of_backbone(backbone: Backbone) -> str:
    """What is wrong with the fields of a backbone's answer; empty where nothing is."""
    if not isinstance(backbone.stages, Sequence):
        return f"stages must be a tuple of Stage, not {type(backbone.stages).__name__}"
    for stage in backbone.stages:
        if not isinstance(stage, Stage):
            return f"stages has a {type(stage).__name__}, not a Stage(name, cell)"
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
            return f"stage names must differ from each other and from 'head', not {names!r:.80}"
    return _problem_of_preprocessing(backbone.preprocessing)


def _problem_of_preprocessing(given: Preprocessing) -> str:
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


def problem_of_trainable(trainable: Trainable) -> str:
    """What is wrong with the fields of a strategy's answer; empty where nothing is."""
    if not isinstance(trainable.groups, tuple):
        return f"groups must be a tuple of ParameterGroup, not {type(trainable.groups).__name__}"
    for group in trainable.groups:
        if not isinstance(group, ParameterGroup):
            return f"groups has a {type(group).__name__}, not a ParameterGroup"
        if not _is_words(group.names):
            return f"names = {group.names!r:.60} must be a tuple of parameter names"
        if problem := _problem_of_amounts(group, "", ("rate_factor",)):
            return problem
        decay = group.weight_decay
        if decay is not None and not _is_amount(decay):
            return f"weight_decay = {decay!r} of a group must be a number, 0 or above, or None"
    spec = trainable.optimizer
    if not isinstance(spec, OptimizerSpec):
        return f"optimizer is a {type(spec).__name__}, not an OptimizerSpec"
    amounts = ("learning_rate", "momentum", "weight_decay", "warmup_epochs")
    return (
        _problem_of_amounts(spec, "optimizer.", amounts)
        or _problem_of_choices(spec, "optimizer.", ("name", "schedule"))
        or _problem_of_choices(trainable, "", ("batch_norm",))
    )


def problem_of_extractor(extractor: FeatureExtractor) -> str:
    """What is wrong with the fields of an extractor; empty where nothing is."""
    if not callable(extractor.compute):
        return f"compute is a {type(extractor.compute).__name__}, no function"
    if not isinstance(extractor.description, str):
        return f"description = {extractor.description!r} must be text"
    return _problem_of_amounts(extractor, "", ("tolerance",))


def _problem_of_amounts(value: Any, where: str, fields: Sequence[str]) -> str:
    for field in fields:
        if not _is_amount(getattr(value, field)):
            return f"{where}{field} = {getattr(value, field)!r} must be a number, 0 or above"
    return ""


def _problem_of_choices(value: Any, where: str, fields: Sequence[str]) -> str:
    """Fields that are one of a few words, as their type says."""
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

"""The public API of msft: what a plugin or a script imports.

Names are resolved on first use, so that ``import msft_core`` costs nothing and never imports
MindSpore, NumPy or matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msft_core.config import RunConfig as RunConfig
    from msft_core.engine.compare import compare as compare
    from msft_core.engine.load import load as load
    from msft_core.engine.resume import resume as resume
    from msft_core.engine.run import run as run
    from msft_core.engine.run_each import EachReport as EachReport
    from msft_core.engine.run_each import run_each as run_each
    from msft_core.errors import DataError as DataError
    from msft_core.errors import DeviceError as DeviceError
    from msft_core.errors import DownloadError as DownloadError
    from msft_core.errors import ExportError as ExportError
    from msft_core.errors import MsftError as MsftError
    from msft_core.errors import OutputError as OutputError
    from msft_core.errors import PluginError as PluginError
    from msft_core.errors import TrainingError as TrainingError
    from msft_core.errors import UsageError as UsageError
    from msft_core.errors import WeightsError as WeightsError
    from msft_core.hookspecs import hookimpl as hookimpl
    from msft_core.plugins.compat import API_VERSION as API_VERSION
    from msft_core.runs.classifier import Classifier as Classifier
    from msft_core.runs.comparison import Comparison as Comparison
    from msft_core.types import Backbone as Backbone
    from msft_core.types import Best as Best
    from msft_core.types import Component as Component
    from msft_core.types import Context as Context
    from msft_core.types import DatasetSplits as DatasetSplits
    from msft_core.types import EpochRecord as EpochRecord
    from msft_core.types import ExportModel as ExportModel
    from msft_core.types import FeatureExtractor as FeatureExtractor
    from msft_core.types import HookCall as HookCall
    from msft_core.types import ImageBatch as ImageBatch
    from msft_core.types import ImageTable as ImageTable
    from msft_core.types import NameOrFile as NameOrFile
    from msft_core.types import Observer as Observer
    from msft_core.types import OptimizerSpec as OptimizerSpec
    from msft_core.types import Pages as Pages
    from msft_core.types import ParameterGroup as ParameterGroup
    from msft_core.types import Prediction as Prediction
    from msft_core.types import Predictions as Predictions
    from msft_core.types import Preprocessing as Preprocessing
    from msft_core.types import Reporter as Reporter
    from msft_core.types import Run as Run
    from msft_core.types import RunReport as RunReport
    from msft_core.types import Settings as Settings
    from msft_core.types import Stage as Stage
    from msft_core.types import Trainable as Trainable

_ERRORS = """
    DataError DeviceError DownloadError ExportError MsftError OutputError PluginError TrainingError
    UsageError WeightsError
"""
_TYPES = """
    Backbone Best Component Context DatasetSplits EpochRecord ExportModel FeatureExtractor HookCall
    ImageBatch ImageTable NameOrFile Observer OptimizerSpec Pages ParameterGroup Prediction
    Predictions Preprocessing Reporter Run RunReport Settings Stage Trainable
"""
_HOME = {
    "API_VERSION": "plugins.compat",
    "Classifier": "runs.classifier",
    "Comparison": "runs.comparison",
    "EachReport": "engine.run_each",
    "RunConfig": "config",
    "compare": "engine.compare",
    "load": "engine.load",
    "resume": "engine.resume",
    "run": "engine.run",
    "run_each": "engine.run_each",
    "hookimpl": "hookspecs",
    **dict.fromkeys(_ERRORS.split(), "errors"),
    **dict.fromkeys(_TYPES.split(), "types"),
}

# A plugin may say `from msft_core import *`: what imports MindSpore or NumPy is left out of that.
_HEAVY = {"Classifier", "Comparison", "EachReport", "compare", "load", "run_each"}

__all__ = sorted(_HOME.keys() - _HEAVY)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'msft_core' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"msft_core.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_HOME)

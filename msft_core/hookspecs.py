"""The contract: every hook a plugin can implement.

A plugin is a module or an object whose functions carry ``@msft_core.hookimpl``. msft finds it
through the entry-point group ``msft``, or receives it with ``--plugin`` or ``run(plugins=[...])``.
msft refuses a marked function if its name or one of its arguments is not in this module. A hook may
take fewer arguments than its specification.

``build_dataset``, ``build_backbone``, ``select_trainable`` and ``export_model`` are called in one
plugin at a time: first in the plugins given to the run, the last one first, then in the plugin that
offers the component. The first result that is not None wins.

Importing this module imports neither MindSpore nor NumPy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from mindspore import nn

    from msft_core.types import (
        Array,
        Backbone,
        Component,
        Context,
        DatasetSplits,
        ExportModel,
        FeatureExtractor,
        Kind,
        Predictions,
        Run,
        RunReport,
        Settings,
        Trainable,
    )

hookspec = pluggy.HookspecMarker("msft")
hookimpl = pluggy.HookimplMarker("msft")


@hookspec
def list_components() -> Iterable[Component]:
    """Return the components that the plugin offers.

    Called: once, when msft loads the plugin, for every command that needs component names.
    Must be fast: no MindSpore, no NumPy, no file or network access.

    Returns: the components. msft collects those of all plugins. It refuses a plugin that offers a
    name that another plugin already offers for the same kind.

    Raises: an exception marks the plugin as broken. A run that does not need the plugin continues.

    Since: 0.1.
    """
    raise NotImplementedError


@hookspec
def build_dataset(name: str, settings: Settings, context: Context) -> DatasetSplits | None:
    """Find the images of a dataset.

    Called: once per run, after MindSpore's environment is set and before ``build_backbone``.

    Args:
        name: name of the dataset.
        settings: its settings, an instance of the component's model.
        context: seed, cache folder, reporter.

    Returns: the splits, or None if the plugin does not offer ``name``. Return encoded images, not
    tensors: the core checks, decodes and augments them.

    Raises: ``DataError`` or ``DownloadError`` with a message for the user. The message of any other
    exception names this plugin.

    Since: 0.1.
    """
    raise NotImplementedError


@hookspec
def build_backbone(
    name: str, num_classes: int, settings: Settings, context: Context
) -> Backbone | None:
    """Make a network, with its pretrained weights and a new head.

    Called: once per run, after ``build_dataset``. msft sets MindSpore's seed just before, so that
    a random head is the same in each run.

    Args:
        name: name of the backbone.
        num_classes: number of outputs of the head.
        settings: its settings, an instance of the component's model.
        context: seed, cache folder, reporter.

    Returns: the backbone, or None if the plugin does not offer ``name``.

    Raises: ``WeightsError`` or ``DownloadError`` with a message for the user. The message of any
    other exception names this plugin.

    Since: 0.1.
    """
    raise NotImplementedError


@hookspec
def select_trainable(
    name: str, backbone: Backbone, settings: Settings, epoch: int
) -> Trainable | None:
    """Select the parameters that train, and how they train.

    Called: before each epoch. Must be a pure function: the same arguments give the same result. If
    the result differs from the previous epoch's, msft makes a new training step. It keeps the
    optimizer state of parameters that continue to train.

    Args:
        name: name of the strategy.
        backbone: stages and head; read the names from it, and change nothing.
        settings: its settings, an instance of the component's model.
        epoch: from 1.

    Returns: names and optimizer settings, or None if the plugin does not offer ``name``. msft
    refuses unknown names, moving statistics, and an empty selection.

    Raises: ``UsageError`` with a message for the user. The message of any other exception names
    this plugin.

    Since: 0.1.
    """
    raise NotImplementedError


@hookspec
def build_feature_extractor(
    prefix: nn.Cell, example: Array, settings: Settings, context: Context
) -> FeatureExtractor | None:
    """Run the frozen prefix of a backbone on another engine.

    Called: whenever the frozen stages change, in each plugin that has an enabled extractor
    component or no extractor component. An extractor whose setting ``enabled`` is ``"auto"`` takes
    part on a CPU, if the run needs at least 100 features and no other extractor is enabled by name.
    The first result that is not None wins. If all results are None, MindSpore computes the prefix.
    Must be fast: do slow work in the first call of the extractor's ``compute``. If all features are
    in the cache, msft never calls ``compute``.

    Args:
        prefix: the frozen stages as one Cell in evaluation mode, from one tensor to one tensor.
        example: float32 (N, 3, size, size), images as the prefix receives them. Every later call
            has this shape, because the core pads the last batch.
        settings: settings of the plugin's enabled extractor component; a plain ``Settings`` if it
            has none.
        context: seed, cache folder, reporter.

    Returns: the extractor, or None. msft compares the extractor's first batch with MindSpore's
    output, and refuses an extractor that exceeds its own tolerance. In place of an ``"auto"``
    extractor that fails or is refused, MindSpore computes, after one warning.

    Raises: ``UsageError`` with a message for the user. The message of any other exception names
    this plugin.

    Since: 0.2.
    """
    raise NotImplementedError


@hookspec
def on_run_start(run: Run) -> None:
    """Act before the first epoch. The run folder has its final name.

    Called: in every plugin, in the order of ``on_epoch_end``.

    Args:
        run: see ``msft_core.types.Run``.

    Raises: an exception ends the run; the message names this plugin.

    Since: 0.1.
    """
    raise NotImplementedError


@hookspec
def compute_metrics(predictions: Predictions) -> Mapping[str, float]:
    """Compute figures from the predictions for a split. NumPy only.

    Called: at each evaluation, in each plugin that has an enabled metric component or no metric
    component.

    Args:
        predictions: ids, labels, probabilities, class names.

    Returns: figures by name. msft joins the figures of all plugins. It refuses a name that two
    plugins use, and the name ``loss``, which the core uses.

    Raises: an exception ends the run; the message names this plugin.

    Since: 0.1.
    """
    raise NotImplementedError


@hookspec
def on_epoch_end(epoch: int, run: Run) -> None:
    """Act after an epoch: evaluate, save the best checkpoint, track, stop early.

    Called: in every plugin. Hooks marked ``tryfirst`` come first (``best_checkpoint`` is marked
    so), hooks marked ``trylast`` come last (mark trackers so).

    Args:
        epoch: from 1.
        run: see ``msft_core.types.Run``.

    Raises: an exception ends the run; the message names this plugin. The best checkpoint so far
    stays.

    Since: 0.1.
    """
    raise NotImplementedError


@hookspec
def on_run_end(run: Run, report: RunReport, error: BaseException | None) -> None:
    """Act at the end of a run, also after an error or an interruption.

    Called: in every plugin, if the run has begun, even if another plugin's ``on_run_start`` failed
    before this plugin's was called. An exception stops neither the other plugins nor the report of
    the error that ended the run. The network holds the values of the best checkpoint, if there is
    one, also after an error or Ctrl-C; else the current values. A Ctrl-C during these calls ends
    the function that it meets; msft calls the other plugins. A second one ends the calls.

    Args:
        run: see ``msft_core.types.Run``.
        report: how the run ended.
        error: the exception that ended the run, or None.

    Raises: msft prints an exception as a warning, and the exit status becomes 1.

    Since: 0.1.
    """
    raise NotImplementedError


@hookspec
def save_state(run: Run) -> Mapping[str, Any] | None:
    """Give what this plugin must remember so that an interrupted run can go on.

    Called: whenever msft saves the state of a run: after each epoch is trained, after its
    ``on_epoch_end``, on an interruption, and now and then within an epoch. Implement
    ``load_state`` too.

    Args:
        run: see ``msft_core.types.Run``.

    Returns: JSON values (texts, numbers, True, False, None, and lists and mappings of these, with
    texts as keys) and NumPy arrays of numbers, by name; None if there is nothing to remember. An
    array must be a value itself, not an item of a list.

    Raises: an exception ends the run; the message names this plugin. The state before stays.

    Since: 0.4.
    """
    raise NotImplementedError


@hookspec
def load_state(run: Run, state: Mapping[str, Any]) -> None:
    """Take back what ``save_state`` gave, in a run that goes on after an interruption.

    Called: after ``on_run_start`` of all plugins, in a plugin that had given a state. ``run.best``
    and ``run.history`` are those of the interruption, and ``run.resumed`` is true.

    Args:
        run: see ``msft_core.types.Run``.
        state: equal to what ``save_state`` gave; tuples became lists.

    Raises: an exception ends the run; the message names this plugin.

    Since: 0.4.
    """
    raise NotImplementedError


@hookspec
def export_model(
    name: str, model: ExportModel, path: Path, settings: Settings, context: Context
) -> Path | None:
    """Write a trained classifier in a format that other programs read.

    Called: by ``msft export --format NAME``. No other thread of msft uses MindSpore meanwhile.

    Args:
        name: name of the exporter.
        model: the network with its class names, preprocessing, and a few real images.
        path: the file to write, ``model.NAME`` in an empty temporary folder. msft gives it its
            final name afterwards.
        settings: the exporter's settings, an instance of the component's model.
        context: seed, cache folder, reporter, class names.

    Returns: ``path``, after writing it, or None if the plugin does not offer ``name``. Compare the
    file with the network before: ``model.require_same(compute)``. The file must be the only one in
    its folder.

    Raises: ``ExportError`` with a message for the user. The message of any other exception names
    this plugin. Then no file is left, and an older export stays as it was.

    Since: 0.4.
    """
    raise NotImplementedError


@dataclass(frozen=True)
class HookFacts:
    """What the core knows of a hook besides its specification.

    Args:
        kind: of the components it belongs to; None where there are none. For a kind that is chosen
            by name, the owner of the component is asked. For the others, every plugin is asked
            that has no component of the kind, or an enabled one.
        first_result: one plugin's result counts: plugins given to the run are asked first, then
            the component's owner. The core asks one plugin at a time (``Plugins.ask``), so
            pluggy's ``firstresult`` is not used.
    """

    kind: Kind | None = None
    first_result: bool = False


HOOKS: dict[str, HookFacts] = {
    "list_components": HookFacts(),
    "build_dataset": HookFacts("dataset", first_result=True),
    "build_backbone": HookFacts("backbone", first_result=True),
    "select_trainable": HookFacts("strategy", first_result=True),
    "build_feature_extractor": HookFacts("extractor"),
    "on_run_start": HookFacts("callback"),
    "load_state": HookFacts("callback"),
    "save_state": HookFacts("callback"),
    "compute_metrics": HookFacts("metric"),
    "on_epoch_end": HookFacts("callback"),
    "on_run_end": HookFacts("callback"),
    "export_model": HookFacts("exporter", first_result=True),
}
"""Every hook, in the order in which a run first calls them. Metrics are computed when the first
plugin's ``on_epoch_end`` evaluates. ``export_model`` belongs to ``msft export``."""

HOOK_NAMES: tuple[str, ...] = tuple(HOOKS)
"""In the same order."""

"""The contract: every hook a plugin can implement.

A plugin is a module or an object whose functions carry ``@msft_core.hookimpl``. It is found
through the entry-point group ``msft``, or named with ``--plugin`` or ``run(plugins=[...])``.
A function marked as a hook whose name or arguments are not listed here is refused: a typo is never
silence. A hook may take fewer arguments than its specification has.

In a hook that answers for a component (``build_dataset``, ``build_backbone``,
``select_trainable``), plugins given to the run itself are asked first, the last given first of
all, then the plugin that listed the component. The first answer that is not None wins.

Importing this module imports neither MindSpore nor NumPy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from mindspore import nn

    from msft_core.types import (
        Array,
        Backbone,
        Component,
        Context,
        DatasetSplits,
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
    """Say what the plugin offers.

    Called: once, when the plugin is loaded, for every command that needs to know names.
    Must be cheap: no MindSpore, no NumPy, no file or network access.

    Returns: the components. Every plugin's answer is collected; a name that another plugin
    already has for the same kind is refused.

    Raises: an exception marks the plugin as broken; a run that does not need it goes on.

    Since: 0.1.
    """
    raise NotImplementedError


@hookspec
def build_dataset(name: str, settings: Settings, context: Context) -> DatasetSplits | None:
    """Find the images of a dataset.

    Called: once a run, after MindSpore's environment is set and before the backbone is built.

    Args:
        name: the dataset asked for.
        settings: its settings, an instance of the component's model.
        context: seed, cache folder, reporter.

    Returns: the splits, or None for a name that is not this plugin's. Hand over images, not
    tensors: the core checks, decodes and augments them.

    Raises: ``DataError`` or ``DownloadError`` with a message for the user. Anything else is
    reported as this plugin's failure.

    Since: 0.1.
    """
    raise NotImplementedError


@hookspec
def build_backbone(
    name: str, num_classes: int, settings: Settings, context: Context
) -> Backbone | None:
    """Make a network, with its pretrained weights and a new head.

    Called: once a run, after ``build_dataset``. MindSpore's seed is set just before, so that a
    head drawn at random is the same in each run.

    Args:
        name: the backbone asked for.
        num_classes: outputs of the head.
        settings: its settings, an instance of the component's model.
        context: seed, cache folder, reporter.

    Returns: the backbone, or None for a name that is not this plugin's.

    Raises: ``WeightsError`` or ``DownloadError`` with a message for the user. Anything else is
    reported as this plugin's failure.

    Since: 0.1.
    """
    raise NotImplementedError


@hookspec
def select_trainable(
    name: str, backbone: Backbone, settings: Settings, epoch: int
) -> Trainable | None:
    """Decide which parameters train, and how.

    Called: before each epoch. Must be pure: the same arguments, the same answer. Where the answer
    differs from the epoch before, the training step is rebuilt; optimizer state of the parameters
    that go on training is kept.

    Args:
        name: the strategy asked for.
        backbone: its stages and head; read names from it, change nothing.
        settings: its settings, an instance of the component's model.
        epoch: from 1.

    Returns: names and optimizer settings, or None for a name that is not this plugin's. Names
    that the network does not have, moving statistics, and an empty answer are refused.

    Raises: ``UsageError`` with a message for the user. Anything else is reported as this plugin's
    failure.

    Since: 0.1.
    """
    raise NotImplementedError


@hookspec
def build_feature_extractor(
    prefix: nn.Cell, example: Array, settings: Settings, context: Context
) -> FeatureExtractor | None:
    """Run the frozen prefix of a backbone on another engine.

    Called: of each plugin that has no extractor component or one enabled, whenever the frozen
    stages are others than before; the first answer that is not None wins, else MindSpore computes.
    Be quick: what is slow belongs in the first call of the extractor's ``compute``, which never
    comes where everything is stored already.

    Args:
        prefix: the frozen stages as one Cell in evaluation mode, from one tensor to one tensor.
        example: float32 (N, 3, size, size), images as the prefix gets them. Every later call has
            this shape: the core pads the last batch.
        settings: of the plugin's enabled extractor component; plain ``Settings`` where it has
            none.
        context: seed, cache folder, reporter.

    Returns: the extractor, or None to leave it to others. Its outputs for ``example`` are compared
    with MindSpore's before they are used; beyond its own tolerance it is refused.

    Raises: ``UsageError`` with a message for the user. Anything else is reported as this plugin's
    failure.

    Since: 0.2.
    """
    raise NotImplementedError


@hookspec
def on_run_start(run: Run) -> None:
    """Do something before the first epoch. The run folder has its name by now.

    Called: of every plugin, in the order of ``on_epoch_end``.

    Args:
        run: see ``msft_core.types.Run``.

    Raises: ends the run, as this plugin's failure.

    Since: 0.1.
    """
    raise NotImplementedError


@hookspec
def compute_metrics(predictions: Predictions) -> Mapping[str, float]:
    """Compute figures from the answers on a split. NumPy only.

    Called: at each evaluation, of each plugin that has no metric component or one enabled.

    Args:
        predictions: ids, labels, probabilities, class names.

    Returns: figures by name. All plugins' answers are joined; a name that two plugins give, or
    ``loss``, which is the core's, is an error.

    Raises: ends the run, as this plugin's failure.

    Since: 0.1.
    """
    raise NotImplementedError


@hookspec
def on_epoch_end(epoch: int, run: Run) -> None:
    """Do something after an epoch: evaluate, keep the best checkpoint, track, stop early.

    Called: of every plugin, those marked ``tryfirst`` first (``best_checkpoint`` is), those marked
    ``trylast`` last (trackers should be).

    Args:
        epoch: from 1.
        run: see ``msft_core.types.Run``.

    Raises: ends the run, as this plugin's failure; the best checkpoint so far stays.

    Since: 0.1.
    """
    raise NotImplementedError


@hookspec
def on_run_end(run: Run, report: RunReport, error: BaseException | None) -> None:
    """Do something when the run is over, however it ended.

    Called: of every plugin whenever ``on_run_start`` was, each guarded: one that raises is
    reported and hinders neither the others nor the error that ended the run. The network holds
    the best checkpoint's values by now, where there is one; not after Ctrl-C, which is to end soon.

    Args:
        run: see ``msft_core.types.Run``.
        report: how it ended.
        error: what ended it, or None.

    Raises: reported as a warning; the run's exit status becomes 1.

    Since: 0.1.
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
    "compute_metrics": HookFacts("metric"),
    "on_epoch_end": HookFacts("callback"),
    "on_run_end": HookFacts("callback"),
}
"""Every hook, in the order in which a run first calls them. Metrics are computed when the first
plugin's ``on_epoch_end`` evaluates."""

HOOK_NAMES: tuple[str, ...] = tuple(HOOKS)
"""In the same order."""

"""Checks of the contract. Each function raises an error that lists every breach."""

from __future__ import annotations

import functools
import os
import pickle
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, cast

if TYPE_CHECKING:
    from msft_core.plugins.registry import Plugins
    from msft_core.types import Backbone, Context, ImageTable, Kind, Settings

P = ParamSpec("P")

_READ_AT_MOST = 200
"""Maximum number of images per split that are read twice and compared."""


def _own_cache(check: Callable[P, None]) -> Callable[P, None]:
    """Use a temporary cache folder during a check, unless ``MSFT_CACHE`` names one."""

    @functools.wraps(check)
    def checking(*arguments: P.args, **keywords: P.kwargs) -> None:
        if os.environ.get("MSFT_CACHE"):
            return check(*arguments, **keywords)
        with tempfile.TemporaryDirectory() as folder:
            os.environ["MSFT_CACHE"] = folder
            try:
                return check(*arguments, **keywords)
            finally:
                del os.environ["MSFT_CACHE"]

    return checking


@_own_cache
def assert_dataset(
    name: str, *, plugins: Sequence[object] = (), settings: Mapping[str, Any] | None = None
) -> None:
    """Check a dataset: every image can be decoded, and a second build gives the same splits.

    Also checks that no image is in both splits, and that the tables can be pickled.

    Args:
        name: name of the dataset.
        plugins: plugins besides the installed ones, as for ``msft_run``.
        settings: as in the section ``dataset`` of a configuration.

    Raises:
        AssertionError: the contract is broken; one line per breach.
        MsftError: raised by the plugin.
    """
    from msft_core.data.checking import check_splits

    asked = _Component("dataset", name, plugins, settings)
    splits = asked("build_dataset", context=asked.context)
    breaches: list[str] = []
    plugin = asked.loaded.owner("dataset", name)
    found = check_splits(splits, plugin=plugin, workers=1, reporter=asked.context.reporter)
    breaches += [f"{i['split']} image {i['id']}: {i['reason']}" for i in found.skipped[:5]]
    breaches += [f"{one} of train is {other} of val" for one, other in found.twins[:5]]
    again = asked("build_dataset", context=asked.context)
    for split in ("train", "val"):
        breaches += _breaches_of_a_table(split, getattr(splits, split), getattr(again, split))
    if splits.classes != again.classes:
        breaches.append(f"classes are {splits.classes} once and {again.classes} the next time")
    _raise(asked.what, breaches)


def _breaches_of_a_table(split: str, table: ImageTable, again: ImageTable) -> list[str]:
    breaches = []
    if list(table.ids) != list(again.ids) or list(table.labels) != list(again.labels):
        return [f"{split}: ids or labels are others when it is built again"]
    step = max(1, len(table.ids) // _READ_AT_MOST)
    for index in range(0, len(table.ids), step):
        if table.read(index) != again.read(index):
            breaches.append(f"{split}: image {table.ids[index]} is another when it is built again")
            break
    try:
        copy = pickle.loads(pickle.dumps(table))
    except Exception as error:
        return [
            *breaches,
            f"{split}: the table cannot be pickled ({type(error).__name__}: {error})",
        ]
    if list(copy.ids) != list(table.ids) or copy.read(0) != table.read(0):
        breaches.append(f"{split}: the table is another one after pickling")
    return breaches


@_own_cache
def assert_backbone(
    name: str,
    *,
    plugins: Sequence[object] = (),
    settings: Mapping[str, Any] | None = None,
    num_classes: int = 3,
) -> None:
    """Check a backbone: stages and head run, own their parameters, and repeat their logits.

    Runs each stage and the head on random images. Trains the network for one epoch on the tiny
    dataset, once with ``freeze`` and once with ``finetune``.

    Args:
        name: name of the backbone.
        plugins: plugins besides the installed ones, as for ``msft_run``.
        settings: as in the section ``backbone`` of a configuration.
        num_classes: number of classes for the hook.

    Raises:
        AssertionError: the contract is broken; one line per breach.
        MsftError: raised by the plugin, or by the core, which refuses the hook result.
    """
    from mindspore import nn

    asked = _Component("backbone", name, plugins, settings)
    backbone = asked.backbone(num_classes)
    breaches: list[str] = []
    names = [stage.name for stage in backbone.stages]
    if not names:
        breaches.append("there are no stages")
    cells = [*(stage.cell for stage in backbone.stages), backbone.head]
    for where, cell in zip([*names, "head"], cells, strict=True):
        if any(isinstance(part, nn.Dropout) for _, part in cell.cells_and_names()):
            breaches.append(
                f"{where} has nn.Dropout, whose masks on a CPU differ between two runs of one "
                "seed: use msft_core.stages.Dropout"
            )
    breaches += _breaches_of_the_forward_pass(backbone, num_classes)
    again = asked.backbone(num_classes)
    breaches += _differences(backbone, again)
    _raise(asked.what, breaches)
    for strategy in ("freeze", "finetune"):
        _train(asked, backbone={"name": name, **asked.raw}, strategy=strategy)


def _breaches_of_the_forward_pass(backbone: Backbone, num_classes: int) -> list[str]:
    import mindspore as ms
    import numpy as np

    from msft_core.errors import first_line

    size = backbone.preprocessing.size
    values = np.random.default_rng(0).normal(size=(2, 3, size, size)).astype(np.float32)
    outputs: list[Any] = []
    breaches: list[str] = []
    for first in (True, False):
        tensor: Any = ms.Tensor(values)
        for where, cell in [
            *((f"stage {stage.name!r}", stage.cell) for stage in backbone.stages),
            ("the head", backbone.head),
        ]:
            cell.set_train(False)
            shape = tuple(tensor.shape)
            try:
                alone = cell(tensor[:1]) if first else None
                tensor = cell(tensor)
            except Exception as error:
                return [*breaches, f"{where} does not run on {shape}: {first_line(error)}"]
            if not isinstance(tensor, ms.Tensor):
                return [*breaches, f"{where} gives {type(tensor).__name__}, not one tensor"]
            if len(tensor) != 2:
                return [*breaches, f"{where} gives {tuple(tensor.shape)} for 2 images"]
            if alone is not None and _differ(alone.asnumpy(), tensor[:1].asnumpy()):
                breaches.append(
                    f"{where} gives an image something else alone than beside another, and "
                    "features are stored for each image"
                )
        outputs.append(tensor.asnumpy())
    logits = outputs[0]
    if logits.shape != (2, num_classes):
        breaches.append(f"logits are {logits.shape} for 2 images and {num_classes} classes")
    elif logits.dtype != np.float32:
        breaches.append(f"logits are {logits.dtype}, not float32")
    elif not np.isfinite(logits).all():
        breaches.append("logits of random images are not finite")
    elif any(np.allclose(p.sum(axis=1), 1, atol=1e-4) for p in (abs(logits), np.exp(logits))):
        breaches.append("the head gives probabilities or their logarithms: it must give logits")
    if not np.array_equal(outputs[0], outputs[1]):
        breaches.append("in evaluation mode the same images give other logits the second time")
    return breaches


def _differ(one: Any, other: Any) -> bool:
    import numpy as np

    size = float(np.abs(other).max(initial=0.0)) or 1.0
    return one.shape != other.shape or not np.allclose(one, other, atol=1e-3 * size, rtol=0)


def _differences(backbone: Backbone, again: Backbone) -> list[str]:
    import numpy as np

    ours, theirs = _values(backbone), _values(again)
    if set(ours) != set(theirs):
        some = sorted(set(ours) ^ set(theirs))[:3]
        return [f"built again it has other parameters: {', '.join(some)}"]
    changed = [n for n, value in ours.items() if not np.array_equal(value, theirs[n])]
    if not changed:
        return []
    return [
        f"built again with the same seed {len(changed)} parameters have other values, such as "
        f"{changed[0]!r}: draw from context.seed or after mindspore.set_seed"
    ]


@_own_cache
def assert_strategy(
    name: str,
    *,
    plugins: Sequence[object] = (),
    settings: Mapping[str, Any] | None = None,
    backbone: str = "tiny",
    backbone_settings: Mapping[str, Any] | None = None,
    epochs: int = 3,
) -> None:
    """Check a strategy: it is a pure function, and only the selected parameters train.

    Args:
        name: name of the strategy.
        plugins: plugins besides the installed ones, as for ``msft_run``.
        settings: as in the section ``strategy`` of a configuration.
        backbone: name of the backbone to train.
        backbone_settings: as in the section ``backbone``.
        epochs: number of epochs to call the hook for, and to train.

    Raises:
        AssertionError: the contract is broken; one line per breach.
        MsftError: raised by the plugin, or by the core, which refuses the hook result.
    """
    import numpy as np

    of_backbone = _Component("backbone", backbone, plugins, backbone_settings)
    asked = _Component("strategy", name, plugins, settings)
    network = of_backbone.backbone(2)
    before = _values(network)
    learned = {name: p.requires_grad for name, p in _parameters(network).items()}
    breaches: list[str] = []
    trained: set[str] = set()
    for epoch in range(1, epochs + 1):
        trainable = asked("select_trainable", backbone=network, epoch=epoch)
        again = asked("select_trainable", backbone=network, epoch=epoch)
        if trainable != again:
            breaches.append(f"asked twice about epoch {epoch} it answers differently")
        trained |= trainable.names
    for parameter, now in _parameters(network).items():
        changed = not np.array_equal(now.asnumpy(), before[parameter])
        if changed or now.requires_grad != learned[parameter]:
            breaches.append(f"it changed {parameter!r}: answer with names, and change nothing")
    _raise(asked.what, breaches)

    values: dict[str, dict[str, Any]] = {}
    _train(
        asked,
        plugins=[_Snapshots(values)],
        backbone={"name": backbone, **of_backbone.raw},
        strategy={"name": name, **asked.raw},
        epochs=epochs,
    )
    from msft_core.stages import MOVING_STATISTICS

    for parameter, value in values["start"].items():
        counted = parameter.endswith(MOVING_STATISTICS)
        changed = not np.array_equal(value, values["end"][parameter])
        if changed and not counted and parameter not in trained:
            breaches.append(f"{parameter!r} was not selected and changed in training")
    if trained and all(
        np.array_equal(values["start"][n], values["end"][n])
        for n in trained
        if n in values["start"]
    ):
        breaches.append("nothing that it selected changed in training: is the learning rate 0?")
    _raise(asked.what, breaches)


def _parameters(backbone: Backbone) -> dict[str, Any]:
    cells = [*(stage.cell for stage in backbone.stages), backbone.head]
    return {p.name: p for cell in cells for p in cell.get_parameters()}


def _values(backbone: Backbone) -> dict[str, Any]:
    return {name: p.asnumpy().copy() for name, p in _parameters(backbone).items()}


class _Snapshots:
    """A plugin that copies all parameters at the start and after each epoch."""

    def __init__(self, values: dict[str, dict[str, Any]]) -> None:
        from msft_core.hookspecs import hookimpl

        @hookimpl
        def on_run_start(run: Any) -> None:
            values["start"] = _values(run.backbone)

        @hookimpl(tryfirst=True)
        def on_epoch_end(run: Any) -> None:
            values["end"] = _values(run.backbone)

        self.on_run_start, self.on_epoch_end = on_run_start, on_epoch_end


class _Component:
    """A component, found and configured as a run does it."""

    def __init__(
        self,
        kind: Kind,
        name: str,
        plugins: Sequence[object],
        settings: Mapping[str, Any] | None,
    ) -> None:
        from msft_core.config import RuntimeSettings, component_settings
        from msft_core.plugins.loading import load_plugins
        from msft_core.system import device as runtime
        from msft_core.system.cache_folder import cache_dir
        from msft_core.testing.given import split_plugins
        from msft_core.testing.recording import RecordingReporter
        from msft_core.types import Context

        self.given = plugins
        files, objects = split_plugins(plugins)
        self.loaded: Plugins = load_plugins(modules=files, objects=objects)
        self.raw = dict(settings or {})
        self.what = f"{kind} {name!r}"
        self.settings: Settings = component_settings(self.loaded.component(kind, name), self.raw)
        self.context: Context = Context(0, cache_dir(), RecordingReporter())
        self._kind, self._name = kind, name
        runtime.prepare(RuntimeSettings(), self.context.reporter)

    def __call__(self, hook: str, **arguments: Any) -> Any:
        """A hook's result, as far as the core accepts it. Raises PluginError."""
        result, _, _ = self.loaded.ask(
            hook, self._kind, self._name, settings=self.settings, **arguments
        )
        return result

    def backbone(self, num_classes: int) -> Backbone:
        """The backbone."""
        import mindspore

        mindspore.set_seed(self.context.seed)
        backbone = self("build_backbone", num_classes=num_classes, context=self.context)
        return cast("Backbone", backbone)


def _train(
    asked: _Component, *, plugins: Sequence[object] = (), epochs: int = 1, **sections: Any
) -> None:
    from msft_core.testing import HookRecorder, MsftRun

    with tempfile.TemporaryDirectory() as folder:
        run = MsftRun(Path(folder), HookRecorder(), asked.context.reporter)  # type: ignore[arg-type]
        run([*asked.given, *plugins], training={"epochs": epochs, "batch_size": 6}, **sections)


def _raise(what: str, breaches: Sequence[str]) -> None:
    if breaches:
        raise AssertionError("\n  ".join([f"{what} breaks the contract:", *breaches]))

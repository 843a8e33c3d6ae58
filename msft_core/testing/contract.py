"""Checks of a dataset, a backbone and a strategy. Each raises an error that lists every breach."""

from __future__ import annotations

import pickle  # noqa: TID251 - reads back what it has written itself
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msft_core.errors import DataError, blaming, first_line
from msft_core.hookspecs import hookimpl
from msft_core.testing.asking import Asked, check, class_names, fail_if

if TYPE_CHECKING:
    from msft_core.types import Backbone, ImageTable, Run

__tracebackhide__ = True

_READ_AT_MOST = 200
"""Maximum number of images per split that are read twice and compared."""


@check
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

    asked = Asked("dataset", name, plugins, settings)
    splits = asked("build_dataset", context=asked.context)
    again = asked("build_dataset", context=asked.context)
    breaches: list[str] = []
    with asked.loaded.named_by_package():
        for split in ("train", "val"):
            tables = getattr(splits, split), getattr(again, split)
            breaches += _breaches_of_a_table(split, *tables, asked.plugin)
        try:
            found = check_splits(
                splits, plugin=asked.plugin, workers=1, reporter=asked.context.reporter
            )
        except DataError as error:
            breaches.append(str(error))
        else:
            breaches += [f"{i['split']} image {i['id']}: {i['reason']}" for i in found.skipped[:5]]
            breaches += [f"{one} of train is {other} of val" for one, other in found.twins[:5]]
    if splits.classes != again.classes:
        breaches.append(f"classes are {splits.classes} once and {again.classes} the next time")
    fail_if(breaches, asked.what)


def _breaches_of_a_table(
    split: str, table: ImageTable, again: ImageTable, plugin: str
) -> list[str]:
    breaches = []
    with blaming(plugin, "", f"the table of {split} raised "):
        ids, labels = list(table.ids), list(table.labels)
        if ids != list(again.ids) or labels != list(again.labels):
            return [f"{split}: ids or labels are others when it is built again"]
    step = max(1, len(ids) // _READ_AT_MOST)
    for index in range(0, len(ids), step):
        if _read(table, index, plugin) != _read(again, index, plugin):
            breaches.append(f"{split}: image {ids[index]} is another when it is built again")
            break
    try:
        copy = pickle.loads(pickle.dumps(table))  # noqa: S301 - its own
    except Exception as error:
        return [*breaches, f"{split}: the table cannot be pickled ({first_line(error)})"]
    with blaming(plugin, "", f"the table of {split}, pickled, raised "):
        same = list(copy.ids) == ids and list(copy.labels) == labels
    if not same or _read(copy, 0, plugin) != _read(table, 0, plugin):
        breaches.append(f"{split}: the table is another one after pickling")
    return breaches


def _read(table: ImageTable, index: int, plugin: str) -> bytes | None:
    """The image; None where it cannot be read, which ``check_splits`` tells."""
    from msft_core.data.checked import read_image
    from msft_core.images import ImageError

    try:
        return read_image(table, index, plugin)
    except (OSError, ImageError):
        return None


@check
def assert_backbone(
    name: str,
    *,
    plugins: Sequence[object] = (),
    settings: Mapping[str, Any] | None = None,
    num_classes: int = 3,
    train: bool = True,
) -> None:
    """Check a backbone: stages and head run, own their parameters, and repeat their logits.

    Runs each stage and the head on random images. Then trains the network for one epoch on the tiny
    dataset, once with ``freeze`` and once with ``finetune``, compiled as for users. That takes most
    of the time.

    Args:
        name: name of the backbone.
        plugins: plugins besides the installed ones, as for ``msft_run``.
        settings: as in the section ``backbone`` of a configuration.
        num_classes: number of classes for the hook.
        train: whether to train. With ``train=False``, the check of a large network is quick.

    Raises:
        AssertionError: the contract is broken; one line per breach.
        MsftError: raised by the plugin, or by the core, which refuses the hook result.
    """
    from mindspore import nn

    asked = Asked("backbone", name, plugins, settings)
    backbone = asked.backbone(class_names(num_classes))
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
    again = asked.backbone(class_names(num_classes))
    breaches += _differences(backbone, again)
    fail_if(breaches, asked.what)
    for strategy in ("freeze", "finetune") if train else ():
        asked.train(
            backbone={"name": name, **asked.raw}, strategy=strategy, runtime={"mode": "auto"}
        )


def _breaches_of_the_forward_pass(backbone: Backbone, num_classes: int) -> list[str]:
    import mindspore as ms
    import numpy as np

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
    elif _add_up_to_one(abs(logits)) or _add_up_to_one(np.exp(np.minimum(logits, 1.0))):
        breaches.append("the head gives probabilities or their logarithms: it must give logits")
    if not np.array_equal(outputs[0], outputs[1]):
        breaches.append("in evaluation mode the same images give other logits the second time")
    return breaches


def _add_up_to_one(values: Any) -> bool:
    import numpy as np

    return np.allclose(values.sum(axis=1), 1, atol=1e-4)


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


@check
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

    of_backbone = Asked("backbone", backbone, plugins, backbone_settings)
    asked = Asked("strategy", name, plugins, settings)
    network = of_backbone.backbone(class_names(2))
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
    fail_if(breaches, asked.what)

    snapshots = _Snapshots()
    asked.train(
        snapshots,
        backbone={"name": backbone, **of_backbone.raw},
        strategy={"name": name, **asked.raw},
        epochs=epochs,
    )
    from msft_core.stages import MOVING_STATISTICS

    values = snapshots.values
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
    fail_if(breaches, asked.what)


def _parameters(backbone: Backbone) -> dict[str, Any]:
    cells = [*(stage.cell for stage in backbone.stages), backbone.head]
    return {p.name: p for cell in cells for p in cell.get_parameters()}


def _values(backbone: Backbone) -> dict[str, Any]:
    return {name: p.asnumpy().copy() for name, p in _parameters(backbone).items()}


class _Snapshots:
    """A plugin that copies all parameters at the start and after each epoch."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, Any]] = {}

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        self.values["start"] = _values(run.backbone)

    @hookimpl(tryfirst=True)
    def on_epoch_end(self, run: Run) -> None:
        self.values["end"] = _values(run.backbone)

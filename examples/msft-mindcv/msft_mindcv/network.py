"""From a network of mindcv to named stages and a new head. Importing this imports MindSpore."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import mindcv
import numpy as np
from mindspore import Tensor, nn

from msft_core import Reporter, Stage, WeightsError
from msft_core.stages import MOVING_STATISTICS, Chain, Dropout
from msft_core.weights import Checkpoint, draw_head, drop_bookkeeping, load_into
from msft_mindcv import parts
from msft_mindcv.families import Family
from msft_mindcv.table import Model


@dataclass(frozen=True, eq=False)
class Network:
    """A network of mindcv as msft wants it.

    Args:
        stages: in the order they are applied.
        head: the new classifier, and dropout before it.
        reset: names of the new classifier's parameters.
        left_out: names of what mindcv's checkpoints hold besides: constants that mindcv keeps as
            parameters, and parts that the logits do not depend on, such as auxiliary classifiers.
    """

    stages: tuple[Stage, ...]
    head: nn.Cell
    reset: frozenset[str]
    left_out: frozenset[str]

    @property
    def cells(self) -> list[nn.Cell]:
        """The stages' and the head's."""
        return [*(stage.cell for stage in self.stages), self.head]


def build(model: Model, num_classes: int, seed: int = 0) -> Network:
    """Make the network with random weights.

    Args:
        model: which one.
        num_classes: outputs of the head.
        seed: of the head's weights; the others are drawn as mindcv does, from MindSpore's and
            NumPy's own generators.
    """
    family = model.family
    assert family is not None
    net = mindcv.create_model(model.name, num_classes=num_classes)
    names = {parameter.name for parameter in net.get_parameters()}
    _make_constant(net)
    _replace_dropout(net)
    stages, head = _cut(net, family)
    owned = [p.name for cell in (*(s.cell for s in stages), head) for p in cell.get_parameters()]
    forgotten = [
        p.name
        for p in net.get_parameters()
        if p.name not in owned and not p.name.startswith(family.unused or ("\0",))
    ]
    # Two stages that own one parameter, or a parameter in none, would be a mistake in families.py.
    assert len(owned) == len(set(owned)), model.name
    assert not forgotten, (model.name, forgotten[:3])
    reset = frozenset(_draw(head, seed))
    return Network(stages, head, reset, frozenset(names.difference(owned)))


def load(
    network: Network,
    model: Model,
    checkpoint: Checkpoint,
    reporter: Reporter,
    *,
    keep_head: bool = False,
) -> None:
    """Load a checkpoint of mindcv, or one of msft's own, but for the classifier.

    Args:
        network: of ``build``.
        model: which one it is.
        checkpoint: its weights.
        reporter: told of each array that is left out.
        keep_head: load the classifier too.

    Raises: WeightsError where the file is of another network.
    """
    owner = checkpoint.metadata.get("backbone", model.component)
    if owner != model.component:
        raise WeightsError(
            f"{checkpoint.path}: weights of {owner}, not of {model.component}; "
            f"use --backbone {owner}"
        )
    arrays = drop_bookkeeping(checkpoint.arrays)
    for name in sorted(network.left_out.intersection(arrays)):
        reporter.info(f"Not a weight of the classifier, left out: {name}")
        del arrays[name]
    load_into(
        network.cells,
        arrays,
        source=str(checkpoint.path),
        reporter=reporter,
        reset=() if keep_head else network.reset,
    )


def check_size(network: Network, model: Model, size: int) -> None:
    """Try whether the network takes images of this size, by one of them.

    Raises: UsageError where it does not.
    """
    from msft_core import UsageError

    x = Tensor(np.zeros((1, 3, size, size), np.float32))
    chain = Chain(network.cells)
    chain.set_train(False)
    try:
        chain(x).asnumpy()
    except Exception as error:  # whatever MindSpore raises, of whichever operator
        raise UsageError(
            f"backbone.image_size = {size}: {model.component} does not take images of this size; "
            f"its own is {model.size}."
        ) from error


# Cutting


def _cut(net: nn.Cell, family: Family) -> tuple[tuple[Stage, ...], nn.Cell]:
    cutter = _Cutter(net)
    head = cutter.parts(family.head)
    cells: dict[str, list[nn.Cell]] = {}
    last = []
    for text in family.stages:
        name, _, words = (part.strip() for part in text.partition("="))
        if words in parts.LAST:
            last.append((name, words[1:]))
            cells[name] = []
        elif words or not name.endswith("]"):
            cells[name] = cutter.parts(words or name)
        else:
            for path, cell in cutter.items(name):
                if cells and _joins(cell):
                    cells[next(reversed(cells))].append(cell)
                else:
                    cells[path] = [cell]
    for name, part in last:
        cells[name].append(parts.make_last(part, net, sorted(cutter.taken)))
    return tuple(Stage(name, Chain(stage)) for name, stage in cells.items()), Chain(head)


def _joins(cell: nn.Cell) -> bool:
    """Whether a cell belongs to the stage before it rather than begins one."""
    return isinstance(cell, nn.BatchNorm2d) or not list(cell.get_parameters())


class _Cutter:
    """Finds the parts that ``families.py`` names.

    ``taken`` are the names of the network's own children among them.
    """

    def __init__(self, net: nn.Cell) -> None:
        self._net = net
        self.taken: set[str] = set()

    def parts(self, words: str) -> list[nn.Cell]:
        return [cell for word in words.split() for cell in self._part(word)]

    def items(self, word: str) -> list[tuple[str, nn.Cell]]:
        """Paths and cells of ``blocks[:]`` and the like."""
        match = re.fullmatch(r"(.+)\[(-?\d*):(-?\d*)\]", word)
        assert match, word
        path, start, stop = match.groups()
        parent = self._find(path)
        cells = [parent[i] for i in range(len(parent))]
        names = list(parent.name_cells())
        if len(names) != len(cells):  # one cell more than once: `name_cells` tells of it once
            names = [str(number) for number in range(len(cells))]
        items = [(f"{path}.{name}", cell) for name, cell in zip(names, cells, strict=True)]
        return items[int(start) if start else None : int(stop) if stop else None]

    def _part(self, word: str) -> list[nn.Cell]:
        if word.startswith("@"):
            return [parts.make(word[1:], self._net)]
        if word.startswith("+"):
            return [parts.Add(getattr(self._net, word[1:]))]
        if word.endswith("]"):
            return [cell for _, cell in self.items(word)]
        return [self._find(word)]

    def _find(self, path: str) -> nn.Cell:
        self.taken.add(path.partition(".")[0])
        cell = self._net
        for name in path.split("."):
            cell = getattr(cell, name)
        return cell


# What mindcv does otherwise than msft wants


def _make_constant(net: nn.Cell) -> None:
    """Turn parameters that never train, such as an attention mask, into constants.

    A strategy would train them: for msft all is learned that is no moving statistic.
    """
    for _, cell in net.cells_and_names():
        for path, parameter in list(cell.parameters_and_names(expand=False)):
            if not parameter.requires_grad and not parameter.name.endswith(MOVING_STATISTICS):
                name = path.rpartition(".")[2]
                value = Tensor(parameter.asnumpy())
                delattr(cell, name)
                setattr(cell, name, value)


def _replace_dropout(net: nn.Cell) -> None:
    """Put msft's dropout, whose masks a seed decides, in place of MindSpore's."""
    for _, cell in list(net.cells_and_names()):
        for name, child in list(cell.name_cells().items()):
            if isinstance(child, nn.Dropout):
                new = Dropout(child.p) if child.p else nn.Identity()
                if isinstance(cell, nn.SequentialCell | nn.CellList):
                    cell[list(cell.name_cells()).index(name)] = new
                else:
                    setattr(cell, name, new)


def _draw(head: nn.Cell, seed: int) -> Iterator[str]:
    """Draw new weights for the classifier, and give their names."""
    for _, cell in head.cells_and_names():
        if isinstance(cell, nn.Dense | nn.Conv2d):
            shape = cell.weight.shape
            features = int(np.prod(shape[1:]))
            weight, bias = draw_head(shape[0], features, seed)
            cell.weight.set_data(Tensor(weight.reshape(shape)))
            yield cell.weight.name
            if cell.has_bias:
                cell.bias.set_data(Tensor(bias))
                yield cell.bias.name

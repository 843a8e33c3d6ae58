"""From named stages to one network. Public: backbone plugins use it.

Kept apart from ``training.py`` because MindSpore's graph compiler needs a cell's source in a file
and the name ``self``, and because nothing here knows about training.
"""

from __future__ import annotations

from collections.abc import Sequence

from mindspore import Tensor, nn, ops

from msft_core.types import MOVING_STATISTICS as MOVING_STATISTICS
from msft_core.weights import draw_head


class Chain(nn.Cell):
    """Cells applied one after another, whose parameters keep the names they have.

    ``nn.SequentialCell`` would rename them by position, behind the back of their owner.

    Args:
        parts: the cells, in the order they are applied.
    """

    def __init__(self, parts: Sequence[nn.Cell]) -> None:
        super().__init__(auto_prefix=False)
        self.parts = nn.CellList(list(parts), auto_prefix=False)

    def construct(self, x: Tensor) -> Tensor:
        """One tensor to one tensor."""
        for part in self.parts:
            x = part(x)
        return x


class Dropout(nn.Cell):
    """As ``nn.Dropout``, but with one seed the same mask in each run.

    On a CPU the masks of ``nn.Dropout`` (MindSpore 2.10) depend on how its kernel shares the work
    among threads, which it tunes by the clock; those of ``ops.rand_like`` do not.

    Args:
        p: probability of dropping a value, 0 to 1, 1 excluded.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def construct(self, x: Tensor) -> Tensor:
        """A tensor of any shape to one of the same."""
        if not self.training:
            return x
        return x * (ops.rand_like(x) >= self.p) / (1 - self.p)


class Pool(nn.Cell):
    """Mean over the image."""

    def construct(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C)."""
        return x.mean((2, 3))


class Head(nn.Cell):
    """A new classification layer, ``classifier.weight`` and ``classifier.bias``.

    Args:
        features: inputs.
        num_classes: outputs.
        seed: of the weights, see ``weights.draw_head``.
        dropout: probability of dropping a feature before the layer; 0 for none.
    """

    NAMES = ("classifier.weight", "classifier.bias")

    def __init__(self, features: int, num_classes: int, seed: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        weight, bias = draw_head(num_classes, features, seed)
        self.dropout = Dropout(dropout) if dropout else None
        self.classifier = nn.Dense(
            features, num_classes, weight_init=Tensor(weight), bias_init=Tensor(bias)
        )

    def construct(self, x: Tensor) -> Tensor:
        """Features (N, features) to logits (N, num_classes)."""
        if self.dropout is not None:
            x = self.dropout(x)
        return self.classifier(x)


def learned_names(cell: nn.Cell) -> tuple[str, ...]:
    """Names of a cell's parameters, but for moving statistics.

    ``trainable_params()`` would not do: it asks ``requires_grad``, which a run sets.
    """
    names = (parameter.name for parameter in cell.get_parameters())
    return tuple(name for name in names if not name.endswith(MOVING_STATISTICS))


def prefix_names(cell: nn.Cell, prefix: str) -> nn.Cell:
    """Put ``prefix`` and a dot before the name of each parameter of ``cell``, and return it."""
    cell.update_parameters_name(prefix + ".")
    return cell

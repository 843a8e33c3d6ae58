"""Cells for the stages and the head of a backbone. Public: backbone plugins use it.

These cells stand in a module of their own because MindSpore's graph compiler needs the source of a
cell in a file. Nothing here depends on training.
"""

from __future__ import annotations

from collections.abc import Sequence

from mindspore import Tensor, nn, ops

from msft_core.weights import draw_head

MOVING_STATISTICS = ("moving_mean", "moving_variance")
"""Ends of the names of parameters that are counted, not learned."""


class Chain(nn.Cell):
    """A sequence of cells. Their parameters keep their names.

    ``nn.SequentialCell`` would rename the parameters by position.

    Args:
        parts: the cells, in the order of computation.
    """

    def __init__(self, parts: Sequence[nn.Cell]) -> None:
        super().__init__(auto_prefix=False)
        self.parts = nn.CellList(list(parts), auto_prefix=False)

    def construct(self, x: Tensor) -> Tensor:
        """Compute one tensor from one tensor."""
        for part in self.parts:
            x = part(x)
        return x


class Dropout(nn.Cell):
    """Like ``nn.Dropout``, but one seed gives the same masks in each run.

    On a CPU, the masks of ``nn.Dropout`` (MindSpore 2.10) depend on how its kernel divides the work
    among threads, and this depends on timing. The masks of ``ops.rand_like`` do not.

    Args:
        p: probability of dropping a value, at least 0 and below 1.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def construct(self, x: Tensor) -> Tensor:
        """Compute a tensor of the same shape, which may be any."""
        if not self.training:
            return x
        return x * (ops.rand_like(x) >= self.p) / (1 - self.p)


class Pool(nn.Cell):
    """The mean over height and width."""

    def construct(self, x: Tensor) -> Tensor:
        """Compute (N, C) from (N, C, H, W)."""
        return x.mean((2, 3))


class Head(nn.Cell):
    """A new classification layer, with ``classifier.weight`` and ``classifier.bias``.

    Args:
        features: number of inputs.
        num_classes: number of outputs.
        seed: seed of the weights, see ``weights.draw_head``.
        dropout: probability of dropping a feature before the layer; 0 for no dropout.
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
        """Compute logits (N, num_classes) from features (N, features)."""
        if self.dropout is not None:
            x = self.dropout(x)
        return self.classifier(x)


def learned_names(cell: nn.Cell) -> tuple[str, ...]:
    """Return the names of a cell's parameters, without moving statistics.

    ``trainable_params()`` would depend on ``requires_grad``, which a run changes.
    """
    names = (parameter.name for parameter in cell.get_parameters())
    return tuple(name for name in names if not name.endswith(MOVING_STATISTICS))


def prefix_names(cell: nn.Cell, prefix: str) -> nn.Cell:
    """Put ``prefix`` and a dot before the name of each parameter of ``cell``, and return it."""
    cell.update_parameters_name(prefix + ".")
    return cell

"""Cells for the stages and the head of a backbone. Public: backbone plugins use it.

These cells stand in a module of their own because MindSpore's graph compiler needs the source of a
cell in a file. Nothing here depends on training.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import mindspore
from mindspore import Parameter, Tensor, dtype, nn, ops

from msft_core.types import MOVING_STATISTICS as MOVING_STATISTICS
from msft_core.weights import draw_head


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
    """As ``nn.Dropout``, but each mask is a function of where it is used, so that it comes back.

    In a run of msft a mask follows from (seed of the run, training step, layer, place of the image
    in the batch, place of the value in the image), whatever ran before. Used alone, the cell counts
    its own calls instead of steps, and takes the seed of ``mindspore.set_seed``.

    On a CPU the masks of ``nn.Dropout`` (MindSpore 2.10) depend on how its kernel shares the work
    among threads, and those of ``ops.rand_like`` on how often a graph ran since it was compiled.

    The mask is a hash in int32 arithmetic: two rounds of a 32-bit mixing function of the kind that
    C. Wellons describes (https://nullprogram.com/blog/2018/07/31/), with his constants.

    Args:
        p: probability of dropping a value, at least 0 and below 1.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self._threshold = round(p * (1 << 24))
        self._factors = (_as_int32(_FACTORS[0]), _as_int32(_FACTORS[1]))
        self.drive(None, mindspore.get_seed() or 0, 0)

    def drive(
        self, clock: Parameter | None, seed: int, layer: int, first: Parameter | None = None
    ) -> None:
        """Say where masks come from.

        Args:
            clock: int32 scalar, the number of the training step, which its owner advances; None
                for a count of this cell's own calls.
            seed: of the run.
            layer: tells the dropout layers of a network apart.
            first: int32 scalar, the place in the batch of the first image that the cell gets,
                where several processes share a batch; None where it gets all.
        """
        self._counts_calls = clock is None
        if clock is None:
            name = f"calls{next(_COUNTER)}"
            clock = Parameter(Tensor(0, dtype.int32), name=name, requires_grad=False)
        # Not registered as a parameter of the network: it is in no checkpoint and no list of names.
        object.__setattr__(self, "_clock", clock)
        self._shares_batch = first is not None
        object.__setattr__(self, "_first", first)
        self._key = _as_int32(_mixed(_mixed(seed & 0xFFFFFFFF) + layer))

    def construct(self, x: Tensor) -> Tensor:
        """Compute a tensor of the same shape, which may be any."""
        if not self.training:
            return x
        step = self._mix(self._clock + self._key)
        place = ops.arange(x.size).astype(dtype.int32)
        if self._shares_batch:
            place = place + self._first * (x.size // x.shape[0])
        bits = self._mix(ops.bitwise_xor(self._mix(place + step), step))
        drawn = ops.bitwise_and(ops.bitwise_right_shift(bits, 8), 0xFFFFFF)
        if self._counts_calls:
            ops.assign_add(self._clock, 1)
        return x * (drawn >= self._threshold).reshape(x.shape) / (1 - self.p)

    def _mix(self, x: Tensor) -> Tensor:
        """See ``_mixed``. A right shift of a negative int32 copies its sign: the mask cuts it."""
        x = ops.bitwise_xor(x, ops.bitwise_and(ops.bitwise_right_shift(x, 16), 0xFFFF))
        x = x * self._factors[0]
        x = ops.bitwise_xor(x, ops.bitwise_and(ops.bitwise_right_shift(x, 15), 0x1FFFF))
        x = x * self._factors[1]
        return ops.bitwise_xor(x, ops.bitwise_and(ops.bitwise_right_shift(x, 16), 0xFFFF))


_COUNTER = itertools.count()
"""Tells cells that count their own calls apart: a graph takes no two parameters of one name."""

_FACTORS = (0x7FEB352D, 0x846CA68B)


def _mixed(x: int) -> int:
    """Mix the bits of a 32-bit number, so that neighbours have nothing in common."""
    x &= 0xFFFFFFFF
    x ^= x >> 16
    x = (x * _FACTORS[0]) & 0xFFFFFFFF
    x ^= x >> 15
    x = (x * _FACTORS[1]) & 0xFFFFFFFF
    return x ^ (x >> 16)


def _as_int32(x: int) -> int:
    return x - (1 << 32) if x >= 1 << 31 else x


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

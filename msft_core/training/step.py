"""One training step, and what frozen means for the network.

A stage in which no parameter trains runs in evaluation mode. The frozen prefix is the longest
leading run of such stages. It is computed outside the gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import mindspore as ms
from mindspore import nn, ops

from msft_core.stages import Chain, Dropout
from msft_core.types import MOVING_STATISTICS, Backbone, Trainable


class Network(Chain):
    """Stages and head as one Cell. Frozen cells stay in evaluation mode even after ``set_train``.

    Args:
        parts: the stages, then the head.
    """

    def __init__(self, parts: Sequence[nn.Cell]) -> None:
        super().__init__(parts)
        self.frozen: tuple[nn.Cell, ...] = ()

    def set_train(self, mode: bool = True) -> Network:
        """Set the mode as every Cell does, except for the frozen cells."""
        super().set_train(mode)
        for cell in self.frozen:
            nn.Cell.set_train(cell, False)
        return self


class Step(nn.Cell):
    """One training step.

    It is a Cell, since MindSpore 2.10 runs the graph of a Cell faster than that of a function under
    ``ms.jit``: a step of ResNet-50 with batch size 24 on a 2-core CPU takes 3.8 s instead of 6.5 s
    (4.8 s in PyNative mode).

    Args:
        prefix: frozen leading stages, kept out of the gradient.
        rest: stages and head.
        optimizers: together they cover the parameters that train.
        clock: int32 scalar, the number of the step, which dropout reads; advanced by each step.
        loss_sum: float32 scalar to which each step adds its loss times its images, for sink mode;
            None where the caller sees each step's logits.
    """

    def __init__(
        self,
        prefix: Chain,
        rest: Chain,
        optimizers: Sequence[Any],
        clock: ms.Parameter,
        loss_sum: ms.Parameter | None = None,
    ) -> None:
        super().__init__(auto_prefix=False)
        self.prefix, self.clock = prefix, clock
        self.sums_loss = loss_sum is not None
        if loss_sum is not None:
            self.loss_sum = loss_sum
        self.optimizers = nn.CellList(list(optimizers), auto_prefix=False)
        self.starts, self.ends = _places(optimizers)
        self.gradient = _gradient_of(rest, optimizers)

    def construct(self, inputs: ms.Tensor, labels: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """Do a step. Returns the loss and the logits from before the update."""
        (loss, logits), gradients = self.gradient(self.prefix(inputs), labels)
        for i in range(len(self.optimizers)):
            self.optimizers[i](gradients[self.starts[i] : self.ends[i]])
        ops.assign_add(self.clock, 1)
        if self.sums_loss:
            ops.assign_add(self.loss_sum, loss * labels.shape[0])
        return loss, logits


def _places(optimizers: Sequence[Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where the gradients of each optimizer begin and end among those of all."""
    counts = [len(optimizer.parameters) for optimizer in optimizers]
    ends = tuple(sum(counts[: i + 1]) for i in range(len(counts)))
    return (0, *ends[:-1]), ends


def _gradient_of(rest: Chain, optimizers: Sequence[Any]) -> Any:
    """From features and labels to (loss, logits) and the gradients."""
    weights = ms.ParameterTuple([p for one in optimizers for p in one.parameters])

    def loss_of(features: ms.Tensor, labels: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        logits = rest(features)
        return ops.cross_entropy(logits, labels), logits

    return ms.value_and_grad(loss_of, None, weights, has_aux=True)


class Gradients(nn.Cell):
    """The first half of a ``Step`` that several processes do together.

    Args:
        prefix: see ``Step``.
        rest: see ``Step``.
        optimizers: see ``Step``.
    """

    def __init__(self, prefix: Chain, rest: Chain, optimizers: Sequence[Any]) -> None:
        super().__init__(auto_prefix=False)
        self.prefix = prefix
        self.gradient = _gradient_of(rest, optimizers)

    def construct(self, inputs: ms.Tensor, labels: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """The logits, and all gradients in one row, float32."""
        (_, logits), gradients = self.gradient(self.prefix(inputs), labels)
        row = [one.astype(ms.float32).reshape(-1) for one in gradients]
        return logits, ops.concat(row)


class Update(nn.Cell):
    """The second half: the optimizers, with the gradients of all processes.

    Args:
        optimizers: see ``Step``.
        clock: see ``Step``.
    """

    def __init__(self, optimizers: Sequence[Any], clock: ms.Parameter) -> None:
        super().__init__(auto_prefix=False)
        self.clock = clock
        self.optimizers = nn.CellList(list(optimizers), auto_prefix=False)
        self.starts, self.ends = _places(optimizers)
        weights = [p for one in optimizers for p in one.parameters]
        self.shapes = tuple(p.shape for p in weights)
        self.dtypes = tuple(p.dtype for p in weights)
        self.sizes = tuple(p.size for p in weights)

    def construct(self, row: ms.Tensor) -> ms.Tensor:
        """Update the parameters from all gradients in one row, float32. Returns the clock."""
        gradients: tuple[ms.Tensor, ...] = ()
        start = 0
        for i in range(len(self.sizes)):
            one = row[start : start + self.sizes[i]]
            gradients += (one.reshape(self.shapes[i]).astype(self.dtypes[i]),)
            start += self.sizes[i]
        for i in range(len(self.optimizers)):
            self.optimizers[i](gradients[self.starts[i] : self.ends[i]])
        return ops.assign_add(self.clock, 1)


def drive_dropout(network: nn.Cell, seed: int) -> tuple[ms.Parameter, ms.Parameter]:
    """Make every ``Dropout`` of a network follow one clock and one place in the batch.

    Args:
        network: whose layers are counted in the order of its cells.
        seed: of the run.

    Returns: the clock, and the number of images of the batch that other processes have before
        those of this one; int32 scalars.
    """
    clock = ms.Parameter(ms.Tensor(0, ms.int32), name="msft_step", requires_grad=False)
    first = ms.Parameter(ms.Tensor(0, ms.int32), name="msft_first", requires_grad=False)
    cells = (cell for _, cell in network.cells_and_names() if isinstance(cell, Dropout))
    for layer, cell in enumerate(cells):
        cell.drive(clock, seed, layer, first)
    return clock, first


def cells_in_evaluation_mode(backbone: Backbone, trained: frozenset[str]) -> Iterator[nn.Cell]:
    """Stages in which no parameter trains; in other parts, batch norms with frozen parameters."""
    for cell in [*(stage.cell for stage in backbone.stages), backbone.head]:
        if not any(p.name in trained for p in cell.get_parameters()):
            yield cell
            continue
        for _, part in cell.cells_and_names():
            if hasattr(part, "moving_mean") and not any(
                p.name in trained for p in part.get_parameters(expand=False)
            ):
                yield part


def describe(trainable: Trainable, parameters: dict[str, ms.Parameter]) -> str:
    """One line: how many parameters train, and how many are frozen."""
    learned = {n: p for n, p in parameters.items() if not n.endswith(MOVING_STATISTICS)}
    trained = [p for n, p in learned.items() if n in trainable.names]
    frozen = [p for n, p in learned.items() if n not in trainable.names]
    return (
        f"training {sum(p.size for p in trained):,} values in {len(trained)} parameters; "
        f"frozen {sum(p.size for p in frozen):,} in {len(frozen)}"
    )

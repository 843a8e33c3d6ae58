"""The MindSpore step, evaluation, and what frozen means.

A stage in which nothing trains runs wholly in evaluation mode. The leading run of stages without
trainable parameters, the frozen prefix, is computed outside the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from msft_core.answers import problem_of_backbone, problem_of_trainable
from msft_core.errors import PluginError, TrainingError, blaming, first_line, suggest
from msft_core.pipeline import Batch, Pipeline
from msft_core.runfolder import write_atomically
from msft_core.runtime import Runtime
from msft_core.stages import MOVING_STATISTICS, Chain
from msft_core.types import Array, Backbone, OptimizerSpec, Trainable

# What an optimizer keeps beside a slot for each parameter; rates and momentum come from the answer.
_STEP_COUNTS = frozenset({"global_step", "beta1_power", "beta2_power"})

_DOES_NOT_RUN = "the network does not run: "


class Network(Chain):
    """Stages and head in one; whatever ``set_train`` says, what is frozen stays in evaluation mode.

    Args:
        parts: the stages, then the head.
    """

    def __init__(self, parts: Sequence[nn.Cell]) -> None:
        super().__init__(parts)
        self.frozen: tuple[nn.Cell, ...] = ()

    def set_train(self, mode: bool = True) -> Network:
        """As in every Cell, but for the frozen ones."""
        super().set_train(mode)
        for cell in self.frozen:
            nn.Cell.set_train(cell, False)
        return self


@dataclass(frozen=True)
class Schedule:
    """Learning rate of each step of a run.

    Args:
        spec: peak rate, shape and warm-up.
        steps_per_epoch: training steps an epoch.
        epochs: of the whole run.
    """

    spec: OptimizerSpec
    steps_per_epoch: int
    epochs: int

    def rates(self) -> list[float]:
        """One for each step, before a group's rate factor."""
        total = self.steps_per_epoch * self.epochs
        warmup = self.spec.warmup_epochs * self.steps_per_epoch
        rates = []
        for step in range(total):
            factor = min(1.0, (step + 1) / warmup) if warmup else 1.0
            if self.spec.schedule == "cosine":
                done = max(0.0, step - warmup) / max(1.0, total - warmup)
                factor *= 0.5 * (1 + math.cos(math.pi * done))
            rates.append(float(self.spec.learning_rate) * factor)
        return rates


@dataclass(frozen=True)
class EpochResult:
    """What an epoch of training gave: mean loss over its images, steps done, last rate."""

    loss: float
    steps: int
    learning_rate: float


class Trainer:
    """A network that can be trained and asked.

    Args:
        backbone: stages and head.
        plugin: which plugin made it, for messages.
        num_classes: outputs expected of the head.
        runtime: graph or PyNative, sink mode.
        say: where a line for the user goes.

    Raises:
        PluginError: the backbone breaks the contract.
    """

    def __init__(
        self,
        backbone: Backbone,
        plugin: str,
        num_classes: int,
        runtime: Runtime,
        say: Callable[[str], None] = print,
    ) -> None:
        self._say = say
        self.backbone, self.plugin, self._num_classes = backbone, plugin, num_classes
        self._runtime = runtime
        self.parameters = owned_parameters(backbone, plugin)
        self.network = Network([*(stage.cell for stage in backbone.stages), backbone.head])
        self.frozen_stages = 0
        """How many leading stages give the same for the same image all the time."""
        self._start = 0
        self._rates: list[float] = []
        self._optimizer: Any = None
        self._step: Callable[..., Any] | None = None
        self._answer: Callable[..., Any] | None = None

    # What trains

    def select(self, trainable: Trainable, plugin: str, steps_per_epoch: int, epochs: int) -> None:
        """Freeze all but what trains, and make the optimizer and the step anew.

        Optimizer state of parameters that go on training is kept.

        Args:
            trainable: a strategy's answer.
            plugin: where it came from, for messages.
            steps_per_epoch: training steps an epoch.
            epochs: of the whole run.

        Raises:
            PluginError: the answer breaks the contract.
        """
        self._check(trainable, plugin)
        for name, parameter in self.parameters.items():
            parameter.requires_grad = name in trainable.names
        self.network.frozen = (
            tuple(_cells_in_evaluation_mode(self.backbone, trainable.names))
            if trainable.batch_norm == "frozen_eval"
            else ()
        )
        # With `batch` every stage runs in training mode, so none gives the same all the time.
        stay = trainable.batch_norm == "frozen_eval"
        self.frozen_stages = self._first_that_trains() if stay else 0
        self.enter_at(0)
        self._rates = Schedule(trainable.optimizer, steps_per_epoch, epochs).rates()
        old = {} if self._optimizer is None else self._optimizer.parameters_dict()
        self._optimizer = self._make_optimizer(trainable)
        slots = self._optimizer.parameters_dict()
        for name in _STEP_COUNTS.union(
            slot for slot in slots if slot.endswith(tuple(f".{n}" for n in trainable.names))
        ):
            if name in slots and name in old:
                slots[name].set_data(old[name].value())

    def _first_that_trains(self) -> int:
        """Index into the stages; their number where only the head trains."""
        trains = (
            any(p.requires_grad for p in part.get_parameters()) for part in self.network.parts
        )
        return list(trains).index(True)

    def enter_at(self, stage: int) -> None:
        """Say what batches hold: images (0), or what the stages before this one gave for them."""
        self._start, self._step, self._answer = stage, None, None

    def prefix(self, stages: int) -> Chain:
        """The first so many stages as one Cell in evaluation mode."""
        chain = Chain([stage.cell for stage in self.backbone.stages[:stages]])
        chain.set_train(False)
        return chain

    def _check(self, trainable: Trainable, plugin: str) -> None:
        hook = "select_trainable"
        if not isinstance(trainable, Trainable):
            raise PluginError(plugin, hook, f"gave {type(trainable).__name__}, not a Trainable")
        if problem := problem_of_trainable(trainable):
            raise PluginError(plugin, hook, problem)
        if not trainable.names:
            raise PluginError(plugin, hook, "selects no parameters, so nothing would train")
        seen: set[str] = set()
        for group in trainable.groups:
            for name in group.names:
                if name not in self.parameters:
                    known = suggest(name, self.parameters)
                    raise PluginError(
                        plugin, hook, f"the network has no parameter {name!r}.{known}"
                    )
                if name.endswith(MOVING_STATISTICS):
                    raise PluginError(
                        plugin, hook, f"{name!r} is a moving statistic: it can't train"
                    )
                if name in seen:
                    raise PluginError(plugin, hook, f"{name!r} is in two groups")
                seen.add(name)

    def _make_optimizer(self, trainable: Trainable) -> Any:
        spec = trainable.optimizer
        groups = []
        for group in trainable.groups:
            decay = spec.weight_decay if group.weight_decay is None else group.weight_decay
            decay, factor = float(decay), float(group.rate_factor)  # MindSpore takes no other
            rates = [rate * factor for rate in self._rates]
            for wanted, weight_decay in ((True, decay), (False, 0.0)):
                members = [
                    self.parameters[name]
                    for name in group.names
                    if (self.parameters[name].ndim > 1) == wanted
                ]
                if members:
                    groups.append({"params": members, "lr": rates, "weight_decay": weight_decay})
        if spec.name == "momentum":
            return nn.Momentum(groups, learning_rate=self._rates, momentum=float(spec.momentum))
        return nn.Adam(groups, learning_rate=self._rates)

    def _make_step(self) -> Callable[..., Any]:
        parts, cut = list(self.network.parts), self._first_that_trains()
        step = Step(Chain(parts[self._start : cut]), Chain(parts[cut:]), self._optimizer)
        if self._runtime.sink and self._start == 0:
            return step.construct  # data_sink compiles it
        if self._runtime.graph:
            return partial(in_graph_mode, step)
        if self._runtime.may_compile:
            return if_possible(partial(in_graph_mode, step), step.construct, self._say)
        return step.construct

    def _make_answer(self) -> Callable[..., Any]:
        network = Chain(list(self.network.parts)[self._start :])
        if self._runtime.graph:
            return ms.jit(network.construct)
        if self._answers_in_graph:
            return if_possible(ms.jit(network.construct), network, self._say)
        return network

    @property
    def _answers_in_graph(self) -> bool:
        """On a CPU that pays for the head alone: a whole network answers as fast in PyNative."""
        only_head = self._start == len(self.backbone.stages)
        return self._runtime.graph or (self._runtime.may_compile and only_head)

    # Training and asking

    def train_epoch(
        self, pipeline: Pipeline, epoch: int, between_steps: Callable[[], None]
    ) -> EpochResult:
        """One pass over the training images.

        Args:
            pipeline: the batches.
            epoch: from 1.
            between_steps: called after each step; what it raises ends the epoch.

        Raises:
            TrainingError: the loss is not a number.
        """
        assert self._optimizer is not None, "select() comes first"
        self.network.set_train(True)
        if self._step is None:
            self._step = self._make_step()
        if self._runtime.sink and self._start == 0:
            return self._train_epoch_sunk(pipeline, epoch)
        total, count, steps = 0.0, 0, 0
        for batch in pipeline.epoch(epoch):
            with blaming(self.plugin, "build_backbone", _DOES_NOT_RUN):
                answer = self._step(ms.Tensor(batch.inputs), ms.Tensor(batch.labels))[1]
            logits = self._checked(answer.asnumpy(), len(batch.labels))
            # Not the step's own loss: on a CPU its last bit varies from call to call, though the
            # logits and the gradients do not.
            loss = mean_loss(logits, batch.labels)
            steps += 1
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss is {loss} at step {steps} of epoch {epoch}. "
                    "Try a smaller learning rate (--lr)."
                )
            total += loss * len(batch.labels)
            count += len(batch.labels)
            between_steps()
        return EpochResult(total / count, steps, self._rate_after(epoch, steps))

    def _train_epoch_sunk(self, pipeline: Any, epoch: int) -> EpochResult:
        # One call feeds and runs the whole epoch on the device; it gives the last step's loss.
        steps = pipeline.steps()
        dataset = pipeline.dataset(epoch).project(["image", "label"])
        loss = float(ms.data_sink(self._step, dataset, sink_size=steps)()[0].asnumpy())
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at the end of epoch {epoch}. "
                "Try a smaller learning rate (--lr)."
            )
        return EpochResult(loss, steps, self._rate_after(epoch, steps))

    def _rate_after(self, epoch: int, steps: int) -> float:
        return self._rates[min(epoch * steps, len(self._rates)) - 1]

    def logits(self, batches: Iterable[Batch], batch_size: int) -> Iterator[tuple[Batch, Array]]:
        """The network's answers in evaluation mode: each batch with its logits, float32 (N, K).

        Args:
            batches: of what ``enter_at`` said.
            batch_size: of all but the last; a graph is compiled for one shape, so the last is
                padded to it there.

        Raises:
            PluginError: the head gives another shape.
        """
        self.network.set_train(False)
        if self._answer is None:
            self._answer = self._make_answer()
        for batch in batches:
            inputs, count = batch.inputs, len(batch.labels)
            if self._answers_in_graph:
                inputs = padded(inputs, batch_size)
            with blaming(self.plugin, "build_backbone", _DOES_NOT_RUN):
                answers = self._answer(ms.Tensor(inputs)).asnumpy().astype(np.float32)[:count]
            yield batch, self._checked(answers, count)

    def _checked(self, logits: Array, count: int) -> Array:
        if logits.shape != (count, self._num_classes):
            raise PluginError(
                self.plugin,
                "build_backbone",
                f"the network gives {logits.shape} for {count} images and "
                f"{self._num_classes} classes",
            )
        return logits

    # Checkpoints

    def save(self, path: Path, metadata: dict[str, str]) -> Path:
        """Write every parameter and ``metadata`` into a ``.ckpt``, atomically."""
        values = [{"name": n, "data": p} for n, p in sorted(self.parameters.items())]
        return write_atomically(
            path,
            lambda temporary: ms.save_checkpoint(values, str(temporary), append_dict=metadata),
        )

    def load(self, path: Path) -> None:
        """Take the values of a checkpoint that ``save`` wrote."""
        saved = ms.load_checkpoint(str(path))
        for name, parameter in self.parameters.items():
            parameter.set_data(saved[name].value())


def owned_parameters(backbone: Backbone, plugin: str) -> dict[str, ms.Parameter]:
    """A backbone's parameters by name, stages and head.

    Raises:
        PluginError: it is no Backbone, a parameter or its name is there twice, or the head has
            none.
    """
    hook = "build_backbone"
    if not isinstance(backbone, Backbone):
        raise PluginError(plugin, hook, f"gave {type(backbone).__name__}, not a Backbone")
    if problem := problem_of_backbone(backbone):
        raise PluginError(plugin, hook, problem)
    owned: dict[str, ms.Parameter] = {}
    for where, cell in [*((s.name, s.cell) for s in backbone.stages), ("head", backbone.head)]:
        for parameter in cell.get_parameters():
            if parameter.name in owned:
                what = "is shared" if owned[parameter.name] is parameter else "is there twice"
                raise PluginError(plugin, hook, f"parameter {parameter.name!r} of {where} {what}")
            owned[parameter.name] = parameter
    if not list(backbone.head.get_parameters()):
        raise PluginError(plugin, hook, "the head has no parameters")
    return owned


def _cells_in_evaluation_mode(backbone: Backbone, trained: frozenset[str]) -> Iterator[nn.Cell]:
    """Stages in which nothing trains, and elsewhere batch norms whose own parameters are frozen."""
    for cell in [*(stage.cell for stage in backbone.stages), backbone.head]:
        if not any(p.name in trained for p in cell.get_parameters()):
            yield cell
            continue
        for _, part in cell.cells_and_names():
            if hasattr(part, "moving_mean") and not any(
                p.name in trained for p in part.get_parameters(expand=False)
            ):
                yield part


class Step(nn.Cell):
    """One training step.

    A Cell, since MindSpore 2.10 runs the graph of a Cell faster than that of a function under
    ``ms.jit``: ResNet-50, batch 24, on a 2-core CPU 3.8 s against 6.5; in PyNative 4.8.

    Args:
        prefix: leading stages in which nothing trains, kept out of the gradient.
        rest: stages and head.
        optimizer: of what trains.
    """

    def __init__(self, prefix: Chain, rest: Chain, optimizer: Any) -> None:
        super().__init__(auto_prefix=False)
        self.prefix, self.rest, self.optimizer = prefix, rest, optimizer

        def loss_of(features: ms.Tensor, labels: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
            logits = rest(features)
            return ops.cross_entropy(logits, labels), logits

        self.gradient = ms.value_and_grad(loss_of, None, optimizer.parameters, has_aux=True)

    def construct(self, inputs: ms.Tensor, labels: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """Loss and logits before the step."""
        (loss, logits), gradients = self.gradient(self.prefix(inputs), labels)
        self.optimizer(gradients)
        return loss, logits


def in_graph_mode(cell: nn.Cell, *arguments: Any) -> Any:
    """Call a Cell in graph mode, whatever mode is on; it is compiled once for each shape."""
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        return cell(*arguments)
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)


def if_possible(
    compiled: Callable[..., Any], otherwise: Callable[..., Any], say: Callable[[str], None]
) -> Callable[..., Any]:
    """What is compiled at its first call; where that fails, after a line, the other."""
    chosen: Callable[..., Any] | None = None

    def call(*arguments: Any) -> Any:
        nonlocal chosen
        if chosen is not None:
            return chosen(*arguments)
        try:
            answer = compiled(*arguments)
            chosen = compiled
        except Exception as error:
            answer = otherwise(*arguments)  # where this fails too, the network is at fault
            say(f"This network runs in PyNative, since it does not compile: {first_line(error)}")
            chosen = otherwise
        return answer

    return call


def padded(inputs: Array, count: int) -> Array:
    """(n, ...) to (count, ...): the last one is repeated."""
    missing = count - len(inputs)
    return inputs if missing <= 0 else np.concatenate([inputs, np.repeat(inputs[-1:], missing, 0)])


def mean_loss(logits: Array, labels: Array) -> float:
    """Mean cross-entropy of logits, float (N, K), with the true classes, int (N,), in nats."""
    values = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinite logits give nan, which the caller looks for
        shifted = values - values.max(axis=1, keepdims=True)
        of_truth = shifted[np.arange(len(labels)), labels]
        return float((np.log(np.exp(shifted).sum(axis=1)) - of_truth).mean())


def softmax(logits: Array) -> Array:
    """float32 (N, K), rows sum to 1."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float32)


def describe(trainable: Trainable, parameters: dict[str, ms.Parameter]) -> str:
    """The split in a line: how many parameters train, how many do not."""
    learned = {n: p for n, p in parameters.items() if not n.endswith(MOVING_STATISTICS)}
    trained = [p for n, p in learned.items() if n in trainable.names]
    frozen = [p for n, p in learned.items() if n not in trainable.names]
    return (
        f"training {sum(p.size for p in trained):,} values in {len(trained)} parameters; "
        f"frozen {sum(p.size for p in frozen):,} in {len(frozen)}"
    )

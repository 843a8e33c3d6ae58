"""Trains and evaluates a network, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import mindspore as ms
import numpy as np

from msft_core.data.pipeline import Batch, Pipeline
from msft_core.errors import PluginError, blaming
from msft_core.stages import Chain
from msft_core.system.device import Runtime
from msft_core.system.group import Group
from msft_core.training.compilation import (
    MINDSPORE,
    compiled_or_eager,
    in_graph_mode,
    padded,
)
from msft_core.training.losses import mean_loss
from msft_core.training.not_finite import not_finite
from msft_core.training.optimizers import make_optimizers
from msft_core.training.progress import PartOfEpoch
from msft_core.training.schedules import Schedule
from msft_core.training.state import TrainState
from msft_core.training.step import (
    Gradients,
    Network,
    Step,
    Update,
    cells_in_evaluation_mode,
    drive_dropout,
)
from msft_core.training.together import SharedStep
from msft_core.types import MOVING_STATISTICS, Array, Trainable

_DOES_NOT_RUN = "the network failed: "


@dataclass(frozen=True)
class EpochResult:
    """Result of an epoch of training: mean loss over its images, number of steps, last rate."""

    loss: float
    steps: int
    learning_rate: float


class Trainer:
    """Trains and evaluates the network of a train state.

    Args:
        state: the train state; training changes it.
        plugin: the plugin that made the backbone, for messages.
        num_classes: number of outputs that the head must have.
        runtime: graph or PyNative mode, sink mode.
        say: prints a line for the user.
        group: the processes that train together.
    """

    def __init__(
        self,
        state: TrainState,
        plugin: str,
        num_classes: int,
        runtime: Runtime,
        say: Callable[[str], None] = print,
        group: Group | None = None,
    ) -> None:
        self.state, self.plugin = state, plugin
        self._group = group or Group()
        self.backbone = state.backbone
        self._num_classes, self._runtime, self._say = num_classes, runtime, say
        self.network = Network([*(s.cell for s in self.backbone.stages), self.backbone.head])
        self._clock, self._first = drive_dropout(self.network, state.seed)
        self._loss_sum = ms.Parameter(ms.Tensor(0.0, ms.float32), name="msft_loss_sum")
        self.frozen_stages = 0
        """Number of stages in the frozen prefix: their output for a view never changes."""
        self._skipped = 0
        self._rates: list[float] = []
        self._step: Callable[..., Any] | None = None
        self._shared: SharedStep | None = None
        self._forward: Callable[..., Any] | None = None

    # Which parameters train

    def select(self, trainable: Trainable, steps_per_epoch: int, epochs: int) -> None:
        """Freeze every parameter that is not selected, and rebuild the optimizer and the step.

        Parameters that continue to train keep their optimizer slots.

        Args:
            trainable: a strategy's result.
            steps_per_epoch: training steps in an epoch.
            epochs: epochs of the whole run.
        """
        state = self.state
        for name, parameter in state.parameters.items():
            parameter.requires_grad = name in trainable.names
        # With `batch` every stage runs in training mode, so the output of every stage changes.
        frozen = trainable.batch_norm == "frozen_eval"
        self.network.frozen = (
            tuple(cells_in_evaluation_mode(self.backbone, trainable.names)) if frozen else ()
        )
        self.frozen_stages = self._first_that_trains() if frozen else 0
        self.skip_stages(0)
        self._rates = Schedule(trainable.optimizer, steps_per_epoch, epochs).rates()
        state.optimizers = make_optimizers(
            trainable, state.parameters, self._rates, state.step, state.optimizers
        )
        state.select(trainable, self.network.frozen)

    def _first_that_trains(self) -> int:
        """Index of the first stage that trains; the number of stages if only the head trains."""
        trains = (
            any(p.requires_grad for p in part.get_parameters()) for part in self.network.parts
        )
        return list(trains).index(True)

    def skip_stages(self, count: int) -> None:
        """Set what batches hold: images (0), or the outputs of ``count`` leading stages."""
        self._skipped, self._step, self._forward, self._shared = count, None, None, None

    @property
    def skipped_stages(self) -> int:
        """Number of leading stages whose outputs the batches hold."""
        return self._skipped

    def prefix(self, stages: int) -> Chain:
        """The first ``stages`` stages as one Cell in evaluation mode."""
        chain = Chain([stage.cell for stage in self.backbone.stages[:stages]])
        chain.set_train(False)
        return chain

    # Compiling

    @property
    def compiles_next(self) -> bool:
        """Whether the next step first compiles stages of the network, which takes its time."""
        compiles = self._runtime.graph or self._runtime.may_compile
        made = self._step is not None or self._shared is not None
        return compiles and not made and self._skipped < len(self.backbone.stages)

    def _trained_parts(self) -> tuple[Chain, Chain]:
        """What is computed outside the gradient, and the rest."""
        parts, cut = list(self.network.parts), self._first_that_trains()
        return Chain(parts[self._skipped : cut]), Chain(parts[cut:])

    def _make_step(self) -> Callable[..., Any]:
        prefix, rest = self._trained_parts()
        loss_sum = self._loss_sum if self._sinks else None
        step = Step(prefix, rest, self.state.optimizers, self._clock, loss_sum)
        if self._sinks:
            return step.construct  # data_sink compiles it
        return self._compiled(step)

    def _make_shared_step(self) -> SharedStep:
        state = self.state
        assert state.trainable is not None
        gradients = Gradients(*self._trained_parts(), state.optimizers)
        update = Update(state.optimizers, self._clock)
        moving = (state.parameters[name] for name in sorted(state.changing - state.trainable.names))
        averaged = [one for one in moving if one.name.endswith(MOVING_STATISTICS)]
        return SharedStep(
            self._compiled(gradients),
            self._compiled(update),
            sum(update.sizes),
            averaged,
            self._first,
            self._group,
        )

    def _compiled(self, cell: Any) -> Callable[..., Any]:
        if self._runtime.graph:
            return partial(in_graph_mode, cell)
        if self._runtime.may_compile:
            return compiled_or_eager(partial(in_graph_mode, cell), cell.construct, self._say)
        return cast(Callable[..., Any], cell.construct)

    def _make_forward(self) -> Callable[..., Any]:
        network = Chain(list(self.network.parts)[self._skipped :])
        if self._runtime.graph:
            return ms.jit(network.construct)
        if self._evaluates_in_graph:
            return compiled_or_eager(ms.jit(network.construct), network, self._say)
        return network

    @property
    def _sinks(self) -> bool:
        return self._runtime.sink and self._skipped == 0

    @property
    def _evaluates_in_graph(self) -> bool:
        """Whether a graph evaluates. On a CPU this is faster only for the head alone."""
        only_head = self._skipped == len(self.backbone.stages)
        return self._runtime.graph or (self._runtime.may_compile and only_head)

    # Training and evaluating

    def try_out(self, batch: Batch) -> None:
        """Run the network forward on a few images, so that one that cannot train is found at once.

        Args:
            batch: of images, or of what ``skip_stages`` said.

        Raises:
            PluginError: the network does not run, or gives logits of another shape.
        """
        self.network.set_train(False)
        network = Chain(list(self.network.parts)[self._skipped :])
        with MINDSPORE, blaming(self.plugin, "build_backbone", _DOES_NOT_RUN):
            logits = network(ms.Tensor(batch.inputs)).asnumpy()
        self._checked(logits, len(batch.labels))

    def train_epoch(
        self,
        pipeline: Pipeline,
        epoch: int,
        between_steps: Callable[[], None],
        show: Callable[[float, int], None] = lambda loss, images: None,
    ) -> EpochResult:
        """One pass over the training images, or what is left of one that was interrupted.

        Args:
            pipeline: the batches.
            epoch: from 1.
            between_steps: called after each step. If it raises, the epoch ends, in all processes:
                a KeyboardInterrupt must be raised in each of them.
            show: called with the loss and the number of images of each step, before that. A device
                that gets all batches of an epoch at once calls neither.

        Raises:
            TrainingError: the loss is not finite.
        """
        assert self.state.optimizers, "select() comes first"
        self.network.set_train(True)
        self._clock.set_data(ms.Tensor(self.state.step, ms.int32))
        if self._sinks:
            return self._train_epoch_sunk(pipeline, epoch)
        part = self.state.part
        for loss, images in self._steps(pipeline, epoch):
            if not math.isfinite(loss):
                raise not_finite(loss, self._when(epoch), self.state)
            self.state.step += 1
            part.steps += 1
            part.loss_sum += loss * images
            part.images += images
            self.state.whole = True
            try:
                show(loss, images)
                between_steps()
            except Exception as error:
                if self._shared and part.steps < pipeline.steps():
                    self._shared.leave(error)
                raise
        self.state.epoch, self.state.part = epoch, PartOfEpoch()
        loss = part.loss_sum / part.images
        return EpochResult(loss, part.steps, self._rate_after(epoch, part.steps))

    def _steps(self, pipeline: Pipeline, epoch: int) -> Iterator[tuple[float, int]]:
        """Do the steps that are left of an epoch: the mean loss and the images of each."""
        done, group = self.state.part.steps, self._group
        if group.size > 1:
            self._shared = self._shared or self._make_shared_step()
            batches = pipeline.epoch(epoch, done, part=(group.rank, group.size))
            for _ in range(done, pipeline.steps()):
                self.state.whole = False
                with MINDSPORE, blaming(self.plugin, "build_backbone", _DOES_NOT_RUN):
                    step = self._shared.do(batches, self._checked)
                yield step
            return
        self._step = self._step or self._make_step()
        for batch in pipeline.epoch(epoch, done):
            self.state.whole = False
            with MINDSPORE, blaming(self.plugin, "build_backbone", _DOES_NOT_RUN):
                output = self._step(ms.Tensor(batch.inputs), ms.Tensor(batch.labels))[1].asnumpy()
            logits = self._checked(output, len(batch.labels))
            # Not the step's own loss: on a CPU its last bit differs from call to call. The logits
            # and the gradients do not.
            yield mean_loss(logits, batch.labels), len(batch.labels)

    def _train_epoch_sunk(self, pipeline: Any, epoch: int) -> EpochResult:
        """Feed all batches of one shape to the device at once, then the others one by one."""
        self._step = self._step or self._make_step()
        epoch_of = pipeline.sunk(epoch)
        self._loss_sum.set_data(ms.Tensor(0.0, ms.float32))
        self.state.whole = False
        with MINDSPORE:
            self._sink(epoch_of)
        self.state.whole = True
        count = epoch_of.steps * pipeline.recipe.batch_size
        count += sum(len(batch.labels) for batch in epoch_of.rest)
        loss = float(self._loss_sum.asnumpy()) / count
        steps = epoch_of.steps + len(epoch_of.rest)
        self.state.step += steps
        rate = self._rate_after(epoch, steps)
        if not math.isfinite(loss):
            when = f"at the end of epoch {epoch} (learning rate {rate:.3g})"
            raise not_finite(loss, when, self.state)
        self.state.epoch = epoch
        return EpochResult(loss, steps, rate)

    def _sink(self, epoch_of: Any) -> None:
        assert self._step is not None
        if epoch_of.steps:
            # Without a jit_config MindSpore 2.10 runs the step in PyNative.
            config = ms.JitConfig() if self._runtime.graph else None
            process = ms.data_sink(
                self._step, epoch_of.dataset, sink_size=epoch_of.steps, jit_config=config
            )
            process()
        for batch in epoch_of.rest:
            self._step(ms.Tensor(batch.inputs), ms.Tensor(batch.labels))

    def _when(self, epoch: int) -> str:
        """The step that is under way, in words."""
        step = self.state.step
        rate = self._rates[min(step, len(self._rates) - 1)]
        return (
            f"at step {self.state.part.steps + 1} of epoch {epoch} (step {step + 1} of the run, "
            f"learning rate {rate:.3g})"
        )

    def _rate_after(self, epoch: int, steps: int) -> float:
        return self._rates[min(epoch * steps, len(self._rates)) - 1]

    def logits(self, batches: Iterable[Batch], batch_size: int) -> Iterator[tuple[Batch, Array]]:
        """Yield each batch with its logits in evaluation mode, float32 (N, K).

        Args:
            batches: hold images, or the outputs of the stages in ``skip_stages``.
            batch_size: size of every batch but the last, which is padded to it. A graph is compiled
                for one shape, and the last bits of an image's logits depend on the batch size.

        Raises:
            PluginError: the logits have another shape.
        """
        self.network.set_train(False)
        if self._forward is None:
            self._forward = self._make_forward()
        for batch in batches:
            inputs, count = padded(batch.inputs, batch_size), len(batch.labels)
            with MINDSPORE, blaming(self.plugin, "build_backbone", _DOES_NOT_RUN):
                logits = self._forward(ms.Tensor(inputs)).asnumpy().astype(np.float32)[:count]
            yield batch, self._checked(logits, count)

    def _checked(self, logits: Array, count: int) -> Array:
        if logits.shape != (count, self._num_classes):
            raise PluginError(
                self.plugin,
                "build_backbone",
                f"the network returned logits {logits.shape} for {count} images; with num_classes "
                f"= {self._num_classes} they must be {(count, self._num_classes)}",
            )
        return logits

"""One training step of several processes, each with its part of the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import mindspore as ms
import numpy as np

from msft_core.data.pipeline import Batch
from msft_core.errors import MsftError, first_line
from msft_core.system.group import Group
from msft_core.training.losses import mean_loss
from msft_core.types import Array


class SharedStep:
    """Does a step with the gradients of all processes, weighted by their images.

    Args:
        gradients: from images and labels to logits and all gradients in one row, float32.
        update: changes the parameters by such a row.
        size: number of values in it.
        averaged: statistics that move as the images go through, in each process by its own; after
            a step each has the mean over all images.
        first: receives the place of this process's first image in the batch.
        group: the processes.
    """

    def __init__(
        self,
        gradients: Callable[[ms.Tensor, ms.Tensor], tuple[ms.Tensor, ms.Tensor]],
        update: Callable[[ms.Tensor], object],
        size: int,
        averaged: Sequence[ms.Parameter],
        first: ms.Parameter,
        group: Group,
    ) -> None:
        self._gradients, self._update, self._size = gradients, update, size
        self._averaged, self._first, self._group = averaged, first, group

    def do(
        self, batches: Iterator[Batch], check: Callable[[Array, int], Array]
    ) -> tuple[float, int]:
        """Do a step on the next batch. Every process must call it.

        Args:
            batches: this process's parts.
            check: checks the logits of so many images.

        Returns: the mean loss of the whole batch, and the number of its images.

        Raises:
            MsftError: the step failed in another process. No parameter was changed.
        """
        failure: Exception | None = None
        row, loss, images = None, 0.0, 0
        try:
            batch = next(batches)
            images = len(batch.labels)
            if images:
                row, loss = self._compute(batch, check)
        except Exception as error:
            failure = error
        group = self._group
        told = self._tell(loss, images, failure)
        if failure:
            raise failure
        for rank, (_, _, problem, _) in enumerate(told):
            if problem:
                raise MsftError(f"process {rank} of {group.size}: {problem}")
        whole = sum(images for _, images, _, _ in told)
        mean = sum(loss * images for loss, images, _, _ in told) / whole
        if np.isfinite(mean):
            self._apply(row, images / whole)
        group.stops = any(interrupted for *_, interrupted in told)
        return mean, whole

    def leave(self, error: Exception) -> None:
        """Tell the other processes, which are in the next step, that this one ends the epoch.

        Args:
            error: why; there it is raised as a ``MsftError``.
        """
        with suppress(MsftError):
            self._tell(0.0, 0, error)

    def _tell(self, loss: float, images: int, failure: Exception | None) -> list[Any]:
        """What each process has to say of a step: loss, images, problem, whether interrupted."""
        problem = ""
        if failure is not None:  # a message for the user needs no name of a class
            ours = isinstance(failure, MsftError)
            problem = str(failure) if ours else first_line(failure)
        # Over the connections, so that no process waits in the collective library for another one.
        return self._group.all([loss, images, problem, self._group.interrupted()], "step")

    def _compute(
        self, batch: Batch, check: Callable[[Array, int], Array]
    ) -> tuple[ms.Tensor, float]:
        """This process's gradients and mean loss."""
        self._first.set_data(ms.Tensor(batch.first, ms.int32))
        output, row = self._gradients(ms.Tensor(batch.inputs), ms.Tensor(batch.labels))
        logits = check(output.asnumpy(), len(batch.labels))
        return row, mean_loss(logits, batch.labels)

    def _apply(self, row: ms.Tensor | None, weight: float) -> None:
        if row is None:  # this process has no image of the batch
            row = ms.Tensor(np.zeros(self._size, np.float32))
        # The sum as it comes: given a part of a larger tensor, the graph takes ten times as long.
        total = self._group.sum(row * weight)
        # Both before the update, which compiles first: the library waits 30 s for other processes.
        if self._averaged:
            self._average(weight)
        self._update(total)

    def _average(self, weight: float) -> None:
        """Give each moving statistic its mean over the images of all processes."""
        # On the host: small tensors for a hundred batch norms take longer than a step.
        values = [p.asnumpy().astype(np.float32).reshape(-1) for p in self._averaged]
        own = np.concatenate(values) * np.float32(weight)
        means, start = self._group.sum(ms.Tensor(own)).asnumpy(), 0
        for parameter in self._averaged:
            value = means[start : start + parameter.size].reshape(parameter.shape)
            parameter.set_data(ms.Tensor(value, parameter.dtype))
            start += parameter.size

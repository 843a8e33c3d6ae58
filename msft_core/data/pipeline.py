"""Turn a table of encoded images into batches.

In ``KeyedPipeline`` a view is a function of (seed, image id, view number) alone. The number of
workers, the batch size and the other images do not change it. MindSpore's own pipeline
(``mindspore_pipeline.py``) does not guarantee that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np

from msft_core.data.views import Augmentation, evaluation_view, normalise, training_view
from msft_core.errors import DataError, first_line
from msft_core.files import hash_of
from msft_core.types import Array, ImageTable, Preprocessing


class Use(Enum):
    """The purpose of batches. The value is its name in messages."""

    TRAINING = "train"
    VALIDATION = "val"
    EVALUATING_TRAIN = "train, as evaluated"

    @property
    def split(self) -> str:
        """The split that the images belong to."""
        return "val" if self is Use.VALIDATION else "train"


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of inputs for the network.

    Args:
        inputs: normalised images, float32 (N, 3, size, size), or their features, (N, ...).
        labels: int32 (N,).
        indices: int64 (N,), index of each image in its table.
    """

    inputs: Array
    labels: Array
    indices: Array


@dataclass(frozen=True)
class Recipe:
    """How a split becomes batches.

    Args:
        preprocessing: the backbone's preprocessing.
        augmentation: how training varies an image; None for the evaluation view.
        seed: decides the order and the views.
        batch_size: images in a batch.
        shuffle: use a new order in each epoch.
        drop_remainder: leave out the last batch if it is smaller.
        workers: number of decoding threads; 0 decodes in the caller's thread.
        views: an epoch shows the view ``epoch mod views``; 0 shows a new view in each epoch.
    """

    preprocessing: Preprocessing
    augmentation: Augmentation | None
    seed: int
    batch_size: int
    shuffle: bool
    drop_remainder: bool
    workers: int
    views: int = 0


class Pipeline(Protocol):
    """Batches of a split."""

    def steps(self) -> int:
        """Number of batches in an epoch."""

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch, counted from 1."""


class KeyedPipeline:
    """Decodes and augments images in threads, in an order that is fixed beforehand.

    Args:
        table: the images.
        recipe: how they become batches.
    """

    def __init__(self, table: ImageTable, recipe: Recipe) -> None:
        self.table, self.recipe = table, recipe
        self._labels = np.asarray(table.labels, np.int32)

    def steps(self) -> int:
        """See ``Pipeline``."""
        return steps_of(len(self._labels), self.recipe)

    def epoch(self, number: int) -> Iterator[Batch]:
        """See ``Pipeline``."""
        yield from self.batches(self.portions(number), number)

    def portions(self, number: int) -> list[Array]:
        """The indices of the images in each batch of an epoch, int64 (n,) each."""
        size, order = self.recipe.batch_size, order_of(len(self._labels), self.recipe, number)
        return [order[i * size : (i + 1) * size] for i in range(self.steps())]

    def batches(self, portions: Sequence[Array], number: int) -> Iterator[Batch]:
        """A batch for each portion of indices, with the views that an epoch shows."""
        for portion, pixels in zip(portions, self._views(portions, number), strict=True):
            normalised = normalise(np.stack(pixels), self.recipe.preprocessing)
            yield Batch(normalised, self.labels(portion), portion)

    def labels(self, indices: Array) -> Array:
        """int32 (n,): the classes of these images."""
        return self._labels[indices]

    def view_number(self, number: int) -> int:
        """Number of the view that an epoch shows."""
        return number % self.recipe.views if self.recipe.views else number

    def view(self, index: int, number: int) -> Array:
        """uint8 (size, size, 3): one image as an epoch shows it."""
        recipe = self.recipe
        try:
            data = self.table.read(index)
        except OSError as error:
            reason = error.strerror or first_line(error)
            raise DataError(
                f"image {self.table.ids[index]} can no longer be read: {reason}."
            ) from error
        if recipe.augmentation is None:
            return evaluation_view(data, recipe.preprocessing)
        return training_view(
            data,
            recipe.preprocessing,
            recipe.augmentation,
            seed=recipe.seed,
            image_id=self.table.ids[index],
            view=self.view_number(number),
        )

    def _views(self, portions: Sequence[Array], number: int) -> Iterator[list[Array]]:
        if self.recipe.workers == 0:
            for portion in portions:
                yield [self.view(int(index), number) for index in portion]
            return
        with ThreadPoolExecutor(self.recipe.workers, "msft-decode") as pool:
            waiting: deque[list[Future[Array]]] = deque()
            try:
                for portion in portions:
                    waiting.append(
                        [pool.submit(self.view, int(index), number) for index in portion]
                    )
                    # The threads decode the next batches while the network computes this one.
                    if len(waiting) > 2:
                        yield [future.result() for future in waiting.popleft()]
                while waiting:
                    yield [future.result() for future in waiting.popleft()]
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def steps_of(count: int, recipe: Recipe) -> int:
    """Number of batches in an epoch of ``count`` images."""
    whole, rest = divmod(count, recipe.batch_size)
    return whole + (rest > 0 and not recipe.drop_remainder)


def order_of(count: int, recipe: Recipe, number: int) -> Array:
    """The order of the images in an epoch, int64 (count,): a function of seed and epoch."""
    if not recipe.shuffle:
        return np.arange(count)
    key = number_from(recipe.seed, "order", number)
    return np.random.Generator(np.random.Philox(key=key)).permutation(count)


def number_from(*parts: object) -> int:
    """A hash of the parts as a number: the key of a random generator."""
    return int.from_bytes(hash_of(*parts), "little")

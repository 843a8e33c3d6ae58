"""Turn a table of encoded images into batches.

In ``KeyedPipeline`` a view is a function of (seed, image id, view number) alone. The number of
workers, the batch size and the other images do not change it. MindSpore's own pipeline
(``mindspore_pipeline.py``) does not guarantee that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Protocol

import numpy as np

from msft_core.config import RunConfig
from msft_core.data.views import (
    Augmentation,
    evaluation_view,
    normalise,
    random_from,
    training_view,
)
from msft_core.errors import DataError
from msft_core.images import ImageError
from msft_core.types import Array, ImageTable, Preprocessing

PREFETCHED = 2
"""Batches that are made ahead of the network."""


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
        first: where several processes share a batch, the place of the first image in it.
    """

    inputs: Array
    labels: Array
    indices: Array
    first: int = 0


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


def recipes(config: RunConfig, preprocessing: Preprocessing, workers: int) -> tuple[Recipe, Recipe]:
    """How a run trains on images, and how it evaluates them.

    Args:
        config: of the run.
        preprocessing: the backbone's.
        workers: decoding threads.
    """
    data, training = config.data, config.training
    as_trained = Recipe(
        preprocessing=preprocessing,
        augmentation=Augmentation(data.crop_scale, data.crop_ratio, data.flip),
        seed=training.seed,
        batch_size=training.batch_size,
        shuffle=True,
        drop_remainder=training.drop_remainder,
        workers=workers,
    )
    return as_trained, replace(as_trained, augmentation=None, shuffle=False, drop_remainder=False)


@dataclass(frozen=True, eq=False)
class SunkEpoch:
    """An epoch for dataset sink mode: batches of one shape, and those of another.

    Args:
        dataset: a ``mindspore.dataset`` of the columns "image" and "label".
        steps: its batches.
        rest: batches of another size, which a graph of one shape does not take.
    """

    dataset: Any
    steps: int
    rest: Sequence[Batch]


class Pipeline(Protocol):
    """Batches of a split."""

    def steps(self) -> int:
        """Number of batches in an epoch."""

    def epoch(
        self, number: int, skip: int = 0, *, part: tuple[int, int] = (0, 1)
    ) -> Iterator[Batch]:
        """The batches of an epoch, counted from 1, without the first ``skip``.

        Args:
            number: of the epoch.
            skip: so many batches are left out.
            part: (rank, processes): of each batch only the part for that process, which may have
                no image.
        """

    def whole_batches(self, number: int, part: tuple[int, int]) -> Iterator[Batch]:
        """The batches of an epoch that fall to one of several processes: (rank, processes)."""


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
        return len(batch_sizes(len(self._labels), self.recipe))

    def epoch(
        self, number: int, skip: int = 0, *, part: tuple[int, int] = (0, 1)
    ) -> Iterator[Batch]:
        """See ``Pipeline``."""
        portions = self.portions(number)[skip:]
        if part == (0, 1):
            yield from self.batches(portions, number)
            return
        parts = [part_of(portion, part) for portion in portions]
        with closing(self.batches(parts, number)) as batches:
            for portion, batch in zip(portions, batches, strict=True):
                yield replace(batch, first=first_of(len(portion), part))

    def whole_batches(self, number: int, part: tuple[int, int]) -> Iterator[Batch]:
        """See ``Pipeline``."""
        yield from self.batches(self.portions(number)[part[0] :: part[1]], number)

    def portions(self, number: int) -> list[Array]:
        """The indices of the images in each batch of an epoch, int64 (n,) each."""
        sizes = batch_sizes(len(self._labels), self.recipe)
        order = order_of(len(self._labels), self.recipe, number)
        return np.split(order[: sum(sizes)], np.cumsum(sizes)[:-1])

    def batches(self, portions: Sequence[Array], number: int) -> Generator[Batch, None, None]:
        """A batch for each portion of indices, with the views that an epoch shows."""
        if self.recipe.workers:
            yield from self._in_threads(portions, number)
            return
        for portion in portions:
            yield self._batch(portion, (self.view(int(i), number) for i in portion))

    def sunk(self, number: int) -> SunkEpoch:
        """The same epoch for a device that takes many batches at once."""
        import mindspore.dataset as ds

        portions = self.portions(number)
        whole = [one for one in portions if len(one) == self.recipe.batch_size]

        def feed() -> Iterator[tuple[Array, Array]]:
            for batch in self.batches(whole, number):
                yield batch.inputs, batch.labels

        dataset = ds.GeneratorDataset(
            feed, ["image", "label"], shuffle=False, python_multiprocessing=False
        )
        rest = [one for one in portions if len(one) != self.recipe.batch_size]
        return SunkEpoch(dataset, len(whole), list(self.batches(rest, number)))

    def labels(self, indices: Array) -> Array:
        """int32 (n,): the classes of these images."""
        return self._labels[indices]

    def view_number(self, number: int) -> int:
        """Number of the view that an epoch shows."""
        return number % self.recipe.views if self.recipe.views else number

    def view(self, index: int, number: int) -> Array:
        """uint8 (size, size, 3): one image as an epoch shows it.

        Raises:
            DataError: the image cannot be read or decoded any more.
        """
        recipe, name = self.recipe, self.table.ids[index]
        data = self.table.read(index)
        try:
            if recipe.augmentation is None:
                return evaluation_view(data, recipe.preprocessing)
            return training_view(
                data,
                recipe.preprocessing,
                recipe.augmentation,
                seed=recipe.seed,
                image_id=name,
                view=self.view_number(number),
            )
        except ImageError as error:
            raise DataError(f"image {name} does not decode any more: {error}.") from error

    def _batch(self, portion: Array, views: Iterable[Array]) -> Batch:
        if not len(portion):
            return Batch(np.empty(0, np.float32), self.labels(portion), portion)
        pixels = normalise(np.stack(list(views)), self.recipe.preprocessing)
        return Batch(pixels, self.labels(portion), portion)

    def _in_threads(self, portions: Sequence[Array], number: int) -> Iterator[Batch]:
        """Views are made by some threads, batches by one more, while the network computes."""
        with (
            ThreadPoolExecutor(self.recipe.workers, "msft-decode") as decoders,
            ThreadPoolExecutor(1, "msft-batch") as assembler,
        ):
            waiting: deque[Future[Batch]] = deque()
            decoding: list[Future[Array]] = []
            try:
                for portion in portions:
                    decoding = [decoders.submit(self.view, int(i), number) for i in portion]
                    views = (future.result() for future in decoding)
                    waiting.append(assembler.submit(self._batch, portion, views))
                    if len(waiting) > PREFETCHED:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in decoding:
                    future.cancel()
                decoders.shutdown(wait=False, cancel_futures=True)
                assembler.shutdown(wait=False, cancel_futures=True)


def part_of(portion: Array, part: tuple[int, int]) -> Array:
    """What falls to one of several processes, in order.

    Parts differ by one image at most, but for those that have none: no part has one image where the
    batch has more, since batch norm would take the statistics of that one image for those of all.
    """
    rank, processes = part
    return portion[first_of(len(portion), part) : first_of(len(portion), (rank + 1, processes))]


def first_of(count: int, part: tuple[int, int]) -> int:
    """Where the part of a process begins, of so many."""
    rank, processes = part
    busy = max(1, min(processes, count // 2))
    each, more = divmod(count, busy)
    return min(count, rank * each + min(rank, more))


def batch_sizes(count: int, recipe: Recipe) -> list[int]:
    """Images of each batch of an epoch.

    Where training would end on a batch of one image, the image joins the batch before: batch norm
    would take the statistics of that one image for those of all.
    """
    whole, rest = divmod(count, recipe.batch_size)
    sizes = [recipe.batch_size] * whole
    if rest == 1 and whole and recipe.shuffle and not recipe.drop_remainder:
        sizes[-1] += 1
    elif rest and not recipe.drop_remainder:
        sizes.append(rest)
    return sizes


def order_of(count: int, recipe: Recipe, number: int) -> Array:
    """The order of the images in an epoch, int64 (count,): a function of seed and epoch."""
    if not recipe.shuffle:
        return np.arange(count)
    return random_from(recipe.seed, "order", number).permutation(count)

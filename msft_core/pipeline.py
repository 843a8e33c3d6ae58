"""From a table of encoded images to batches, by threads of ours or by MindSpore's C++ pipeline.

``KeyedPipeline`` makes each picture a function of (seed, image id, epoch) and of nothing else, so
the number of workers, the batch size and the other images change nothing. ``MindSporePipeline``
decodes and augments faster, and gives that up: its random state depends on the number of workers
and on the list of files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from msft_core import images
from msft_core.errors import DataError, first_line
from msft_core.types import Array, ImageTable, Preprocessing


@dataclass(frozen=True, eq=False)
class Batch:
    """What the network is fed with.

    Args:
        inputs: normalised images, float32 (N, 3, size, size), or what its frozen stages gave for
            them, (N, ...).
        labels: int32 (N,).
        rows: int64 (N,), row of the table each image came from.
    """

    inputs: Array
    labels: Array
    rows: Array


@dataclass(frozen=True)
class Recipe:
    """How a split becomes batches.

    Args:
        preprocessing: the backbone's.
        augmentation: None to treat images as evaluation does.
        seed: of order and views.
        batch_size: images a batch.
        shuffle: a new order each epoch.
        drop_remainder: leave out the last, smaller batch.
        workers: decoding threads; 0 decodes in the caller's.
        views: an epoch shows the view ``epoch mod views``; 0 for a new one each epoch.
    """

    preprocessing: Preprocessing
    augmentation: images.Augmentation | None
    seed: int
    batch_size: int
    shuffle: bool
    drop_remainder: bool
    workers: int
    views: int = 0


class Pipeline(Protocol):
    """Batches of a split."""

    def steps(self) -> int:
        """Batches an epoch."""

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch, counted from 1."""


class KeyedPipeline:
    """Decodes and augments in threads, in an order fixed beforehand.

    Args:
        table: the images.
        recipe: how they become batches.
    """

    def __init__(self, table: ImageTable, recipe: Recipe) -> None:
        self.table, self.recipe = table, recipe
        self._labels = np.asarray(table.labels, np.int32)

    def steps(self) -> int:
        """See ``Pipeline``."""
        return _steps(len(self._labels), self.recipe)

    def epoch(self, number: int) -> Iterator[Batch]:
        """See ``Pipeline``."""
        yield from self.batches(self.portions(number), number)

    def portions(self, number: int) -> list[Array]:
        """int64 (n,) each: the rows of each batch of an epoch."""
        size, rows = self.recipe.batch_size, _order(len(self._labels), self.recipe, number)
        return [rows[i * size : (i + 1) * size] for i in range(self.steps())]

    def batches(self, portions: Sequence[Array], number: int) -> Iterator[Batch]:
        """A batch for each portion of rows, as an epoch shows them."""
        for portion, pixels in zip(portions, self._views(portions, number), strict=True):
            normalised = images.normalise(np.stack(pixels), self.recipe.preprocessing)
            yield Batch(normalised, self.labels(portion), portion)

    def labels(self, rows: Array) -> Array:
        """int32 (n,): the classes of rows."""
        return self._labels[rows]

    def view_number(self, number: int) -> int:
        """Which augmentation an epoch shows."""
        return number % self.recipe.views if self.recipe.views else number

    def view(self, row: int, number: int) -> Array:
        """uint8 (size, size, 3): one image as an epoch shows it."""
        recipe = self.recipe
        try:
            data = self.table.read(row)
        except OSError as error:
            reason = error.strerror or first_line(error)
            raise DataError(f"{self.table.ids[row]} cannot be read any more: {reason}.") from error
        if recipe.augmentation is None:
            return images.evaluation_view(data, recipe.preprocessing)
        return images.training_view(
            data,
            recipe.preprocessing,
            recipe.augmentation,
            seed=recipe.seed,
            image_id=self.table.ids[row],
            view=self.view_number(number),
        )

    def _views(self, portions: Sequence[Array], number: int) -> Iterator[list[Array]]:
        if self.recipe.workers == 0:
            for portion in portions:
                yield [self.view(int(row), number) for row in portion]
            return
        with ThreadPoolExecutor(self.recipe.workers, "msft-decode") as pool:
            waiting: deque[list[Future[Array]]] = deque()
            try:
                for portion in portions:
                    waiting.append([pool.submit(self.view, int(row), number) for row in portion])
                    # One batch is decoded while the network works on the one before.
                    if len(waiting) > 2:
                        yield [future.result() for future in waiting.popleft()]
                while waiting:
                    yield [future.result() for future in waiting.popleft()]
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


class MindSporePipeline:
    """The same recipe in MindSpore's C++ pipeline; views depend on workers and on the file list.

    Images that its decoder does not read rightly (WebP, EXIF rotation) are re-encoded by us.

    Args:
        table: the images.
        recipe: how they become batches.
    """

    def __init__(self, table: ImageTable, recipe: Recipe) -> None:
        self.table, self.recipe = table, recipe

    def steps(self) -> int:
        """See ``Pipeline``."""
        return _steps(len(self.table.labels), self.recipe)

    def epoch(self, number: int) -> Iterator[Batch]:
        """See ``Pipeline``."""
        dataset = self.dataset(number)
        for pixels, labels, rows in dataset.create_tuple_iterator(num_epochs=1, output_numpy=True):
            yield Batch(pixels, labels, rows)

    def dataset(self, number: int) -> Any:
        """A ``mindspore.dataset`` of images, labels and rows for one epoch."""
        import mindspore.dataset as ds
        from mindspore import dtype
        from mindspore.dataset import transforms, vision

        recipe = self.recipe
        preprocessing, workers = recipe.preprocessing, max(1, recipe.workers)
        ds.config.set_seed(_number_from(recipe.seed, "mindspore", number) % 2**32)
        order = _order(len(self.table.labels), recipe, number)
        dataset = ds.GeneratorDataset(
            _Encoded(self.table, order),
            ["image", "label", "row"],
            shuffle=False,
            python_multiprocessing=False,
            num_parallel_workers=workers,
        )
        size, augmentation = preprocessing.size, recipe.augmentation
        interpolation = {"bilinear": vision.Inter.BILINEAR, "bicubic": vision.Inter.BICUBIC}[
            preprocessing.interpolation
        ]
        if augmentation is None:
            short_side = round(size / preprocessing.crop_fraction)
            shape = [
                vision.Decode(),
                vision.Resize(short_side, interpolation),
                vision.CenterCrop(size),
            ]
        else:
            shape = [
                vision.RandomCropDecodeResize(
                    size, augmentation.scale, augmentation.ratio, interpolation
                ),
                vision.RandomHorizontalFlip(augmentation.flip),
            ]
        dataset = dataset.map(
            [
                *shape,
                vision.Normalize(
                    [255 * value for value in preprocessing.mean],
                    [255 * value for value in preprocessing.std],
                ),
                vision.HWC2CHW(),
            ],
            input_columns="image",
            num_parallel_workers=workers,
        )
        dataset = dataset.map(transforms.TypeCast(dtype.int32), input_columns="label")
        return dataset.batch(recipe.batch_size, drop_remainder=recipe.drop_remainder)


class _Encoded:
    """What ``GeneratorDataset`` asks for: rows in a fixed order."""

    def __init__(self, table: ImageTable, order: Array) -> None:
        self.table, self.order = table, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> tuple[Array, Array, Array]:
        row = int(self.order[position])
        data = np.frombuffer(images.plain(self.table.read(row)), np.uint8)
        return data, np.asarray(self.table.labels[row], np.int32), np.asarray(row, np.int64)


PIPELINES: dict[str, Callable[[ImageTable, Recipe], Pipeline]] = {
    "keyed": KeyedPipeline,
    "mindspore": MindSporePipeline,
}


def _steps(count: int, recipe: Recipe) -> int:
    whole, rest = divmod(count, recipe.batch_size)
    return whole + (rest > 0 and not recipe.drop_remainder)


def _order(count: int, recipe: Recipe, number: int) -> Array:
    if not recipe.shuffle:
        return np.arange(count)
    key = _number_from(recipe.seed, "order", number)
    return np.random.Generator(np.random.Philox(key=key)).permutation(count)


def _number_from(*parts: object) -> int:
    return int.from_bytes(images.hash_of(*parts), "little")

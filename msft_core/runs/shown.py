"""Images of a split for pictures: as in evaluation, and as training sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from msft_core.config import RunConfig
from msft_core.data import views
from msft_core.data.pipeline import Batch, KeyedPipeline, recipes
from msft_core.types import Array, ImageBatch, ImageTable, Preprocessing


def evenly_spaced(table: ImageTable, count: int) -> list[str]:
    """Ids of some images, evenly spaced, since a split is sorted by class."""
    count = min(count, len(table.ids))
    indices = np.unique(np.linspace(0, len(table.ids) - 1, count).round())
    return [table.ids[int(index)] for index in indices]


def indices_of(table: ImageTable, split: str, ids: Sequence[str]) -> list[int]:
    """Where these images are in a table. Raises ValueError where one is not."""
    wanted = set(ids)
    index_of = {name: index for index, name in enumerate(table.ids) if name in wanted}
    if unknown := [name for name in ids if name not in index_of]:
        raise ValueError(f"read_images: {split} has no image {unknown[0]!r}")
    return [index_of[name] for name in ids]


def as_evaluated(
    table: ImageTable, split: str, ids: Sequence[str], preprocessing: Preprocessing
) -> ImageBatch:
    """Images as evaluation shows them."""
    indices = indices_of(table, split, ids)
    pixels = [views.evaluation_view(table.read(index), preprocessing) for index in indices]
    return batch_of(table, indices, pixels, preprocessing)


def batch_of(
    table: ImageTable,
    indices: Sequence[int],
    pixels: Sequence[Array],
    preprocessing: Preprocessing,
) -> ImageBatch:
    """Images with their labels and ids, from a view of each, uint8 (size, size, 3)."""
    size = preprocessing.size
    return ImageBatch(
        np.stack(pixels) if len(pixels) else np.zeros((0, size, size, 3), np.uint8),
        np.asarray([table.labels[index] for index in indices], np.int64),
        tuple(table.ids[index] for index in indices),
    )


def first_of_training(
    table: ImageTable, config: RunConfig, preprocessing: Preprocessing, count: int
) -> ImageBatch:
    """The first images of epoch 1, augmented."""
    as_trained, _ = recipes(config, preprocessing, workers=0)
    return first_of(KeyedPipeline(table, as_trained).epoch(1), table, preprocessing, count)


def first_of(
    batches: Iterator[Batch], table: Any, preprocessing: Preprocessing, count: int
) -> ImageBatch:
    """The first images of some batches."""
    pixels: list[Array] = []
    indices: list[int] = []
    for batch in batches:
        pixels += list(views.denormalise(batch.inputs, preprocessing))
        indices += batch.indices.tolist()
        if len(indices) >= count:
            break
    return batch_of(table, indices[:count], pixels[:count], preprocessing)

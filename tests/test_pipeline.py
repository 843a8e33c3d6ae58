"""Batches: what they depend on, and what they do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from image_kit import difference, encode, picture

from msft_core import ImageTable, Preprocessing
from msft_core.data.mindspore_pipeline import MindSporePipeline
from msft_core.data.pipeline import Batch, KeyedPipeline, Recipe
from msft_core.data.views import Augmentation, denormalise
from msft_core.images import MemoryTable, subset
from msft_core.testing import tiny

PREPROCESSING = Preprocessing(16, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
RECIPE = Recipe(
    preprocessing=PREPROCESSING,
    augmentation=Augmentation(),
    seed=3,
    batch_size=5,
    shuffle=True,
    drop_remainder=False,
    workers=2,
)
TABLE = tiny.table(8)


def by_row(batches: list[Batch]) -> dict[int, np.ndarray]:
    return {
        int(row): image for b in batches for row, image in zip(b.indices, b.inputs, strict=True)
    }


def epoch(number: int, table: ImageTable = TABLE, **changes: object) -> list[Batch]:
    return list(KeyedPipeline(table, replace(RECIPE, **changes)).epoch(number))  # type: ignore[arg-type]


def test_an_epoch_has_every_image_once_with_its_label() -> None:
    batches = epoch(1)
    rows = np.concatenate([batch.indices for batch in batches])
    labels = np.concatenate([batch.labels for batch in batches])
    assert sorted(rows) == list(range(16))
    assert [TABLE.labels[row] for row in rows] == list(labels)
    assert [len(batch.labels) for batch in batches] == [5, 5, 6]  # not a batch of one image
    assert batches[0].inputs.dtype == np.float32
    assert batches[0].inputs.shape == (5, 3, 16, 16)
    assert batches[0].labels.dtype == np.int32


def test_the_remainder_is_dropped_on_request() -> None:
    assert [len(batch.labels) for batch in epoch(1, drop_remainder=True)] == [5, 5, 5]
    assert KeyedPipeline(TABLE, replace(RECIPE, drop_remainder=True)).steps() == 3


@pytest.mark.parametrize("change", [{"workers": 0}, {"workers": 1}, {"batch_size": 3}])
def test_a_view_depends_neither_on_workers_nor_on_the_batch_size(change: dict[str, int]) -> None:
    one, other = by_row(epoch(1)), by_row(epoch(1, **change))
    for row, image in one.items():
        np.testing.assert_array_equal(other[row], image)


def test_a_view_does_not_depend_on_the_other_images() -> None:
    kept = list(range(1, 16, 2))
    alone = by_row(epoch(1, subset(TABLE, kept)))
    together = by_row(epoch(1))
    for position, row in enumerate(kept):
        np.testing.assert_array_equal(alone[position], together[row])


def test_order_and_views_change_with_epoch_and_seed() -> None:
    first = epoch(1)
    for other in (epoch(2), epoch(1, seed=4)):
        assert any(
            not np.array_equal(a.indices, b.indices) for a, b in zip(first, other, strict=True)
        )
        ours, theirs = by_row(first), by_row(other)
        assert all(not np.array_equal(ours[row], theirs[row]) for row in ours)


def test_without_augmentation_and_shuffling_every_epoch_is_the_same() -> None:
    one = epoch(1, augmentation=None, shuffle=False)
    two = epoch(2, augmentation=None, shuffle=False)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.inputs, b.inputs)
        np.testing.assert_array_equal(a.indices, b.indices)


def test_an_epoch_left_early_leaves_no_thread_at_work() -> None:
    import threading

    batches = KeyedPipeline(TABLE, RECIPE).epoch(1)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    for thread in threading.enumerate():
        if thread.name.startswith("msft-decode"):
            thread.join(timeout=5)
            assert not thread.is_alive()


def test_mindspores_pipeline_agrees_with_ours_on_evaluation_images() -> None:
    table = MemoryTable(("a", "b"), (0, 1), (encode(picture()), encode(picture(64, 96))))
    recipe = replace(RECIPE, augmentation=None, shuffle=False)
    ours = by_row(list(KeyedPipeline(table, recipe).epoch(1)))
    theirs = by_row(list(MindSporePipeline(table, recipe).epoch(1)))
    for row, image in ours.items():
        one, two = (denormalise(x[None], PREPROCESSING) for x in (image, theirs[row]))
        # Pillow averages over what it shrinks, MindSpore samples it.
        assert difference(one, two) < 4


def test_mindspores_pipeline_has_every_image_once_with_its_label() -> None:
    batches = list(MindSporePipeline(TABLE, RECIPE).epoch(1))
    rows = np.concatenate([batch.indices for batch in batches])
    labels = np.concatenate([batch.labels for batch in batches])
    assert sorted(rows) == list(range(16))
    assert [TABLE.labels[row] for row in rows] == list(labels)
    assert batches[0].inputs.shape == (5, 3, 16, 16)

"""Batches from MindSpore's C++ pipeline. Its views depend on the workers and the list of images."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from msft_core.data.pipeline import Batch, Recipe, SunkEpoch, batch_sizes, order_of
from msft_core.data.views import number_from
from msft_core.images import decode_opened, open_image, orientation_of, sniff, turn
from msft_core.types import Array, ImageTable


class MindSporePipeline:
    """The recipe in MindSpore's C++ pipeline. Views depend on the workers and the list of images.

    MindSpore's decoder does not read some images correctly (WebP, EXIF rotation). msft re-encodes
    them.

    Args:
        table: the images.
        recipe: how they become batches.
    """

    def __init__(self, table: ImageTable, recipe: Recipe) -> None:
        self.table, self.recipe = table, recipe
        self._failed: list[Exception] = []

    def steps(self) -> int:
        """See ``Pipeline``."""
        return len(batch_sizes(len(self.table.labels), self.recipe))

    def epoch(
        self, number: int, skip: int = 0, *, part: tuple[int, int] = (0, 1)
    ) -> Iterator[Batch]:
        """See ``Pipeline``. Batches that are left out are made all the same."""
        assert part == (0, 1), "a run in several processes refuses this pipeline"
        dataset = self.dataset(number)
        iterator = dataset.create_tuple_iterator(num_epochs=1, output_numpy=True)
        try:
            for pixels, labels, indices in islice(iterator, skip, None):
                yield Batch(pixels, labels, indices)
        except RuntimeError as error:
            # MindSpore says only that some Python code raised.
            raise self._failed[0] if self._failed else error from None

    def whole_batches(self, number: int, part: tuple[int, int]) -> Iterator[Batch]:
        """See ``Pipeline``."""
        yield from self.epoch(number, part=part)

    def dataset(self, number: int) -> Any:
        """A ``mindspore.dataset`` of images, labels and indices for one epoch."""
        import mindspore.dataset as ds
        from mindspore import dtype
        from mindspore.dataset import transforms, vision

        recipe = self.recipe
        preprocessing, workers = recipe.preprocessing, max(1, recipe.workers)
        ds.config.set_seed(number_from(recipe.seed, "mindspore", number) % 2**32)
        order = order_of(len(self.table.labels), recipe, number)
        dataset = ds.GeneratorDataset(
            _Encoded(self.table, order, self._failed),
            ["image", "label", "index"],
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
        sizes = batch_sizes(len(self.table.labels), recipe)
        if sizes[-1] > recipe.batch_size:  # see batch_sizes

            def size_of(info: Any) -> int:
                return sizes[min(info.get_batch_num(), len(sizes) - 1)]

            return dataset.batch(size_of)
        return dataset.batch(recipe.batch_size, drop_remainder=recipe.drop_remainder)

    def sunk(self, number: int) -> SunkEpoch:
        """See ``KeyedPipeline``."""
        sizes = batch_sizes(len(self.table.labels), self.recipe)
        whole = sizes.count(self.recipe.batch_size)
        rest = list(self.epoch(number))[whole:] if whole < len(sizes) else []
        dataset = self.dataset(number).project(["image", "label"]).take(whole)
        return SunkEpoch(dataset, whole, rest)


class _Encoded:
    """The source for ``GeneratorDataset``: encoded images in a fixed order."""

    def __init__(self, table: ImageTable, order: Array, failed: list[Exception]) -> None:
        self.table, self.order, self.failed = table, order, failed

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> tuple[Array, Array, Array]:
        index = int(self.order[position])
        try:
            data = np.frombuffer(plain(self.table.read(index)), np.uint8)
        except Exception as error:
            self.failed.append(error)
            raise
        return data, np.asarray(self.table.labels[index], np.int32), np.asarray(index, np.int64)


def plain(data: bytes) -> bytes:
    """Bytes from which MindSpore's own decoder makes the same pixels as `decode`.

    That decoder ignores EXIF orientation and transparency and cannot read WebP. So an upright 8-bit
    grey or RGB JPEG or PNG is returned unchanged; any other image is decoded and encoded as PNG. Of
    an unchanged JPEG only the header is read, which costs next to nothing, so damage goes
    unnoticed: check the images first.

    Raises: ImageError if the header cannot be read, or an image that must be decoded does not
    decode.
    """
    opened = open_image(data)
    kind = sniff(data)
    eight_bits = kind == "JPEG" or (kind == "PNG" and data[24] == 8)
    if (
        eight_bits
        and opened.mode in ("RGB", "L")
        and "transparency" not in opened.info
        and orientation_of(opened) == 1
    ):
        return data
    buffer = io.BytesIO()
    with turn(opened.size):
        decode_opened(opened, data).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()

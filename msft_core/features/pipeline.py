"""Batches of stored features, in the same order and of the same views as batches of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msft_core.columns import Rows
from msft_core.data.pipeline import Batch, first_of, part_of
from msft_core.errors import MsftError
from msft_core.features.cache import CannotStore, FeatureCache
from msft_core.features.keys import ViewKeys
from msft_core.features.prefix import EngineFailed
from msft_core.types import Array

_ATTEMPTS = 5
"""How often features that vanish are computed again, for one batch."""


class FeaturePipeline:
    """Batches of features. See ``data.pipeline.Pipeline``.

    Args:
        keys: the keys of the features that each epoch needs, and the pipeline of their images.
        cache: computes and stores the features.
        name: names the pipeline in the progress bar.
    """

    def __init__(self, keys: ViewKeys, cache: FeatureCache, name: str) -> None:
        self._keys, self._cache, self._name = keys, cache, name

    def steps(self) -> int:
        """See ``Pipeline``."""
        return self._keys.images.steps()

    def prepare(self, epoch: int, between: Callable[[], None], alone: bool = False) -> None:
        """Compute the features that an epoch needs and that are not stored.

        See ``FeatureCache.complete``.
        """
        images, label = self._keys.images, self._name
        if images.recipe.augmentation:
            # Users see views counted from 1 in the order of the epochs. The last view has number 0.
            label += f", view {self._keys.view(epoch) or images.recipe.views}"
        self._cache.complete(images, epoch, self._keys.of_epoch(epoch), label, between, alone)

    def epoch(
        self, number: int, skip: int = 0, *, part: tuple[int, int] = (0, 1)
    ) -> Iterator[Batch]:
        """See ``Pipeline``. Call ``prepare`` first."""
        for portion in self._keys.images.portions(number)[skip:]:
            yield self._batch(part_of(portion, part), number, first_of(len(portion), part))

    def whole_batches(self, number: int, part: tuple[int, int]) -> Iterator[Batch]:
        """See ``Pipeline``. Call ``prepare`` first."""
        for portion in self._keys.images.portions(number)[part[0] :: part[1]]:
            yield self._batch(portion, number)

    def _batch(self, indices: Array, number: int, first: int = 0) -> Batch:
        keys = self._keys.of_epoch(number)
        features = self._read(keys.take(indices), number)
        return Batch(features, self._keys.images.labels(indices), indices, first)

    def _read(self, keys: Rows, epoch: int) -> Array:
        """Read features; those that another run has evicted meanwhile are computed again."""
        for _ in range(_ATTEMPTS):
            try:
                return self._cache.read(keys)
            except KeyError:
                try:
                    # This process alone: the others may have theirs.
                    self.prepare(epoch, lambda: None, alone=True)
                except (CannotStore, EngineFailed) as error:
                    raise MsftError(f"stored features vanished, and {error}") from error
        raise MsftError(
            "stored features vanish while this run reads them: do other runs share the cache "
            "folder and its limit? Raise --set cache.limit_gb, or use --set training.views=0."
        )

"""The stored features of one frozen prefix: compute missing ones, discard outdated ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from msft_core.columns import Rows
from msft_core.data.pipeline import Batch, KeyedPipeline
from msft_core.errors import MsftError
from msft_core.features.prefix import BATCH, EngineFailed, FrozenPrefix, relative_difference
from msft_core.features.rounding import PRECISION, halved, require_digits, stored_dtype
from msft_core.features.store import FeatureStore
from msft_core.system.agreeing import agreed, checking
from msft_core.system.group import Group
from msft_core.types import Array, Reporter


class CannotStore(Exception):
    """Features cannot be stored. The message is a clause that gives the reason."""


class NoRoom(CannotStore):
    """There is no room for all of them."""


class FeatureCache:
    """The features of a frozen prefix, on disk.

    Args:
        prefix: computes them.
        description: what they depend on, but for the image and the engine. Its ``dtype``, where
            there is one, is that in which they are stored.
        store: keeps them.
        keys: of all features that the run will need.
        example: the features of a few training images as the prefix gives them now.
        example_keys: of these, to compare them with what is stored.
        reporter: for progress.
        group: the processes that compute them together.

    Raises:
        NoRoom: there is no room for the features of all keys.
        CannotStore: the cache folder cannot be written.
        UsageError: the features do not fit into float16.
    """

    def __init__(
        self,
        prefix: FrozenPrefix,
        *,
        description: Mapping[str, Any],
        store: FeatureStore,
        keys: Rows,
        example: Batch,
        example_keys: Rows,
        reporter: Reporter,
        group: Group | None = None,
    ) -> None:
        self._prefix, self._store, self._reporter = prefix, store, reporter
        self._group = group or Group()
        self.example, self.engine = example, prefix.engine
        if prefix.dtype.kind not in "biufc":
            raise CannotStore(f"{prefix.name} computes {prefix.dtype}, which cannot be stored")
        self._dtype = stored_dtype(prefix.dtype, str(description.get("dtype", "")))
        if self._dtype != prefix.dtype:
            require_digits(prefix.of_example, prefix.name)
        self._feature_bytes = self._as_stored(prefix.of_example)[0].nbytes
        try:
            self._space = store.open({**description, "extractor": prefix.engine})
            self._discard_if_changed(example_keys)
            refusal = store.refusal(len(self._space.where_missing(keys)) * self._feature_bytes)
        except OSError as error:
            raise CannotStore(_in_words(error)) from error
        if refusal:
            self.close()
            raise NoRoom(refusal)

    def complete(
        self,
        images: KeyedPipeline,
        epoch: int,
        keys: Rows,
        label: str,
        between: Callable[[], None],
        alone: bool = False,
    ) -> None:
        """Compute and store the features that are missing.

        Several processes share the work: each computes its part, and then reads those of the
        others. Where hosts have cache folders of their own, the processes of each host then share
        what is missing there.

        Args:
            images: gives the views.
            epoch: the epoch that shows these views.
            keys: the key of the feature of each image.
            label: names the features in the progress bar.
            between: called after each batch. If it raises, the work stops and the features
                computed so far are kept.
            alone: compute all that this process misses, without the others.

        Raises:
            CannotStore: the cache folder cannot be written, or the disk is full.
            PluginError: a stage or the extractor breaks the contract.
            UsageError: the features do not fit into float16.
        """
        group = Group() if alone else self._group
        here = group.ranks
        for rank, size in ((here.rank, here.size), (here.local, here.local_size)):
            # Images with the same content may share a feature: one of them is enough.
            missing = self._space.where_missing(keys)
            if not any(group.all(bool(len(missing)))):
                return
            # By the place in the list, which all processes have alike.
            share = missing[missing % size == rank]
            compute = partial(self._compute, images, epoch, keys, share, label)
            agreed(
                group,
                partial(compute, checking(group, between)),
                (MsftError, CannotStore, EngineFailed),
            )
            if group.size == 1:
                return
            self._space.reload()
        agreed(group, lambda: self._require(keys), (CannotStore,))

    def _require(self, keys: Rows) -> None:
        if missing := len(self._space.where_missing(keys)):
            raise CannotStore(f"{missing} features are not there after they were computed")

    def _compute(
        self,
        images: KeyedPipeline,
        epoch: int,
        keys: Rows,
        indices: Array,
        label: str,
        between: Callable[[], None],
    ) -> None:
        """Compute the features of these images in this process."""
        if not len(indices):
            return
        portions = [indices[i : i + BATCH] for i in range(0, len(indices), BATCH)]
        title = f"{self._prefix.name} of {label}"
        progress = self._reporter.progress(title, len(indices), "images")
        try:
            self._store.make_room(len(indices) * self._feature_bytes)
            with self._space.writer() as writer, progress as advance:
                for batch in images.batches(portions, epoch):
                    features = self._as_stored(self._prefix.compute(batch.inputs))
                    writer.add(keys.take(batch.indices), features)
                    advance(len(batch.indices))
                    between()
        except OSError as error:
            raise CannotStore(_in_words(error)) from error

    def read(self, keys: Rows) -> Array:
        """Features (len(keys), ...), in the order of ``keys``. Raises KeyError, OSError.

        Their dtype is that of the stages, whatever is stored.
        """
        return self._space.read(keys).astype(self._prefix.dtype, copy=False)

    def close(self) -> None:
        """Close the files."""
        self._space.close()

    def _as_stored(self, features: Array) -> Array:
        if self._dtype == features.dtype:
            return features
        return halved(features, self._prefix.name)

    def _discard_if_changed(self, example_keys: Rows) -> None:
        """Discard the stored features if the stages now compute other ones."""
        prefix, space = self._prefix, self._space
        missing = set(space.missing(example_keys))
        there = [i for i, key in enumerate(example_keys) if key not in missing]
        form = (space.shape, space.dtype)
        if form == (None, None):
            return
        same = form == (prefix.shape, self._dtype)
        if same and there:
            stored = space.read(example_keys.take(there))
            tolerance = prefix.tolerance + (PRECISION if self._dtype != prefix.dtype else 0)
            same = relative_difference(stored, prefix.of_example[there]) <= tolerance
        if same:
            return
        self._reporter.warning(
            f"the stored features of {prefix.name} differ from those it computes now (has its "
            "code changed?): msft discards them and computes them again."
        )
        space.discard()


def _in_words(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    return f"the cache folder cannot be written{where}: {error.strerror or error}"

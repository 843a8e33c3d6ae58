"""Feeds the trainer with images, or with stored features where leading stages are frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from msft_core.columns import Rows
from msft_core.data.pipeline import Batch, KeyedPipeline, Pipeline, Use
from msft_core.errors import MsftError, UsageError
from msft_core.features.cache import CannotStore, FeatureCache, NoRoom
from msft_core.features.fed import Fed
from msft_core.features.keys import ViewKeys, code_digest, parameters_digests
from msft_core.features.pipeline import FeaturePipeline
from msft_core.features.prefix import AskExtractor, EngineFailed, FrozenPrefix
from msft_core.features.store import FeatureStore
from msft_core.system.agreeing import agreed
from msft_core.system.group import Group
from msft_core.training.trainer import Trainer
from msft_core.types import Array, Reporter

EXAMPLES = 3
"""Number of training images whose features every run computes at its start, to compare them with
the stored ones. More than one, since one image may be blank."""


class Feed:
    """Chooses between images and features, whenever the frozen prefix changes.

    Args:
        trainer: says which stages are frozen, and is told which stages to skip.
        pipelines: a pipeline of images for each use.
        digests: the hash of each image's bytes, for the splits "train" and "val".
        views: number of stored views of each training image; 0 stores no features.
        epochs: number of epochs of the run.
        description: what features depend on, apart from the stages, their weights and the engine.
        store: keeps the features.
        graph: compile the frozen stages.
        ask_extractor: asks the plugins for another engine; None where no plugin has one.
        reporter: shows progress, and the reason if features are not stored.
        before: how a run that is resumed was fed.
        group: the processes that train together.
    """

    def __init__(
        self,
        trainer: Trainer,
        pipelines: Mapping[Use, Pipeline],
        digests: Mapping[str, Sequence[str]],
        *,
        views: int,
        epochs: int,
        description: Mapping[str, Any],
        store: FeatureStore,
        graph: bool,
        ask_extractor: AskExtractor | None,
        reporter: Reporter,
        before: Fed | None = None,
        group: Group | None = None,
    ) -> None:
        self._trainer, self._pipelines = trainer, pipelines
        self._group = group or Group()
        if before is not None:
            views = before.views
            ask_extractor = ask_extractor if before.asks else None
        self._before = before
        self._views, self._epochs = views, epochs
        self._digests = digests
        self._keys = self._make_keys(digests) if views else {}
        self._description, self._store, self._graph = description, store, graph
        self._ask_extractor, self._reporter = ask_extractor, reporter
        self._cache: FeatureCache | None = None
        self._identity: tuple[int, str] = (0, "")

    def refresh(self, digests: Sequence[str] | None = None) -> None:
        """Find the frozen prefix again: the strategy's result or the weights may have changed.

        Args:
            digests: ``parameters_digests`` of the network as it is now; by default computed here,
                as far as they are needed.
        """
        stages = self._trainer.frozen_stages if self._views else 0
        digest = ""
        if stages:
            digests = digests or parameters_digests(self._trainer.prefix(stages))
            digest = digests[stages - 1]
        if (stages, digest) != self._identity:
            self.close()
            self._identity = (stages, digest)
            if stages:
                agreed(self._group, lambda: self._open_cache(stages, digest))
                self._agree(stages, digest)
        self._trainer.skip_stages(stages if self._cache else 0)
        before, self._before = self._before, None
        if before is not None and (before.views, before.engine) != (self._views, self.engine):
            raise UsageError(
                f"the run computed its frozen stages by {before.engine or 'MindSpore, unstored'} "
                f"with {before.views} stored views, but now it would by "
                f"{self.engine or 'MindSpore, unstored'} with {self._views}: it would not be the "
                "same run. Install that engine, or make room in the cache (msft cache)."
            )

    def prepare(self, use: Use, epoch: int, between: Callable[[], None]) -> None:
        """Prepare an epoch: compute the features that it needs and that are not stored.

        Args:
            use: what the batches are for.
            epoch: from 1.
            between: called between batches. If it raises, the work stops and the features
                computed so far are kept.
        """
        pipeline = self.pipeline(use)
        if isinstance(pipeline, FeaturePipeline):
            try:
                pipeline.prepare(epoch, between)
            except CannotStore as reason:
                self._go_on_without(str(reason))
            except EngineFailed as reason:
                self._reporter.warning(f"{reason} MindSpore computes the frozen stages instead.")
                self._ask_extractor = None
                self.close()
                self.refresh()
                self.prepare(use, epoch, between)

    def pipeline(self, use: Use) -> Pipeline:
        """The batches to train on or to evaluate."""
        if self._cache is None:
            return self._pipelines[use]
        return FeaturePipeline(self._keys[use], self._cache, use.value)

    def images(self, use: Use) -> Pipeline:
        """The batches of images from which the features in ``pipeline`` are computed."""
        return self._pipelines[use] if self._cache is None else self._keys[use].images

    def example(self) -> Batch:
        """A few of what the trainer is fed with, for trying out the network."""
        if self._cache is not None:
            return self._cache.example
        pipeline: Any = self._pipelines[Use.TRAINING]
        images = KeyedPipeline(pipeline.table, replace(pipeline.recipe, workers=0))
        return next(images.batches([np.zeros(1, np.int64)], 1))

    @property
    def views(self) -> int:
        """Number of stored views of each training image; 0 stores no features."""
        return self._views

    @property
    def asks(self) -> bool:
        """Whether extractors are asked for; not where one has failed."""
        return self._ask_extractor is not None

    @property
    def engine(self) -> str:
        """What computes the stored features; empty where none are stored."""
        return self._cache.engine if self._cache else ""

    def close(self) -> None:
        """Close the files of the stored features."""
        if self._cache is not None:
            self._cache.close()
        self._cache, self._identity = None, (0, "")

    def _make_keys(self, digests: Mapping[str, Sequence[str]]) -> dict[Use, ViewKeys]:
        keys = {}
        pipeline: Any
        for use, pipeline in self._pipelines.items():
            images = KeyedPipeline(pipeline.table, replace(pipeline.recipe, views=self._views))
            keys[use] = ViewKeys(images, digests[use.split])
        return keys

    def _open_cache(self, stages: int, digest: str) -> None:
        wanted, why = self._views, ""
        train = self._keys[Use.TRAINING]
        keys = train.of_epoch(1)
        few = np.unique(np.linspace(0, len(keys) - 1, EXAMPLES).astype(np.int64))
        example = next(train.images.batches([few], 1))
        prefix = self._make_prefix(stages, example.inputs)
        description = self._describe(stages, digest)
        while self._cache is None:
            try:
                self._cache = FeatureCache(
                    prefix,
                    description=description,
                    store=self._store,
                    keys=self._all_keys(),
                    example=replace(example, inputs=prefix.of_example),
                    example_keys=keys.take(few),
                    reporter=self._reporter,
                    group=self._group,
                )
            except NoRoom as reason:
                if self._views == 1:
                    self._go_on_without(str(reason))
                    return
                why = str(reason)
                self._set_views(self._views - 1)
            except CannotStore as reason:
                self._go_on_without(str(reason))
                return
        self._reporter.info(f"Frozen stages {prefix.name}: computed once, by {prefix.engine}")
        if self._views < wanted:
            self._reporter.warning(
                f"{wanted} views of each training image do not fit into the cache: {why}. The run "
                f"stores {self._views}."
            )

    def _agree(self, stages: int, digest: str) -> None:
        """Store in all processes or in none, and equally many views.

        Raises:
            MsftError: they have different engines.
        """
        told = self._group.all([self._cache is not None, self._views, self.engine])
        if not all(stores for stores, *_ in told):
            if self._cache is not None:
                without = [rank for rank, (stores, *_) in enumerate(told) if not stores]
                self._go_on_without(f"process {without[0]} cannot store them")
            return
        engines = [engine for *_, engine in told]
        if len(set(engines)) > 1:
            where = ", ".join(f"process {rank} by {one}" for rank, one in enumerate(engines))
            raise MsftError(
                f"the processes compute the frozen stages by different engines ({where}): install "
                "the same on all hosts, or switch extractors off."
            )
        fewest = min(views for _, views, _ in told)
        if any(views != fewest for _, views, _ in told):
            self.close()
            self._identity = (stages, digest)
            self._set_views(fewest)
            agreed(self._group, lambda: self._open_cache(stages, digest))
            self._agree(stages, digest)

    def _make_prefix(self, stages: int, example: Array) -> FrozenPrefix:
        names = self._names(stages)
        return FrozenPrefix(
            self._trainer.prefix(stages),
            name=names[0] if stages == 1 else f"{names[0]} to {names[-1]}",
            plugin=self._trainer.plugin,
            graph=self._graph,
            example=example,
            features=len(self._all_keys()),
            ask_extractor=self._ask_extractor,
            say=self._reporter.info,
        )

    def _describe(self, stages: int, digest: str) -> dict[str, Any]:
        """What features depend on, apart from the engine."""
        return {
            **self._description,
            "stages": self._names(stages),
            "parameters": digest,
            "code": code_digest(self._trainer.prefix(stages)),
            "preprocessing": asdict(self._trainer.backbone.preprocessing),
        }

    def _names(self, stages: int) -> list[str]:
        return [stage.name for stage in self._trainer.backbone.stages[:stages]]

    def _set_views(self, views: int) -> None:
        self._views = views
        self._keys = self._make_keys(self._digests)

    def _all_keys(self) -> Rows:
        """The keys of all features that the run will need."""
        keys: list[Array] = []
        for use in (Use.TRAINING, Use.VALIDATION):
            of_use = self._keys[use]
            views = min(self._views, self._epochs) if of_use.images.recipe.augmentation else 1
            for epoch in range(1, views + 1):
                keys.append(of_use.of_epoch(epoch).array)
        return Rows(np.concatenate(keys))

    def _go_on_without(self, reason: str) -> None:
        self.close()
        self._views = 0
        self._trainer.skip_stages(0)
        self._reporter.warning(
            f"features are not stored: {reason}. The run continues without them: it computes the "
            "frozen stages again in each epoch, on new views."
        )

"""What the trainer is fed with: images, or stored features where leading stages are frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from msft_core.features import (
    AskExtractor,
    CannotStore,
    FeaturePipeline,
    Prefix,
    Rows,
    code_of,
    digest_of,
)
from msft_core.pipeline import KeyedPipeline, Pipeline
from msft_core.store import FeatureStore
from msft_core.training import Trainer
from msft_core.types import Reporter

PROBED = 3
"""Training images that are computed at the start of each run, to compare them with what is stored:
more than one, since one may be blank."""


class Feed:
    """Chooses between images and features, whenever what is frozen changes.

    Args:
        trainer: asked which stages are frozen, and told where batches enter.
        images: pipelines of images by name: "train" as trained on, and of both splits as
            evaluated, "evaluate train" and "val".
        digests: hash of each image's bytes for "train" and "val".
        views: stored views of each training image; 0 to store nothing.
        epochs: of the run.
        description: what features depend on besides the stages, their weights and the extractor.
        store: where they are kept.
        graph: compile the frozen stages.
        ask_extractor: asks the plugins for another engine.
        reporter: for progress, and to say where features are not stored.
    """

    def __init__(
        self,
        trainer: Trainer,
        images: Mapping[str, Pipeline],
        digests: Mapping[str, Sequence[str]],
        *,
        views: int,
        epochs: int,
        description: Mapping[str, Any],
        store: FeatureStore,
        graph: bool,
        ask_extractor: AskExtractor,
        reporter: Reporter,
    ) -> None:
        self._trainer, self._images, self._views, self._epochs = trainer, images, views, epochs
        self._rows = self._rows_of(digests) if views else {}
        self._description, self._store, self._graph = description, store, graph
        self._ask_extractor, self._reporter = ask_extractor, reporter
        self._prefix: Prefix | None = None
        self._identity: tuple[int, str] = (0, "")

    def follow(self) -> None:
        """Look again: the strategy's answer, or the weights of frozen stages, may have changed."""
        stages = self._trainer.frozen_stages if self._views else 0
        identity = (stages, digest_of(self._trainer.prefix(stages)) if stages else "")
        if identity != self._identity:
            self.close()
            self._identity = identity
            if stages:
                self._store_features(*identity)
        self._trainer.enter_at(stages if self._prefix else 0)

    def prepare(self, name: str, epoch: int, between: Callable[[], None]) -> None:
        """Do what an epoch needs beforehand: compute the features that are not stored.

        Args:
            name: of the pipeline.
            epoch: from 1.
            between: called between batches; what it raises ends it, and what is done is kept.
        """
        pipeline = self.pipeline(name)
        if isinstance(pipeline, FeaturePipeline):
            try:
                pipeline.prepare(epoch, between)
            except CannotStore as reason:
                self._go_on_without(str(reason))

    def pipeline(self, name: str) -> Pipeline:
        """The batches to train on or to evaluate."""
        if self._prefix is None:
            return self._images[name]
        return FeaturePipeline(self._rows[name], self._prefix, name)

    def images(self, name: str) -> Pipeline:
        """The images of the same batches."""
        return self._images[name] if self._prefix is None else self._rows[name].images

    def close(self) -> None:
        """Let go of the stored features' files."""
        if self._prefix is not None:
            self._prefix.space.close()
        self._prefix, self._identity = None, (0, "")

    def _rows_of(self, digests: Mapping[str, Sequence[str]]) -> dict[str, Rows]:
        rows = {}
        pipeline: Any
        for name, pipeline in self._images.items():
            images = KeyedPipeline(pipeline.table, replace(pipeline.recipe, views=self._views))
            rows[name] = Rows(images, digests["val" if name == "val" else "train"])
        return rows

    def _store_features(self, stages: int, digest: str) -> None:
        backbone, train = self._trainer.backbone, self._rows["train"]
        chain = self._trainer.prefix(stages)
        names = [stage.name for stage in backbone.stages[:stages]]
        keys = train.keys(1)
        few = np.unique(np.linspace(0, len(keys) - 1, PROBED).astype(np.int64))
        images = next(train.images.batches([few], 1)).inputs
        try:
            self._prefix = Prefix(
                chain,
                name=names[0] if stages == 1 else f"{names[0]} to {names[-1]}",
                plugin=self._trainer.plugin,
                description={
                    **self._description,
                    "stages": names,
                    "parameters": digest,
                    "code": code_of(chain),
                    "preprocessing": asdict(backbone.preprocessing),
                },
                store=self._store,
                graph=self._graph,
                keys=self._keys(),
                probe=(images, [keys[row] for row in few]),
                ask_extractor=self._ask_extractor,
                reporter=self._reporter,
            )
        except CannotStore as reason:
            self._go_on_without(str(reason))

    def _keys(self) -> list[bytes]:
        """Of all rows that the run will need."""
        keys: list[bytes] = []
        for name in ("train", "val"):
            rows = self._rows[name]
            views = min(self._views, self._epochs) if rows.images.recipe.augmentation else 1
            for epoch in range(1, views + 1):
                keys += rows.keys(epoch)
        return keys

    def _go_on_without(self, reason: str) -> None:
        self.close()
        self._views = 0
        self._trainer.enter_at(0)
        self._reporter.warning(
            f"features are not stored: {reason}. The run goes on without: it computes the frozen "
            "stages anew in each epoch, on new views."
        )

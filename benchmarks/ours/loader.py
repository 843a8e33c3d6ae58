"""Epochs of msft's input pipelines: ``... benchmarks.ours.loader DIR SIZE BATCH WORKERS``."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.serving import Channel


def main(folder: Path, size: int, batch: int, most_workers: int) -> None:
    """Serve ``keyed 1``, ``keyed 2``, ``mindspore 1``, ...: the pipeline and its workers."""
    channel = Channel()
    from msft_core.config import DataSettings, RuntimeSettings
    from msft_core.data.mindspore_pipeline import MindSporePipeline
    from msft_core.data.pipeline import KeyedPipeline, Pipeline, Recipe
    from msft_core.data.views import Augmentation
    from msft_core.folders import read_splits
    from msft_core.system import device as runtime
    from msft_core.system.console import PlainReporter
    from msft_core.types import Preprocessing

    runtime.prepare(RuntimeSettings(), PlainReporter())

    def epoch(pipeline: Pipeline) -> None:
        for _ in pipeline.epoch(1):
            pass

    table, data = read_splits(folder).train, DataSettings()
    tasks: dict[str, Callable[[], object]] = {}
    for name, make in (("keyed", KeyedPipeline), ("mindspore", MindSporePipeline)):
        for workers in range(1, most_workers + 1):
            recipe = Recipe(
                preprocessing=Preprocessing(size, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
                augmentation=Augmentation(data.crop_scale, data.crop_ratio, data.flip),
                seed=0,
                batch_size=batch,
                shuffle=True,
                drop_remainder=False,
                workers=workers,
            )
            tasks[f"{name} {workers}"] = functools.partial(epoch, make(table, recipe))
    channel.serve(tasks)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(number) for number in sys.argv[2:]))

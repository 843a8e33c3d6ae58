"""Fine-tuning steps of msft's own trainer: ``... benchmarks.ours.step BATCH SIZE MODE``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from benchmarks.serving import Channel


def main(batch: int, size: int, mode: str) -> None:
    """Serve ``step``: one step of ResNet-50 on one batch, as ``msft run`` does it."""
    channel = Channel()
    import numpy as np

    from msft_core import config as configuration
    from msft_core.data.pipeline import Batch
    from msft_core.plugins.loading import load_plugins
    from msft_core.system import device as runtime
    from msft_core.system.console import PlainReporter
    from msft_core.types import Context, Kind

    plugins = load_plugins()
    config = configuration.resolve(
        {
            "dataset": "sample",
            "backbone": {"name": "resnet50", "weights": "none", "image_size": size},
            # So low that random weights do not run away in some dozens of steps on one batch.
            "strategy": {"name": "finetune", "learning_rate": 1e-4},
            "runtime": {"mode": mode},
        },
        plugins,
    )
    reporter = PlainReporter()
    device = runtime.prepare(config.runtime, reporter)

    from msft_core.system.cache_folder import cache_dir
    from msft_core.training.state import TrainState
    from msft_core.training.trainer import Trainer

    def ask(hook: str, kind: Kind, **arguments: Any) -> tuple[Any, str]:
        choice = getattr(config, kind)
        result, plugin, _ = plugins.ask(
            hook, kind, choice.name, settings=choice.settings, **arguments
        )
        return result, plugin

    backbone, plugin = ask(
        "build_backbone", "backbone", num_classes=2, context=Context(0, cache_dir(), reporter)
    )
    trainer = Trainer(TrainState(backbone), plugin, 2, device)
    trainable, _ = ask("select_trainable", "strategy", backbone=backbone, epoch=1)
    trainer.select(trainable, steps_per_epoch=1, epochs=1000)
    random = np.random.default_rng(0)
    images = random.standard_normal((batch, 3, size, size), np.float32)
    one = Batch(images, random.integers(0, 2, batch, np.int32), np.arange(batch))

    class OneBatch:
        """A pipeline whose epoch is a single step."""

        def steps(self) -> int:
            return 1

        def epoch(self, number: int, skip: int = 0) -> Iterator[Batch]:
            yield one

    channel.serve({"step": lambda: trainer.train_epoch(OneBatch(), 1, lambda: None)})


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])

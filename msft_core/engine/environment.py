"""Facts that decide a run's metrics and stored features, apart from the configuration."""

from __future__ import annotations

import platform
from datetime import datetime
from typing import Any

from msft_core.config import RunConfig
from msft_core.engine.asking import Asker
from msft_core.system.device import Runtime, versions
from msft_core.training.trainer import Trainer
from msft_core.types import DatasetSplits


def features_depend_on(
    config: RunConfig, device: Runtime, asker: Asker, trainer: Trainer
) -> dict[str, Any]:
    """Facts that decide the features, apart from the stages, their weights and the extractor."""
    of_plugin = {i.name: i.version for i in asker.plugins.infos}
    decide = ("msft", "mindspore", "pillow")
    return {
        "backbone": config.backbone.name,
        "settings": config.backbone.settings.model_dump(mode="json"),
        "plugin": f"{trainer.plugin} {of_plugin.get(trainer.plugin, '')}",
        "dialect": trainer.backbone.dialect,
        "device": device.device,
        "versions": {n: v for n, v in versions().items() if n in decide},
    }


def environment(
    config: RunConfig, device: Runtime, asker: Asker, splits: DatasetSplits, trainer: Trainer
) -> dict[str, Any]:
    """The content of ``environment.json``."""
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "versions": versions(),
        "platform": platform.platform(),
        "device": device.device,
        "mode": "graph" if device.graph else "pynative",
        "sink": device.sink,
        "seed": config.training.seed,
        "dataset": {
            "name": config.dataset.name,
            "description": splits.description,
            "train": len(splits.train.ids),
            "val": len(splits.val.ids),
        },
        "backbone": {
            "name": config.backbone.name,
            "weights": trainer.backbone.weights,
            "dialect": trainer.backbone.dialect,
        },
        "plugins": {info.name: f"{info.origin}, {info.status}" for info in asker.plugins.infos},
        "overrides": asker.overrides,
    }

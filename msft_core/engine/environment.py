"""Facts of a run apart from its configuration: what decides its results, and how it ended."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from msft_core.config import RunConfig
from msft_core.data.checking import Findings
from msft_core.engine.asking import Asker
from msft_core.files import sha256_of
from msft_core.plugins.loading import FROM_PYTHON
from msft_core.runs.live import LiveRun
from msft_core.system.device import Runtime, versions
from msft_core.system.group import Group
from msft_core.training.trainer import Trainer
from msft_core.types import MOVING_STATISTICS, Backbone, Best, ImageTable, RunReport, Stage


def features_depend_on(
    config: RunConfig, device: Runtime, asker: Asker, trainer: Trainer
) -> dict[str, Any]:
    """Facts that decide the features, apart from the stages, their weights and the extractor."""
    of_plugin = {i.name: i.version for i in asker.plugins.infos}
    decide = ("msft", "mindspore", "pillow")
    return {
        # Not for float32, so that what was stored before there was a choice is found.
        **({"dtype": config.cache.dtype} if config.cache.dtype != "float32" else {}),
        "backbone": config.backbone.name,
        "settings": config.backbone.settings.model_dump(mode="json"),
        "plugin": f"{trainer.plugin} {of_plugin.get(trainer.plugin, '')}",
        "dialect": trainer.backbone.dialect,
        "device": device.device,
        "versions": {n: v for n, v in versions().items() if n in decide},
    }


def environment(
    config: RunConfig,
    device: Runtime,
    asker: Asker,
    found: Findings,
    trainer: Trainer,
    group: Group,
) -> dict[str, Any]:
    """The content of ``environment.json`` when a run begins."""
    splits, infos = found.splits, asker.plugins.infos
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "versions": versions(),
        "platform": platform.platform(),
        "device": device.device,
        "mode": "graph" if device.graph else "pynative",
        "sink": device.sink,
        "processes": [
            {"rank": rank, "pid": pid, "host": host}
            for rank, (pid, host) in enumerate(zip(group.pids, group.hosts, strict=True))
        ],
        "seed": config.training.seed,
        "dataset": {
            "name": config.dataset.name,
            "description": splits.description,
            "train": len(splits.train.ids),
            "val": len(splits.val.ids),
            "classes": splits.classes,
            # For each class, in this order.
            "counts": {
                "train": _counts(splits.train, len(splits.classes)),
                "val": _counts(splits.val, len(splits.classes)),
            },
            # Pairs (training id, validation id) of images with the same bytes.
            "twins": found.twins,
            # Likewise of images that look alike.
            "near_duplicates": found.near_duplicates.pairs,
        },
        "backbone": {
            "name": config.backbone.name,
            "weights": trainer.backbone.weights,
            "dialect": trainer.backbone.dialect,
        },
        "plugins": {info.name: f"{info.origin}, {info.status}" for info in infos},
        # Those that no file names: run(plugins=[...]).
        "objects": [info.name for info in infos if info.origin == FROM_PYTHON],
        "overrides": asker.overrides,
    }


def _counts(table: ImageTable, classes: int) -> list[int]:
    """The number of images of each class."""
    of_label = Counter(map(int, table.labels))
    return [of_label[label] for label in range(classes)]


def ending(
    run: LiveRun, report: RunReport, warnings: Sequence[str], seconds: float, complete: bool
) -> dict[str, Any]:
    """What ``environment.json`` has in addition when a run has ended.

    Args:
        run: that ended.
        report: how it ended.
        warnings: of the whole run.
        seconds: that it took.
        complete: whether nothing is left to do: every ``on_run_end`` is done.
    """
    best = report.best
    ended = datetime.now().astimezone()
    return {
        "status": report.status,
        "reason": report.reason,
        "complete": complete,
        "ended": ended.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "best": _best(best, report.folder) if best else None,
        "stages": _stages(run.backbone, run.state.joined),
        "warnings": list(warnings),
    }


def _best(best: Best, folder: Path) -> dict[str, Any]:
    """The best checkpoint: which file, and with which content predictions.csv was made."""
    inside = best.path.parent == folder
    return {
        "epoch": best.epoch,
        "metric": best.metric,
        "value": best.value,
        "file": best.path.name if inside else str(best.path.absolute()),
        "sha256": sha256_of(best.path) if best.path.is_file() else "",
    }


def _stages(backbone: Backbone, joined: Mapping[str, int]) -> list[dict[str, Any]]:
    """For each stage and the head: how many values it has, how many trained, and since when."""
    found = []
    for stage in (*backbone.stages, Stage("head", backbone.head)):
        sizes = {
            p.name: p.size
            for p in stage.cell.get_parameters()
            if not p.name.endswith(MOVING_STATISTICS)
        }
        trained = [name for name in sizes if name in joined]
        found.append(
            {
                "name": stage.name,
                "parameters": sum(sizes.values()),
                "trained": sum(sizes[name] for name in trained),
                "from_epoch": min((joined[name] for name in trained), default=None),
            }
        )
    return found

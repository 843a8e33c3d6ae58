"""A run as its callbacks see it: ``msft_core.types.Run``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from msft_core import images
from msft_core.config import RunConfig
from msft_core.errors import MsftError, PluginError
from msft_core.feed import Feed
from msft_core.interrupt import Interrupts
from msft_core.pipeline import Batch
from msft_core.plugins import Plugins
from msft_core.runfolder import RunFolder
from msft_core.training import Trainer, mean_loss, softmax
from msft_core.types import (
    Array,
    Best,
    DatasetSplits,
    EpochRecord,
    ImageBatch,
    Kind,
    Predictions,
    Reporter,
)

if TYPE_CHECKING:
    from msft_core.types import Run


class RunState:
    """Implements ``msft_core.types.Run``, whose docstrings say what each member does.

    Args:
        config: resolved.
        run_folder: already under its final name.
        splits: checked.
        trainer: holds the backbone.
        feed: batches of "train" as trained on, and of both splits as evaluated
            ("evaluate train", "val").
        plugins: whose hooks are called.
        reporter: for progress of an evaluation.
        interrupts: held back during a write.
    """

    def __init__(
        self,
        *,
        config: RunConfig,
        run_folder: RunFolder,
        splits: DatasetSplits,
        trainer: Trainer,
        feed: Feed,
        plugins: Plugins,
        reporter: Reporter,
        interrupts: Interrupts,
    ) -> None:
        self.config, self.splits, self.backbone = config, splits, trainer.backbone
        self.reporter, self.trainer, self.feed = reporter, trainer, feed
        self.best: Best | None = None
        self.stop_reason: str | None = None
        self._run_folder, self._plugins, self._interrupts = run_folder, plugins, interrupts
        self._history: list[EpochRecord] = []
        self._extra: dict[str, float] = {}
        self._evaluated: dict[str, Mapping[str, float]] = {}
        self._predicted: dict[str, tuple[Predictions, float]] = {}

    # What callbacks use

    @property
    def folder(self) -> Path:
        """See ``Run``."""
        return self._run_folder.path

    @property
    def history(self) -> Sequence[EpochRecord]:
        """See ``Run``."""
        return tuple(self._history)

    def settings(self, kind: Kind, name: str) -> Any:
        """See ``Run``."""
        try:
            return self.config.settings(kind, name)
        except (AttributeError, KeyError):
            raise ValueError(f"settings: there is no {kind} {name!r}") from None

    def evaluate(self, split: str = "val") -> Mapping[str, float]:
        """See ``Run``."""
        if split not in self._evaluated:
            predictions, loss = self._predict(split)
            figures = {"loss": loss}
            givers = {"loss": "the core"}
            hook = "compute_metrics"
            answers = self._plugins.call_each(hook, self.config.enabled, predictions=predictions)
            for plugin, answer in answers:
                if not isinstance(answer, Mapping):
                    raise PluginError(plugin, hook, f"gave {type(answer).__name__}, not a mapping")
                for name, value in answer.items():
                    if name in givers:
                        raise PluginError(plugin, hook, f"{givers[name]} gives {name!r} already")
                    try:
                        if isinstance(value, str):  # float("1") is 1.0
                            raise TypeError
                        figures[name] = float(value)
                    except (TypeError, ValueError, OverflowError):
                        what = f"gave {type(value).__name__} for {name!r}, not a number"
                        raise PluginError(plugin, hook, what) from None
                    givers[name] = f"plugin {plugin!r}"
            # All plugins are given the same, so none may change it.
            self._evaluated[split] = MappingProxyType(figures)
        return self._evaluated[split]

    def predictions(self, split: str = "val") -> Predictions:
        """See ``Run``."""
        return self._predict(split)[0]

    def images(self, split: str, count: int) -> ImageBatch:
        """See ``Run``."""
        table = self._table(split)
        if split == "train":
            batches = self.feed.images("train").epoch(1)
            return self._collect(table, batches, count)
        # Evenly spaced, since a split is sorted by class.
        rows = np.unique(np.linspace(0, len(table.ids) - 1, min(count, len(table.ids))).round())
        return self.read_images(split, [table.ids[int(row)] for row in rows])

    def read_images(self, split: str, ids: Sequence[str]) -> ImageBatch:
        """See ``Run``."""
        table = self._table(split)
        row_of = {name: row for row, name in enumerate(table.ids)}
        if unknown := [name for name in ids if name not in row_of]:
            raise ValueError(f"read_images: {split} has no image {unknown[0]!r}")
        rows = [row_of[name] for name in ids]
        pixels = [
            images.evaluation_view(table.read(row), self.backbone.preprocessing) for row in rows
        ]
        size = self.backbone.preprocessing.size
        return ImageBatch(
            np.stack(pixels) if pixels else np.zeros((0, size, size, 3), np.uint8),
            np.asarray([table.labels[row] for row in rows], np.int64),
            tuple(ids),
        )

    def save_checkpoint(self, path: Path) -> Path:
        """See ``Run``."""
        with self._interrupts.held():
            return self.trainer.save(Path(path), self._metadata())

    def set_best(self, path: Path, epoch: int, value: float, metric: str) -> None:
        """See ``Run``."""
        if not Path(path).is_file():
            raise ValueError(f"set_best: there is no file {path}")
        self.best = Best(Path(path), epoch, float(value), metric)

    def record(self, name: str, value: float) -> None:
        """See ``Run``."""
        if name in _OF_THE_CORE:
            raise ValueError(f"record: {name!r} is the core's own, choose another name")
        self._extra[name] = float(value)

    def stop(self, reason: str) -> None:
        """See ``Run``."""
        if not reason:
            raise ValueError("stop: give a reason, which the output shows")
        self.stop_reason = reason

    # What the engine uses

    def call(self, hook: str, **arguments: Any) -> None:
        """Call a hook of every plugin; the first that raises ends it."""
        for _ in self._plugins.call_each(hook, self.config.enabled, run=self, **arguments):
            pass

    def call_guarded(self, hook: str, **arguments: Any) -> Iterator[MsftError]:
        """Call a hook of every plugin, whatever any of them raises; give what was raised."""
        for plugin in self._plugins.names_with(hook, self.config.enabled):
            try:
                self._plugins.call_one(hook, plugin, run=self, **arguments)
            except MsftError as error:
                yield error

    def reload_best(self) -> None:
        """Put the best checkpoint's values into the network."""
        assert self.best is not None
        self.trainer.load(self.best.path)
        self.feed.follow()
        self.forget()

    def begin_epoch_end(self, record: EpochRecord) -> None:
        """The weights have changed: forget what was computed, and note the epoch."""
        self.forget()
        self._extra = {}
        self._history.append(record)

    def finish_epoch_end(self) -> EpochRecord:
        """Complete the epoch's record with what callbacks evaluated and recorded, and write it."""
        last = self._history[-1] = replace(
            self._history[-1], val=dict(self._evaluated.get("val", {})), extra=dict(self._extra)
        )
        with self._interrupts.held():
            self._run_folder.write_lines("metrics.jsonl", (_line(r) for r in self._history))
        return last

    def forget(self) -> None:
        """Drop what was computed with other weights."""
        self._evaluated, self._predicted = {}, {}

    def _predict(self, split: str) -> tuple[Predictions, float]:
        if split not in self._predicted:
            table, size = self._table(split), self.config.training.batch_size
            name = "val" if split == "val" else "evaluate train"
            epoch = max(1, len(self._history))
            with self._interrupts.held():
                self.feed.prepare(name, epoch, self._interrupts.check)
            pipeline = self.feed.pipeline(name)
            rows, logits = [], []
            total = min(pipeline.steps() * size, len(table.ids))
            progress = self.reporter.progress(f"evaluating {split}", total, "images")
            with self._interrupts.held(), progress as advance:
                for batch, answer in self.trainer.logits(pipeline.epoch(epoch), size):
                    rows.append(batch.rows)
                    logits.append(answer)
                    advance(len(batch.rows))
                    self._interrupts.check()
            self._predicted[split] = self._join(table, np.concatenate(rows), np.concatenate(logits))
        return self._predicted[split]

    def _join(self, table: Any, rows: Array, logits: Array) -> tuple[Predictions, float]:
        labels = np.asarray(table.labels, np.int64)[rows]
        ids = tuple(table.ids[int(row)] for row in rows)
        predictions = Predictions(ids, labels, softmax(logits), self.splits.classes)
        loss = mean_loss(logits, labels)
        # All plugins are given the same, so none may change it.
        for array in (predictions.labels, predictions.probabilities):
            array.flags.writeable = False
        return predictions, loss

    def _table(self, split: str) -> Any:
        if split not in ("train", "val"):
            raise ValueError(f"there is no split {split!r}: 'train' or 'val'")
        return getattr(self.splits, split)

    def _collect(self, table: Any, batches: Iterator[Batch], count: int) -> ImageBatch:
        pixels, rows = [], []
        for batch in batches:
            pixels.append(images.denormalise(batch.inputs, self.backbone.preprocessing))
            rows.append(batch.rows)
            if sum(len(r) for r in rows) >= count:
                break
        kept = np.concatenate(rows)[:count]
        return ImageBatch(
            np.concatenate(pixels)[:count],
            np.asarray(table.labels, np.int64)[kept],
            tuple(table.ids[int(row)] for row in kept),
        )

    def _metadata(self) -> dict[str, str]:
        """All that prediction needs, as strings: a ``.ckpt`` keeps nothing else."""
        return {
            "msft": "1",
            "backbone": self.config.backbone.name,
            "dialect": self.backbone.dialect,
            "strategy": self.config.strategy.name,
            "classes": json.dumps(self.splits.classes, ensure_ascii=False),
            "preprocessing": json.dumps(asdict(self.backbone.preprocessing)),
        }


_OF_THE_CORE = ("epoch", "train", "val", "learning_rate", "seconds", "step_ms")
"""Keys of a line of ``metrics.jsonl``."""


def _line(record: EpochRecord) -> dict[str, Any]:
    line: dict[str, Any] = {"epoch": record.epoch, "train": dict(record.train)}
    if record.val:
        line["val"] = dict(record.val)
    line |= {
        "learning_rate": record.learning_rate,
        "seconds": round(record.seconds, 3),
        "step_ms": round(record.step_ms, 3),
    }
    return line | dict(record.extra)


if TYPE_CHECKING:

    def _is_a_run(state: RunState) -> Run:
        return state

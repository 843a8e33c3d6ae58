"""A finished run, opened again from its folder or from a checkpoint alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msft_core.config import RunConfig
from msft_core.errors import MsftError, UsageError
from msft_core.plugins.registry import Plugins
from msft_core.runs import opening
from msft_core.runs.checkpoints import CheckpointInfo, describe_checkpoint
from msft_core.runs.predictions_file import NAME as PREDICTIONS
from msft_core.runs.predictions_file import read_predictions
from msft_core.types import (
    Array,
    Backbone,
    Best,
    DatasetSplits,
    EpochRecord,
    ImageBatch,
    Kind,
    Pages,
    Predictions,
    Reporter,
    Run,
)

if TYPE_CHECKING:
    from msft_core.data.checking import Findings
    from msft_core.runs.classifier import Classifier
    from msft_core.system.device import Runtime
    from msft_core.weights import Checkpoint


ROUNDING = 1e-3
"""Greater than what another engine or processor does to a probability."""


def changed_between(before: Predictions, now: Predictions) -> list[str]:
    """The ids of images that are in both, and have other probabilities than before.

    The same checkpoint gives the same image the same probabilities, but for another engine's
    rounding. So their content has changed.
    """
    of_before = dict(zip(before.ids, before.probabilities, strict=True))
    return [
        name
        for name, values in zip(now.ids, now.probabilities, strict=True)
        if name in of_before and abs(values - of_before[name]).max() > ROUNDING
    ]


class FinishedRun:
    """Implements ``msft_core.types.Run`` for a run that has ended.

    What costs time is done when it is asked for: MindSpore is imported for ``classifier``, the
    dataset is built for ``splits``.

    Args:
        found: the checkpoint and the run folder.
        plugins: the loaded plugins.
        device: cpu, gpu, ascend or auto.
        reporter: for lines, warnings and progress.
        pages: draws the run's pictures; made from this object, since it stands above this package.
    """

    def __init__(
        self,
        found: opening.Found,
        plugins: Plugins,
        *,
        device: str,
        reporter: Reporter,
        pages: Callable[[Run], Pages] | None,
    ) -> None:
        self._found, self.plugins, self._device = found, plugins, device
        self.checkpoint, self.reporter = found.checkpoint, reporter
        self._pages = pages
        self._evaluated: dict[str, Mapping[str, float]] = {}
        self._predicted: dict[str, Predictions] = {}

    # What the checkpoint and the folder say

    @property
    def folder(self) -> Path:
        """The run folder; of a checkpoint alone, the folder that it is in."""
        return self._found.folder or self.checkpoint.parent

    @property
    def is_whole(self) -> bool:
        """Whether there is a run folder; False for a checkpoint alone."""
        return self._found.folder is not None

    @cached_property
    def info(self) -> CheckpointInfo:
        """What the checkpoint says. Imports MindSpore, which reads it."""
        return describe_checkpoint(self._file, self.reporter)

    @cached_property
    def _file(self) -> Checkpoint:
        assert self._runtime  # MindSpore reads a .ckpt
        from msft_core.weights import read_checkpoint

        return read_checkpoint(self.checkpoint)

    @cached_property
    def config(self) -> RunConfig:
        """The configuration of the run.

        Raises:
            UsageError: this is a checkpoint alone.
        """
        if self._found.folder is None:
            raise UsageError(
                f"{self.checkpoint} is a checkpoint alone: its run folder is needed for this."
            )
        return opening.read_config(self._found.folder, self.plugins, self.reporter)

    @cached_property
    def history(self) -> Sequence[EpochRecord]:
        """See ``Run``."""
        path = self.folder / "metrics.jsonl"
        return opening.read_history(path) if self.is_whole and path.is_file() else ()

    @cached_property
    def best(self) -> Best | None:
        """See ``Run``."""
        if not self.is_whole or self.checkpoint.name != opening.best_file(self.folder):
            return None
        path = self.checkpoint
        told = opening.read_facts(self.folder).get("best")
        if isinstance(told, dict) and self._made_them:
            with suppress(KeyError, TypeError, ValueError):
                return Best(path, int(told["epoch"]), float(told["value"]), str(told["metric"]))
        # A run that was killed, or that an older msft wrote.
        settings: Any = self.config.callback.get("best_checkpoint")
        metric = getattr(settings, "metric", "accuracy")
        of_epoch = {record.epoch: record.val for record in self.history}
        value = of_epoch.get(self.info.epoch, {}).get(metric)
        return None if value is None else Best(path, self.info.epoch, value, metric)

    @property
    def pages(self) -> Pages:
        """See ``Run``."""
        if self._pages is None:
            raise UsageError("this run was opened without pages")
        return self._pages(self)

    @property
    def resumed(self) -> bool:
        """See ``Run``."""
        return self.is_whole and bool(opening.read_facts(self.folder).get("resumed"))

    @property
    def rank(self) -> int:
        """See ``Run``."""
        return 0

    @property
    def processes(self) -> int:
        """See ``Run``."""
        return 1

    def settings(self, kind: Kind, name: str) -> Any:
        """See ``Run``."""
        try:
            return self.config.settings(kind, name)
        except (AttributeError, KeyError):
            raise ValueError(f"settings: this run has no {kind} {name!r}") from None

    # What takes plugins

    @cached_property
    def classifier(self) -> Classifier:
        """The trained network. Imports MindSpore.

        Raises:
            DeviceError: the device cannot be used here.
            UsageError: the plugin that made the backbone is not installed.
            WeightsError: the checkpoint does not fit the backbone.
        """
        info = self.info
        opened = opening.open_classifier(
            self._file, info, self.plugins, self._runtime, self.reporter
        )
        del self._file  # its arrays are in the network now
        return opened

    @cached_property
    def _runtime(self) -> Runtime:
        return opening.prepare(self._device, self.reporter)

    @property
    def backbone(self) -> Backbone:
        """See ``Run``."""
        return self.classifier.backbone

    @property
    def splits(self) -> DatasetSplits:
        """The images of the run's dataset, without those that cannot be decoded.

        Raises: as ``checked``.
        """
        return self.checked.splits

    @cached_property
    def checked(self) -> Findings:
        """The images of the run's dataset, and those that are left out.

        Raises:
            UsageError: this is a checkpoint alone, or the dataset's plugin is not installed.
            DataError: the images are gone, or the classes are others now.
        """
        return opening.check_images(self.config, self.info, self.plugins, self.reporter)

    # What was learned

    def predictions(self, split: str = "val") -> Predictions:
        """See ``Run``. For val from ``predictions.csv``, where the best checkpoint was opened."""
        if split not in self._predicted:
            path = self.folder / PREDICTIONS
            if split == "val" and self.is_whole and path.is_file() and self._made_them:
                found = read_predictions(path)
                if found.classes != self.info.classes:
                    raise MsftError(f"{path} has other classes than {self.checkpoint}.")
                self._predicted[split] = found
            else:
                table = self._table(split)
                title = f"evaluating {split}"
                with self.reporter.progress(title, len(table.ids), "images") as advance:
                    self._predicted[split] = self.classifier.predict_table(table, advance)
        return self._predicted[split]

    def evaluate(self, split: str = "val") -> Mapping[str, float]:
        """See ``Run``."""
        from msft_core.runs.figures import figures_of, loss_of

        if split not in self._evaluated:
            predictions = self.predictions(split)
            self._evaluated[split] = figures_of(
                predictions, loss_of(predictions), self.plugins, self.config.enabled
            )
        return self._evaluated[split]

    def images(self, split: str, count: int) -> ImageBatch:
        """See ``Run``."""
        from msft_core.runs.shown import evenly_spaced, first_of_training

        table = self._table(split)
        if split == "train":
            return first_of_training(table, self.config, self.info.preprocessing, count)
        return self.read_images(split, evenly_spaced(table, count))

    def read_images(self, split: str, ids: Sequence[str]) -> ImageBatch:
        """See ``Run``."""
        from msft_core.runs.shown import as_evaluated

        if split == "val" and self.config.data.augment_validation:
            raise UsageError(
                "the run judged augmented validation images (data.augment_validation), and only "
                "the run itself can show those."
            )
        return as_evaluated(self._table(split), split, ids, self.info.preprocessing)

    def changed(self, split: str, ids: Sequence[str]) -> list[str]:
        """Which of these images have another content now than the one that was predicted.

        Computes the network.
        """
        from msft_core.images import subset
        from msft_core.runs.shown import indices_of

        table = self._table(split)
        now = self.classifier.predict_table(subset(table, indices_of(table, split, ids)))
        return changed_between(self.predictions(split), now)

    def explain(self, split: str, ids: Sequence[str]) -> Array:
        """See ``Run``."""
        from msft_core.data.views import normalise
        from msft_core.training.gradcam import heat_maps

        predictions = self.predictions(split)
        predicted = dict(zip(predictions.ids, predictions.predicted.tolist(), strict=True))
        pixels = self.read_images(split, ids).pixels
        chosen = np.asarray([predicted[one] for one in ids], np.int64)
        return heat_maps(self.backbone, normalise(pixels, self.info.preprocessing), chosen)

    # What only a run in progress can do

    def save_checkpoint(self, path: Path) -> Path:
        """Raise UsageError: the run has ended."""
        raise self._ended("save_checkpoint")

    def set_best(self, path: Path, epoch: int, value: float, metric: str) -> None:
        """Raise UsageError: the run has ended."""
        raise self._ended("set_best")

    def record(self, name: str, value: float) -> None:
        """Raise UsageError: the run has ended."""
        raise self._ended("record")

    def stop(self, reason: str) -> None:
        """Raise UsageError: the run has ended."""
        raise self._ended("stop")

    # Inside

    def _ended(self, what: str) -> UsageError:
        return UsageError(f"{what}: the run in {self.folder} has ended.")

    @cached_property
    def _made_them(self) -> bool:
        """Whether ``predictions.csv`` is of the opened checkpoint."""
        facts = opening.read_facts(self.folder)
        made = opening.made_the_predictions(self.checkpoint, facts)
        if made is False and self.checkpoint.name == opening.best_file(self.folder):
            self.reporter.warning(
                f"{self.checkpoint} is not the file that {PREDICTIONS} was made with, so msft "
                "predicts the images again."
            )
        return made is True

    def _table(self, split: str) -> Any:
        if split not in ("train", "val"):
            raise ValueError(f"there is no split {split!r}: use 'train' or 'val'")
        return getattr(self.splits, split)


if TYPE_CHECKING:

    def _is_a_run(run: FinishedRun) -> Run:
        return run

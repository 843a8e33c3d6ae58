"""A run as its callbacks see it: ``msft_core.types.Run``."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msft_core.config import RunConfig
from msft_core.data import views
from msft_core.data.pipeline import Use
from msft_core.errors import MsftError, first_line
from msft_core.features.feed import Feed
from msft_core.features.keys import parameters_digests
from msft_core.plugins.registry import Plugins
from msft_core.runs import predictions_file, shown
from msft_core.runs.checkpoints import (
    CheckpointInfo,
    Evaluation,
    load_parameters,
    save_checkpoint,
)
from msft_core.runs.figures import figures_of
from msft_core.runs.folder import RunFolder
from msft_core.runs.predictions_file import write_predictions
from msft_core.runs.saving import (
    Phase,
    Restored,
    StateSaver,
)
from msft_core.runs.state import SavedState
from msft_core.system.agreeing import agreed, checking, require_same
from msft_core.system.device import versions
from msft_core.system.group import Group
from msft_core.system.interrupts import Interrupts
from msft_core.training.gradcam import heat_maps
from msft_core.training.losses import mean_loss, softmax
from msft_core.training.not_finite import require_finite_outputs
from msft_core.training.trainer import Trainer
from msft_core.types import (
    Array,
    Best,
    DatasetSplits,
    EpochRecord,
    ImageBatch,
    Kind,
    Pages,
    Predictions,
    Reporter,
)

if TYPE_CHECKING:
    from msft_core.types import Run


LAST_EVERY_SECONDS = 30.0
"""``last.ckpt`` is written at the end and on an interruption, and at most so often in between."""


@dataclass(frozen=True)
class Evaluated:
    """What was predicted and computed with some weights.

    Args:
        weights: digest of the network's parameters.
        predicted: predictions and loss of each split.
        evaluated: figures of each split.
        shown_in: the epoch whose views were judged, of each split.
    """

    weights: str
    predicted: dict[str, tuple[Predictions, float]]
    evaluated: dict[str, Mapping[str, float]]
    shown_in: dict[str, int]


class LiveRun:
    """Implements ``msft_core.types.Run``, whose docstrings say what each member does.

    Args:
        config: the resolved configuration.
        run_folder: already has its final name.
        splits: the checked images.
        trainer: holds the train state.
        feed: gives the batches for each use.
        plugins: the plugins whose hooks are called.
        reporter: shows the progress of an evaluation.
        interrupts: held back during a write.
        environment: what ``environment.json`` says but for the engine of the frozen stages.
        origins: of dataset, backbone and strategy, for checkpoints.
        compiles: whether frozen stages are compiled.
        saver: saves the train state.
        resumed: whether it goes on from a saved state.
        group: the processes that train together.
        pages: draws the run's pictures; made from this object, since it stands above this package.
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
        environment: Mapping[str, Any],
        pages: Callable[[Run], Pages],
        origins: Mapping[str, str],
        compiles: bool,
        saver: StateSaver,
        group: Group,
        resumed: bool = False,
    ) -> None:
        self.group = group
        self.config, self.splits, self.backbone = config, splits, trainer.backbone
        self.reporter, self.trainer, self.feed = reporter, trainer, feed
        self.state = trainer.state
        self._run_folder, self._plugins, self._interrupts = run_folder, plugins, interrupts
        self._environment, self._engines = environment, [feed.engine]
        self._extra: dict[str, float] = {}
        self._evaluated: dict[str, Mapping[str, float]] = {}
        self._predicted: dict[str, tuple[Predictions, float]] = {}
        self.of_best: Evaluated | None = None
        self._shown_in: dict[str, int] = {}
        self._last_saved = time.monotonic()
        self.pages = pages(self)
        self._origins, self._compiles = origins, compiles
        self._saver, self.resumed = saver, resumed
        self.awaits_callbacks = False
        """Whether the callbacks of the last epoch are still to come, or under way."""
        self._has_plugin_states = self._doubts_best = False

    # What callbacks use

    @property
    def folder(self) -> Path:
        """See ``Run``."""
        return self._run_folder.path

    @property
    def rank(self) -> int:
        """See ``Run``."""
        return self.group.rank

    @property
    def processes(self) -> int:
        """See ``Run``."""
        return self.group.size

    @property
    def history(self) -> Sequence[EpochRecord]:
        """See ``Run``."""
        return tuple(self.state.history)

    @property
    def best(self) -> Best | None:
        """See ``Run``."""
        return self.state.best

    @best.setter
    def best(self, best: Best | None) -> None:
        self.state.best = best

    def settings(self, kind: Kind, name: str) -> Any:
        """See ``Run``."""
        try:
            return self.config.settings(kind, name)
        except (AttributeError, KeyError):
            raise ValueError(f"settings: this run has no {kind} {name!r}") from None

    def evaluate(self, split: str = "val") -> Mapping[str, float]:
        """See ``Run``."""
        if split not in self._evaluated:
            predictions, loss = self._predict(split)
            self._evaluated[split] = figures_of(
                predictions, loss, self._plugins, self.config.enabled
            )
        return self._evaluated[split]

    def predictions(self, split: str = "val") -> Predictions:
        """See ``Run``."""
        return self._predict(split)[0]

    def images(self, split: str, count: int) -> ImageBatch:
        """See ``Run``."""
        table = self._table(split)
        if split == "train":
            batches = self.feed.images(Use.TRAINING).epoch(1)
            return shown.first_of(batches, table, self.backbone.preprocessing, count)
        return self.read_images(split, shown.evenly_spaced(table, count))

    def read_images(self, split: str, ids: Sequence[str]) -> ImageBatch:
        """See ``Run``."""
        table, preprocessing = self._table(split), self.backbone.preprocessing
        if self._pipeline_of(split).recipe.augmentation is None:
            return shown.as_evaluated(table, split, ids, preprocessing)
        indices = shown.indices_of(table, split, ids)
        return shown.batch_of(table, indices, self._as_judged(split, indices), preprocessing)

    def explain(self, split: str, ids: Sequence[str]) -> Array:
        """See ``Run``."""
        predictions = self.predictions(split)
        predicted = dict(zip(predictions.ids, predictions.predicted.tolist(), strict=True))
        images = views.normalise(self.read_images(split, ids).pixels, self.backbone.preprocessing)
        return heat_maps(self.backbone, images, np.asarray([predicted[one] for one in ids], int))

    def _pipeline_of(self, split: str) -> Any:
        return self.feed.images(Use.VALIDATION if split == "val" else Use.EVALUATING_TRAIN)

    def _as_judged(self, split: str, indices: Sequence[int]) -> list[Array]:
        """Views, uint8 (size, size, 3), with data.augment_validation: those that were judged."""
        found: dict[int, Array] = {}
        for batch in self._pipeline_of(split).epoch(self._shown_in.get(split, self._epoch)):
            for index, inputs in zip(batch.indices.tolist(), batch.inputs, strict=True):
                if index in indices:
                    found[index] = views.denormalise(inputs[None], self.backbone.preprocessing)[0]
        return [found[index] for index in indices]

    def save_checkpoint(self, path: Path) -> Path:
        """See ``Run``."""
        # Who saves the best network sets it as the best one next: a Ctrl-C waits for both.
        with self._interrupts.held(then_check=False):
            return save_checkpoint(Path(path), self.state, self._about())

    def set_best(self, path: Path, epoch: int, value: float, metric: str) -> None:
        """See ``Run``."""
        if not Path(path).is_file():
            raise ValueError(f"set_best: there is no file {path}")
        if math.isnan(value):
            raise ValueError(f"set_best: {metric} is NaN, and nothing is better or worse than that")
        with self._interrupts.held(then_check=False):
            self.state.best = Best(Path(path), int(epoch), float(value), metric)
            self.of_best = Evaluated(
                parameters_digests(self.trainer.network)[-1],
                dict(self._predicted),
                dict(self._evaluated),
                dict(self._shown_in),
            )

    def record(self, name: str, value: float) -> None:
        """See ``Run``."""
        if name in _OF_THE_CORE:
            raise ValueError(f"record: msft itself writes {name!r}; choose another name")
        try:
            self._extra[name] = float(value)
        except (TypeError, ValueError):
            raise ValueError(f"record: {name!r} = {value!r} is not a number") from None

    def stop(self, reason: str) -> None:
        """See ``Run``."""
        if not reason:
            raise ValueError("stop: the reason is empty; give one, since msft prints it")
        self.state.stop_reason = reason

    # What the engine uses

    def call(self, hook: str, **arguments: Any) -> None:
        """Call a hook of every plugin, up to the first exception."""
        for _ in self._plugins.call_each(hook, self.config.enabled, run=self, **arguments):
            pass

    def call_guarded(
        self, hook: str, **arguments: Any
    ) -> Iterator[MsftError | KeyboardInterrupt | None]:
        """Call a hook of every plugin, whatever any of them raises; give what each raised, or None.

        The first Ctrl-C ends the function that it meets. The second one ends the calls. Between
        them signals are only noted.
        """
        interrupted = False
        for plugin in self._plugins.names_with(hook, self.config.enabled):
            try:
                with self._interrupts.heeded():
                    self._plugins.call_one(hook, plugin, run=self, **arguments)
            except MsftError as error:
                yield error
            except KeyboardInterrupt as interrupt:
                yield interrupt
                if interrupted:
                    return
                interrupted = True
            else:
                yield None

    @property
    def engine(self) -> str:
        """What computed the run, in words."""
        frozen = ", then ".join(self.engines)
        here = f"MindSpore on {self._environment['device']}"
        return f"{here}, frozen stages by {frozen}" if frozen else here

    @property
    def engines(self) -> tuple[str, ...]:
        """What has computed frozen stages so far, in this order."""
        if self.feed.engine not in self._engines:
            self._engines.append(self.feed.engine)
        return tuple(filter(None, self._engines))

    def write_environment(self, ending: Mapping[str, Any]) -> None:
        """Write ``environment.json`` anew: with all engines, and how the run ended."""
        names = ", then ".join(self.engines)
        content = {**self._environment, "features": names, **ending}
        self._run_folder.write_json("environment.json", content)

    def take_up(self, saved: SavedState, restored: Restored) -> None:
        """Go on from a saved state, which is in the train state already."""
        self.awaits_callbacks = self._doubts_best = saved.phase == "trained"
        self._saver.take_up(saved, self.state.best)
        self._engines = [*saved.feed.engines]
        if of_best := saved.of_best:
            self.of_best = Evaluated(
                of_best.weights,
                dict(restored.predicted),
                dict(of_best.evaluated),
                dict(of_best.shown_in),
            )

    def save_state(self, phase: Phase) -> None:
        """Write ``state/``, from which the run can be resumed."""
        with self._interrupts.held(then_check=False):
            self._saver.save(self, phase)

    def save_state_now_and_then(self) -> None:
        """Write ``state/`` within an epoch, unless that was done a short time ago."""
        if self._saver.is_due():
            self.save_state("within")

    @property
    def is_ahead_of_state(self) -> bool:
        """Whether it was interrupted within an epoch, or before it had a state."""
        if self.resumed and not self._has_plugin_states:
            return False  # a state of now would lack what the plugins have not got back yet
        return self.state.part.steps > 0 or not self._saver.has_saved

    def plugin_states(self) -> dict[str, Mapping[str, Any]]:
        """What each plugin must remember to go on: the results of its ``save_state``."""
        if not self._has_plugin_states:
            return {}  # interrupted in on_run_start, which comes again
        found = self._plugins.call_each("save_state", self.config.enabled, run=self)
        return {plugin: state for plugin, state in found if state is not None}

    def load_plugin_states(self, states: Mapping[str, Mapping[str, Any]]) -> None:
        """Give each plugin what it remembered, with its ``load_state``. In a new run: nothing."""
        here = self._plugins.names_with("load_state", self.config.enabled)
        for plugin in here:
            if plugin in states:
                self._plugins.call_one("load_state", plugin, run=self, state=states[plugin])
        if missing := [plugin for plugin in states if plugin not in here]:
            self.reporter.warning(
                f"what {', '.join(missing)} kept is left out: no plugin of that name takes it back "
                "(load_state)."
            )
        self._has_plugin_states = True

    @property
    def _evaluation_batch(self) -> int:
        # A larger batch than there are images would only be filled up, at the cost of memory.
        return min(self.config.training.batch_size, len(self.splits.train.ids))

    def write_predictions(self) -> None:
        """Write ``predictions.csv``: what the network predicts for val."""
        write_predictions(self.folder / predictions_file.NAME, self.predictions("val"))

    def save_last(self) -> None:
        """Write ``last.ckpt``."""
        self.save_checkpoint(self.folder / "last.ckpt")
        self._last_saved = time.monotonic()

    def save_last_now_and_then(self) -> None:
        """Write ``last.ckpt``, unless that was done a short time ago."""
        if time.monotonic() - self._last_saved >= LAST_EVERY_SECONDS:
            self.save_last()

    def reload_best(self) -> None:
        """Put the best checkpoint's values into the network, with what was predicted then.

        Call it where signals are only noted: a network of which half is loaded is none.

        Raises:
            MsftError: it cannot be read. Then there is no best any more.
        """
        best = self.best
        assert best is not None
        self.group.tell("load", path=str(best.path))
        try:
            weights = self.load(best.path)
        except Exception as error:
            self.best = None
            raise MsftError(
                f"the best checkpoint {best.path} cannot be read: {first_line(error)}"
            ) from error
        of_best = self.of_best
        # Not where the file holds other weights than the network had: an average of them, say.
        if of_best and of_best.weights == weights:
            self._predicted, self._evaluated = of_best.predicted, of_best.evaluated
            self._shown_in = of_best.shown_in

    def load(self, path: Path) -> str:
        """Put a checkpoint's values into the network, in all processes. Returns their digest."""
        self.forget()
        agreed(self.group, lambda: load_parameters(path, self.state))
        digests = parameters_digests(self.trainer.network)
        require_same(self.group, digests[-1], f"the values of {path}")
        self.feed.refresh(digests)
        return digests[-1]

    def prepare_training(self, epoch: int) -> None:
        """Compute the features that an epoch needs, in all processes."""
        self._require_same_values()
        self.feed.prepare(Use.TRAINING, epoch, self._interrupts.check)

    def _require_same_values(self) -> None:
        """Check that the network is the same in all processes, which all must call it.

        Raises:
            MsftError: it is not. Each would train or judge another network.
        """
        if self.group.size > 1:
            digest = parameters_digests(self.trainer.network)[-1]
            require_same(
                self.group,
                digest,
                "the network's values",
                " Plugins are called in process 0 alone: one that changes parameters needs "
                "a run in one process. Hosts of different kinds may also compute other last bits.",
            )

    def begin_epoch_end(self, record: EpochRecord) -> None:
        """Forget the results of the old weights, and add the epoch to the history."""
        self.forget()
        self._extra = {}
        self.state.history.append(record)
        self.awaits_callbacks = True
        if self.state.trainable is not None:
            for name in self.state.trainable.names:
                self.state.joined.setdefault(name, record.epoch)

    def finish_epoch_end(self) -> EpochRecord:
        """Add the callbacks' metrics and recorded values to the epoch's record, and write it."""
        if self._doubts_best:
            self._saver.require_same_best(self.state.best)
            self._doubts_best = False
        history = self.state.history
        last = history[-1] = replace(
            history[-1], val=dict(self._evaluated.get("val", {})), extra=dict(self._extra)
        )
        with self._interrupts.held():
            self._run_folder.write_lines("metrics.jsonl", (_line(r) for r in history))
        self.awaits_callbacks = False
        return last

    def forget(self) -> None:
        """Drop evaluations and predictions of other weights."""
        self._evaluated, self._predicted, self._shown_in = {}, {}, {}

    @property
    def _epoch(self) -> int:
        """Whose views an evaluation shows."""
        return max(1, len(self.state.history))

    def _predict(self, split: str) -> tuple[Predictions, float]:
        if split not in self._predicted:
            table, epoch = self._table(split), self._epoch
            with self._interrupts.held():
                self.group.tell("predict", split=split, epoch=epoch)
                outputs = self.outputs(split, epoch)
            assert outputs is not None, "rank 0 has those of all processes"
            indices, logits = outputs
            require_finite_outputs(logits, split, self.state)
            self._shown_in[split] = epoch
            self._predicted[split] = self._join(table, indices, logits)
        return self._predicted[split]

    def outputs(self, split: str, epoch: int) -> tuple[Array, Array] | None:
        """What the network gives for a split: int64 (N,) indices, float32 (N, K) logits.

        All processes call it, each computes its part of the batches, and rank 0 gets all of them;
        the others get None. Interrupts must be held back.
        """
        self._require_same_values()
        group, check = self.group, checking(self.group, self._interrupts.check)
        use = Use.VALIDATION if split == "val" else Use.EVALUATING_TRAIN
        self.feed.prepare(use, epoch, self._interrupts.check)
        pipeline, size = self.feed.pipeline(use), self._evaluation_batch
        in_all, done = len(self._table(split).ids), 0
        total = min(pipeline.steps() * size, in_all) // group.size
        # Not a list of those of each batch: both that and the whole would be there for a moment.
        indices = np.empty(in_all, np.int64)
        logits = np.empty((in_all, len(self.splits.classes)), np.float32)

        def compute() -> None:
            nonlocal done
            batches = pipeline.whole_batches(epoch, (group.rank, group.size))
            with self.reporter.progress(f"evaluating {split}", total, "images") as advance:
                for batch, of_batch in self.trainer.logits(batches, size):
                    rows = slice(done, done + len(batch.indices))
                    indices[rows], logits[rows], done = batch.indices, of_batch, rows.stop
                    advance(len(batch.indices))
                    check()

        agreed(group, compute)
        indices, logits = indices[:done], logits[:done]
        if group.size == 1:
            return indices, logits
        all_indices, all_logits = group.rows(indices), group.rows(logits)
        if all_indices is None or all_logits is None:
            return None
        together, of_all = np.concatenate(all_indices), np.concatenate(all_logits)
        # In the order of one process, so that the figures are the same to the bit.
        order = np.concatenate(self._pipeline_of(split).portions(epoch))
        place = np.empty(order.max() + 1, np.int64)
        place[order] = np.arange(len(order))
        as_alone = np.argsort(place[together])
        return together[as_alone], of_all[as_alone]

    def _join(self, table: Any, indices: Array, logits: Array) -> tuple[Predictions, float]:
        labels = np.asarray(table.labels, np.int64)[indices]
        ids = tuple(table.ids[int(index)] for index in indices)
        loss = mean_loss(logits, labels)
        # In the same place: they are the largest arrays of a run on many images.
        probabilities = softmax(logits, out=logits)
        predictions = Predictions(ids, labels, probabilities, self.splits.classes)
        # All plugins get the same arrays, so no plugin may change them.
        for array in (predictions.labels, predictions.probabilities):
            array.flags.writeable = False
        return predictions, loss

    def _table(self, split: str) -> Any:
        if split not in ("train", "val"):
            raise ValueError(f"there is no split {split!r}: use 'train' or 'val'")
        return getattr(self.splits, split)

    def _about(self) -> CheckpointInfo:
        return CheckpointInfo(
            backbone=self.config.backbone.name,
            settings=self.config.to_mapping()["backbone"],
            dialect=self.backbone.dialect,
            strategy=self.config.strategy.name,
            classes=self.splits.classes,
            preprocessing=self.backbone.preprocessing,
            origins=self._origins,
            versions={name: versions()[name] for name in ("msft", "mindspore")},
            evaluation=Evaluation(
                batch_size=self._evaluation_batch,
                stages_apart=self.trainer.skipped_stages,
                engine=self.feed.engine,
                compiled=self._compiles,
                stored_as=self.config.cache.dtype if self.trainer.skipped_stages else "float32",
                extractors={
                    name: settings
                    for name, settings in self.config.to_mapping().get("extractor", {}).items()
                    if self.config.enabled("extractor", name)
                },
            ),
            epoch=self.state.epoch,
        )


_OF_THE_CORE = ("epoch", "train", "val", "learning_rate", "seconds", "step_ms")
"""Keys that msft itself writes into a line of ``metrics.jsonl``."""


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

    def _is_a_run(run: LiveRun) -> Run:
        return run

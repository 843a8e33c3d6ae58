"""Save the train state of a run, and put a saved one back. The files are in ``runs/state.py``."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import eq
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from msft_core.errors import MsftError, UsageError, WeightsError
from msft_core.features.fed import Fed
from msft_core.files import hash_of, sha256_of
from msft_core.runs.state import (
    SavedBest,
    SavedEvaluation,
    SavedState,
    StateFolder,
)
from msft_core.types import Array, Best, DatasetSplits, Predictions, Trainable
from msft_core.weights import read_checkpoint
from msft_core.weights.formats import ckpt

if TYPE_CHECKING:
    from msft_core.runs.live import Evaluated, LiveRun
    from msft_core.training.state import TrainState

Phase = Literal["within", "trained", "end"]

_NETWORK, _BEST, _PLUGINS = "network", "best", "plugins"
_PARAMETER, _SLOT = "parameter/", "optimizer"


class StateSaver:
    """Saves the state of one run.

    Args:
        folder: the folder ``state/``.
        data: digests of the images.
        weights: digest of the network before its first step.
        config: the configuration, as ``RunConfig.to_mapping`` gives it.
        began: ``time.perf_counter()`` at the start of the run; earlier by what the run had taken
            before it was resumed.
        warnings: those of the run so far.
        every_seconds: how often a state is saved within an epoch.
    """

    def __init__(
        self,
        folder: StateFolder,
        *,
        data: Mapping[str, str],
        weights: str,
        config: Mapping[str, Any],
        began: float,
        warnings: Callable[[], Sequence[str]],
        every_seconds: float,
    ) -> None:
        self._folder, self._data, self._weights = folder, data, weights
        self._config = config
        self._began, self._warnings, self._every = began, warnings, every_seconds
        self._saved_at = time.monotonic()
        self._best: tuple[Best, str] | None = None
        self._of_best: tuple[Evaluated | None, dict[str, Array]] = (None, {})

    @property
    def has_saved(self) -> bool:
        """Whether there is a state."""
        return self._folder.exists()

    def is_due(self) -> bool:
        """Whether the last state is old enough for another one within the epoch."""
        return time.monotonic() - self._saved_at >= self._every

    def save(self, run: LiveRun, phase: Phase) -> None:
        """Save the state.

        Raises:
            MsftError: it cannot be written, or a plugin's ``save_state`` failed.
        """
        state = run.state
        if not state.whole or len(state.history) != state.epoch:
            return  # a second Ctrl-C broke into a step or an epoch's end: the state before it stays
        plugins, arrays = split_plugins(run.plugin_states())
        groups = {
            _NETWORK: network_arrays(state),
            _PLUGINS: arrays,
            _BEST: self._arrays_of_best(run),
        }
        saved = SavedState(
            phase=phase,
            epoch=state.epoch,
            step=state.step,
            part=state.part,
            history=tuple(state.history),
            stop_reason=state.stop_reason,
            joined=state.joined,
            trains=trains(state.trainable),
            data=self._data,
            weights=self._weights,
            config=self._config,
            feed=Fed(run.feed.views, run.feed.engine, run.feed.asks, run.engines),
            seconds=time.perf_counter() - self._began,
            warnings=tuple(self._warnings()),
            best=self._saved_best(state.best, run.folder),
            of_best=_saved_evaluation(run.of_best) if state.best else None,
            plugins=plugins,
        )
        self._folder.write(asdict(saved), groups)
        self._saved_at = time.monotonic()

    def take_up(self, saved: SavedState, best: Best | None) -> None:
        """Go on from a saved state, with the best checkpoint that was restored from it."""
        if best is not None and saved.best is not None:
            self._best = (best, saved.best.identity)

    def require_same_best(self, best: Best | None) -> None:
        """Compare the best checkpoint with its file, which an epoch's callbacks may have replaced.

        Raises:
            MsftError: the file is another one.
        """
        if best is None or self._best is None or best is not self._best[0]:
            return
        if not _is_file_of(best.path, self._best[1]):
            raise MsftError(
                f"{best.path} is not the best checkpoint of epoch {best.epoch}: the interrupted "
                "callbacks had put another one there, which those of now do not choose. Resume "
                "with the callbacks that the run had."
            )

    def _arrays_of_best(self, run: LiveRun) -> dict[str, Array]:
        """Its predictions, put together once and not for each state."""
        if self._of_best[0] is not run.of_best:
            self._of_best = (run.of_best, _arrays_of(run.of_best, run.splits))
        return self._of_best[1]

    def _saved_best(self, best: Best | None, folder: Path) -> SavedBest | None:
        if best is None:
            return None
        if self._best is None or self._best[0] is not best:
            self._best = (best, identity_of(best.path))
        return saved_best(best, folder, self._best[1])


def saved_best(best: Best, folder: Path, identity: str) -> SavedBest:
    """The best checkpoint as a state has it: a run folder may be moved."""
    inside = best.path.is_relative_to(folder)
    path = best.path.relative_to(folder) if inside else best.path.absolute()
    return SavedBest(str(path), best.epoch, best.value, best.metric, identity)


def identity_of(path: Path) -> str:
    """What tells a checkpoint from another one, without reading all of it."""
    checksum = ckpt.checksum_of(path)
    # A plugin may have written it in a way of its own.
    return f"{path.stat().st_size}, {checksum or sha256_of(path)}"


def _is_file_of(path: Path, identity: str) -> bool:
    """Whether a checkpoint is whole, and the one of this identity."""
    try:
        # What is no file, such as a device, may never come to an end.
        same = path.is_file() and identity_of(path) == identity
        return same and bool(read_checkpoint(path))
    except (OSError, WeightsError):
        return False


# What a state holds


def data_digests(splits: DatasetSplits, digests: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """For the class names and each split, how many there are and a hash of them.

    Args:
        splits: the checked images.
        digests: the hash of each image's bytes, for ``train`` and ``val``.
    """
    found = {"classes": f"{len(splits.classes)}, {hash_of(*splits.classes).hex()}"}
    for name in ("train", "val"):
        table = getattr(splits, name)
        digest = hashlib.blake2b(digest_size=16)
        for one, label, content in zip(table.ids, table.labels, digests[name], strict=True):
            digest.update(f"{one}\0{int(label)}\0{content}\0".encode("utf-8", "surrogateescape"))
        found[name] = f"{len(table.ids)}, {digest.hexdigest()}"
    return found


def trains(trainable: Trainable | None) -> str:
    """Hash of what a strategy chose."""
    return hash_of(repr(trainable)).hex()


def network_arrays(state: TrainState) -> dict[str, Array]:
    """The parameters whose values change, and the slots and counts of the optimizers."""
    arrays = {
        _PARAMETER + name: state.parameters[name].asnumpy() for name in sorted(state.changing)
    }
    for name, parameter in _slots(state).items():
        arrays[name] = parameter.asnumpy()
    return arrays


def _slots(state: TrainState) -> dict[str, Any]:
    """What the optimizers remember. Rates are left out: they follow from the schedule."""
    slots = {}
    for number, optimizer in enumerate(state.optimizers):
        of_network = {id(parameter) for parameter in optimizer.parameters}
        for name, parameter in optimizer.parameters_dict().items():
            own_name = name.removeprefix(f"optimizer{number}.")
            if id(parameter) not in of_network and not own_name.startswith("learning_rate"):
                slots[f"{_SLOT}{number}/{name}"] = parameter
    return slots


def _saved_evaluation(found: Evaluated | None) -> SavedEvaluation | None:
    if found is None:
        return None
    losses = {split: loss for split, (_, loss) in found.predicted.items()}
    evaluated = {split: dict(figures) for split, figures in found.evaluated.items()}
    return SavedEvaluation(found.weights, losses, evaluated, dict(found.shown_in))


def _arrays_of(found: Evaluated | None, splits: DatasetSplits) -> dict[str, Array]:
    """For each split the place of each image in its table, int64 (N,), and its probabilities."""
    arrays = {}
    for split, (predictions, _) in (found.predicted if found else {}).items():
        arrays[f"{split}/indices"] = _places(predictions.ids, getattr(splits, split).ids)
        arrays[f"{split}/probabilities"] = predictions.probabilities
    return arrays


def _places(ids: Sequence[str], all_ids: Sequence[str]) -> Array:
    """Where each id is among all, int64 (N,)."""
    # Mostly all in order. A mapping of a million would be one of the largest things of a run.
    if len(ids) == len(all_ids) and all(map(eq, ids, all_ids)):
        return np.arange(len(ids), dtype=np.int64)
    place = {one: index for index, one in enumerate(all_ids)}
    return np.asarray([place[one] for one in ids], np.int64)


def split_plugins(
    states: Mapping[str, Mapping[str, Any]],
) -> tuple[dict[str, dict[str, Any]], dict[str, Array]]:
    """Apart: the JSON values that plugins keep, and their arrays, named by plugin and key."""
    values: dict[str, dict[str, Any]] = {}
    arrays: dict[str, Array] = {}
    for plugin, state in states.items():
        values[plugin] = {k: v for k, v in state.items() if not isinstance(v, np.ndarray)}
        for key, value in state.items():
            if isinstance(value, np.ndarray):
                arrays[json.dumps([plugin, key])] = value
    return values, arrays


# Putting it back


def restore_network(saved: SavedState, arrays: Mapping[str, Array], state: TrainState) -> None:
    """Put a saved state into the train state of a new process.

    The strategy has been asked for each epoch up to ``saved.selected``, so the optimizers are
    those of the saved run.

    Raises:
        UsageError: the strategy chose otherwise than it did, or the state is of another network, or
            it has NaN or infinity.
    """
    from mindspore import Tensor

    wanted = {_PARAMETER + name: state.parameters[name] for name in state.changing} | _slots(state)
    if trains(state.trainable) != saved.trains or wanted.keys() != arrays.keys():
        raise UsageError(
            "the strategy no longer trains what it trained when the run was interrupted: was its "
            "package changed? Install the version of environment.json, or begin a new run."
        )
    for name, parameter in wanted.items():
        array, current = arrays[name], parameter.asnumpy()
        if current.dtype.kind == "V":
            array = array.view(current.dtype)
        if array.shape != current.shape or array.dtype != current.dtype:
            raise UsageError(
                f"the state has {name} as {array.dtype} {array.shape}, but the network as "
                f"{current.dtype} {current.shape}: it is of another network; begin a new run."
            )
        if not _is_finite(array):
            raise UsageError(
                f"the state has NaN or infinity in {name}: nothing can be learned from there; "
                "begin a new run."
            )
        parameter.set_data(Tensor(array.copy(), parameter.dtype))
    if strangers := saved.joined.keys() - state.parameters.keys():
        raise UsageError(
            f"the state tells of a parameter that the network does not have, "
            f"{min(strangers)[:80]!r}: it is of another network; begin a new run."
        )
    state.epoch, state.step, state.part = saved.epoch, saved.step, saved.part
    state.history, state.stop_reason = list(saved.history), saved.stop_reason
    state.joined = dict(saved.joined)


def _is_finite(array: Array) -> bool:
    """Whether no value is NaN or infinite. A type that NumPy does not know is bfloat16."""
    if array.dtype.kind == "V":
        exponent = 0x7F80  # all of its bits are set in NaN and infinity, and in nothing else
        return bool(((array.view(np.uint16) & exponent) != exponent).all())
    return bool(np.isfinite(array).all())


def restored_best(saved: SavedState, folder: Path) -> Best | None:
    """The best checkpoint.

    Raises:
        UsageError: its file is another one, or is gone.
    """
    best = saved.best
    if best is None:
        return None
    path = folder / best.path
    # Where the callbacks of an epoch were interrupted, they may have put another file there. They
    # come again, and `StateSaver.require_same_best` after them.
    if saved.phase != "trained" and not _is_file_of(path, best.identity):
        raise UsageError(
            f"{path} is not the best checkpoint that the run wrote after epoch {best.epoch}, "
            "or is damaged or gone: put it back, or begin a new run."
        )
    return Best(path, best.epoch, best.value, best.metric)


@dataclass(frozen=True)
class Restored:
    """What a saved state has beside the train state.

    Args:
        predicted: with the best weights, and the loss, for each split.
        plugins: what each plugin kept, its arrays included.
    """

    predicted: Mapping[str, tuple[Predictions, float]]
    plugins: Mapping[str, dict[str, Any]]


def restored(
    saved: SavedState, arrays: Mapping[str, Mapping[str, Array]], splits: DatasetSplits
) -> Restored:
    """Put together what a saved state has beside the train state.

    Args:
        saved: the state.
        arrays: of each group.
        splits: the images.

    Raises:
        UsageError: the arrays do not fit the images, or have other names than msft gives them.
    """
    best = saved.of_best
    predicted = _restored_predictions(best, arrays.get(_BEST, {}), splits) if best else {}
    return Restored(predicted, _states_of_plugins(saved, arrays.get(_PLUGINS, {})))


def _restored_predictions(
    saved: SavedEvaluation, arrays: Mapping[str, Array], splits: DatasetSplits
) -> dict[str, tuple[Predictions, float]]:
    found = {}
    for split, loss in saved.losses.items():
        try:
            table = getattr(splits, split)
            indices, probabilities = arrays[f"{split}/indices"], arrays[f"{split}/probabilities"]
            if indices.dtype != np.int64 or (indices < 0).any() or not _is_finite(probabilities):
                raise ValueError(split)
            ids = tuple(table.ids[int(index)] for index in indices)
            labels = np.asarray(table.labels, np.int64)[indices]
            if probabilities.shape != (len(ids), len(splits.classes)):
                raise ValueError(probabilities.shape)
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise UsageError(
                "the predictions in the state do not fit the images: begin a new run."
            ) from error
        labels.flags.writeable = probabilities.flags.writeable = False
        found[split] = (Predictions(ids, labels, probabilities, splits.classes), loss)
    return found


def _states_of_plugins(saved: SavedState, arrays: Mapping[str, Array]) -> dict[str, dict[str, Any]]:
    states = {plugin: dict(values) for plugin, values in saved.plugins.items()}
    try:
        for name, array in arrays.items():
            plugin, key = map(str, json.loads(name))
            states.setdefault(plugin, {})[key] = array.copy()
    except (TypeError, ValueError) as error:
        raise UsageError(
            "the arrays of plugins in the state are damaged: begin a new run."
        ) from error
    return states

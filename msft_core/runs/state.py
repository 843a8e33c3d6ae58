"""``state/`` in the run folder: what ``msft run --resume`` needs, and nothing else.

``state.json`` says where the run is, and names a file of arrays for each group of them: the
network's parameters that change with the optimizer's slots, what plugins keep, and the predictions
of the best checkpoint. A file of arrays has the digest of its content in its name, so it is never
written over: whenever the process dies, ``state.json`` names files that are whole.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from msft_core.errors import MsftError, UsageError, first_line
from msft_core.features.fed import Fed
from msft_core.files import content_digest, flush, json_value, write_atomically, write_text
from msft_core.training.progress import PartOfEpoch
from msft_core.types import Array, EpochRecord
from msft_core.weights.formats import safetensors

FOLDER = "state"
"""Name in the run folder."""

FORMAT = 1

_INDEX = "state.json"
_SUFFIX = ".safetensors"

Count = Annotated[int, Field(ge=0)]
Epoch = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^\w{1,40}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Groups = Mapping[str, Mapping[str, Array]]


@dataclass(frozen=True)
class SavedBest:
    """The best checkpoint.

    Args:
        path: absolute, or relative to the run folder.
        epoch: after which it was written.
        value: of the metric.
        metric: that chose it.
        identity: tells the file from another: its size and checksum.
    """

    path: Annotated[str, Field(max_length=4096)]
    epoch: Epoch
    value: float
    metric: str
    identity: str


@dataclass(frozen=True)
class SavedEvaluation:
    """What was predicted with the best weights; the arrays are in the group ``best``.

    Args:
        weights: digest of the network's parameters.
        losses: of each split that was predicted.
        evaluated: figures of each split.
        shown_in: the epoch whose views were judged, of each split.
    """

    weights: str
    losses: Mapping[str, float]
    evaluated: Mapping[str, Mapping[str, float]]
    shown_in: Mapping[str, Count]


@dataclass(frozen=True)
class SavedState:
    """Where a run is. Arrays are apart.

    Args:
        phase: ``within`` an epoch; ``trained``, where its callbacks have not run; or its ``end``.
        epoch: epochs that were trained.
        step: training steps that were done, in all epochs.
        part: what is done of the next epoch.
        history: a record for each epoch.
        stop_reason: why training ends; empty if it does not.
        joined: for each parameter that has trained, the epoch in which it first did.
        trains: digest of what the strategy chose last.
        data: digest of the images of each split, and of the class names.
        weights: digest of all parameters before the first step.
        config: the configuration, as ``RunConfig.to_mapping`` gives it.
        feed: how frozen stages are fed.
        seconds: duration of the run so far.
        warnings: of the run so far.
        best: the best checkpoint so far.
        of_best: what was predicted with it.
        plugins: what each plugin keeps, without its arrays.
        arrays: digest of each group of arrays.
        format: number of this format.
    """

    phase: Literal["within", "trained", "end"]
    epoch: Count
    step: Annotated[int, Field(ge=0, lt=2**31)]
    part: PartOfEpoch
    history: tuple[EpochRecord, ...]
    stop_reason: str
    joined: Mapping[str, Epoch]
    trains: str
    data: Mapping[str, str]
    weights: str
    config: Mapping[str, Any]
    feed: Fed
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    warnings: tuple[str, ...]
    best: SavedBest | None = None
    of_best: SavedEvaluation | None = None
    plugins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    arrays: Mapping[Name, Digest] = field(default_factory=dict)
    format: Annotated[int, Field(ge=1)] = FORMAT

    def require_sense(self) -> None:
        """Compare the numbers with each other. Raises ValueError."""
        epochs = [record.epoch for record in self.history]
        if len(epochs) != self.epoch or epochs != list(range(1, self.epoch + 1)):
            raise ValueError("its history is not that of its epochs")
        part = self.part
        if (part.steps and self.phase != "within") or not part.steps <= part.images:
            raise ValueError("its epochs do not fit together")
        if max(self.joined.values(), default=0) > self.selected:
            raise ValueError("it tells of an epoch that is yet to come")
        if self.best and math.isnan(self.best.value):
            raise ValueError("its best value is NaN")

    @property
    def selected(self) -> int:
        """The epoch for which the strategy was asked last."""
        return self.epoch + 1 if self.phase == "within" else max(1, self.epoch)


class StateFolder:
    """The folder ``state/`` of a run.

    Args:
        run_folder: where it is, or will be.
    """

    def __init__(self, run_folder: Path) -> None:
        self.path = run_folder / FOLDER
        self._there: set[str] = set()

    def exists(self) -> bool:
        """Whether a state was saved."""
        return (self.path / _INDEX).is_file()

    def write(self, state: Mapping[str, Any], groups: Groups) -> None:
        """Save a state. A group of arrays that has not changed is not written again.

        Args:
            state: the fields of ``SavedState`` but for ``arrays``.
            groups: arrays by name, of each group.

        Raises:
            MsftError: it cannot be written. The state before it stays.
        """
        try:
            if not self.path.exists():
                self.path.mkdir()
                flush(self.path.parent)
            digests = {name: digest_of(arrays) for name, arrays in groups.items() if arrays}
            for name, digest in digests.items():
                self._write_arrays(_file(name, digest), groups[name])
            self._write_index({**state, "format": FORMAT, "arrays": digests})
            self._remove_all_but({_file(*each) for each in digests.items()})
        except OSError as error:
            raise MsftError(
                f"state {self.path} cannot be written: {error.strerror or error}. Make room and go "
                f"on from the state before it: msft run --resume {self.path.parent}"
            ) from error

    def _write_arrays(self, name: str, arrays: Mapping[str, Array]) -> None:
        if name in self._there:
            return
        # Not ascontiguousarray, which gives a number the shape (1,).
        stored = {key: np.asarray(_storable(value), order="C") for key, value in arrays.items()}
        write_atomically(self.path / name, lambda beside: safetensors.write(beside, stored))
        self._there.add(name)

    def _write_index(self, state: Mapping[str, Any]) -> None:
        text = _canonical(state)
        # NaN is written as Python writes it: only this module reads the file.
        write_text(self.path / _INDEX, f'{{"digest": "{_digest(text)}",\n"state": {text}}}\n')

    def _remove_all_but(self, names: set[str]) -> None:
        for old in self.path.glob(f"*{_SUFFIX}"):
            if old.name not in names:
                old.unlink(missing_ok=True)
        self._there &= names

    def read(self) -> SavedState:
        """Read ``state.json``.

        Raises:
            UsageError: it is damaged, or of a newer msft.
        """
        path = self.path / _INDEX
        # What is written and removed there would be written and removed elsewhere.
        if self.path.is_symlink():
            raise UsageError(
                f"{self.path} is a link: put the folder that it leads to in its place, or begin a "
                "new run."
            )
        try:
            whole = json_value(path.read_text(encoding="utf-8"))
            state = whole["state"]
            if whole["digest"] != _digest(_canonical(state)):
                raise ValueError("its digest is not that of its content")
            if isinstance(state["format"], int) and state["format"] > FORMAT:
                raise UsageError(
                    f"{path}: written by a newer msft (format {state['format']}, this msft reads "
                    f"up to {FORMAT}): pip install --upgrade msft"
                )
            saved: SavedState = TypeAdapter(SavedState).validate_python(state)
            saved.require_sense()
        except UsageError:
            raise
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from error
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise UsageError(
                f"{path} is damaged ({_reason(error)}): the run cannot go on; begin a new one."
            ) from error
        return saved

    def read_arrays(self, saved: SavedState) -> dict[str, dict[str, Array]]:
        """Read the arrays of each group.

        Raises:
            UsageError: a file is not there, or is damaged.
        """
        return {name: self._read_group(name, digest) for name, digest in saved.arrays.items()}

    def _read_group(self, name: str, digest: str) -> dict[str, Array]:
        file = _file(name, digest)
        path = self.path / file
        try:
            if Path(file).name != file:
                raise ValueError("it is a path")
            if not path.is_file():  # what else there is may never come to an end
                raise ValueError("there is no such file")
            arrays, _ = safetensors.read(path)
            if digest_of(arrays) != digest:
                raise ValueError("its digest is not that of its content")
        except Exception as error:
            raise UsageError(
                f"{path} is damaged or missing ({_reason(error)}): the run cannot go on; begin "
                "a new one."
            ) from error
        self._there.add(file)
        return arrays


def _reason(error: Exception) -> str:
    """What is wrong, in a short line."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:40] for part in first["loc"])
        return f"{where}: {first['msg']}"
    return first_line(error)[:300]


def digest_of(arrays: Mapping[str, Array]) -> str:
    """Hash of names, types, shapes and values: 64 hex digits, SHA-256."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        value = np.asarray(_storable(arrays[name]), order="C")
        digest.update(f"{name}\0{value.dtype.str}\0{value.shape}\0".encode())
        digest.update(value.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _storable(value: Array) -> Array:
    """The same values in a type that NumPy and the format have: bfloat16 as uint16, its bits."""
    if value.dtype.kind == "V" and value.itemsize == 2:
        return value.view(np.uint16)
    return value.astype(value.dtype.newbyteorder("<"), copy=False)


def _file(group: str, digest: str) -> str:
    return f"{group}-{digest}{_SUFFIX}"


def _canonical(state: Mapping[str, Any]) -> str:
    # Not sorted: figures keep their order, in metrics.jsonl too. JSON keeps it, so what is read has
    # the text of what was written. ASCII: names of files that are not UTF-8 have surrogates.
    return json.dumps(state)


def _digest(text: str) -> str:
    return content_digest(text.encode("ascii"))

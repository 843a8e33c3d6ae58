"""Whole runs of msft, with a feature cache of their own."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.commands import ROOT, Finished, NotMeasured, msft, run
from benchmarks.outcome import Entry, Measurement

FIRST_TRAINED = "first epoch trained"
"""A mark of ``ours.marks``."""

_MARKS = ROOT / "benchmarks" / "ours" / "marks.py"


class ColdAndWarm:
    """A run that begins with an empty cache, and the same again with another learning rate.

    Args:
        name: of the measurement.
        work: a folder for the run folder and the cache; only this object uses it.
        arguments: of ``msft run``.
    """

    def __init__(self, name: str, work: Path, arguments: Sequence[object]) -> None:
        self.cold = Measurement(name, "s")
        self.warm = Measurement(f"{name}, again with another learning rate", "s")
        self._work, self._arguments = work, [str(argument) for argument in arguments]

    def entries(self) -> list[Entry]:
        """Both, one after the other."""
        return [Entry(self.cold, self._cold), Entry(self.warm, self._warm)]

    def _cold(self) -> Finished:
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True)
        return self._run(self.cold)

    def _warm(self) -> Finished:
        if self.cold.missing:
            raise NotMeasured(self.cold.missing)
        return self._run(self.warm, "--lr", "0.001")

    def _run(self, measurement: Measurement, *more: str) -> Finished:
        out = self._work / "run"
        shutil.rmtree(out, ignore_errors=True)
        command = msft("run", *self._arguments, *more, "--plugin", str(_MARKS), "--out", str(out))
        finished = run(command, self._work, MSFT_CACHE=str(self._work / "cache"))
        lines = (out / "metrics.jsonl").read_text().splitlines()
        epochs = [float(json.loads(line)["seconds"]) for line in lines]
        measurement.epoch_seconds.append(epochs)
        return dataclasses.replace(finished, phases=_with_training_apart(finished.phases, epochs))


def sets(*assignments: str) -> list[str]:
    """``--set`` before each of them."""
    return [argument for assignment in assignments for argument in ("--set", assignment)]


def _with_training_apart(phases: Mapping[str, float], epochs: Sequence[float]) -> dict[str, float]:
    """Phases between marks, with what the run says of its epochs told apart from the rest.

    Its seconds of an epoch are those of the training steps alone.
    """
    apart: dict[str, float] = {}
    for name, seconds in phases.items():
        if name == FIRST_TRAINED:
            apart["frozen part of its view"] = seconds - epochs[0]
            apart[name] = epochs[0]
        elif name == "all epochs done":
            apart["other epochs trained"] = sum(epochs[1:])
            apart["other views, evaluation, checkpoints"] = seconds - sum(epochs[1:])
        else:
            apart[name] = seconds
    return apart

"""A run that was interrupted goes on as if nothing had happened."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from msft_core import hookimpl
from msft_core.testing import HookRecorder, MsftRun, RecordingReporter
from msft_core.testing.resuming import differences

FOUR = {"epochs": 4, "batch_size": 8}


class Interrupts(RecordingReporter):
    """Sends a signal to this process at a step of training, or when a line is printed."""

    def __init__(self, epoch: int, step: int, number: int = signal.SIGINT) -> None:
        super().__init__()
        self._at, self._number = (epoch, step), number

    @contextmanager
    def progress(
        self, description: str, total: int | None = None, unit: str = ""
    ) -> Iterator[Callable[[int], None]]:
        """See ``Reporter``."""
        epoch, step = self._at
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if description.startswith(f"epoch {epoch}/") and done == step:
                signal.raise_signal(self._number)

        yield advance


class Stops:
    """Ctrl-C in a hook."""

    def __init__(self, hook: str, epoch: int = 0) -> None:
        self._hook, self._epoch = hook, epoch

    @hookimpl
    def on_run_start(self) -> None:
        if self._hook == "on_run_start":
            raise KeyboardInterrupt

    @hookimpl(trylast=True)
    def on_epoch_end(self, epoch: int) -> None:
        if (self._hook, self._epoch) == ("on_epoch_end", epoch):
            raise KeyboardInterrupt

    @hookimpl
    def on_run_end(self) -> None:
        if self._hook == "on_run_end":
            raise KeyboardInterrupt


def interrupted(
    folder: Path,
    out: Path,
    reporter: RecordingReporter,
    plugins: tuple[object, ...] = (),
    **how: Any,
) -> Path:
    """The folder of a run that ended by an interruption."""
    with pytest.raises(KeyboardInterrupt):
        MsftRun(folder, HookRecorder(), reporter)(plugins, out=out, **how)
    return out


STRATEGIES: dict[str, dict[str, Any]] = {
    "freeze": {"strategy": "freeze"},
    "finetune": {"strategy": "finetune"},
    "gradual-adam": {"strategy": {"name": "gradual", "at": [2, 3], "optimizer": "adam"}},
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_run_interrupted_anywhere_ends_like_one_that_nobody_disturbed(
    name: str, tmp_path: Path, msft_cache: Path
) -> None:
    how = {**STRATEGIES[name], "training": FOUR}
    quiet = MsftRun(tmp_path, HookRecorder(), RecordingReporter())
    whole = quiet((), out=tmp_path / "whole", **how).folder

    # Within an epoch; in the callbacks of another; at the very end.
    run = interrupted(tmp_path, tmp_path / "run", Interrupts(2, 1), **how)
    for reporter, plugins in (
        (RecordingReporter(), (Stops("on_epoch_end", 3),)),
        (RecordingReporter(), (Stops("on_run_end"),)),
    ):
        with pytest.raises(KeyboardInterrupt):
            MsftRun(tmp_path, HookRecorder(), reporter).resume(run, plugins)
    report = quiet.resume(run)

    assert report.status == "completed"
    assert differences(whole, run) == []
    assert [record.epoch for record in report.history] == [1, 2, 3, 4]

"""The check that an interrupted run goes on as if nothing had happened."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from msft_core.hookspecs import hookimpl
from msft_core.testing.asking import check, fail_if
from msft_core.testing.recording import HookRecorder, RecordingReporter

__tracebackhide__ = True

_TIMES = ("seconds", "step_ms")


@check
def assert_resumes(plugins: Callable[[], Sequence[object]] | None = None, **sections: Any) -> None:
    """Check that runs with these plugins can be interrupted and resumed without a difference.

    Trains on the tiny dataset and backbone, compiled as for users, unless ``sections`` say
    otherwise: a run that nobody disturbs, one that is interrupted within its second epoch, and one
    that is interrupted between the training and the end of its first epoch, after all
    ``on_epoch_end``. Both are resumed with new plugins, and have to end like the first one: the
    same bits in ``best.ckpt``, ``last.ckpt`` and ``predictions.csv``, the same figures each epoch,
    and the same result of each ``save_state``.

    Args:
        plugins: makes the plugins anew, as a new process would: objects, modules, names of modules
            or files, as for ``msft_run``. By default none but the installed ones.
        sections: as for ``msft_run``, such as ``strategy="freeze"``.

    Raises:
        AssertionError: a resumed run ends differently.
        MsftError: a run fails.
    """
    make = plugins or (lambda: ())
    sections.setdefault("training", {"epochs": 3, "batch_size": 8})
    sections.setdefault("runtime", {"mode": "auto"})
    with tempfile.TemporaryDirectory() as parent:
        runs = _Runs(Path(parent), make, sections)
        whole = runs.whole()
        within = runs.interrupted("within", _InterruptsAStep(), ())
        trained = runs.interrupted("trained", None, (_InterruptsAfterTheFirstEpoch(),))
        for where, folder in (("within an epoch", within), ("at the end of an epoch", trained)):
            fail_if(differences(whole, folder), f"a run that was interrupted {where}")


class _Runs:
    def __init__(
        self, parent: Path, make: Callable[[], Sequence[object]], sections: Mapping[str, Any]
    ) -> None:
        self._parent, self._make, self._sections = parent, make, sections

    def whole(self) -> Path:
        """A run that nobody disturbs."""
        return self._run("whole", RecordingReporter(), ())

    def interrupted(
        self, name: str, reporter: RecordingReporter | None, more: Sequence[object]
    ) -> Path:
        """A run that is interrupted and resumed."""
        from msft_core.testing import MsftRun

        try:
            self._run(name, reporter or RecordingReporter(), more)
        except KeyboardInterrupt:
            folder = self._parent / name
            again = MsftRun(self._parent, HookRecorder(), RecordingReporter())
            again.resume(folder, self._make())
            return folder
        raise AssertionError(f"the run {name!r} was not interrupted: it needs two epochs or more")

    def _run(self, name: str, reporter: RecordingReporter, more: Sequence[object]) -> Path:
        from msft_core.testing import MsftRun

        run = MsftRun(self._parent, HookRecorder(), reporter)
        return run([*self._make(), *more], out=self._parent / name, **self._sections).folder


class _InterruptsAStep(RecordingReporter):
    """Ctrl-C in the first step of epoch 2."""

    @contextmanager
    def progress(
        self, description: str, total: int | None = None, unit: str = ""
    ) -> Iterator[Callable[[int], None]]:
        """See ``msft_core.types.Reporter``."""

        def advance(count: int) -> None:
            if description.startswith("epoch 2/"):
                signal.raise_signal(signal.SIGINT)

        yield advance


class _InterruptsAfterTheFirstEpoch:
    @hookimpl(trylast=True)
    def on_epoch_end(self, epoch: int) -> None:
        """Ctrl-C after all others."""
        if epoch == 1:
            raise KeyboardInterrupt


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two run folders, apart from times and versions."""
    import json

    from msft_core.runs.state import StateFolder

    found = []
    for name in ("best.ckpt", "last.ckpt", "predictions.csv", "classes.json"):
        files = [folder / name for folder in (one, other)]
        there = [file.is_file() for file in files]
        if there[0] != there[1] or (all(there) and files[0].read_bytes() != files[1].read_bytes()):
            found.append(f"{name} differs")
    lines = [(folder / "metrics.jsonl").read_text().splitlines() for folder in (one, other)]
    if len(lines[0]) != len(lines[1]):
        found.append(f"metrics.jsonl has {len(lines[1])} epochs, not {len(lines[0])}")
    for of_one, of_other in zip(*lines, strict=False):
        first, second = (
            {key: value for key, value in json.loads(line).items() if key not in _TIMES}
            for line in (of_one, of_other)
        )
        found += [
            f"epoch {first['epoch']}: {key} is {second.get(key)}, not {first.get(key)}"
            for key in sorted(first.keys() | second.keys())
            if first.get(key) != second.get(key)
        ]
    states = [asdict(StateFolder(folder).read()) for folder in (one, other)]
    for key in ("plugins", "arrays", "epoch", "step", "stop_reason", "joined"):
        if states[0][key] != states[1][key]:
            found.append(f"the state's {key} is {states[1][key]}, not {states[0][key]}")
    return found

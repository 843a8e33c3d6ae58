"""The check of a callback, in runs that go well and in runs that do not."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msft_core.errors import MsftError, TrainingError, first_line
from msft_core.hookspecs import hookimpl
from msft_core.testing.asking import Asked, check, fail_if
from msft_core.testing.tracebacks import ending_at_the_author

if TYPE_CHECKING:
    from msft_core.testing import HookRecorder
    from msft_core.types import EpochRecord, Run, RunReport

__tracebackhide__ = True

_HOOKS = ("on_run_start", "on_epoch_end", "on_run_end")


@check
def assert_callback(
    name: str,
    *,
    plugins: Sequence[object] = (),
    settings: Mapping[str, Any] | None = None,
    same_result: bool = True,
) -> None:
    """Check a callback: its hooks survive any run, and leave the run's result as it is.

    Trains on the tiny dataset with the callback: in a whole run, and in runs that nobody evaluates,
    that are stopped, whose training fails, or that another plugin ends at the start. Trains once
    more with the callback switched off, and compares the results: the same figures each epoch, and
    the same bits in ``best.ckpt`` and ``last.ckpt``. Figures of ``run.record`` do not count.

    Args:
        name: name of the callback.
        plugins: plugins besides the installed ones, as for ``msft_run``.
        settings: as in the callback's section of a configuration.
        same_result: whether to compare the results. Give False for a callback that is made to
            change a run, such as one that stops it.

    Raises:
        AssertionError: the contract is broken. The cause is what the hook raised.
        MsftError: another plugin, or the core, refuses the run.
    """
    asked = Asked("callback", name, plugins, settings)
    (info,) = (info for info in asked.loaded.infos if info.name == asked.plugin)
    if not set(_HOOKS) & set(info.hooks):
        fail_if([f"the plugin has none of the hooks {', '.join(_HOOKS)}"], asked.what)
    with tempfile.TemporaryDirectory() as folder:
        runs = _Runs(asked, Path(folder))
        without = runs.run("switched off", {"enabled": False})
        # Those that end badly first: they must leave nothing behind for the whole run.
        runs.run("in a run that another plugin ends at its start", plugin=_FailsAtTheStart())
        runs.run("in a run whose training fails in its first epoch", plugin=_Poisons())
        runs.run("in a run that is stopped after its first epoch", plugin=_Stops())
        runs.run("in a run that nobody evaluates", evaluated=False)
        whole = runs.run("in a whole run")
        if same_result and without is not None and whole is not None:
            fail_if(_changes(without, whole), asked.what)


class _Runs:
    """Runs with the callback, each in a folder of its own."""

    def __init__(self, asked: Asked, folder: Path) -> None:
        self._asked, self._folder, self._count = asked, folder, 0

    def run(
        self,
        where: str,
        settings: Mapping[str, Any] | None = None,
        *,
        plugin: object = None,
        evaluated: bool = True,
    ) -> RunReport | None:
        """Train, and give the report of a run that did not fail.

        Args:
            where: for the message.
            settings: of the callback, instead of its own.
            plugin: makes the run end as it is to end.
            evaluated: whether ``best_checkpoint`` takes part.
        """
        from msft_core.testing import HookRecorder, MsftRun

        asked, recorder = self._asked, HookRecorder()
        self._count += 1
        run = MsftRun(self._folder / str(self._count), recorder, asked.context.reporter)  # type: ignore[arg-type]
        callbacks: dict[str, Any] = {}
        if not evaluated and "best_checkpoint" in asked.loaded.components("callback"):
            callbacks["best_checkpoint"] = {"enabled": False}
        callbacks[asked.name] = settings or {**asked.raw, "enabled": True}
        report: RunReport | None = None
        ended: MsftError | None = None
        try:
            report = run(
                [*asked.given, *([plugin] if plugin else [])],
                callback=callbacks,
                # A callback does not see how it is trained, and nothing has to be compiled.
                strategy="freeze",
                runtime={"mode": "pynative"},
            )
        except MsftError as error:
            ended = error
        self._require_no_error(where, recorder)
        if ended is not None and not isinstance(ended, TrainingError):
            raise ended
        return report

    def _require_no_error(self, where: str, recorder: HookRecorder) -> None:
        for call in recorder.of(plugin=self._asked.plugin):
            if call.hook in _HOOKS and isinstance(call.error, MsftError):
                ending_at_the_author(call.error)
                cause = call.error.__cause__ or call.error
                breach = f"{where}: {call.hook} raised {first_line(cause)}"
                fail_if([breach], self._asked.what, cause)


class _FailsAtTheStart:
    """Then ``on_run_end`` is called of plugins whose ``on_run_start`` was not."""

    @hookimpl(tryfirst=True)
    def on_run_start(self) -> None:
        raise TrainingError("the test kit ends this run at its start")


class _Poisons:
    """Makes the loss of the first step NaN."""

    @hookimpl(trylast=True)
    def on_run_start(self, run: Run) -> None:
        import mindspore as ms
        import numpy as np

        weight = next(iter(run.backbone.head.get_parameters()))
        weight.set_data(ms.Tensor(np.full(weight.shape, np.nan, np.float32)))


class _Stops:
    """Stops the run after its first epoch."""

    @hookimpl
    def on_epoch_end(self, run: Run) -> None:
        run.stop("the test kit stops this run")


def _changes(without: RunReport, whole: RunReport) -> list[str]:
    """How the callback changed the run's result."""
    epochs = len(without.history), len(whole.history)
    if without.status != whole.status or epochs[0] != epochs[1]:
        return [
            f"with it a run is {whole.status} after {epochs[1]} epochs, without it "
            f"{without.status} after {epochs[0]}: same_result=False, if it is made for that"
        ]
    changes = []
    for ours, other in zip(whole.history, without.history, strict=True):
        for figure, value in _result_of(other).items():
            now = _result_of(ours).get(figure)
            both_nan = now is not None and math.isnan(now) and math.isnan(value)
            if now != value and not both_nan:
                changes.append(
                    f"in epoch {ours.epoch} {figure} is {now} with it and {value} without"
                )
    best = [(b.epoch, b.metric, b.value) if b else None for b in (whole.best, without.best)]
    if best[0] != best[1]:
        changes.append(f"the best checkpoint is {best[0]} with it and {best[1]} without")
    for path in sorted(without.folder.glob("*.ckpt")):
        changes += _changes_of_a_checkpoint(path, whole.folder / path.name)
    return changes


def _result_of(record: EpochRecord) -> dict[str, float]:
    return {
        **{f"train {name}": value for name, value in record.train.items()},
        **{f"val {name}": value for name, value in record.val.items()},
        "learning_rate": record.learning_rate,
    }


def _changes_of_a_checkpoint(without: Path, whole: Path) -> list[str]:
    import numpy as np

    from msft_core.weights import read_checkpoint

    if not whole.is_file():
        return [f"with it there is no {whole.name}"]
    ours, other = read_checkpoint(whole).arrays, read_checkpoint(without).arrays
    changed = [
        name
        for name, value in other.items()
        if name not in ours or not np.array_equal(ours[name], value, equal_nan=True)
    ]
    if not changed:
        return []
    return [f"in {whole.name} {len(changed)} parameters are others with it, such as {changed[0]!r}"]

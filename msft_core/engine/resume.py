"""Go on with a run that was interrupted, from its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msft_core import config as configuration
from msft_core.config import RunConfig
from msft_core.engine.run import run_steps
from msft_core.errors import UsageError
from msft_core.features.fed import Fed
from msft_core.runs.folder import is_run_folder
from msft_core.runs.lock import lock_run_folder
from msft_core.runs.opening import read_facts
from msft_core.runs.record import RunRecord, read_record
from msft_core.runs.state import FOLDER, SavedState, StateFolder
from msft_core.system.console import console_reporter
from msft_core.system.interrupts import Interrupts
from msft_core.system.ranks import ranks_of
from msft_core.types import CHOSEN_KINDS, DatasetSplits, Observer, Reporter, RunReport

if TYPE_CHECKING:
    from msft_core.plugins.registry import Plugins
    from msft_core.runs.saving import Restored
    from msft_core.training.state import TrainState

_MAY_CHANGE = ("plugins", "without", "callback")
_MAY_CHANGE_KEYS = (
    "training.epochs",
    "training.save_minutes",
    "runtime.device",
    "cache.limit_gb",
    "runtime.processes",
    "data.workers",
    "data.strict",
    # What they lead to is compared instead: the digests of the images and of the parameters.
    "backbone.weights",
)

_MOST_TOLD = 5
"""So many differences are told in a message."""


def resume(
    folder: str | Path,
    changes: Mapping[str, Any] | None = None,
    *,
    plugins: Sequence[object] = (),
    reporter: Reporter | None = None,
    observers: Sequence[Observer] = (),
) -> RunReport:
    """Go on with a run that was interrupted or killed, in its own folder.

    It ends as it would have without the interruption, to the bit: parameters, metrics but for their
    times, best checkpoint and pictures. A run that was killed before its first state begins anew. A
    run that is complete is left as it is.

    Args:
        folder: the run folder.
        changes: settings that differ from the run's ``config.toml``, with its structure. Number of
            epochs, device, places of images and weights, workers and callbacks may change.
        plugins: plugin objects or classes that were given to ``run``.
        reporter: receives lines and progress; by default the console.
        observers: notified of every hook call.

    Returns:
        How the run ended.

    Raises:
        UsageError: there is no run, another process uses it, it has no state, or data, weights or
            configuration are not those of the run. Nothing was changed.
        MsftError: as for ``run``.
        KeyboardInterrupt: as for ``run``.
    """
    interrupts, reporter = Interrupts(), reporter or console_reporter()
    with interrupts.caught(), ExitStack() as always:
        before = _open(Path(folder))
        if ranks_of().rank == 0:
            lock = always.enter_context(lock_run_folder(before.folder))
            if lock.warning:
                reporter.warning(lock.warning)
        # Again, since another process may have gone on with the run meanwhile.
        before = _open(Path(folder))
        changes = before.with_lists(configuration.merge(changes or {}))
        if before.is_complete(changes):
            reporter.info(before.completion())
            return before.report()
        before.require_same_components(changes)
        config = configuration.merge(before.config, changes)
        return run_steps(config, plugins, None, reporter, observers, interrupts, before)


@dataclass(frozen=True)
class Before:
    """A run as its folder has it.

    Args:
        folder: the run folder, absolute.
        config: the content of ``config.toml``.
        facts: the content of ``environment.json``.
        states: the folder ``state/``.
        saved: the last state; None where the run was killed before its first one.
    """

    folder: Path
    config: Mapping[str, Any]
    facts: Mapping[str, Any]
    states: StateFolder
    saved: SavedState | None

    @property
    def epochs(self) -> int:
        """The number of epochs that the run was begun with."""
        epochs = configuration.section_of(self.config, "training").get("epochs", 0)
        return epochs if isinstance(epochs, int) else 0

    @property
    def _device(self) -> Any:
        return configuration.section_of(self.config, "runtime").get("device")

    def is_complete(self, changes: Mapping[str, Any]) -> bool:
        """Whether nothing is left to do."""
        # Its status alone does not tell: it is written before the pictures are drawn.
        ended = self.facts.get("complete") is True
        wanted = configuration.section_of(changes, "training").get("epochs", self.epochs)
        return ended and not (isinstance(wanted, int) and wanted > self.epochs)

    @cached_property
    def _record(self) -> RunRecord:
        return read_record(self.folder)

    def completion(self) -> str:
        """That the run is complete, in a line."""
        record = self._record
        best = record.best
        found = f", best {best.metric} {best.value:.6f} in epoch {best.epoch}" if best else ""
        reason = self.facts.get("reason")
        stopped = f" It was stopped: {reason}." if reason else ""
        return (
            f"Run {self.folder} is complete: {record.trained} epochs{found}.{stopped} "
            f"--epochs N, with N above {self.epochs}, trains longer."
        )

    def report(self) -> RunReport:
        """How the run ended."""
        record = self._record
        stopped = self.facts.get("status") == "stopped"
        return RunReport(
            "stopped" if stopped else "completed",
            self.folder,
            record.best,
            record.history,
            str(self.facts.get("reason") or ""),
        )

    def first_line(self, epochs: int) -> str:
        """Where the run goes on, in a line."""
        if self.saved is None:
            return f"Run {self.folder} has no state yet: it begins anew."
        saved = self.saved
        where = f"epoch {saved.epoch + 1} of {epochs}, step {saved.part.steps + 1} of the epoch"
        if saved.phase == "trained":
            where = f"epoch {saved.epoch} of {epochs}, evaluation"
        elif saved.phase == "end" and (saved.epoch >= epochs or saved.stop_reason):
            where = f"the end, after epoch {saved.epoch} of {epochs}"
        return f"Resuming {self.folder}: {where} ({saved.step} steps are done)"

    def with_lists(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The changes, with ``plugins`` and ``without`` of the run before those that are given."""
        lists = (configuration.plugin_lists(self.config), configuration.plugin_lists(changes))
        joined = (list(dict.fromkeys(old + new)) for old, new in zip(*lists, strict=True))
        return {**changes, **dict(zip(("plugins", "without"), joined, strict=True))}

    # What must be the same

    def require_same_components(self, changes: Mapping[str, Any]) -> None:
        """Refuse another dataset, backbone or strategy: its settings would not fit.

        Raises:
            UsageError: there is one.
        """
        for kind in CHOSEN_KINDS:
            old, new = (
                configuration.section_of(one, kind).get("name") for one in (self.config, changes)
            )
            if new is not None and new != old:
                raise self._differs([f"{kind}.name = {_short(old)}, not {_short(new)}"])

    def _differs(self, told: Sequence[str]) -> UsageError:
        more = f" and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
        return UsageError(
            f"{self.folder} was begun with {'; '.join(told[:_MOST_TOLD])}{more}: leave that out, "
            "or begin a new run."
        )

    def require_same_config(
        self, config: RunConfig, asked: Mapping[str, Any], reporter: Reporter
    ) -> None:
        """Compare the configuration with that of the run.

        Args:
            config: the resolved configuration.
            asked: the same before defaults were filled in.
            reporter: receives warnings.

        Raises:
            UsageError: a setting is another one that decides the result.
        """
        # Not from config.toml, which somebody may have edited, where there is a state.
        old = configuration.flat(self.saved.config if self.saved else self.config)
        new = configuration.flat(config.to_mapping())
        differing = [
            key for key in sorted(old.keys() & new.keys()) if old[key] != new[key]
        ] + sorted(old.keys() - new.keys())
        # A default that a newer version or another plugin has in addition is no difference.
        differing += sorted((new.keys() & configuration.flat(asked).keys()) - old.keys())
        wrong = [key for key in differing if not _may_change(key)]
        if wrong:
            told = [
                f"{key[:80]} = {_short(old.get(key))}, not {_short(new.get(key))}" for key in wrong
            ]
            raise self._differs(told)
        if "runtime.device" in differing:
            reporter.warning(
                f"the run goes on on another device ({new['runtime.device']}): its numbers will "
                "not be to the bit those of a run that was never interrupted."
            )
        if "runtime.processes" in differing:
            reporter.info(
                f"The run goes on with runtime.processes = {new['runtime.processes']}, not "
                f"{old['runtime.processes']}: its numbers are the same to five digits, and "
                "where batch norm trains about the same."
            )
        if self.saved and config.training.epochs < self.saved.selected:
            raise UsageError(
                f"training.epochs = {config.training.epochs}: the run is in epoch "
                f"{self.saved.selected} already; give at least that."
            )

    def require_same_start(self, data: Mapping[str, str], weights: str) -> None:
        """Compare images and weights with those that the run began with.

        Args:
            data: ``runs.saving.data_digests``.
            weights: digest of the network before its first step.

        Raises:
            UsageError: they are others.
        """
        if self.saved is None:
            return
        names = {"classes": "class names", "train": "training images", "val": "validation images"}
        for key, new in data.items():
            old = self.saved.data.get(key, "none")
            if new != old:
                counts = old.partition(",")[0], new.partition(",")[0]
                how = f"{counts[1]}, not {counts[0]}" if len(set(counts)) > 1 else "others"
                raise UsageError(
                    f"the {names.get(key, key)} are not those that {self.folder} was begun with "
                    f"({how}): put them back, or begin a new run."
                )
        if weights != self.saved.weights:
            raise UsageError(
                f"the weights are not those that {self.folder} was begun with: give the same "
                "--weights, or begin a new run."
            )

    def fed(self, config: RunConfig) -> Fed | None:
        """How frozen stages were fed; None where they may be fed in another way."""
        if self.saved is None or config.runtime.device != self._device:
            return None  # another device has other engines, and the user was told
        feed = self.saved.feed
        if feed.views > config.training.views:  # fewer are stored where the cache is small
            raise self._differs([f"{feed.views} stored views, not {config.training.views}"])
        # Other epochs need other numbers of features, by which an extractor is chosen.
        by_mindspore = feed.engine == "MindSpore" and config.training.epochs != self.epochs
        return replace(feed, asks=False) if by_mindspore else feed

    # Going on

    def restore(
        self, state: TrainState, splits: DatasetSplits, epochs: int, steps: int
    ) -> Restored:
        """Put the saved state into a new train state, to train so many epochs of so many steps.

        Returns: what else there is in the state.

        Raises:
            UsageError: the state is not one of this run.
        """
        saved = self.saved
        assert saved is not None
        if saved.step != saved.epoch * steps + saved.part.steps or saved.part.steps > steps:
            raise UsageError(
                f"the state of {self.folder} is damaged: {saved.epoch} epochs and "
                f"{saved.part.steps} steps of {steps} are not {saved.step} steps; begin a new run."
            )
        from msft_core.runs.saving import restore_network, restored, restored_best

        arrays = self.states.read_arrays(saved)
        restore_network(saved, arrays.get("network", {}), state)
        state.best = restored_best(saved, self.folder)
        if epochs > self.epochs:
            state.stop_reason = ""  # somebody wants more
        return restored(saved, arrays, splits)

    def about(self, environment: Mapping[str, Any]) -> dict[str, Any]:
        """What ``environment.json`` says of a run that goes on.

        Args:
            environment: what it would say of a new run.
        """
        if self.saved is None:
            return dict(environment)
        earlier = self.facts.get("resumed")
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        this = {"at": now, "epoch": self.saved.epoch, "step": self.saved.step}
        resumed = [*earlier, this] if isinstance(earlier, list) else [this]
        started = self.facts.get("started", environment["started"])
        return {**environment, "started": started, "resumed": resumed}

    def warn_of_plugins(self, plugins: Plugins, without: Sequence[str], reporter: Reporter) -> None:
        """Warn where a plugin that took part in the run is not here, or is of another version."""
        old = self.facts.get("plugins")
        if not self.saved or not isinstance(old, Mapping):
            return
        here = {info.name: f"{info.origin}, {info.status}" for info in plugins.infos}
        used = {name: told for name, told in old.items() if str(told).endswith(", ok")}
        gone = [name for name in used if name not in here and name not in without]
        if gone:
            reporter.warning(
                f"{', '.join(map(repr, gone))} took part in the run so far and is not here now: "
                "the run goes on without it."
            )
        for name, told in used.items():
            if name in here and here[name] != told:
                reporter.warning(f"plugin {name!r} was {told} so far, and is {here[name]} now.")

    def warn_of_versions(self, now: Mapping[str, str], reporter: Reporter) -> None:
        """Warn where other versions may compute other bits."""
        old = self.facts.get("versions")
        changed = [
            f"{name} {old[name]} (now {version})"
            for name, version in now.items()
            if isinstance(old, Mapping) and name in old and old[name] != version
        ]
        if self.saved and changed:
            reporter.warning(
                f"the run was begun with {', '.join(changed)}: its numbers may not be to the bit "
                "those of a run that was never interrupted."
            )


def _open(path: Path) -> Before:
    path = path.expanduser()
    if not path.is_dir():
        raise UsageError(f"--resume {path}: there is no such run folder.")
    folder = path.resolve()
    if not is_run_folder(folder):
        inside = [str(path / one.name) for one in sorted(folder.iterdir()) if is_run_folder(one)]
        hint = f": it holds runs, resume one of {' '.join(inside[:4])}" if inside else ""
        raise UsageError(f"--resume {path}: this is no run folder{hint}.")
    states = StateFolder(folder)
    saved = states.read() if states.exists() else None
    if saved is None:
        # Not last.ckpt: a run that is interrupted in its very first step has one.
        left = [n for n in ("best.ckpt", "metrics.jsonl") if (folder / n).exists()]
        if left:
            raise UsageError(
                f"--resume {path}: it has {left[0]}, but no {FOLDER}/ to go on from: an msft "
                "before 0.4 wrote it, or the folder was removed. Begin a new run."
            )
    config = configuration.read_toml(folder / "config.toml")
    return Before(folder, config, read_facts(folder), states, saved)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _may_change(key: str) -> bool:
    section = key.partition(".")[0]
    # The settings of a dataset decide which images there are, and those are compared.
    of_dataset = section == "dataset" and key != "dataset.name"
    return section in _MAY_CHANGE or key in _MAY_CHANGE_KEYS or of_dataset

"""Several runs one after the other, and their comparison."""

from __future__ import annotations

import gc
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msft_core import config as configuration
from msft_core.config import RunConfig
from msft_core.engine.compare import compare, write_page
from msft_core.engine.run import read_config, run_steps
from msft_core.errors import MsftError, UsageError
from msft_core.plugins.loading import load_plugins
from msft_core.runs.comparison import Comparison
from msft_core.runs.folder import default_folder, group_folder
from msft_core.system.console import console_reporter
from msft_core.system.group import PeerDied
from msft_core.system.interrupts import Interrupts
from msft_core.system.ranks import ranks_of
from msft_core.types import Backbone, Observer, Reporter, RunReport

PAGE = "compare.html"
"""The page about all runs, in the folder that holds their run folders."""


@dataclass(frozen=True)
class EachReport:
    """How several runs ended. ``msft_core.run_each`` returns it.

    Args:
        folder: holds a run folder for each name, and ``compare.html``.
        reports: of the runs that ended well, by name.
        failures: errors of the other runs, by name.
        comparison: of the runs that ended well; None if there are fewer than two, or if they
            cannot be compared.
        page: the page about the comparison; None if there is none.
    """

    folder: Path
    reports: Mapping[str, RunReport]
    failures: Mapping[str, MsftError]
    comparison: Comparison | None
    page: Path | None


def run_each(
    configs: Mapping[str, Mapping[str, Any] | RunConfig | str | Path],
    *,
    plugins: Sequence[object] = (),
    out: str | Path | None = None,
    reporter: Reporter | None = None,
    observers: Sequence[Observer] = (),
) -> EachReport:
    """Train a classifier with each configuration, one after the other, and compare the runs.

    Every configuration is checked before the first run begins. If a run fails, the others are
    done all the same.

    Args:
        configs: configurations by the name of their run folder, such as ``{"freeze": {...},
            "finetune": {...}}``; each as ``run`` takes it.
        plugins: as for ``run``, of all runs.
        out: the folder that will hold the run folders; by default a new one under ``runs/``.
        reporter: receives lines and progress; by default the console.
        observers: notified of every hook call.

    Returns:
        How the runs ended.

    Raises:
        MsftError: nothing was trained: a configuration is wrong, or the first run was refused.
        KeyboardInterrupt: on Ctrl-C, which ends everything. Its arguments are the ``RunReport`` of
            each run that had begun; the interrupted one, if there is one, is the first.
    """
    reporter = reporter or console_reporter()
    resolved = _resolved(configs, plugins, observers)
    interrupts = Interrupts()
    default = default_folder(next(iter(resolved.values())).dataset.name, "-".join(resolved))
    leads = ranks_of().rank == 0
    with (
        interrupts.caught(),
        # Of several processes rank 0 alone writes.
        group_folder(Path(out) if out else default, numbered=not out)
        if leads
        else nullcontext(Path()) as folder,
    ):
        reports: dict[str, RunReport] = {}
        failures: dict[str, MsftError] = {}
        begun: list[str] = []
        with _told_of(reports, resolved, begun, reporter):
            for number, (name, config) in enumerate(resolved.items(), 1):
                begun.append(name)
                reporter.info(f"Run {number} of {len(resolved)}: {name}")
                check = _strategies_fit(resolved, plugins) if number == 1 else None
                try:
                    reports[name] = run_steps(
                        config,
                        plugins,
                        folder / name,
                        reporter,
                        observers,
                        interrupts,
                        check_backbone=check,
                    )
                except PeerDied:
                    raise  # there are not enough processes for the next one
                except MsftError as error:
                    if error.report is None and number == 1:
                        raise
                    failures[name] = _noted(name, error, reporter)
                # The network of a run refers to itself in circles, and the next one needs the room.
                gc.collect()
                interrupts.resume()
            comparison, page = _compared(folder, reports, reporter) if leads else (None, None)
    return EachReport(folder, reports, failures, comparison, page)


def _resolved(
    configs: Mapping[str, Mapping[str, Any] | RunConfig | str | Path],
    plugins: Sequence[object],
    observers: Sequence[Observer],
) -> dict[str, RunConfig]:
    """Check all configurations, so that a mistake in the last one costs no training.

    Raises:
        UsageError: with a line for each mistake in any of them.
    """
    if not configs:
        raise UsageError("run_each: there is no configuration.")
    resolved, problems = {}, []
    for name, config in configs.items():
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise UsageError(f"run_each: {name!r} cannot be the name of a run folder.")
        raw = read_config(config)
        modules, without = configuration.plugin_lists(raw)
        loaded = load_plugins(
            modules=modules, without=without, objects=plugins, observers=observers
        )
        with loaded.named_by_package():
            try:
                resolved[name] = configuration.resolve(raw, loaded)
            except UsageError as error:
                problems += str(error).splitlines()
    if problems:
        raise UsageError("\n".join(dict.fromkeys(problems)))
    return resolved


def _strategies_fit(
    configs: Mapping[str, RunConfig], plugins: Sequence[object]
) -> Callable[[Backbone], None]:
    """Make a function that asks all strategies which parameters of a backbone train in epoch 1.

    So an unknown stage in the settings of the last strategy costs no training. Only the runs with
    the backbone of the first one are asked.
    """
    of_first = next(iter(configs.values())).backbone

    def check(backbone: Backbone) -> None:
        for config in list(configs.values())[1:]:
            if config.backbone != of_first:
                continue
            modules, without = configuration.plugin_lists(config.to_mapping())
            loaded = load_plugins(modules=modules, without=without, objects=plugins)
            strategy = config.strategy
            with loaded.named_by_package():
                loaded.ask(
                    "select_trainable",
                    "strategy",
                    strategy.name,
                    settings=strategy.settings,
                    backbone=backbone,
                    epoch=1,
                )

    return check


@contextmanager
def _told_of(
    reports: Mapping[str, RunReport],
    names: Iterable[str],
    begun: Sequence[str],
    reporter: Reporter,
) -> Iterator[None]:
    """Add the runs that had ended to an interrupt, so that the user is told what is kept.

    Also say which runs have not begun.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if later := [name for name in names if name not in begun]:
            reporter.warning(f"interrupted before the runs of: {', '.join(later)}.")
        raise KeyboardInterrupt(*interrupt.args, *reports.values()) from None


def _noted(name: str, error: MsftError, reporter: Reporter) -> MsftError:
    """Report a failure at once: the other runs may take hours."""
    if getattr(reporter, "verbose", False):
        reporter.warning("".join(traceback.format_exception(error)).rstrip())
    reporter.warning(f"the run {name} failed: {error}")
    # The traceback holds the failed run's network.
    return error.with_traceback(None)


def _compared(
    folder: Path, reports: Mapping[str, RunReport], reporter: Reporter
) -> tuple[Comparison | None, Path | None]:
    if len(reports) < 2:
        return None, None
    comparison = None
    try:
        comparison = compare([report.folder for report in reports.values()])
        return comparison, write_page(comparison, folder / PAGE)
    except MsftError as error:
        what = "the runs are not compared" if comparison is None else f"{PAGE} was not written"
        reporter.warning(f"{what}: {error}")
        return comparison, None

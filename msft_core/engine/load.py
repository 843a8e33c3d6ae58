"""Open a finished run: ``msft_core.load``, and what every command that opens one does first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msft_core.plugins.loading import load_plugins
from msft_core.runs import opening
from msft_core.runs.finished import FinishedRun
from msft_core.system.console import console_reporter
from msft_core.types import Pages, Reporter, Run

if TYPE_CHECKING:
    from msft_core.runs.classifier import Classifier


def load(
    run: str | Path,
    *,
    plugins: Sequence[object] = (),
    device: str = "auto",
    reporter: Reporter | None = None,
) -> Classifier:
    """Open a trained classifier.

    Args:
        run: a run folder, or a checkpoint that msft wrote, wherever it is.
        plugins: plugin objects, classes or modules that the run used and that are not installed.
        device: cpu, gpu, ascend or auto.
        reporter: for lines, warnings and progress; by default warnings on standard error.

    Returns:
        The classifier, with the values of ``best.ckpt`` where a folder is given.

    Raises:
        MsftError: one line for the user: the path leads to no run, the checkpoint is damaged, a
            plugin is missing (the message names the package), the device cannot be used.
    """
    quiet = reporter or console_reporter(quiet=True)
    return open_run(run, objects=plugins, device=device, reporter=quiet).classifier


def open_run(
    run: str | Path,
    *,
    modules: Sequence[str] = (),
    without: Sequence[str] = (),
    objects: Sequence[object] = (),
    device: str = "auto",
    reporter: Reporter,
) -> FinishedRun:
    """Open a finished run. Raises MsftError where the path leads to none.

    Args:
        run: a run folder or a checkpoint.
        modules: as with ``--plugin``.
        without: as with ``--without``.
        objects: plugin objects or classes.
        device: cpu, gpu, ascend or auto.
        reporter: for lines, warnings and progress.
    """
    found = opening.find(Path(run))
    loaded = load_plugins(modules=modules, without=without, objects=objects)
    if Path(run).expanduser().is_dir() and found.checkpoint.name == "last.ckpt":
        reporter.warning(f"{run} has no best checkpoint: msft uses last.ckpt.")
    return FinishedRun(found, loaded, device=device, reporter=reporter, pages=_pages)


def _pages(run: Run) -> Pages:
    from msft_core.pages import RunPages

    return RunPages(run)

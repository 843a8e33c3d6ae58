"""The callback ``figures``: draws training images, curves, predictions and the confusion matrix.

It draws ``train_batch.png`` before the first epoch, and ``curves.png``, ``predictions.png`` and
``confusion_matrix.png`` after the last. A figure that cannot be drawn is a warning and never ends
a run.

The drawing itself is in the core (``Run.pages``), which draws the same for the report.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field

from msft_core import Component, Run, RunReport, Settings, hookimpl


class FigureSettings(Settings):
    """``callback.figures.*``."""

    enabled: bool = Field(True, description="draw the figures")
    train_images: int = Field(24, ge=1, le=100, description="images in train_batch.png")
    predictions: int = Field(24, ge=1, le=100, description="images in predictions.png")
    dpi: int = Field(110, ge=50, le=300, description="resolution in pixels per inch")


@hookimpl
def list_components() -> Iterable[Component]:
    """Offer the callback ``figures``."""
    return [
        Component(
            "callback",
            "figures",
            "draws training images, predictions, curves and the confusion matrix",
            FigureSettings,
        )
    ]


@hookimpl
def on_run_start(run: Run) -> None:
    """Draw ``train_batch.png``, so that the user can look at it while the network trains."""
    settings: FigureSettings = run.settings("callback", "figures")
    with _warning_instead_of_error(run, "train_batch.png") as path:
        run.pages.train_batch(path, images=settings.train_images, dpi=settings.dpi)


@hookimpl
def on_run_end(run: Run, report: RunReport, error: BaseException | None) -> None:
    """Draw the curves of the finished epochs and the network's predictions.

    After an error or Ctrl-C, predictions are drawn only if there is a best checkpoint, which the
    network holds by then. Other weights may be the cause of the error.
    """
    if not report.history:
        return
    settings: FigureSettings = run.settings("callback", "figures")
    with _warning_instead_of_error(run, "curves.png") as path:
        run.pages.curves(path, dpi=settings.dpi)
    if error is not None and report.best is None:
        return
    with _warning_instead_of_error(run, "predictions.png") as path:
        run.pages.predictions(path, images=settings.predictions, dpi=settings.dpi)
    with _warning_instead_of_error(run, "confusion_matrix.png") as path:
        run.pages.confusion_matrix(path, dpi=settings.dpi)


@contextmanager
def _warning_instead_of_error(run: Run, name: str) -> Iterator[Path]:
    try:
        yield run.folder / name
    except Exception as error:
        run.reporter.warning(f"figures: {name} was not drawn: {type(error).__name__}: {error}")

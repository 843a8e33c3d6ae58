"""The callback ``figures``: draws training images, curves, predictions and the confusion matrix.

It draws ``train_batch.png`` before the first epoch, and ``curves.png``, ``predictions.png`` and
``confusion_matrix.png`` after the last. A figure that cannot be drawn is a warning and never ends
a run.

matplotlib is imported when a figure is drawn, not by this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

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
    with _warning_instead_of_error(run, "train_batch.png"):
        from msft_plugins.figures import drawing, style

        if style.lacks_font(run.splits.classes):
            run.reporter.info(
                "figures: no installed font has some characters of the class names, so the figures "
                "show boxes instead; install a font such as fonts-noto-cjk"
            )
        images = run.images("train", settings.train_images)
        total = len(run.splits.train.ids)
        figure = drawing.draw_training_images(images, run.splits.classes, total)
        style.save(figure, run.folder / "train_batch.png", settings.dpi)


@hookimpl
def on_run_end(run: Run, report: RunReport, error: BaseException | None) -> None:
    """Draw the curves of the finished epochs and the network's predictions.

    After an error or Ctrl-C, predictions are drawn only if there is a best checkpoint, which the
    network holds by then. Other weights may be the cause of the error.
    """
    if not report.history:
        return
    settings: FigureSettings = run.settings("callback", "figures")
    best = report.best
    with _warning_instead_of_error(run, "curves.png"):
        from msft_plugins.figures import drawing, style

        figure = drawing.draw_curves(report.history, best)
        style.save(figure, run.folder / "curves.png", settings.dpi)

    if error is not None and best is None:
        return
    last = report.history[-1].epoch
    source = f"best checkpoint, epoch {best.epoch} of {last}" if best else f"as of epoch {last}"
    with _warning_instead_of_error(run, "predictions.png"):
        from msft_plugins.figures import drawing, style

        predictions = run.predictions("val")
        order = drawing.most_telling(predictions)[: settings.predictions]
        images = run.read_images("val", [predictions.ids[index] for index in order])
        figure = drawing.draw_predictions(images, predictions, order, source)
        style.save(figure, run.folder / "predictions.png", settings.dpi)
    with _warning_instead_of_error(run, "confusion_matrix.png"):
        from msft_plugins.figures import drawing, style

        figure = drawing.draw_confusion_matrix(run.predictions("val"), source)
        style.save(figure, run.folder / "confusion_matrix.png", settings.dpi)


@contextmanager
def _warning_instead_of_error(run: Run, name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        run.reporter.warning(f"figures: {name} was not drawn: {type(error).__name__}: {error}")

"""Pictures and pages of a run, live or finished: ``msft_core.types.Pages``.

matplotlib and jinja2 are imported when something is drawn, not by this module.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from msft_core.types import Pages, Run


class RunPages:
    """Implements ``Pages``, whose docstrings say what each method does.

    Args:
        run: whose pictures are drawn.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def train_batch(self, path: Path, *, images: int = 24, dpi: int = 110) -> Path:
        """See ``Pages``."""
        from msft_core.pages import drawing, style

        run = self._run
        if style.lacks_font(run.splits.classes):
            run.reporter.info(
                "figures: no installed font has some characters of the class names, so the figures "
                "show boxes instead; install a font such as fonts-noto-cjk"
            )
        total = len(run.splits.train.ids)
        batch = run.images("train", images)
        return style.save(drawing.draw_training_images(batch, run.splits.classes, total), path, dpi)

    def curves(self, path: Path, *, dpi: int = 110) -> Path:
        """See ``Pages``."""
        from msft_core.pages import drawing, style

        return style.save(drawing.draw_curves(self._run.history, self._run.best), path, dpi)

    def predictions(self, path: Path, *, images: int = 24, dpi: int = 110) -> Path:
        """See ``Pages``."""
        from msft_core.pages import drawing, style

        predictions = self._run.predictions("val")
        order = drawing.most_telling(predictions)[:images]
        shown = self._run.read_images("val", [predictions.ids[index] for index in order])
        figure = drawing.draw_predictions(shown, predictions, order, self._source())
        return style.save(figure, path, dpi)

    def confusion_matrix(self, path: Path, *, dpi: int = 110) -> Path:
        """See ``Pages``."""
        from msft_core.pages import drawing, style

        figure = drawing.draw_confusion_matrix(self._run.predictions("val"), self._source())
        return style.save(figure, path, dpi)

    def report(self, path: Path) -> Path:
        """See ``Pages``."""
        from msft_core.pages.report import write_report

        return write_report(self._run, path)

    def _source(self) -> str:
        """Which weights predicted."""
        best, last = self._run.best, self._run.history[-1].epoch
        return f"best checkpoint, epoch {best.epoch} of {last}" if best else f"as of epoch {last}"


if TYPE_CHECKING:

    def _are_pages(pages: RunPages) -> Pages:
        return pages

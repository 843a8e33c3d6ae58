"""Measure a finished run on images: its own validation images, or others.

Whatever is evaluated, images that the classifier was trained on are named as such.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msft_core import config as configuration
from msft_core.engine.images_of import (
    Images,
    choose,
    contents_changed,
    find_trained_on,
    warnings_about,
)
from msft_core.engine.load import open_run
from msft_core.errors import DataError, UsageError
from msft_core.folders import SPLITS
from msft_core.runs.predictions_file import write_predictions
from msft_core.system.console import console_reporter
from msft_core.system.interrupts import Interrupts
from msft_core.types import Kind, Reporter

if TYPE_CHECKING:
    from msft_core.data.checking import SkippedImage
    from msft_core.runs.finished import FinishedRun
    from msft_core.runs.intervals import Estimate
    from msft_core.runs.measures import Measures
    from msft_core.types import Predictions


@dataclass(frozen=True)
class Evaluation:
    """What ``evaluate`` found.

    Args:
        checkpoint: the file whose network was evaluated.
        split: train, val or test.
        description: which images were evaluated.
        measures: every figure, with the predictions.
        figures: msft's own figures with their intervals, by name.
        metrics: the figures of the metric plugins, by name, without those that are equal to one
            of ``figures``.
        skipped: images that cannot be decoded, which were left out.
        trained_on: ids of evaluated images with the bytes of a training image; None if that is not
            known.
        notes: lines about the images.
        warnings: lines about what makes the figures look better than they are.
    """

    checkpoint: Path
    split: str
    description: str
    measures: Measures
    figures: Mapping[str, Estimate]
    metrics: Mapping[str, Estimate]
    skipped: tuple[SkippedImage, ...]
    trained_on: tuple[str, ...] | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_mapping(self) -> dict[str, Any]:
        """Everything but the probabilities, as JSON has it."""
        measures = self.measures
        predictions, classes = measures.predictions, measures.predictions.classes
        predicted = predictions.predicted
        return {
            "checkpoint": str(self.checkpoint),
            "split": self.split,
            "data": self.description,
            "images": len(predictions.ids),
            "classes": list(classes),
            "figures": {name: _plain(one) for name, one in self.figures.items()},
            "metrics": {name: _plain(one) for name, one in self.metrics.items()},
            "per_class": [_plain(one) for one in measures.per_class],
            "confusion_matrix": measures.confusion.tolist(),
            "calibration": [_plain(one) for one in measures.calibration],
            "mistakes": [
                {
                    "file": predictions.ids[index],
                    "class": classes[predictions.labels[index]],
                    "predicted": classes[predicted[index]],
                    "probability": float(predictions.probabilities[index, predicted[index]]),
                }
                for index in measures.mistakes.tolist()
            ],
            "skipped": [{"file": one.id, "reason": one.reason} for one in self.skipped],
            "trained_on": None if self.trained_on is None else list(self.trained_on),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }

    def write_csv(self, path: Path) -> Path:
        """Write the predictions as ``predictions.csv`` has them. Raises OutputError."""
        return write_predictions(path, self.measures.predictions)


def _plain(record: Any) -> dict[str, Any]:
    return dict(vars(record))


def evaluate(
    run: str | Path,
    *,
    split: str = "val",
    data_dir: str | Path | None = None,
    dataset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    modules: Sequence[str] = (),
    without: Sequence[str] = (),
    objects: Sequence[object] = (),
    device: str = "auto",
    reporter: Reporter | None = None,
) -> Evaluation:
    """Measure a finished run on a split of its own dataset, or on other images.

    Args:
        run: a run folder, of which the best checkpoint is taken, or a checkpoint.
        split: train, val or test. Only folders have a test split.
        data_dir: a folder with the split's folder, or with class folders alone, of which all
            images are taken. The folder that the run was trained on is split as the run did it.
        dataset: another dataset component. With the name of the run's own, its settings are the
            run's where ``settings`` does not change them.
        settings: settings of ``dataset``.
        modules: as with ``--plugin``.
        without: as with ``--without``.
        objects: plugin objects or classes.
        device: cpu, gpu, ascend or auto.
        reporter: names the images that are left out, and shows progress; by default the
            console.

    Raises:
        MsftError: there is no such run, split or folder; the images have a class that the run does
            not know; no image decodes; the network's outputs are not finite.
    """
    interrupts = Interrupts()
    with interrupts.caught():
        # In a function of its own, so that its Cells are gone before the handlers are.
        opened = open_run(
            run,
            modules=modules,
            without=without,
            objects=objects,
            device=device,
            reporter=reporter or console_reporter(),
        )
        with opened.plugins.named_by_package():
            return _evaluate(opened, split, data_dir, dataset, settings or {}, interrupts)


def _evaluate(
    run: FinishedRun,
    split: str,
    data_dir: str | Path | None,
    dataset: str | None,
    settings: Mapping[str, Any],
    interrupts: Interrupts,
) -> Evaluation:
    if split not in SPLITS:
        raise UsageError(f"there is no split {split!r}: use {', '.join(SPLITS)}.")
    if settings and dataset is None:
        raise UsageError("settings are those of another dataset: name it with --dataset NAME.")
    images = choose(run, split, data_dir, dataset, settings)
    for image in images.skipped[:_NAMED]:
        run.reporter.warning(f"left out: {image.id}: {image.reason}")
    if len(images.skipped) > _NAMED:
        run.reporter.warning(f"left out: {len(images.skipped) - _NAMED} more images")
    if not images.table.ids:
        raise DataError(
            f"none of the {len(images.skipped)} images of {images.description} decodes."
        )
    trained_on, unknown = find_trained_on(run, split, images)
    warnings = warnings_about(run, split, images, trained_on)
    notes = images.notes
    if unknown:
        notes += (unknown,)

    classifier = run.classifier
    interrupts.install()  # MindSpore may have replaced the handlers
    total = len(images.table.ids)
    progress = run.reporter.progress(f"evaluating {split}", total, "images")
    with interrupts.held(), progress as advance:

        def after_image(count: int) -> None:
            advance(count)
            interrupts.check()

        predictions = classifier.predict_table(images.table, after_image)
    if images.own and split == "val":
        warnings += contents_changed(run, predictions)
    return _measured(run, split, images, predictions, trained_on, notes, tuple(warnings))


_NAMED = 20
"""Images that are left out and named; the others are counted."""


def _measured(
    run: FinishedRun,
    split: str,
    images: Images,
    predictions: Predictions,
    trained_on: tuple[str, ...] | None,
    notes: tuple[str, ...],
    warnings: tuple[str, ...],
) -> Evaluation:
    from msft_core.runs.figures import figures_of
    from msft_core.runs.intervals import RESAMPLES_OF_FUNCTIONS, estimates, intervals
    from msft_core.runs.measures import measure

    measures, own = measure(predictions), intervals(predictions)
    if note := _of_certainty(measures):
        notes += (note,)
    enabled = _enabled(run)
    hook = "compute_metrics"
    with run.reporter.progress("intervals", RESAMPLES_OF_FUNCTIONS + 1, "resamples") as advance:

        def of_plugins(resample: Predictions) -> dict[str, float]:
            advance(1)
            found = figures_of(resample, 0.0, run.plugins, enabled)
            return {name: value for name, value in found.items() if name != "loss"}

        there = run.plugins.names_with(hook, enabled)
        metrics = estimates(predictions, of_plugins) if there else {}
    return Evaluation(
        checkpoint=run.checkpoint,
        split=split,
        description=images.description,
        measures=measures,
        figures=own,
        metrics={
            name: one
            for name, one in metrics.items()
            if not (name in own and _same(own[name].value, one.value))
        },
        skipped=images.skipped,
        trained_on=trained_on,
        notes=notes,
        warnings=warnings,
    )


def _of_certainty(measures: Measures) -> str:
    """What the bootstrap cannot say: without mistakes, or hits, every resample is alike."""
    if len(measures.mistakes) and len(measures.hits):
        return ""
    return (
        f"{'every' if len(measures.hits) else 'no'} image is classified correctly, so all "
        "resamples are alike: the interval of the accuracy is Clopper and Pearson's exact one"
    )


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) < 1e-6


def _enabled(run: FinishedRun) -> Callable[[Kind, str], bool]:
    """Which metrics take part: those of the run; of a checkpoint alone, those on by default."""
    if run.is_whole:
        return run.config.enabled

    def enabled(kind: Kind, name: str) -> bool:
        component = run.plugins.component(kind, name)
        try:
            values: Any = configuration.component_settings(component, {})
        except UsageError:  # a setting must be given
            return False
        return bool(getattr(values, "enabled", True))

    return enabled

"""Measure a finished run on images: its own validation images, or others.

Whatever is evaluated, images that the classifier was trained on are named as such.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msft_core import config as configuration
from msft_core.engine.load import open_run
from msft_core.errors import DataError, MsftError, UsageError, first_line
from msft_core.folders import SPLITS, read_split
from msft_core.runs.predictions_file import NAME as PREDICTIONS
from msft_core.runs.predictions_file import read_predictions
from msft_core.system.cache_folder import cache_dir
from msft_core.system.console import console_reporter
from msft_core.system.interrupts import Interrupts
from msft_core.types import Context, ImageTable, Kind, Reporter

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


def _plain(record: Any) -> dict[str, Any]:
    return dict(vars(record))


@dataclass(frozen=True)
class _Images:
    """The images to evaluate, labelled with the classes of the run.

    Args:
        table: the images that decode.
        digests: of their content.
        skipped: the others.
        description: a name of the images.
        notes: lines for the user.
        own: whether they are images of the run's own dataset with its own settings.
    """

    table: ImageTable
    digests: tuple[str, ...]
    skipped: tuple[SkippedImage, ...]
    description: str
    notes: tuple[str, ...] = ()
    own: bool = False


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
        reporter: for lines, warnings and progress; by default the console.

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
    images = _choose(run, split, data_dir, dataset, settings)
    for note in images.notes:
        run.reporter.info(note)
    for image in images.skipped[:_NAMED]:
        run.reporter.warning(f"left out: {image.id}: {image.reason}")
    if len(images.skipped) > _NAMED:
        run.reporter.warning(f"left out: {len(images.skipped) - _NAMED} more images")
    if not images.table.ids:
        raise DataError(
            f"none of the {len(images.skipped)} images of {images.description} decodes."
        )
    trained_on, unknown = _trained_on(run, split, images)
    warnings = [*_warnings(run, split, images, trained_on)]
    for warning in warnings:
        run.reporter.warning(warning)
    notes = images.notes
    if unknown:
        run.reporter.info(unknown)
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
    return _measured(run, split, images, predictions, trained_on, notes, tuple(warnings))


_NAMED = 20
"""Images that are left out and named; the others are counted."""


def _measured(
    run: FinishedRun,
    split: str,
    images: _Images,
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
        run.reporter.info(note)
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
    from scipy.stats import binomtest

    if len(measures.mistakes) and len(measures.hits):
        return ""
    images, hits = len(measures.predictions.ids), len(measures.hits)
    exact = binomtest(hits, images).proportion_ci(0.95)  # Clopper and Pearson
    return (
        f"{'every' if hits else 'no'} image is classified correctly, so resampling gives an "
        f"interval without width; the exact binomial one for the accuracy is {exact.low:.4f} to "
        f"{exact.high:.4f}"
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


# Which images


def _choose(
    run: FinishedRun,
    split: str,
    data_dir: str | Path | None,
    dataset: str | None,
    settings: Mapping[str, Any],
) -> _Images:
    if dataset is not None:
        chosen = dict(settings) if data_dir is None else {**settings, "data_dir": str(data_dir)}
        return _of_dataset(run, split, dataset, chosen)
    own = _own_folder(run)
    if data_dir is not None:
        folder = Path(data_dir).expanduser()
        if own is None or not _is_same(folder, own):
            return _of_folder(run, folder, split, bare=True)
        return replace(
            _of_run(run, split, own),
            notes=(f"the run was trained on {folder}: evaluating its own {split} images",),
        )
    if not run.is_whole:
        raise UsageError(
            f"{run.checkpoint} is a checkpoint alone, which does not say where images are: give "
            "--data-dir DIR or --dataset NAME."
        )
    return _of_run(run, split, own)


def _own_folder(run: FinishedRun) -> Path | None:
    """The folder of the run's dataset, if it has one and it is known."""
    if not run.is_whole:
        return None
    folder = getattr(run.config.dataset.settings, "data_dir", None)
    return None if folder is None else Path(folder).expanduser()


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return one.resolve() == other.resolve()


def _of_run(run: FinishedRun, split: str, folder: Path | None) -> _Images:
    """Images of the run's own dataset."""
    from msft_core.data.checking import SkippedImage

    name = run.config.dataset.name
    if split == "test":
        if folder is None:
            raise UsageError(f"the dataset {name} has no test split: give --data-dir DIR.")
        return replace(_of_folder(run, folder, split, bare=False), own=True)
    found = run.checked
    skipped = tuple(
        SkippedImage(line["id"], line["path"], line["reason"])
        for line in found.skipped
        if line["split"] == split
    )
    return _Images(
        getattr(found.splits, split),
        found.digests[split],
        skipped,
        f"{split} of {found.splits.description or name}",
        own=True,
    )


def _of_folder(run: FinishedRun, folder: Path, split: str, *, bare: bool) -> _Images:
    table, notes = read_split(folder, split, run.info.classes, bare=bare)
    checked = _checked(run, table, "", f"images in {folder}")
    return replace(checked, notes=notes)


def _of_dataset(run: FinishedRun, split: str, name: str, settings: dict[str, Any]) -> _Images:
    """Images of a dataset component, with its classes mapped to those of the run by name."""
    if split == "test":
        raise UsageError("a dataset has no test split: give its folder with --data-dir alone.")
    component = run.plugins.component("dataset", name)
    if run.is_whole and run.config.dataset.name == name:
        of_run = run.config.to_mapping()["dataset"]
        settings = {key: value for key, value in of_run.items() if key != "name"} | settings
    owner = run.plugins.owner("dataset", name)
    seed = run.config.training.seed if run.is_whole else 0
    splits, plugin, _ = run.plugins.ask(
        "build_dataset",
        "dataset",
        name,
        settings=configuration.component_settings(component, settings, owner),
        context=Context(seed, cache_dir(), run.reporter),
    )
    table: ImageTable = getattr(splits, split)
    there = sorted({int(label) for label in table.labels})
    classes = run.info.classes
    unknown = [splits.classes[label] for label in there if splits.classes[label] not in classes]
    if unknown:
        raise DataError(
            f"the dataset {name} has the class {unknown[0]!r}, which the classifier does not know: "
            f"the dataset has {_listing(splits.classes)}; the classifier has {_listing(classes)}."
        )
    new = {label: classes.index(splits.classes[label]) for label in there}
    description = f"{split} of {splits.description or name}"
    checked = _checked(run, table, plugin, description, lambda label: new[label])
    lacking = [one for index, one in enumerate(classes) if index not in new.values()]
    notes = splits.notes
    if lacking:
        notes += (f"{description} has no image of {_listing(lacking)}",)
    return replace(checked, notes=notes)


def _listing(names: Sequence[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _checked(
    run: FinishedRun,
    table: ImageTable,
    plugin: str,
    description: str,
    label_of: Callable[[int], int] = int,
) -> _Images:
    """Leave out what does not decode."""
    from msft_core.data.checked import checked_table
    from msft_core.data.checking import check_images
    from msft_core.data.memory import CheckMemory
    from msft_core.system.device import cpu_count

    memory = CheckMemory(cache_dir() / "checked")
    found = check_images(
        table, plugin=plugin, workers=cpu_count(), reporter=run.reporter, memory=memory
    )
    memory.save(found.digests)
    kept = checked_table(table, found.kept, found.digests, plugin)
    kept = replace(kept, labels=tuple(label_of(label) for label in kept.labels))
    return _Images(kept, found.digests, found.skipped, description)


# Which of them the classifier knows already


def _trained_on(
    run: FinishedRun, split: str, images: _Images
) -> tuple[tuple[str, ...] | None, str]:
    """Ids of the images that are training images, if that is known; else the reason why not."""
    if split == "train" and images.own:
        return images.table.ids if isinstance(images.table.ids, tuple) else None, ""
    try:
        trained = set(run.checked.digests["train"])
    except MsftError as error:
        reason = str(error).splitlines()[0] if run.is_whole else "the run folder is not there"
        return None, f"whether the classifier was trained on these images is not known: {reason}"
    pairs = zip(images.table.ids, images.digests, strict=True)
    return tuple(name for name, digest in pairs if digest in trained), ""


def _warnings(
    run: FinishedRun, split: str, images: _Images, trained_on: tuple[str, ...] | None
) -> list[str]:
    lines = []
    total = len(images.table.ids)
    if split == "train" and images.own:
        lines.append(
            "these are the training images: the figures do not say how the classifier does on "
            "others."
        )
    elif trained_on:
        lines.append(
            f"{len(trained_on)} of the {total} images are training images of this run, the first "
            f"is {trained_on[0]}: the figures look better than they are."
        )
    if images.own and split == "val":
        lines += _changed(run, images.table.ids)
        if run.config.data.augment_validation:
            lines.append(
                "the run validated on augmented images (data.augment_validation); these figures "
                "are of the images as they are, so they differ from the run's."
            )
    return lines


def _changed(run: FinishedRun, ids: Sequence[str]) -> list[str]:
    """Whether the images of val are those that the run validated on."""
    path = run.folder / PREDICTIONS
    if not path.is_file():
        return []
    try:
        before = set(read_predictions(path).ids)
    except MsftError as error:
        return [first_line(error)]
    new, gone = set(ids) - before, before - set(ids)
    if not new and not gone:
        return []
    which = f", the first is {min(new)}" if new else ""
    return [
        f"the images have changed since the run: {len(new)} validation images are new{which}, "
        f"{len(gone)} are gone. The run may have been trained on the new ones."
    ]

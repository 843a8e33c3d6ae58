"""Which images an evaluation takes, and whether the classifier was trained on some of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msft_core import config as configuration
from msft_core.columns import Hashes, find_sorted, numbers
from msft_core.errors import DataError, MsftError, UsageError, first_line
from msft_core.folders import listed, read_split
from msft_core.runs.finished import changed_between
from msft_core.runs.opening import made_the_predictions, read_facts
from msft_core.runs.predictions_file import NAME as PREDICTIONS
from msft_core.runs.predictions_file import read_predictions
from msft_core.system.cache_folder import cache_dir
from msft_core.types import Context, ImageTable, Predictions

if TYPE_CHECKING:
    from msft_core.data.checking import SkippedImage
    from msft_core.runs.finished import FinishedRun


@dataclass(frozen=True)
class Images:
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
    digests: Hashes
    skipped: tuple[SkippedImage, ...]
    description: str
    notes: tuple[str, ...] = ()
    own: bool = False


def choose(
    run: FinishedRun,
    split: str,
    data_dir: str | Path | None,
    dataset: str | None,
    settings: Mapping[str, Any],
) -> Images:
    """Find the images that ``evaluate`` is asked for; its docstring says what each option means."""
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


def _of_run(run: FinishedRun, split: str, folder: Path | None) -> Images:
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
    return Images(
        getattr(found.splits, split),
        found.digests[split],
        skipped,
        f"{split} of {found.splits.description or name}",
        own=True,
    )


def _of_folder(run: FinishedRun, folder: Path, split: str, *, bare: bool) -> Images:
    table, taken, notes = read_split(folder, split, run.info.classes, bare=bare)
    checked = _checked(run, table, "", f"images in {taken}")
    return replace(checked, notes=notes)


def _of_dataset(run: FinishedRun, split: str, name: str, settings: dict[str, Any]) -> Images:
    """Images of a dataset component, with its classes mapped to those of the run by name."""
    if split == "test":
        raise UsageError("a dataset has no test split: give its folder with --data-dir alone.")
    component = run.plugins.component("dataset", name)
    is_own = run.is_whole and run.config.dataset.name == name
    if is_own:
        of_run = run.config.to_mapping()["dataset"]
        settings = {key: value for key, value in of_run.items() if key != "name"} | settings
    owner = run.plugins.owner("dataset", name)
    resolved = configuration.component_settings(component, settings, owner)
    if is_own and resolved == run.config.dataset.settings:
        return _of_run(run, split, _own_folder(run))
    seed = run.config.training.seed if run.is_whole else 0
    splits, plugin, _ = run.plugins.ask(
        "build_dataset",
        "dataset",
        name,
        settings=resolved,
        context=Context(seed, cache_dir(), run.reporter),
    )
    table: ImageTable = getattr(splits, split)
    there = sorted({int(label) for label in table.labels})
    classes = run.info.classes
    unknown = [splits.classes[label] for label in there if splits.classes[label] not in classes]
    if unknown:
        raise DataError(
            f"the dataset {name} has the class {unknown[0]!r}, which the classifier does not know: "
            f"the dataset has {listed(splits.classes)}; the classifier has {listed(classes)}."
        )
    new = {label: classes.index(splits.classes[label]) for label in there}
    description = f"{split} of {splits.description or name}"
    checked = _checked(run, table, plugin, description, lambda label: new[label])
    lacking = [one for index, one in enumerate(classes) if index not in new.values()]
    notes = splits.notes
    if lacking:
        notes += (f"{description} has no image of {listed(lacking)}",)
    return replace(checked, notes=notes)


def _checked(
    run: FinishedRun,
    table: ImageTable,
    plugin: str,
    description: str,
    label_of: Callable[[int], int] = int,
) -> Images:
    """Leave out what does not decode."""
    from msft_core.data.checked import checked_table
    from msft_core.data.checking import check_images
    from msft_core.data.memory import CheckMemory
    from msft_core.system.device import cpu_count

    memory = CheckMemory(cache_dir() / "checked")
    found = check_images(
        table, plugin=plugin, workers=cpu_count(), reporter=run.reporter, memory=memory
    )
    memory.save_rows(found.digests.array, found.looks.array)
    kept = checked_table(table, found.kept, found.digests, plugin)
    kept = replace(kept, labels=numbers([label_of(label) for label in kept.labels]))
    return Images(kept, found.digests, found.skipped, description)


# Which of them the classifier knows already


def find_trained_on(
    run: FinishedRun, split: str, images: Images
) -> tuple[tuple[str, ...] | None, str]:
    """Ids of the images that are training images, if that is known; else the reason why not."""
    if split == "train" and images.own:
        return tuple(images.table.ids), ""
    try:
        trained = np.sort(run.checked.digests["train"].sortable)
    except MsftError as error:
        reason = str(error).splitlines()[0] if run.is_whole else "the run folder is not there"
        return None, f"whether the classifier was trained on these images is not known: {reason}"
    there = np.flatnonzero(find_sorted(trained, images.digests.array) >= 0)
    return tuple(images.table.ids[index] for index in there), ""


def warnings_about(
    run: FinishedRun, split: str, images: Images, trained_on: tuple[str, ...] | None
) -> list[str]:
    """What makes figures of these images look better than they are, or other than the run's."""
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


def contents_changed(run: FinishedRun, predictions: Predictions) -> list[str]:
    """Whether images of val have another content than the run validated on."""
    path = run.folder / PREDICTIONS
    if not path.is_file() or run.config.data.augment_validation:
        return []
    if not made_the_predictions(run.checkpoint, read_facts(run.folder)):
        return []
    changed = changed_between(read_predictions(path), predictions)
    if not changed:
        return []
    return [
        f"{len(changed)} images get other probabilities than in {PREDICTIONS}, the first is "
        f"{changed[0]}: were they changed after the run?"
    ]


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

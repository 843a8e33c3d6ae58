"""What is wrong with a dataset's images, found before training. ``msft run`` and ``msft check``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from msft_core import images
from msft_core.errors import DataError, PluginError
from msft_core.types import DatasetSplits, Reporter


@dataclass(frozen=True)
class Findings:
    """Splits without the images that do not decode, and what was found.

    Args:
        splits: what can be trained on.
        skipped: a line of ``skipped.jsonl`` for each image left out: split, id, path, reason.
        twins: pairs (train id, val id) of images with the same bytes.
        digests: for "train" and "val", the hash of each image's bytes, in the order of the split.
    """

    splits: DatasetSplits
    skipped: tuple[dict[str, Any], ...]
    twins: tuple[tuple[str, str], ...]
    digests: dict[str, tuple[str, ...]]


def check_splits(splits: DatasetSplits, *, workers: int, reporter: Reporter) -> Findings:
    """Decode every image of both splits once.

    Raises:
        DataError: a class has no training image that decodes, or no validation image does.
    """
    checks = {
        name: images.check_images(getattr(splits, name), workers=workers, reporter=reporter)
        for name in ("train", "val")
    }
    skipped = tuple(
        {"split": name, "id": image.id, "path": image.path, "reason": image.reason}
        for name, check in checks.items()
        for image in check.skipped
    )
    kept = replace(
        splits,
        train=images.subset(splits.train, checks["train"].kept),
        val=images.subset(splits.val, checks["val"].kept),
    )
    first = f" The first problem: {skipped[0]['id']}: {skipped[0]['reason']}." if skipped else ""
    there = set(kept.train.labels)
    for label, name in enumerate(kept.classes):
        if label not in there:
            raise DataError(f"class {name!r} has no training image that decodes.{first}")
    if not kept.val.ids:
        raise DataError(f"no validation image decodes.{first}")
    twins = images.duplicates_between(kept.train, checks["train"], kept.val, checks["val"])
    digests = {name: check.digests for name, check in checks.items()}
    return Findings(kept, skipped, twins, digests)


def require_contract(splits: object, plugin: str) -> DatasetSplits:
    """The splits, if they are what ``build_dataset`` promises.

    Raises:
        PluginError: they are not.
    """
    problem = _broken_promise(splits)
    if problem:
        raise PluginError(plugin, "build_dataset", problem)
    assert isinstance(splits, DatasetSplits)
    return splits


def _broken_promise(splits: object) -> str:
    if not isinstance(splits, DatasetSplits):
        return f"gave {type(splits).__name__}, not a DatasetSplits"
    classes = len(splits.classes)
    if classes < 2:
        return f"gave {classes} classes; a classifier needs two"
    for name in ("train", "val"):
        table = getattr(splits, name)
        if len(table.ids) != len(table.labels):
            return f"{name} has {len(table.ids)} ids and {len(table.labels)} labels"
        if len(set(table.ids)) != len(table.ids):
            return f"{name} has two images of one id"
        if any(not 0 <= label < classes for label in table.labels):
            return f"{name} has a label outside 0 to {classes - 1}"
        if not len(table.ids):
            return f"{name} has no images"
    return ""

"""What is wrong with a dataset's images, found before training. ``msft run`` and ``msft check``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from msft_core import images
from msft_core.answers import problem_of_splits
from msft_core.errors import DataError, PluginError
from msft_core.runfolder import write_atomically
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


def check_splits(
    splits: DatasetSplits, *, workers: int, reporter: Reporter, memory: Path | None = None
) -> Findings:
    """Decode every image of both splits once.

    Args:
        splits: from a dataset.
        workers: threads.
        reporter: for progress.
        memory: a folder that keeps what decoded: the same image is then not decoded again, in this
            run or the next.

    Raises:
        DataError: a class has no training image that decodes, or no validation image does.
    """
    known = _recall(memory)
    checks = {
        name: images.check_images(
            getattr(splits, name), workers=workers, reporter=reporter, known=known
        )
        for name in ("train", "val")
    }
    _remember(memory, known, {digest for check in checks.values() for digest in check.digests})
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
    problem = problem_of_splits(splits)
    if problem:
        return problem
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


# A file of 16-byte digests, one after the other. One cut short or garbled only knows fewer.


def _recall(memory: Path | None) -> frozenset[str]:
    data = b""
    if memory is not None:
        with suppress(OSError):
            data = _file_in(memory).read_bytes()
    return frozenset(data[i : i + 16].hex() for i in range(0, len(data), 16))


def _remember(memory: Path | None, known: frozenset[str], found: set[str]) -> None:
    if memory is None or found <= known:
        return
    # What another run has added meanwhile stays.
    together = sorted(_recall(memory) | found)
    content = b"".join(bytes.fromhex(digest) for digest in together)
    with suppress(OSError):  # a folder that cannot be written costs time, nothing else
        memory.mkdir(parents=True, exist_ok=True)
        write_atomically(_file_in(memory), lambda path: path.write_bytes(content))


def _file_in(memory: Path) -> Path:
    # Another release may decode more, or less.
    return memory / f"msft-{version('msft')}-pillow-{version('pillow')}.digests"

"""``msft check``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from msft_core.cli.errors import reported
from msft_core.cli.options import Verbose

if TYPE_CHECKING:
    from msft_core.types import Reporter


def command(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of images, for --dataset folder.")
    ],
    verbose: Verbose = False,
) -> None:
    """Find broken images, duplicates and mismatched classes in a folder of images.

    Exit status: 0 nothing found, 1 images that do not decode or that are in both splits, also as
    near-duplicates, 2 a folder that cannot be used for training.
    """
    with reported(verbose=verbose):
        from msft_core.data.checking import TOO_SIMILAR, check_splits
        from msft_core.folders import read_splits
        from msft_core.system.console import console_reporter
        from msft_core.system.device import cpu_count

        reporter = console_reporter()
        splits = read_splits(folder, reporter=reporter)
        for note in splits.notes:
            reporter.info(note)
        found = check_splits(splits, plugin="folder", workers=cpu_count(), reporter=reporter)
        _warn([f"{image['id']}: {image['reason']}" for image in found.skipped], reporter)
        twins = [f"{of_val} is the same image as {of_train}" for of_train, of_val in found.twins]
        _warn(twins, reporter)
        near = found.near_duplicates
        _warn([f"{of_val} looks like {of_train}" for of_train, of_val in near.pairs], reporter)
        if not near.complete:
            reporter.info(TOO_SIMILAR)
        for name in ("train", "val"):
            labels = getattr(found.splits, name).labels
            of_label = Counter(labels)
            counts = (f"{c} {of_label[i]}" for i, c in enumerate(found.splits.classes))
            reporter.info(f"{name}: {len(labels)} images ({', '.join(counts)})")
        if found.skipped or found.twins or near.pairs:
            reporter.info(
                f"{len(found.skipped)} images do not decode, {len(found.twins)} are in both "
                f"splits, {len(near.pairs)} of val look like one of train."
            )
            raise typer.Exit(1)
        reporter.info("Every image decodes, the classes agree, and no image is in both splits.")


_SHOWN = 20


def _warn(lines: list[str], reporter: Reporter) -> None:
    """The first lines, and how many more there are."""
    for line in lines[:_SHOWN]:
        reporter.warning(line)
    if len(lines) > _SHOWN:
        reporter.warning(f"... and {len(lines) - _SHOWN} more of this kind")

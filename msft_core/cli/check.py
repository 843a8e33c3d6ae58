"""``msft check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msft_core.cli.errors import reported


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder for --dataset folder.")],
    verbose: Annotated[bool, typer.Option(help="Print the traceback of an error.")] = False,
) -> None:
    """Check a folder of images: does each decode, do the classes agree, are there duplicates?

    Exit status 1 where images do not decode or stand in both splits, 2 where the folder cannot be
    trained on at all.
    """
    with reported(verbose=verbose):
        from msft_core.data.checking import check_splits
        from msft_core.folders import read_splits
        from msft_core.system.console import console_reporter
        from msft_core.system.device import cpu_count

        reporter = console_reporter()
        splits = read_splits(folder)
        for note in splits.notes:
            reporter.info(note)
        found = check_splits(splits, plugin="folder", workers=cpu_count(), reporter=reporter)
        for image in found.skipped:
            reporter.warning(f"{image['id']}: {image['reason']}")
        for of_train, of_val in found.twins:
            reporter.warning(f"{of_val} is the same picture as {of_train}")
        for name in ("train", "val"):
            labels = getattr(found.splits, name).labels
            counts = (f"{c} {labels.count(i)}" for i, c in enumerate(found.splits.classes))
            reporter.info(f"{name}: {len(labels)} images ({', '.join(counts)})")
        if found.skipped or found.twins:
            reporter.info(
                f"{len(found.skipped)} images do not decode, {len(found.twins)} are in both splits."
            )
            raise typer.Exit(1)
        reporter.info("Every image decodes, the classes agree, and no picture is in both splits.")

"""``msft report``: the report of a finished run, written anew."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from msft_core.engine.outputs import require_output
from msft_core.errors import UsageError

if TYPE_CHECKING:
    from msft_core.runs.finished import FinishedRun


def write_report(run: FinishedRun, out: Path | None = None) -> Path:
    """Write the report of a finished run.

    Args:
        run: opened from a run folder.
        out: the file to write; by default ``report.html`` in the run folder.

    Raises:
        UsageError: there is no run folder or no finished epoch, ``out`` is not a page's name, or
            the report in the run folder has more pictures than can be had now.
        OutputError: it cannot be written. The report of before stays.
    """
    if not run.is_whole:
        raise UsageError(
            f"{run.checkpoint} is a checkpoint alone: a report needs the run folder it came from."
        )
    if not run.history:
        raise UsageError(f"{run.folder} has no finished epoch in metrics.jsonl: nothing to report.")
    path = out or run.folder / "report.html"
    require_output(path, ".html")
    pictures = 0 if out else _pictures_in(path)
    if not pictures:
        return run.pages.report(path)
    # The images may be gone, and then no one can make the report of before again.
    kept = path.with_name(f".{path.name}.before")
    kept.unlink(missing_ok=True)
    try:
        os.link(path, kept)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, kept)
    try:
        found = _pictures_in(run.pages.report(path))
        if found < pictures:
            kept.replace(path)
            raise UsageError(
                f"{path} has {pictures} pictures, and only {found} can be had now. It is not "
                "replaced: --out FILE writes the report without the others elsewhere."
            )
    finally:
        kept.unlink(missing_ok=True)
    return path


def _pictures_in(page: Path) -> int:
    try:
        return page.read_bytes().count(b'src="data:image/')
    except OSError:
        return 0

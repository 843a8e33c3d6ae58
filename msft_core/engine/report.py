"""``msft report``: the report of a finished run, written anew."""

from __future__ import annotations

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
        UsageError: there is no run folder or no finished epoch, or ``out`` is not a page's name.
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
    return run.pages.report(path)

"""The callback ``report``: writes ``report.html`` at the end of a run."""

from __future__ import annotations

from pydantic import Field

from msft_core import Component, Run, RunReport, Settings, hookimpl


class ReportSettings(Settings):
    """``callback.report.*``."""

    enabled: bool = Field(True, description="write report.html")


@hookimpl
def list_components() -> list[Component]:
    """Offer the callback ``report``."""
    summary = "writes report.html, the whole run on one page"
    return [Component("callback", "report", summary, ReportSettings)]


@hookimpl(trylast=True)
def on_run_end(run: Run, report: RunReport, error: BaseException | None) -> None:
    """Write the report of the finished epochs. A report that fails is a warning."""
    if not report.history:
        return
    try:
        run.pages.report(run.folder / "report.html")
    except Exception as failure:
        run.reporter.warning(f"report.html was not written: {type(failure).__name__}: {failure}")

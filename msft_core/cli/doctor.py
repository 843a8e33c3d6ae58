"""``msft doctor``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from msft_core.cli.errors import reported
from msft_core.cli.options import AsJson, Blocked, Modules

if TYPE_CHECKING:
    from msft_core.doctor import Finding

_COLOURS = {"ok": typer.colors.GREEN, "note": typer.colors.YELLOW, "problem": typer.colors.RED}
_ALIKE = 4
"""At most this many findings in a row are listed one by one if only their names differ."""


def command(
    as_json: AsJson = False,
    offline: Annotated[bool, typer.Option("--offline", help="Skip the network checks.")] = False,
    plugin: Modules = None,
    without: Blocked = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Print every finding, with tracebacks.")
    ] = False,
) -> None:
    """Check versions, device, speed, plugins, cache, disk and network, and give advice.

    Exit status: 0 no problem, 1 at least one problem.
    """
    with reported(verbose=verbose):
        from msft_core import doctor

        found: list[tuple[str, Finding]] = []
        subject = ""
        for check in doctor.checks(modules=plugin or (), without=without or (), offline=offline):
            if not as_json and check.subject != subject:
                typer.echo(subject := check.subject)
            # Keep the output of a plugin that is loaded out of the findings.
            with _shown(check.doing), redirect_stdout(sys.stderr):
                findings = check.findings(verbose=verbose)
            found.extend((check.subject, finding) for finding in findings)
            if not as_json:
                _show(findings, verbose)
        counts = {status: sum(f.status == status for _, f in found) for status in _COLOURS}
        if as_json:
            listed = [_as_json(subject, finding) for subject, finding in found]
            value = {"ok": not counts["problem"], "checks": listed}
            typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
        else:
            problems, notes = (_number(counts[each], each) for each in ("problem", "note"))
            typer.echo(f"{problems}, {notes}.")
        if counts["problem"]:
            raise typer.Exit(1)


@contextmanager
def _shown(doing: str) -> Iterator[None]:
    """On a terminal, show the current check; the line disappears at its end."""
    if not (doing and sys.stderr.isatty()):
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{doing} ..."):
        yield


def _show(findings: list[Finding], verbose: bool) -> None:
    """Print a line per finding; findings in a row with the same advice share one advice line."""
    groups = [
        list(group) for _, group in groupby(findings, lambda f: (f.status, f.found, f.advice))
    ]
    for group, following in zip(groups, [*groups[1:], []], strict=True):
        shown = group if verbose or len(group) <= _ALIKE else group[:1]
        for finding in shown:
            more = len(group) - len(shown)
            others = f" and {more} more (--verbose lists them)" if more else ""
            typer.echo(f"    {_status(finding)} {finding.name}{others}: {finding.found}")
        advice = group[0].advice
        if advice and not (following and following[0].advice == advice):
            typer.echo(f"             {advice}")


def _status(finding: Finding) -> str:
    return typer.style(f"{finding.status:<8}", fg=_COLOURS[finding.status])


def _number(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def _as_json(subject: str, finding: Finding) -> dict[str, Any]:
    value = {"value": dict(finding.value)} if finding.value else {}
    return {
        "subject": subject,
        "name": finding.name,
        "status": finding.status,
        "found": finding.found,
        "advice": finding.advice,
        **value,
    }

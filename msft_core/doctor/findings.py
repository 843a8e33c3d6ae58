"""What a check is and what it gives."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from msft_core.errors import first_line

Status = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Args:
        name: of what was looked at.
        status: ``problem`` is what keeps msft from working as it should, ``note`` is worth knowing.
        found: one line.
        advice: what to do about it, one line.
        value: the measured numbers.
    """

    name: str
    status: Status
    found: str
    advice: str = ""
    value: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One thing to look at.

    Args:
        subject: the section it belongs to.
        name: what its failure is listed under.
        find: looks.
        doing: what the user reads meanwhile, where it takes its time.
    """

    subject: str
    name: str
    find: Callable[[], Iterable[Finding]]
    doing: str = ""

    def findings(self, *, verbose: bool = False) -> list[Finding]:
        """What it finds; that it fails is a finding too.

        Args:
            verbose: print the traceback of a check that fails on standard error.
        """
        found: list[Finding] = []
        try:
            for finding in self.find():
                found.append(finding)
        except (Exception, SystemExit) as error:
            if verbose:
                traceback.print_exc()
            broken = f"this check failed: {first_line(error)}"
            found.append(Finding(self.name, "problem", broken, "--verbose shows where"))
        return found

"""A check, and its findings."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from msft_core.errors import first_line

Status = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One result of a check.

    Args:
        name: the thing that was checked.
        status: ``problem`` keeps msft from working as it should; ``note`` is good to know.
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
    """One check.

    Args:
        subject: the section of the output that it belongs to.
        name: the name of the finding if the check itself fails.
        find: runs the check.
        doing: text for the user while a slow check runs.
    """

    subject: str
    name: str
    find: Callable[[], Iterable[Finding]]
    doing: str = ""

    def findings(self, *, verbose: bool = False) -> list[Finding]:
        """Run the check, and return its findings. If the check fails, that is a finding too.

        Args:
            verbose: print the traceback of a failed check on standard error.
        """
        found: list[Finding] = []
        try:
            for finding in self.find():
                found.append(finding)
        except (Exception, SystemExit) as error:
            if verbose:
                traceback.print_exc()
            broken = f"this check failed: {first_line(error)}"
            found.append(Finding(self.name, "problem", broken, "add --verbose to see where"))
        return found

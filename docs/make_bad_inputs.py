"""Write the table of bad inputs into ``reliability.md``: ``python docs/make_bad_inputs.py``.

The rows are the cases of ``tests/faults/``, which the test suite tries. Needs msft's packages, but
makes no bad input.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent
PAGE = DOCS / "reliability.md"
FAULTS = DOCS.parent / "tests" / "faults"

BEGIN, END = "<!-- bad inputs: make_bad_inputs.py -->", "<!-- end of bad inputs -->"


def main() -> None:
    """Write the table."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The text of the page, with the table as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    before, found, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise SystemExit(f"{PAGE} has no place for the table")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def table() -> str:
    """A row for each case."""
    for folder in (FAULTS, FAULTS.parent):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    import bad_inputs

    rows = ["| kind | case | what happens |", "|---|---|---|"]
    for case in bad_inputs.CASES:
        rows.append(f"| {case.kind} | {cell(case.name)} | {cell(case.happens)} |")
    return "\n".join([f"{len(bad_inputs.CASES)} cases:", "", *rows, ""])


def cell(text: str) -> str:
    """Text as it stands in a table, whatever it holds."""
    return re.sub(r"([|<>*_\[\]`\\])", r"\\\1", " ".join(text.split()))


if __name__ == "__main__":
    main()

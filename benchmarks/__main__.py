"""``python -m benchmarks``: options, and one comparison after the other."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import machine, table
from benchmarks.commands import ROOT
from benchmarks.comparisons import COMPARISONS
from benchmarks.outcome import Outcome
from benchmarks.plan import Plan
from msft_core.system.device import cpu_count

FULL = {
    "train": 250, "val": 150, "size": 224, "batch": 24, "epochs": 20, "repeats": 3, "steps": 10,
    "starts": 20, "few": 1000, "many": 16000,
}  # fmt: skip
QUICK = {
    "train": 24, "val": 12, "size": 64, "batch": 8, "epochs": 2, "repeats": 1, "steps": 2,
    "starts": 2, "few": 50, "many": 200,
}  # fmt: skip
"""Sizes; their meaning is in ``plan.Plan``. The quick ones only show that all of it works."""


def main() -> None:
    """Run the comparisons asked for."""
    asked = _parse()
    sizes = {name: getattr(asked, name) for name in FULL}
    base = QUICK if asked.quick else FULL
    sizes = {name: base[name] if value is None else value for name, value in sizes.items()}
    out = asked.out or ROOT / "benchmarks" / "results" / f"{datetime.now():%Y%m%d-%H%M%S}.json"
    surroundings = {**machine.describe(), "torch": machine.torch_versions(asked.torch_python)}
    console = Console(width=None if sys.stdout.isatty() else 140)
    with tempfile.TemporaryDirectory(prefix="msft-benchmarks-") as work:
        plan = Plan(
            data=asked.data.absolute(),
            work=Path(work),
            torch_python=asked.torch_python,
            cores=cpu_count(),
            **sizes,
        )
        for name in asked.only or COMPARISONS:
            print(f"\n{name}", flush=True)
            outcome = COMPARISONS[name](plan)
            table.show(outcome, console)
            write(out, name, outcome, sizes, surroundings)
    print(f"\nAll raw timings: {out}")


def write(
    out: Path,
    name: str,
    outcome: Outcome,
    sizes: dict[str, int],
    surroundings: dict[str, Any],
) -> None:
    """Add a comparison to a file; what it has of others stays.

    After each, so that an interrupted benchmark leaves what it has; and whole, by renaming.
    """
    document = json.loads(out.read_text()) if out.exists() else {}
    document[name] = {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "sizes": sizes,
        **surroundings,
        "title": outcome.title,
        "measurements": [
            {**dataclasses.asdict(m), "median": m.median} for m in outcome.measurements
        ],
        "targets": [
            {**dataclasses.asdict(target), "reached": target.reached} for target in outcome.targets
        ],
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_suffix(".part")
    beside.write_text(json.dumps(document, indent=1) + "\n")
    beside.replace(out)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="photographs in train/CLASS and val/CLASS"
    )
    parser.add_argument("--only", nargs="+", choices=COMPARISONS, metavar="NAME",
                        help=f"of {', '.join(COMPARISONS)}")  # fmt: skip
    parser.add_argument("--out", type=Path, help="JSON file; what others wrote there stays")
    parser.add_argument(
        "--torch-python", default=sys.executable, help="interpreter that has torch and torchvision"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: figures mean nothing")
    for name, default in FULL.items():
        parser.add_argument(f"--{name}", type=int, help=f"default {default}")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""One `msft run` for a network of each family, as a user would start it.

    python tools/run_families.py --seconds 200   # as often as it takes; goes on where it stopped

An epoch of two steps on drawn pictures, random weights, everything trains. Unlike ``try_all.py``
this is the whole of msft, with the training step compiled where that is possible. Results go to
``runs.jsonl``; ``try_all.py --report`` puts them into ``TRIED.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import make_table

RUNS = make_table.FOLDER / "runs.jsonl"
SECONDS = 300
"""A run that takes longer is given up."""


def main() -> None:
    """Run what is left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no more after")
    end = time.monotonic() + parser.parse_args().seconds
    done = {result["name"] for result in read_runs()}
    for name in smallest_of_each_family():
        if name not in done and time.monotonic() < end:
            result = run(name)
            with RUNS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
            print(json.dumps(result), flush=True)


def read_runs() -> list[dict[str, Any]]:
    """What was run."""
    if not RUNS.exists():
        return []
    return [json.loads(line) for line in RUNS.read_text(encoding="utf-8").splitlines()]


def smallest_of_each_family() -> list[str]:
    """Of those that run."""
    smallest: dict[str, dict[str, Any]] = {}
    for name, result in make_table.read_tried().items():
        family = make_table.family(name)
        if "parameters" in result:
            best = smallest.get(family)
            if best is None or result["parameters"] < best["parameters"]:
                smallest[family] = result
    return sorted(result["name"] for result in smallest.values())


def run(name: str) -> dict[str, Any]:
    """One run, in a folder and with a cache that are thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "msft_core", "run", "--backbone", f"mindcv/{name}"),
            *("--weights", "none", "--dataset", "sample", "--epochs", "1", "--batch-size", "2"),
            *("--set", "dataset.train_per_class=2", "--set", "dataset.val_per_class=1"),
            *("--out", f"{folder}/run"),
        ]
        begun = time.monotonic()
        try:
            process = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                cwd=folder,
                env={**os.environ, "MSFT_CACHE": folder},
            )
        except subprocess.TimeoutExpired:
            return {"name": name, "problem": f"takes more than {SECONDS} s", "compiled": False}
        lines = (process.stdout + process.stderr).splitlines()
        return {
            "name": name,
            "problem": "" if process.returncode == 0 else " ".join(lines[-2:])[-300:],
            "compiled": not any("does not compile" in line for line in lines),
            "seconds": round(time.monotonic() - begun, 1),
        }


if __name__ == "__main__":
    main()

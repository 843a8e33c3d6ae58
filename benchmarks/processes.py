"""How much faster two processes are than one: ``python -m benchmarks.processes DIR``.

On the same CPUs: one process with all threads against N processes with a share each. It needs a
quiet machine. The two sides take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", metavar="DIR", help="folder of photographs, train/ and val/")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", type=int, default=224, help="side of an image, pixels")
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=["finetune", "frozen"])
    given = parser.parse_args()
    for what in [given.only] if given.only else ["finetune", "frozen"]:
        measure = _step_seconds if what == "finetune" else _seconds_of_features
        taken: dict[int, list[float]] = {1: [], given.processes: []}
        for turn in range(given.repeats):
            for count in sorted(taken, reverse=bool(turn % 2)):
                taken[count].append(measure(given, count))
                print(what, count, f"{taken[count][-1]:.3f} s", flush=True)
        alone, together = (statistics.median(taken[count]) for count in (1, given.processes))
        print(
            f"{what}: {alone:.3f} s, {together:.3f} s, efficiency {alone / together:.2f}",
            flush=True,
        )


def _step_seconds(given: argparse.Namespace, processes: int) -> float:
    """Median seconds of a step that trains everything; the first epoch compiles."""
    epochs = _run(given, processes, "--strategy", "finetune", "--epochs", "3")
    return statistics.median(float(one["step_ms"]) for one in epochs[1:]) / 1000


def _seconds_of_features(given: argparse.Namespace, processes: int) -> float:
    """Seconds to compute one view of all training images by the frozen stages."""
    views = ("--set", "training.views=1", "--set", "extractor.openvino.enabled=false")
    first, second = _run(given, processes, "--strategy", "freeze", "--epochs", "2", *views)
    return float(first["seconds"]) - float(second["seconds"])


def _run(given: argparse.Namespace, processes: int, *more: str) -> list[dict[str, object]]:
    """The lines of metrics.jsonl of a run that finds an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "msft_core", "run", "--data-dir", given.data]
        command += ["--backbone", given.backbone, "--weights", "none", "--out", f"{folder}/run"]
        command += ["--set", f"backbone.image_size={given.size}", "--without", "report"]
        command += ["--batch-size", str(given.batch_size), "--processes", str(processes), *more]
        env = {**os.environ, "MSFT_CACHE": f"{folder}/cache"}
        subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines]


if __name__ == "__main__":
    main()

"""The check that a run in several processes gives what one process gives."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msft_core.testing.asking import check, fail_if

__tracebackhide__ = True

_SECONDS = 600


@check
def assert_same_in_processes(
    plugins: Sequence[str | Path] = (),
    *,
    processes: int = 2,
    tolerance: float = 1e-5,
    **sections: Any,
) -> None:
    """Check that runs with these plugins give the same in several processes as in one.

    Trains twice on the tiny dataset, unless ``sections`` say otherwise: with ``--processes 1``, and
    with more. Every figure of each epoch must be the same up to ``tolerance``, and the predictions
    must be of the same images in the same order. A batch is smaller than a multiple of the number
    of processes, so that they get unequal parts.

    By default the backbone trains its head alone. Where batch norm takes the statistics of a batch,
    each process takes those of its own part, and the figures differ: give
    ``strategy={"name": "finetune", ...}`` only to a backbone without batch norm.

    Args:
        plugins: names of modules or files, as for ``--plugin``: other processes cannot get objects.
        processes: how many.
        tolerance: greatest difference.
        sections: as in a configuration, such as ``strategy="freeze"``.

    Raises:
        AssertionError: a run failed, or they differ.
    """
    import tomlkit

    names = [str(Path(one).absolute()) if Path(one).exists() else str(one) for one in plugins]
    config = {
        "dataset": {"name": "tiny"},
        "backbone": {"name": "tiny"},
        "strategy": {"name": "freeze"},
        "training": {"epochs": 2, "batch_size": 2 * processes + 1},
    }
    for section, value in sections.items():
        config[section] = {"name": value} if isinstance(value, str) else value
    with tempfile.TemporaryDirectory() as parent:
        file = Path(parent) / "config.toml"
        file.write_text(tomlkit.dumps(config), "utf-8")
        alone, together = (_run(Path(parent), file, names, count) for count in (1, processes))
        fail_if(_differences(alone, together, tolerance), f"a run in {processes} processes")


def _run(parent: Path, config: Path, plugins: Sequence[str], processes: int) -> Path:
    from msft_core.testing import CommandLine

    folder = parent / f"of-{processes}"
    named = [word for name in ("msft_core.testing.tiny", *plugins) for word in ("--plugin", name)]
    ended = CommandLine(Path.cwd())(
        *("run", "--config", config, "--out", folder, "--processes", processes, *named),
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        timeout=_SECONDS,
    )
    said = ended.stderr.strip() or ended.stdout.strip()
    fail_if(said if ended.returncode else (), f"msft run --processes {processes}")
    return folder


def _differences(one: Path, other: Path, tolerance: float) -> list[str]:
    lines = [
        [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
        for run in (one, other)
    ]
    found = []
    for first, second in zip(*lines, strict=True):
        for part in ("train", "val"):
            for name, value in first.get(part, {}).items():
                now = second.get(part, {}).get(name)
                if now is None or abs(now - value) > tolerance:
                    found.append(f"epoch {first['epoch']}: {part} {name} is {now}, not {value}")
    ids = [
        [line.split(",")[0] for line in (run / "predictions.csv").read_text("utf-8").splitlines()]
        for run in (one, other)
    ]
    if ids[0] != ids[1]:
        found.append("predictions.csv has other images, or has them in another order")
    return found

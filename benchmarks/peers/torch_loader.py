"""Epochs of torchvision's input pipeline: ``... torch_loader DIR SIZE BATCH WORKERS LEAST``."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.serving import Channel


def main(folder: Path, size: int, batch: int, most_workers: int, least_area: float) -> None:
    """Serve ``1``, ``2``, ...: the number of workers, which stay alive from turn to turn."""
    channel = Channel()
    from torch.utils.data import DataLoader

    from benchmarks.peers.torch_parts import loader, training_data

    def epoch(batches: DataLoader[Any]) -> None:
        for _ in batches:
            pass

    data = training_data(folder, size, (least_area, 1.0))
    tasks: dict[str, Callable[[], object]] = {}
    for workers in range(1, most_workers + 1):
        batches = loader(data, batch, workers, persistent_workers=True)
        tasks[str(workers)] = functools.partial(epoch, batches)
    channel.serve(tasks)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(number) for number in sys.argv[2:5]), float(sys.argv[5]))

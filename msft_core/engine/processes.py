"""Whether several processes can do a run."""

from __future__ import annotations

from msft_core.config import RunConfig
from msft_core.errors import UsageError
from msft_core.system.ranks import Ranks
from msft_core.types import Reporter


def require_together(config: RunConfig, ranks: Ranks, reporter: Reporter) -> None:
    """Check that several processes can do a run, and that so many are there.

    Args:
        config: of the run.
        ranks: the place of this process.
        reporter: warned where a batch does not occupy all of them.

    Raises:
        UsageError: they cannot, or are not.
    """
    asked = config.runtime.processes
    if ranks.size == 1:
        if asked > 1:
            raise UsageError(
                f"runtime.processes = {asked}: one process was started. `msft run --processes "
                f"{asked}` starts them; a program of your own is started by msrun, srun or mpirun."
            )
        return
    if asked not in (1, ranks.local_size, ranks.size):
        raise UsageError(
            f"runtime.processes = {asked}, but {ranks.started_by} has started {ranks.size}: leave "
            "--processes out, or give that number."
        )
    for name, value, why in (
        ("runtime.sink", config.runtime.sink, "each step waits for all processes"),
        (
            "data.pipeline",
            config.data.pipeline == "mindspore",
            "its views depend on who makes them",
        ),
    ):
        if value:
            raise UsageError(f"{name} does not work in {ranks.size} processes: {why}.")
    if config.training.batch_size < ranks.size:
        raise UsageError(
            f"training.batch_size = {config.training.batch_size}: the batch of all {ranks.size} "
            "processes must have an image for each of them. Give a larger --batch-size."
        )
    busy = config.training.batch_size // 2
    equal = config.training.batch_size % ranks.size == 0 and config.training.drop_remainder
    if config.training.sync_batch_norm and not (equal and busy >= ranks.size):
        # One without an image would not take part in the statistics, for which the others wait.
        raise UsageError(
            "training.sync_batch_norm = true: all processes must have equally many images of each "
            "batch, two at least. Give --set training.drop_remainder=true and a --batch-size of "
            f"{2 * ranks.size}, {3 * ranks.size}, {4 * ranks.size} ..."
        )
    if busy < ranks.size:
        reporter.warning(
            f"training.batch_size = {config.training.batch_size}: {ranks.size - busy} of the "
            f"{ranks.size} processes have nothing to do, since none gets one image alone (batch "
            "norm would take its statistics for those of all). Give a larger --batch-size."
        )

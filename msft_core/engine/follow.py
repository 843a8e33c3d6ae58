"""Step 9 of a run in the processes other than rank 0: they do their part of what it tells them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msft_core.errors import MsftError, first_line
from msft_core.system.agreeing import agreed, check_after_step
from msft_core.system.group import PeerDied
from msft_core.system.interrupts import Interrupts

if TYPE_CHECKING:
    from msft_core.engine.asking import Strategy
    from msft_core.runs.live import LiveRun


def follow(run: LiveRun, strategy: Strategy, interrupts: Interrupts) -> None:
    """Do what rank 0 tells, until the run ends.

    What fails in all processes alike (an interrupt, a loss that is not finite) ends only what they
    were doing: rank 0 says what comes next.

    Args:
        run: of this process.
        strategy: is asked as rank 0 asks its own.
        interrupts: are only noted.

    Raises:
        MsftError: rank 0 is gone, or goes on without this process.
    """
    interrupted = False
    with interrupts.held(then_check=False):
        for command in run.group.commands():
            if interrupted:
                # The same signal, that came to this process a moment after rank 0 told of it, must
                # not end what rank 0 does at the end of the run.
                interrupts.forget()
            try:
                _do(command, run, strategy, interrupts)
            except PeerDied:
                raise  # rank 0 would wait for this process for ever
            except (MsftError, KeyboardInterrupt) as error:
                interrupted = interrupted or isinstance(error, KeyboardInterrupt)
                run.reporter.info(f"{command['do']} ended early: {first_line(error)}")


def _do(
    command: Mapping[str, Any], run: LiveRun, strategy: Strategy, interrupts: Interrupts
) -> None:
    if command["do"] == "select":
        select(run, strategy, command["epoch"])
    elif command["do"] == "train":
        train(run, command["epoch"], interrupts)
    elif command["do"] == "predict":
        run.outputs(command["split"], command["epoch"])
    elif command["do"] == "load":
        run.load(Path(command["path"]))


def select(run: LiveRun, strategy: Strategy, epoch: int) -> None:
    """Ask the strategy what trains in an epoch, in each process."""
    changed: list[bool] = []
    agreed(run.group, lambda: changed.append(strategy.select(epoch)))
    if changed[0]:
        run.feed.refresh()


def train(run: LiveRun, epoch: int, interrupts: Interrupts) -> None:
    """This process's part of an epoch."""
    from msft_core.data.pipeline import Use

    run.prepare_training(epoch)
    run.forget()
    run.trainer.train_epoch(
        run.feed.pipeline(Use.TRAINING), epoch, lambda: check_after_step(run.group, interrupts)
    )

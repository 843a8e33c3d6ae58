"""The callback ``tensorboard``: each epoch's figures as events that TensorBoard shows.

The events are written with TensorBoard's own ``tensorboard.summary.Writer``, which needs neither
TensorFlow nor PyTorch, into the run folder, so that ``tensorboard --logdir`` of the folder above
shows each run under its name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msft_core import Component, Run, hookimpl

msft_api = "0.3"

_writers: dict[Path, Any] = {}
"""Of the runs that are going on, by run folder."""


@hookimpl
def list_components() -> list[Component]:
    """Offer ``tensorboard``."""
    return [Component("callback", "tensorboard", "each epoch's figures for TensorBoard")]


@hookimpl
def on_run_start(run: Run) -> None:
    """Begin an event file."""
    from tensorboard.summary import Writer

    _writers[run.folder] = Writer(str(run.folder))


@hookimpl(trylast=True)
def on_epoch_end(epoch: int, run: Run) -> None:
    """Write the epoch's figures, at the epoch's number. A crash later on loses nothing of them."""
    record = run.history[-1]
    figures = {
        **{f"train/{name}": value for name, value in record.train.items()},
        **{f"val/{name}": value for name, value in run.evaluate("val").items()},
        "learning_rate": record.learning_rate,
        "step_ms": record.step_ms,
    }
    writer = _writers[run.folder]
    for tag, value in figures.items():
        writer.add_scalar(tag, value, epoch)
    writer.flush()


@hookimpl
def on_run_end(run: Run) -> None:
    """Close the event file, however the run ended; another plugin may have kept it from opening."""
    writer = _writers.pop(run.folder, None)
    if writer is not None:
        writer.close()

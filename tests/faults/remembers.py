"""A plugin that must remember something: the losses of the epochs, as an array and as a list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from msft_core import Run, hookimpl

_LOSSES: list[float] = []


@hookimpl
def on_run_start() -> None:
    """Begin anew."""
    _LOSSES.clear()


@hookimpl
def on_epoch_end(run: Run) -> None:
    """Note the loss."""
    _LOSSES.append(run.evaluate("val")["loss"])


@hookimpl
def save_state() -> dict[str, Any]:
    """What is noted so far."""
    return {"losses": np.asarray(_LOSSES), "count": len(_LOSSES)}


@hookimpl
def load_state(state: Mapping[str, Any]) -> None:
    """Go on from there."""
    _LOSSES.extend(state["losses"].tolist())
    assert state["count"] == len(_LOSSES)

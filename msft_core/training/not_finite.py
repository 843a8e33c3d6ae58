"""What to say of a loss or an output that is NaN or infinite."""

from __future__ import annotations

import numpy as np

from msft_core.errors import TrainingError
from msft_core.training.state import TrainState
from msft_core.types import Array, Best


def not_finite(loss: float, when: str, state: TrainState) -> TrainingError:
    """The error of a step whose loss is NaN or infinite.

    Args:
        loss: of the step, computed before the step changed anything.
        when: which step, and its learning rate.
        state: the train state before the step.
    """
    return TrainingError(f"the loss is {loss} {when}.\n{_advice(state)}")


def require_finite_outputs(logits: Array, split: str, state: TrainState) -> None:
    """Raise TrainingError if an output of an evaluation is NaN or infinite.

    Args:
        logits: float32 (N, K).
        split: that was evaluated.
        state: the train state.
    """
    wrong = int((~np.isfinite(logits).all(axis=1)).sum())
    if wrong:
        raise TrainingError(
            f"after epoch {state.epoch} the network's outputs are not finite for {wrong} of "
            f"{len(logits)} images of {split}.\n{_advice(state)}"
        )


def _advice(state: TrainState) -> str:
    return f"{_kept(state.best)} {_hint(state)}"


def _kept(best: Best | None) -> str:
    if best is None:
        return "No epoch was kept as the best one yet."
    return f"{best.path.name} keeps epoch {best.epoch} ({best.metric} {best.value:.4f})."


def _hint(state: TrainState) -> str:
    if not state.step:
        return (
            "No parameter has changed yet, so the learning rate is not the cause: check the "
            "weights that training starts from (--weights)."
        )
    assert state.trainable is not None
    rate = state.trainable.optimizer.learning_rate
    return f"Try a smaller learning rate, such as --lr {rate / 10:.3g}."

"""The loss and the probabilities, computed from logits on the host. NumPy only."""

from __future__ import annotations

import numpy as np

from msft_core.types import Array


def mean_loss(logits: Array, labels: Array) -> float:
    """Mean cross-entropy in nats of logits, float (N, K), and the true classes, int (N,)."""
    values = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinite logits give nan, which the caller checks for
        shifted = values - values.max(axis=1, keepdims=True)
        of_truth = shifted[np.arange(len(labels)), labels]
        return float((np.log(np.exp(shifted).sum(axis=1)) - of_truth).mean())


def softmax(logits: Array) -> Array:
    """Probabilities float32 (N, K); they sum to 1 for each image."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float32)

"""The loss and the probabilities, computed from logits on the host. NumPy only."""

from __future__ import annotations

import numpy as np

from msft_core.types import Array

_BLOCK = 4096
"""Rows at a time: what is computed on the way takes several times the room of the logits."""


def mean_loss(logits: Array, labels: Array) -> float:
    """Mean cross-entropy in nats of logits, float (N, K), and the true classes, int (N,)."""
    losses = np.empty(len(labels), np.float64)
    with np.errstate(invalid="ignore"):  # infinite logits give nan, which the caller checks for
        for start in range(0, len(labels), _BLOCK):
            rows = slice(start, start + _BLOCK)
            values = logits[rows].astype(np.float64)
            shifted = values - values.max(axis=1, keepdims=True)
            of_truth = shifted[np.arange(len(values)), labels[rows]]
            losses[rows] = np.log(np.exp(shifted).sum(axis=1)) - of_truth
        return float(losses.mean())


def softmax(logits: Array, out: Array | None = None) -> Array:
    """Probabilities float32 (N, K); they sum to 1 for each image.

    Args:
        logits: float (N, K).
        out: where to write them, float32 (N, K), which may be the logits.
    """
    probabilities = np.empty(logits.shape, np.float32) if out is None else out
    for start in range(0, len(logits), _BLOCK):
        rows = slice(start, start + _BLOCK)
        shifted = np.exp(logits[rows] - logits[rows].max(axis=1, keepdims=True))
        probabilities[rows] = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities

"""Find, read and load pretrained weights. Public: backbone plugins use it.

The way of a checkpoint: ``resolve_weights`` turns what the user asked for into a file,
``read_checkpoint`` reads it, whatever wrote it, the plugin says how its names map to the
network's, and ``load_into`` copies the values and accounts for every one of them.

Importing this package imports NumPy but not MindSpore.
"""

from msft_core.weights.finding import KnownWeights, resolve_weights
from msft_core.weights.loading import (
    BOOKKEEPING_NAMES,
    BOOKKEEPING_PREFIXES,
    draw_head,
    drop_bookkeeping,
    keeps_head,
    load_into,
)
from msft_core.weights.reading import Checkpoint, read_checkpoint

__all__ = [
    "BOOKKEEPING_NAMES",
    "BOOKKEEPING_PREFIXES",
    "Checkpoint",
    "KnownWeights",
    "draw_head",
    "drop_bookkeeping",
    "keeps_head",
    "load_into",
    "read_checkpoint",
    "resolve_weights",
]

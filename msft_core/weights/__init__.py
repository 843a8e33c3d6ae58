"""Find, read and load pretrained weights. Public: backbone plugins use this package.

Loading has four steps. ``resolve_weights`` turns the user's setting into a file.
``read_checkpoint`` reads the file, whichever program wrote it. The plugin maps the file's names to
the network's names. ``load_into`` copies the values and accounts for each of them.

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

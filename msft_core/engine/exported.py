"""The network that is exported. In a file of its own, since it imports MindSpore."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mindspore import Tensor, nn

from msft_core.stages import Chain
from msft_core.types import Array, Preprocessing


class Exported(nn.Cell):
    """From images to probabilities.

    Args:
        cells: the stages and the head.
        preprocessing: with its mean and std the input is normalised; None if it already is.
    """

    def __init__(self, cells: Sequence[nn.Cell], preprocessing: Preprocessing | None) -> None:
        super().__init__(auto_prefix=False)
        self.network = Chain(cells)
        self.softmax = nn.Softmax(axis=-1)
        self.normalises = preprocessing is not None
        if preprocessing is not None:
            mean, std = (np.array(v, np.float64) for v in (preprocessing.mean, preprocessing.std))
            self.scale = _of_channels(1 / (255 * std))
            self.shift = _of_channels(mean / std)

    # The argument's name becomes the name of the input in a MINDIR file.
    def construct(self, images: Tensor) -> Tensor:
        """(N, 3, size, size) to (N, K)."""
        if self.normalises:
            images = images * self.scale - self.shift
        return self.softmax(self.network(images))


def _of_channels(values: Array) -> Tensor:
    return Tensor(values.astype(np.float32).reshape(1, 3, 1, 1))

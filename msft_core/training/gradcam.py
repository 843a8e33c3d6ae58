"""Where in an image a network sees a class: Grad-CAM.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", ICCV 2017, arXiv:1610.02391, equations 1 and 2.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import ops
from PIL import Image

from msft_core.errors import UsageError
from msft_core.stages import Chain
from msft_core.training.compilation import MINDSPORE
from msft_core.types import Array, Backbone

_BATCH = 8


def heat_maps(backbone: Backbone, images: Array, classes: Array) -> Array:
    """How much each place of an image speaks for a class.

    Args:
        backbone: its cells are put into evaluation mode.
        images: normalised, float32 (N, 3, size, size).
        classes: int (N,), index of the class in question for each image.

    Returns: float32 (N, size, size), 0 to 1, scaled for each image by its greatest value; all are 0
    where no place speaks for the class.

    Raises:
        UsageError: no stage of the backbone has a spatial output.
    """
    cells = [stage.cell for stage in backbone.stages]
    with MINDSPORE:
        for cell in (*cells, backbone.head):
            cell.set_train(False)
        portions = [slice(i, i + _BATCH) for i in range(0, len(images), _BATCH)]
        maps = [_of_batch(backbone, images[one], classes[one]) for one in portions]
    size = backbone.preprocessing.size
    return np.concatenate([np.zeros((0, size, size), np.float32), *maps])


def _of_batch(backbone: Backbone, images: Array, classes: Array) -> Array:
    features, rest = _split(backbone, images)
    chosen = ms.Tensor(np.eye(1 + int(classes.max()), dtype=np.float32)[classes])

    def scores(features: ms.Tensor) -> ms.Tensor:
        logits = rest(features)
        return ops.reduce_sum(logits[:, : chosen.shape[1]] * chosen)

    gradients = ms.grad(scores)(features).asnumpy()
    values = features.asnumpy()
    weights = gradients.mean(axis=(2, 3), keepdims=True)
    maps = np.maximum((weights * values).sum(axis=1), 0)
    greatest = maps.max(axis=(1, 2), keepdims=True)
    maps = maps / np.where(greatest > 0, greatest, 1)
    side = (images.shape[3], images.shape[2])
    resized = [Image.fromarray(one.astype(np.float32)).resize(side, _SMOOTH) for one in maps]
    return np.clip(np.stack([np.asarray(one, np.float32) for one in resized]), 0, 1)


_SMOOTH = Image.Resampling.BILINEAR


def _split(backbone: Backbone, images: Array) -> tuple[ms.Tensor, Chain]:
    """The output of the last stage that has a spatial one, and the cells after it."""
    value = ms.Tensor(images)
    found: tuple[ms.Tensor, int] | None = None
    for number, stage in enumerate(backbone.stages, start=1):
        value = stage.cell(value)
        if value.ndim == 4 and min(value.shape[2:]) > 1:
            found = value, number
    if found is None:
        raise UsageError(
            f"backbone {backbone.name} has no stage with a spatial output (N, C, H, W), so "
            "there is nothing to explain."
        )
    features, number = found
    return features, Chain([*(s.cell for s in backbone.stages[number:]), backbone.head])

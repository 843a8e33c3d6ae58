"""Small pictures inside a page, as data URIs."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from msft_core.types import Array

SIDE = 160
"""Pixels. The page shows them a little smaller."""

_QUALITY = 72


def data_uri(pixels: Array) -> str:
    """A picture, uint8 (H, W, 3), as a WebP of at most ``SIDE`` pixels inside an address."""
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=_QUALITY, method=0)  # the quickest
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def overlay(pixels: Array, heat: Array) -> Array:
    """Show where a network looks: a grey picture, coloured the more the warmer a place is.

    Args:
        pixels: uint8 (H, W, 3).
        heat: float32 (H, W), 0 to 1, as ``Run.explain`` returns it.

    Returns: uint8 (H, W, 3).
    """
    from matplotlib import colormaps

    grey = pixels @ np.array([0.299, 0.587, 0.114])
    base = np.repeat((0.45 * grey + 20)[..., None], 3, axis=2)
    colours: Any = 255 * colormaps["inferno"](0.25 + 0.7 * heat)[..., :3]
    share = (0.8 * np.sqrt(heat))[..., None]
    mixed = (1 - share) * base + share * (0.65 * colours + 0.35 * grey[..., None])
    return np.clip(mixed, 0, 255).astype(np.uint8)

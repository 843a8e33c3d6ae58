"""What the tests about images share: a picture, its encodings, folders of them, a reporter."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(width: int = 96, height: int = 64, shade: int = 0) -> Image.Image:
    """RGB, smooth, and different when mirrored, turned, negated or with channels swapped."""
    y, x = np.mgrid[0:height, 0:width]
    red = 255 * x / (width - 1)
    green = 200 * y / (height - 1)
    blue = 40 + 160 * ((x / width - 0.3) ** 2 + (y / height - 0.6) ** 2)
    pixels = np.stack([red, green, blue], axis=2) * (1 - shade / 255)
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def scene(*seed: int, width: int = 240, height: int = 180) -> Image.Image:
    """RGB, with shapes of all sizes, the larger the stronger, as photographs have them.

    Another seed gives a picture that looks different; ``picture`` with another shade does not.
    """
    random = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for cells in (3, 6, 12, 24, 48):
        noise = Image.fromarray(random.integers(0, 256, (cells, cells, 3), np.uint8))
        noise = noise.resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(noise, float) / cells
    return Image.fromarray((total * 255 / total.max()).astype(np.uint8))


def encode(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}) | options)
    return buffer.getvalue()


def difference(one: Image.Image | np.ndarray, other: Image.Image | np.ndarray) -> float:
    """Mean absolute difference, in levels of 255."""
    a, b = np.asarray(one).astype(float), np.asarray(other).astype(float)
    assert a.shape == b.shape
    return float(np.abs(a - b).mean())


def write_classes(root: Path, counts: Mapping[str, int], size: tuple[int, int] = (32, 24)) -> None:
    """Write that many JPEG files, all different, into each folder under ``root``.

    The same class, number and size is the same file.
    """
    for place, (name, count) in enumerate(counts.items()):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image = scene(place, number, *size, width=size[0], height=size[1])
            (folder / f"{number:03}.jpg").write_bytes(encode(image))

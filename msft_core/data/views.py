"""Turn an image into the network's input: training views, the evaluation view, normalisation.

A *view* is one augmentation of one image. It is a function of the seed, the image's id and the view
number alone. It does not depend on threads, on other images or on earlier random draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, JpegImagePlugin

from msft_core.files import hash_of
from msft_core.images import decode_opened, open_image, orientation_of, turn
from msft_core.types import Preprocessing

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Augmentation:
    """How training varies an image.

    Args:
        scale: least and greatest fraction of the image's area that a crop covers.
        ratio: least and greatest width / height of a crop, before it is resized to a square.
        flip: probability of a horizontal flip.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5


Pixels = npt.NDArray[np.uint8]

Floats = npt.NDArray[np.float32]

Box = tuple[float, float, float, float]  # left, upper, right, lower; pixels of the upright image


def training_view(
    data: bytes,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    *,
    seed: int,
    image_id: str,
    view: int,
) -> Pixels:
    """One view of one image: a random crop, resized to a square and perhaps flipped.

    Args:
        data: the encoded image.
        preprocessing: gives size and interpolation.
        augmentation: how much views vary.
        seed: the run's seed.
        image_id: the image's id.
        view: number of the view, usually the epoch.

    Returns: uint8 (size, size, 3), RGB. The same seed, id and view number give the same view.
    Raises: ImageError if the image does not decode.
    """
    random = random_from(seed, image_id, view)
    crop = _crop(data, preprocessing, lambda size: _random_box(size, augmentation, random))
    if random.random() < augmentation.flip:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(crop)


def evaluation_view(data: bytes, preprocessing: Preprocessing) -> Pixels:
    """The image as evaluation and prediction see it: a crop of the centre, without randomness.

    In one step it does the same as resizing the short side to ``round(size / crop_fraction)`` and
    cropping the centre.

    Returns: uint8 (size, size, 3), RGB.
    Raises: ImageError if the image does not decode.
    """
    return np.asarray(_crop(data, preprocessing, lambda size: _centre_box(size, preprocessing)))


def evaluation_view_of(picture: Image.Image, preprocessing: Preprocessing) -> Pixels:
    """The same for an image that is decoded already.

    Args:
        picture: upright, of mode RGB.
        preprocessing: gives size, crop and interpolation.
    """
    return np.asarray(_resized(picture, _centre_box(picture.size, preprocessing), preprocessing))


def random_from(*parts: object) -> np.random.Generator:
    """A random generator whose stream is a function of the parts, taken as text."""
    # Philox takes the key directly: a stream needs no entropy and no stored state, and streams of
    # different keys are independent.
    return np.random.Generator(np.random.Philox(key=number_from(*parts)))


def number_from(*parts: object) -> int:
    """A hash of the parts as a number below 2**128: the key of a random generator."""
    return int.from_bytes(hash_of(*parts), "little")


def _random_box(
    size: tuple[int, int], augmentation: Augmentation, random: np.random.Generator
) -> Box:
    """A crop whose area and shape are drawn at random (Szegedy et al. 2015, arXiv:1409.4842)."""
    width, height = size
    least, greatest = (math.log(ratio) for ratio in augmentation.ratio)
    low, high = augmentation.scale
    for _ in range(10):
        area = width * height * (low + (high - low) * random.random())
        ratio = math.exp(least + (greatest - least) * random.random())
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left = int(random.random() * (width - w + 1))
            upper = int(random.random() * (height - h + 1))
            return left, upper, left + w, upper + h
    # Most likely a very long image: take the largest centred crop that the ratios allow.
    ratio = min(max(width / height, augmentation.ratio[0]), augmentation.ratio[1])
    half_w, half_h = min(width, height * ratio) / 2, min(height, width / ratio) / 2
    return width / 2 - half_w, height / 2 - half_h, width / 2 + half_w, height / 2 + half_h


def _centre_box(size: tuple[int, int], preprocessing: Preprocessing) -> Box:
    width, height = size
    resized = round(preprocessing.size / preprocessing.crop_fraction)
    side = min(width, height) * min(1.0, preprocessing.size / resized)
    left, upper = (width - side) / 2, (height - side) / 2
    return left, upper, left + side, upper + side


def _crop(
    data: bytes, preprocessing: Preprocessing, choose: Callable[[tuple[int, int]], Box]
) -> Image.Image:
    """Decode an image, and resize a part of it to a square. ``choose`` gets the upright size."""
    opened = open_image(data)
    with turn(opened.size):
        return _crop_opened(opened, data, preprocessing, choose)


def _crop_opened(
    opened: ImageFile.ImageFile,
    data: bytes,
    preprocessing: Preprocessing,
    choose: Callable[[tuple[int, int]], Box],
) -> Image.Image:
    shrink = 1
    if isinstance(opened, JpegImagePlugin.JpegImageFile):
        width, height = opened.size
        box = choose((height, width) if orientation_of(opened) >= 5 else (width, height))
        # A JPEG decoder can decode at a half, a quarter or an eighth of the size. That saves a
        # third of the time for a 12-megapixel photograph. Go no lower than twice the size needed:
        # then the resize still decides the pixels, and smaller photographs are not affected.
        enough = 2 * preprocessing.size
        while shrink < 8 and min(box[2] - box[0], box[3] - box[1]) >= 2 * shrink * enough:
            shrink *= 2
        if shrink > 1 and opened.draft(None, (width // shrink, height // shrink)) is None:
            shrink = 1  # the decoder cannot reduce this image
        picture = decode_opened(opened, data)
    else:
        picture = decode_opened(opened, data)
        box = choose(picture.size)
    left, upper, right, lower = (edge / shrink for edge in box)
    return _resized(picture, (left, upper, right, lower), preprocessing)


def _resized(picture: Image.Image, box: Box, preprocessing: Preprocessing) -> Image.Image:
    side = (preprocessing.size, preprocessing.size)
    return picture.resize(side, _RESAMPLING[preprocessing.interpolation], box)


def normalise(pixels: Pixels, preprocessing: Preprocessing) -> Floats:
    """``(pixels / 255 - mean) / std``, channels first.

    Args:
        pixels: uint8 (N, H, W, 3), RGB.
        preprocessing: gives mean and std.

    Returns: float32 (N, 3, H, W), C-contiguous.
    """
    n, height, width, _ = pixels.shape
    out = np.empty((n, 3, height, width), np.float32)
    scale, shift = _affine(preprocessing)
    for channel in range(3):
        np.multiply(pixels[..., channel], scale[channel], out=out[:, channel], dtype=np.float32)
        out[:, channel] -= shift[channel]
    return out


def denormalise(images: Floats, preprocessing: Preprocessing) -> Pixels:
    """Undo `normalise`, exactly.

    Args:
        images: float32 (N, 3, H, W).
        preprocessing: gives mean and std.

    Returns: uint8 (N, H, W, 3), RGB.
    """
    scale, shift = _affine(preprocessing)
    pixels = np.rint((images.transpose(0, 2, 3, 1) + shift) / scale)
    restored: Pixels = pixels.clip(0, 255).astype(np.uint8)
    return restored


def _affine(
    preprocessing: Preprocessing,
) -> tuple[Floats, Floats]:
    """Scale and shift, float32 (3,): normalising is ``pixels * scale - shift``."""
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    return (1 / (255 * std)).astype(np.float32), (mean / std).astype(np.float32)

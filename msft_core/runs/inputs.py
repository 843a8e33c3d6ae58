"""Images as Python users have them: files, bytes, PIL images, arrays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image

from msft_core.data.views import evaluation_view, evaluation_view_of
from msft_core.images import ImageError, read_file, upright_rgb
from msft_core.types import Array, Preprocessing

if TYPE_CHECKING:
    ImageInput: TypeAlias = str | Path | bytes | Image.Image | Array


def is_one(images: Any) -> bool:
    """Whether this is one image; else it is an iterable of images."""
    if isinstance(images, np.ndarray):
        return images.ndim != 4
    return isinstance(images, (str, Path, bytes, bytearray, memoryview, Image.Image))


def name_of(image: Any, index: int) -> str:
    """How a message names an image: by its path, or by its place."""
    return str(image) if isinstance(image, (str, Path)) else f"number {index + 1}"


def view_of(image: Any, preprocessing: Preprocessing) -> Array:
    """What the network sees of an image, uint8 (size, size, 3).

    Args:
        image: a path, encoded bytes, a PIL image, or an array uint8 (H, W, 3) or (H, W).
        preprocessing: gives size, crop and interpolation.

    Raises:
        ImageError: it cannot be read, decoded or used.
    """
    if isinstance(image, (str, Path)):
        image = _read(Path(image))
    if isinstance(image, (bytes, bytearray, memoryview)):
        return evaluation_view(bytes(image), preprocessing)
    if isinstance(image, np.ndarray):
        image = _from_array(image)
    if not isinstance(image, Image.Image):
        raise ImageError(
            f"a {type(image).__name__} is not an image: give a path, bytes, a PIL image or an array"
        )
    try:
        return evaluation_view_of(upright_rgb(image), preprocessing)
    except OSError as error:  # opened by PIL, but not read so far
        raise ImageError(str(error)) from error


def _read(path: Path) -> bytes:
    try:
        return read_file(path.expanduser())
    except IsADirectoryError:
        raise ImageError("it is a folder: give the images in it") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"it cannot be read: {getattr(error, 'strerror', error)}") from error


def _from_array(array: Array) -> Image.Image:
    if array.dtype != np.uint8:
        raise ImageError(f"an array of {array.dtype}: give uint8, RGB from 0 to 255")
    shape = array.shape
    if 0 in shape or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)):
        raise ImageError(f"an array of shape {shape}: give (height, width, 3), or (height, width)")
    return Image.fromarray(np.ascontiguousarray(array))

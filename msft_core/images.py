"""From encoded images to arrays. Public: dataset plugins use it. No MindSpore in here.

One function, `decode`, turns bytes into pixels, for the check before a run, for training, for
evaluation and for prediction alike, so what passed the check is what is trained on.

A *view* is one augmentation of one image. It depends on the seed, the image's id and the number of
the view, and on nothing else: not on threads, not on the other images, not on what was drawn
before.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    Image,
    ImageChops,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from msft_core.types import ImageTable, Preprocessing, Reporter

# Registered by hand: Image.open would import every plugin it has at the first WebP or TIFF, from
# several threads at once.
_PLUGINS = (BmpImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin)

# Pillow warns about odd metadata and about large photographs, on stderr, in the middle of a
# progress bar. Neither concerns the pixels; what does is raised.
warnings.filterwarnings("ignore", module=r"PIL\.")

MAX_PIXELS = 178_956_970
"""Larger images are refused: more than any camera's, and half a gigabyte once decoded."""

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

# EXIF orientation -> what makes the picture upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(Exception):
    """An image cannot be used; the message is a short reason, such as ``truncated``."""


# --------------------------------------------------------------------------------------- tables


@dataclass(frozen=True)
class FileTable:
    """Images that are files.

    Args:
        ids: a stable, unique name for each image, best its path relative to the data folder.
        labels: index into the class list for each image.
        paths: of the files.
    """

    ids: tuple[str, ...]
    labels: tuple[int, ...]
    paths: tuple[str, ...]

    def __post_init__(self) -> None:
        _require_same_length(self.ids, self.labels, self.paths)

    def read(self, index: int) -> bytes:
        """Content of the file. Raises OSError where it cannot be read."""
        return Path(self.paths[index]).read_bytes()


@dataclass(frozen=True)
class MemoryTable:
    """Images held in memory, encoded.

    Args:
        ids: a stable, unique name for each image.
        labels: index into the class list for each image.
        blobs: the encoded images.
    """

    ids: tuple[str, ...]
    labels: tuple[int, ...]
    blobs: tuple[bytes, ...] = field(repr=False)

    def __post_init__(self) -> None:
        _require_same_length(self.ids, self.labels, self.blobs)

    def read(self, index: int) -> bytes:
        """The encoded image."""
        return self.blobs[index]


@dataclass(frozen=True)
class _Rows:
    """Some rows of another table, which still does the reading."""

    table: ImageTable
    indices: tuple[int, ...]
    ids: tuple[str, ...]
    labels: tuple[int, ...]

    def read(self, index: int) -> bytes:
        return self.table.read(self.indices[index])


@dataclass(frozen=True)
class _FileRows(_Rows):
    paths: tuple[str, ...]


def subset(table: ImageTable, indices: Sequence[int]) -> ImageTable:
    """A view on some rows of a table, in the order given; it has ``paths`` if the table has."""
    rows = tuple(indices)
    ids = tuple(table.ids[i] for i in rows)
    labels = tuple(table.labels[i] for i in rows)
    paths: Sequence[str] | None = getattr(table, "paths", None)
    if paths is None:
        return _Rows(table, rows, ids, labels)
    return _FileRows(table, rows, ids, labels, tuple(paths[i] for i in rows))


def _require_same_length(*columns: Sequence[Any]) -> None:
    if len({len(column) for column in columns}) > 1:
        raise ValueError(f"columns of different lengths: {[len(column) for column in columns]}")


# --------------------------------------------------------------------------------------- decode


def decode(data: bytes) -> Image.Image:
    """Decode an image fully.

    JPEG, PNG, WebP, BMP and TIFF are read; of several frames or pages the first. Orientation
    from EXIF is applied, transparency is laid over white, 16-bit greys are scaled to 8 bits.

    Returns: an image of mode RGB.
    Raises: ImageError, and nothing else, whatever the bytes are.
    """
    return _finish(_open(data), data)


@dataclass(frozen=True)
class ImageInfo:
    """What is known about an image that decodes.

    Args:
        format: JPEG, PNG, WEBP, BMP or TIFF.
        width: of the upright picture, pixels.
        height: likewise.
        mode: Pillow's name of the pixel format in the file: RGB, L, CMYK, P, ...
    """

    format: str
    width: int
    height: int
    mode: str


def inspect_image(data: bytes) -> ImageInfo:
    """Decode an image just as training does and describe it. Raises ImageError if that fails."""
    opened = _open(data)
    mode = opened.mode
    picture = _finish(opened, data)
    return ImageInfo(sniff(data), picture.width, picture.height, mode)


def _open(data: bytes) -> ImageFile.ImageFile:
    """Read an image's header; the pixels are not decoded yet. Raises ImageError."""
    kind = sniff(data)
    try:
        opened = Image.open(io.BytesIO(data), formats=[kind])
    except Image.DecompressionBombError:
        raise ImageError(f"more than {MAX_PIXELS // 1_000_000} million pixels") from None
    except Exception as error:  # Pillow raises whatever its parsers stumble over
        raise ImageError(_explain(error, kind, data)) from error
    width, height = opened.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width}x{height}, more than {MAX_PIXELS // 1_000_000} million pixels")
    if isinstance(opened, TiffImagePlugin.TiffImageFile) and opened.tag_v2.get(254) == 1:
        # Camera raw files are TIFF files whose first page is a thumbnail.
        raise ImageError("a camera raw file or a thumbnail: convert it to JPEG or PNG")
    return opened


def _finish(opened: ImageFile.ImageFile, data: bytes) -> Image.Image:
    """Decode the pixels of an image whose header has been read. Raises ImageError."""
    try:
        opened.load()
        picture = _to_rgb(opened)
        orientation = _orientation(opened)
        return picture if orientation == 1 else picture.transpose(_UPRIGHT[orientation])
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(_explain(error, sniff(data), data)) from error


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none or EXIF is corrupt."""
    try:
        value = image.getexif().get(0x0112, 1)
        return value if value in _UPRIGHT else 1
    except Exception:  # corrupt EXIF does not spoil the picture
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode that the accepted formats give, as RGB."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        image = _scale_16_bit_grey(image)
    if image.mode in ("F", "LAB"):
        what = "floating-point" if image.mode == "F" else "Lab"
        raise ImageError(f"{what} pixels: convert it to JPEG or PNG")
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        # Adobe stores CMYK inverted, and Pillow takes every CMYK JPEG for Adobe's.
        image = ImageChops.invert(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture)
        image = white
    return image.convert("RGB")


def _scale_16_bit_grey(image: Image.Image) -> Image.Image:
    """Mode L from 16-bit grey, which ``convert`` would clip at 255."""
    grey = np.asarray(image).astype(np.int64)
    if grey.min(initial=0) < 0 or grey.max(initial=0) > 65535:
        raise ImageError("32-bit grey pixels: convert it to JPEG or PNG")
    return Image.fromarray(((grey + 128) // 257).astype(np.uint8))


# ---------------------------------------------------------------------------------------- sniff

_CONVERT = "convert it to JPEG or PNG"

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
)
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # the sizes of its info header there have been

_REFUSED = (
    (b"GIF87a", f"a GIF, not a photograph: {_CONVERT}"),
    (b"GIF89a", f"a GIF, not a photograph: {_CONVERT}"),
    (b"%PDF", f"a PDF: {_CONVERT}"),
    (b"8BPS", f"a Photoshop file: {_CONVERT}"),
    (b"\xff\x0a", f"a JPEG XL image: {_CONVERT}"),
    (b"\x00\x00\x00\x0cJXL ", f"a JPEG XL image: {_CONVERT}"),
    (b"\x00\x00\x00\x0cjP  ", f"a JPEG 2000 image: {_CONVERT}"),
    (b"\xff\x4f\xff\x51", f"a JPEG 2000 image: {_CONVERT}"),
    (b"\x00\x00\x01\x00", "an icon, not a photograph"),
    (b"FUJIFILMCCD-RAW", f"a camera raw file: {_CONVERT}"),
    (b"IIRO", f"a camera raw file: {_CONVERT}"),
    (b"IIU\x00", f"a camera raw file: {_CONVERT}"),
    (b"PK\x03\x04", "a zip archive, not an image: unpack it"),
    (b"version https://git-lfs", "a Git LFS pointer, not the image: run git lfs pull"),
)
_BRANDS = (
    ((b"avif", b"avis"), f"an AVIF image: {_CONVERT}"),
    ((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), f"a HEIC image: {_CONVERT}"),
    ((b"crx ",), f"a camera raw file: {_CONVERT}"),
)


def sniff(data: bytes) -> str:
    """Tell an image's format by its first bytes, whatever the file is called.

    Returns: JPEG, PNG, WEBP, BMP or TIFF.
    Raises: ImageError naming what it is instead, as far as that can be told.
    """
    if data[:4] == b"II*\x00" and data[8:10] == b"CR":  # Canon's, a TIFF otherwise
        raise ImageError(f"a camera raw file: {_CONVERT}")
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    raise ImageError(_what_instead(data))


def _what_instead(data: bytes) -> str:
    if not data:
        return "empty file (zero bytes)"
    for magic, reason in _REFUSED:
        if data.startswith(magic):
            return reason
    if data[4:8] == b"ftyp":
        for brands, reason in _BRANDS:
            # The major brand may be the generic mif1 with avif among the compatible ones.
            if any(brand in data[8:64] for brand in brands):
                return reason
        return "a video, not an image"
    start = data[:1024]
    if not start.strip(b"\x00"):
        return "not an image (zeros: was copying it interrupted?)"
    text = _as_text(start)
    if text is None:
        return "not an image"
    if "<svg" in text:
        return f"an SVG drawing: {_CONVERT}"
    if "<html" in text or "<!doctype html" in text:
        return "a web page, not an image: was downloading it refused?"
    return "not an image (text)"


def _as_text(start: bytes) -> str | None:
    """The beginning of a file as lower-case text, or None where it is none."""
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # not just a character cut in two at the end
            return None
        text = start[: error.start].decode("utf-8")
    return None if "\0" in text else text.lower()


def _explain(error: Exception, kind: str, data: bytes) -> str:
    """A short reason for an image of a known format that does not decode."""
    if "truncated" in str(error).lower() or _ends_early(kind, data):
        return "truncated: the file ends before the picture does"
    if isinstance(error, UnidentifiedImageError):  # its message shows an object's address
        return f"broken {kind}: its header cannot be read"
    return f"broken {kind}: {str(error).strip() or type(error).__name__}"


def _ends_early(kind: str, data: bytes) -> bool:
    if kind == "PNG":
        return b"IEND" not in data[-64:]
    if kind == "WEBP":
        return len(data) < int.from_bytes(data[4:8], "little")
    return False


# ---------------------------------------------------------------------------------------- check


@dataclass(frozen=True)
class SkippedImage:
    """An image that is left out, and why; ``path`` is None where there is no file."""

    id: str
    path: str | None
    reason: str


@dataclass(frozen=True)
class ImageCheck:
    """What `check_images` found.

    Args:
        kept: indices into the table of the images that decode, ascending.
        skipped: the others.
        digests: BLAKE2b of the bytes of each kept image, hexadecimal, in the order of ``kept``.
    """

    kept: tuple[int, ...]
    skipped: tuple[SkippedImage, ...]
    digests: tuple[str, ...]


def check_images(
    table: ImageTable, *, workers: int, reporter: Reporter, known: Container[str] = ()
) -> ImageCheck:
    """Decode every image of a table once, in threads, and say which cannot be used.

    A file that cannot be read counts as one that does not decode. Ctrl-C ends it within an
    image's time.

    Args:
        table: the images.
        workers: threads.
        reporter: for progress.
        known: digests of images that decoded before: these are read, and not decoded again.
    """
    paths: Sequence[str] | None = getattr(table, "paths", None)

    def examine(index: int) -> tuple[str, str]:
        """Digest and reason; one of them is empty."""
        try:
            data = table.read(index)
            digest = blake2b(data, digest_size=16).hexdigest()
            if digest not in known:
                decode(data)
        except ImageError as error:
            return "", str(error)
        except OSError as error:
            return "", f"cannot be read: {error.strerror or error}"
        return digest, ""

    kept: list[int] = []
    skipped: list[SkippedImage] = []
    digests: list[str] = []
    total = len(table.ids)
    with (
        reporter.progress("checking images", total, "images") as advance,
        ThreadPoolExecutor(max(1, workers), thread_name_prefix="msft-check") as pool,
    ):
        # By the thousand, so that a million images do not mean a million waiting tasks.
        for start in range(0, total, 1000):
            block = range(start, min(start + 1000, total))
            for index, (digest, reason) in zip(block, pool.map(examine, block), strict=True):
                if digest:
                    kept.append(index)
                    digests.append(digest)
                else:
                    path = None if paths is None else paths[index]
                    skipped.append(SkippedImage(table.ids[index], path, reason))
                advance(1)
    return ImageCheck(tuple(kept), tuple(skipped), tuple(digests))


def duplicates_between(
    train: ImageTable, train_check: ImageCheck, val: ImageTable, val_check: ImageCheck
) -> tuple[tuple[str, str], ...]:
    """Pairs (train id, val id) of images whose bytes are the same in both splits.

    Such an image makes validation look better than it is. Of several copies in train the first
    is named.

    Args:
        train: the images kept by ``train_check``, in its order.
        train_check: its digests are used.
        val: likewise.
        val_check: likewise.
    """
    first: dict[str, str] = {}
    for digest, image_id in zip(train_check.digests, train.ids, strict=True):
        first.setdefault(digest, image_id)
    return tuple(
        (first[digest], image_id)
        for digest, image_id in zip(val_check.digests, val.ids, strict=True)
        if digest in first
    )


# ---------------------------------------------------------------------------------------- views


@dataclass(frozen=True)
class Augmentation:
    """How training varies an image.

    Args:
        scale: least and greatest part of the picture's area that a crop covers.
        ratio: least and greatest width divided by height of a crop, before it is made square.
        flip: probability of mirroring left and right.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5


Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Box = tuple[float, float, float, float]  # left, upper, right, lower; pixels of the upright picture


def training_view(
    data: bytes,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    *,
    seed: int,
    image_id: str,
    view: int,
) -> Pixels:
    """One augmentation of one image: a random crop made square, perhaps mirrored.

    Args:
        data: the encoded image.
        preprocessing: size and interpolation are used.
        augmentation: how much it varies.
        seed: of the run.
        image_id: of the image.
        view: number of the augmentation, usually the epoch.

    Returns: uint8 (size, size, 3), RGB. The same seed, id and view give the same crop.
    Raises: ImageError where the image does not decode.
    """
    random = _random(seed, image_id, view)
    crop = _crop(data, preprocessing, lambda size: _random_box(size, augmentation, random))
    if random.random() < augmentation.flip:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(crop)


def evaluation_view(data: bytes, preprocessing: Preprocessing) -> Pixels:
    """The image as evaluation and prediction see it: the middle of it, nothing random.

    The same as resizing the short side to ``round(size / crop_fraction)`` and cropping the
    centre, in one step.

    Returns: uint8 (size, size, 3), RGB.
    Raises: ImageError where the image does not decode.
    """
    return np.asarray(_crop(data, preprocessing, lambda size: _centre_box(size, preprocessing)))


def hash_of(*parts: object) -> bytes:
    """16 bytes for what the parts say together, as text: BLAKE2b."""
    text = "\0".join(str(part) for part in parts)
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _random(seed: int, image_id: str, view: int) -> np.random.Generator:
    # Philox is keyed directly, so a stream costs no entropy and no state of its own, and streams
    # of different keys are independent.
    key = int.from_bytes(hash_of(seed, image_id, view), "little")
    return np.random.Generator(np.random.Philox(key=key))


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
    # A very long picture, most likely: the middle of it, as little cut as the ratios allow.
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
    """Decode an image and resize a part of it, chosen from the upright size, to the square."""
    opened = _open(data)
    shrink = 1
    if isinstance(opened, JpegImagePlugin.JpegImageFile):
        width, height = opened.size
        box = choose((height, width) if _orientation(opened) >= 5 else (width, height))
        # A JPEG decoder can leave out detail: to half, a quarter or an eighth of the size. That
        # takes a third off a 12-megapixel photograph's time. Only down to twice the size needed,
        # so that the resize still decides the pixels, and smaller photographs are not touched.
        enough = 2 * preprocessing.size
        while shrink < 8 and min(box[2] - box[0], box[3] - box[1]) >= 2 * shrink * enough:
            shrink *= 2
        if shrink > 1 and opened.draft(None, (width // shrink, height // shrink)) is None:
            shrink = 1  # it cannot be had
        picture = _finish(opened, data)
    else:
        picture = _finish(opened, data)
        box = choose(picture.size)
    left, upper, right, lower = (edge / shrink for edge in box)
    side = (preprocessing.size, preprocessing.size)
    return picture.resize(
        side, _RESAMPLING[preprocessing.interpolation], (left, upper, right, lower)
    )


# ------------------------------------------------------------------------------------ normalise


def normalise(pixels: Pixels, preprocessing: Preprocessing) -> Floats:
    """``(pixels / 255 - mean) / std``, channels first.

    Args:
        pixels: uint8 (N, H, W, 3), RGB.
        preprocessing: mean and std are used.

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
        preprocessing: mean and std are used.

    Returns: uint8 (N, H, W, 3), RGB.
    """
    scale, shift = _affine(preprocessing)
    pixels = np.rint((images.transpose(0, 2, 3, 1) + shift) / scale)
    restored: Pixels = pixels.clip(0, 255).astype(np.uint8)
    return restored


def _affine(
    preprocessing: Preprocessing,
) -> tuple[Floats, Floats]:
    """Scale and shift, float32 (3,), so that normalising is ``pixels * scale - shift``."""
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    return (1 / (255 * std)).astype(np.float32), (mean / std).astype(np.float32)


# ---------------------------------------------------------------------------------------- plain


def plain(data: bytes) -> bytes:
    """Bytes that MindSpore's own decoder reads as `decode` does.

    It ignores EXIF orientation and transparency and cannot read WebP. So an 8-bit grey or RGB
    JPEG or PNG that is upright stays as it is; anything else is decoded and encoded as PNG. Of a
    JPEG that stays, only the header is read, so this costs next to nothing: check images first.

    Raises: ImageError where the header cannot be read, or the image has to be decoded and cannot.
    """
    opened = _open(data)
    kind = sniff(data)
    eight_bits = kind == "JPEG" or (kind == "PNG" and data[24] == 8)
    if (
        eight_bits
        and opened.mode in ("RGB", "L")
        and "transparency" not in opened.info
        and _orientation(opened) == 1
    ):
        return data
    buffer = io.BytesIO()
    _finish(opened, data).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()

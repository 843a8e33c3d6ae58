"""Encoded images, and how to decode them. Public: dataset plugins use it. MindSpore is not used.

One function, `decode`, turns bytes into pixels for the check before a run, for training, for
evaluation and for prediction. So an image that passes the check can be used in training.
"""

from __future__ import annotations

import functools
import io
import stat
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
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
from PIL import features as pillow_features

from msft_core.types import ImageTable

# Registered here: at the first WebP or TIFF Image.open would import all of its plugins, from
# several threads at once.
_PLUGINS = (BmpImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin)
if READS_AVIF := bool(pillow_features.check("avif")):
    from PIL import AvifImagePlugin as AvifImagePlugin

# Pillow warns about odd metadata and large photographs on stderr, in the middle of a progress bar.
# Neither concerns the pixels. Problems with the pixels are raised as exceptions.
warnings.filterwarnings("ignore", module=r"PIL\.")

MAX_PIXELS = 178_956_970
"""Larger images are refused, as Pillow does by default. Decoded they take 0.7 GB, and as much again
if they are turned upright.
"""

MAX_BYTES = 512 << 20
"""Larger files are refused unread. The largest BMP that is accepted takes 360 MB."""

_COSTLY = 2
"""Decoders of most formats keep the image several times, up to 16 bytes a pixel. So only half of
``MAX_PIXELS`` is accepted of these, and a single image never takes 2 GB."""

_LARGE_PIXELS = 32_000_000
"""Larger images are decoded one at a time, whatever the number of threads."""

_LARGE = threading.RLock()

_MEMORY: Any = Image.core  # type: ignore[attr-defined]

# EXIF orientation -> the operation that makes the image upright.
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
    """An image cannot be used. The message is a short reason, such as ``truncated``."""


@dataclass(frozen=True)
class FileTable:
    """Images that are files.

    Args:
        ids: a stable, unique name for each image; best is its path relative to the data folder.
        labels: index into the class list for each image.
        paths: the path of each file.
    """

    ids: Sequence[str]
    labels: Sequence[int]
    paths: Sequence[str]

    def __post_init__(self) -> None:
        _require_same_length(self.ids, self.labels, self.paths)

    def read(self, index: int) -> bytes:
        """The content of the file. Raises OSError, or ImageError, if it cannot be read."""
        return read_file(Path(self.paths[index]))


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
class _Subset:
    """Some images of another table. That table reads them."""

    table: ImageTable
    indices: tuple[int, ...]
    ids: tuple[str, ...]
    labels: tuple[int, ...]

    def read(self, index: int) -> bytes:
        return self.table.read(self.indices[index])


@dataclass(frozen=True)
class _FileSubset(_Subset):
    paths: tuple[str, ...]


def subset(table: ImageTable, indices: Sequence[int]) -> ImageTable:
    """Some images of a table, in the order of ``indices``. Has ``paths`` if the table has them."""
    chosen = tuple(indices)
    ids = tuple(table.ids[i] for i in chosen)
    labels = tuple(table.labels[i] for i in chosen)
    paths: Sequence[str] | None = getattr(table, "paths", None)
    if paths is None:
        return _Subset(table, chosen, ids, labels)
    return _FileSubset(table, chosen, ids, labels, tuple(paths[i] for i in chosen))


def _require_same_length(*columns: Sequence[Any]) -> None:
    if len({len(column) for column in columns}) > 1:
        lengths = [len(column) for column in columns]
        raise ValueError(f"ids, labels and images must have the same length, not {lengths}")


def read_file(path: Path) -> bytes:
    """The content of an image file.

    Raises:
        OSError: it cannot be read.
        ImageError: it is a pipe or a device, which may never end, or far too large.
    """
    status = path.stat()
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise ImageError("a pipe, a device or a socket, not a file")
    if status.st_size > MAX_BYTES:
        raise ImageError(f"a file of more than {MAX_BYTES >> 20} MiB")
    return path.read_bytes()


def decode(data: bytes) -> Image.Image:
    """Decode an image fully.

    JPEG, PNG, WebP, BMP and TIFF are read, AVIF where Pillow can, and HEIC where the package
    pillow-heif is installed; of several frames or pages the first. Orientation from EXIF is
    applied, transparency is laid over white, 16-bit greys are scaled to 8 bits.

    Returns: an image of mode RGB.
    Raises: ImageError whatever the bytes are; MemoryError where there is too little memory.
    """
    return decode_opened(open_image(data), data)


@dataclass(frozen=True)
class ImageInfo:
    """Describes an image that decodes.

    Args:
        format: JPEG, PNG, WEBP, BMP, TIFF, AVIF or HEIF.
        width: of the upright picture, pixels.
        height: likewise.
        mode: Pillow's name of the pixel format in the file: RGB, L, CMYK, P, ...
    """

    format: str
    width: int
    height: int
    mode: str


def inspect_image(data: bytes) -> ImageInfo:
    """Decode an image as training does, and describe it. Raises ImageError if that fails."""
    opened = open_image(data)
    mode = opened.mode
    picture = decode_opened(opened, data)
    return ImageInfo(sniff(data), picture.width, picture.height, mode)


def open_image(data: bytes) -> ImageFile.ImageFile:
    """Read an image's header, without decoding the pixels. Raises ImageError."""
    kind = sniff(data)
    try:
        opened = Image.open(io.BytesIO(data), formats=[kind])
    except Image.DecompressionBombError:
        raise ImageError(_too_many(MAX_PIXELS)) from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises whatever its parsers stumble over
        raise ImageError(_explain(error, kind, data)) from error
    width, height = opened.size
    most = MAX_PIXELS if _is_plain(opened) else MAX_PIXELS // _COSTLY
    if width * height > most:
        raise ImageError(f"{width}x{height}, {_too_many(most)}")
    if isinstance(opened, TiffImagePlugin.TiffImageFile) and opened.tag_v2.get(254) == 1:
        # A camera raw file is a TIFF file whose first page is a thumbnail.
        raise ImageError("a camera raw file or a thumbnail: convert it to JPEG or PNG")
    return opened


def _is_plain(opened: ImageFile.ImageFile) -> bool:
    """Whether it is decoded line by line into its final pixels, as photographs of cameras are."""
    return (
        opened.format in ("JPEG", "PNG")
        and opened.mode in ("RGB", "L")
        and not {"progressive", "interlace", "transparency"} & opened.info.keys()
    )


def _too_many(most: int) -> str:
    return f"more than {most // 1_000_000} million pixels"


def decode_opened(opened: ImageFile.ImageFile, data: bytes) -> Image.Image:
    """Decode the pixels of an image whose header has been read. Raises ImageError."""
    try:
        with turn(opened.size):
            opened.load()
            return upright_rgb(opened)
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        raise ImageError(_explain(error, sniff(data), data)) from error


@contextmanager
def turn(size: tuple[int, int]) -> Iterator[None]:
    """Hold this while an image of this size is decoded and made smaller: one large one at a time.

    Args:
        size: width and height, pixels.
    """
    if size[0] * size[1] <= _LARGE_PIXELS:
        yield
        return
    with _LARGE:
        # Larger blocks than those that malloc keeps for later: else each thread would keep some.
        before = _MEMORY.get_block_size()
        _MEMORY.set_block_size(64 << 20)
        try:
            yield
        finally:
            _MEMORY.set_block_size(before)


def upright_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB, and turn it as its EXIF orientation says.

    Raises: ImageError if its pixels are of a kind that no photograph has.
    """
    picture = _to_rgb(image)
    orientation = orientation_of(image)
    return picture if orientation == 1 else picture.transpose(_UPRIGHT[orientation])


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8. 1 if there is none or EXIF is corrupt."""
    try:
        value = image.getexif().get(0x0112, 1)
        return value if value in _UPRIGHT else 1
    except Exception:  # corrupt EXIF does not make the image unusable
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode in the accepted formats to RGB."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        image = _scale_16_bit_grey(image)
    if image.mode in ("F", "LAB"):
        what = "floating-point" if image.mode == "F" else "Lab"
        raise ImageError(f"{what} pixels: convert it to JPEG or PNG")
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        # Adobe stores CMYK inverted, and Pillow treats every CMYK JPEG like Adobe's.
        image = ImageChops.invert(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        picture = image if image.mode == "RGBA" else image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return image.convert("RGB")


def _scale_16_bit_grey(image: Image.Image) -> Image.Image:
    """Convert 16-bit grey to mode L. Pillow's ``convert`` would clip it at 255."""
    grey = np.asarray(image)
    if grey.min(initial=0) < 0 or grey.max(initial=0) > 65535:
        raise ImageError("32-bit grey pixels: convert it to JPEG or PNG")
    scaled = np.empty(grey.shape, np.uint8)
    for start in range(0, len(grey), 256):  # all lines at once would take six times the image
        scaled[start : start + 256] = (grey[start : start + 256].astype(np.int32) + 128) // 257
    return Image.fromarray(scaled)


_CONVERT = "convert it to JPEG or PNG"

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
)
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # all known sizes of its info header

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
_AVIF = (b"avif", b"avis")
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
_BRANDS = (
    (_AVIF, f"an AVIF image, which this Pillow does not read: {_CONVERT}"),
    (_HEIC, f'a HEIC image: pip install "msft[heic]", or {_CONVERT}'),
    ((b"crx ",), f"a camera raw file: {_CONVERT}"),
)


def sniff(data: bytes) -> str:
    """Find an image's format from its first bytes. The file's name does not matter.

    Returns: JPEG, PNG, WEBP, BMP, TIFF, and where they can be read AVIF and HEIF.
    Raises: ImageError naming what it is instead, as far as that can be told.
    """
    if data[:4] == b"II*\x00" and data[8:10] == b"CR":  # Canon's raw format is based on TIFF
        raise ImageError(f"a camera raw file: {_CONVERT}")
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if data[4:8] == b"ftyp":
        # The major brand may be the generic mif1 with avif among the compatible ones.
        brands = data[8:64]
        if any(brand in brands for brand in _AVIF):
            if READS_AVIF:
                return "AVIF"
        elif any(brand in brands for brand in _HEIC) and _reads_heic():
            return "HEIF"
    raise ImageError(_what_instead(data))


def decoders() -> str:
    """What decides which formats can be read, besides Pillow's version."""
    try:
        heic = version("pillow-heif")
    except PackageNotFoundError:
        heic = "none"
    return f"avif-{'yes' if READS_AVIF else 'no'}-heif-{heic}"


@functools.cache
def _reads_heic() -> bool:
    """Whether the package pillow-heif is there; registers it with Pillow."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


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
        return "not an image (it begins with zeros: was the copy interrupted?)"
    text = _as_text(start)
    if text is None:
        return "not an image"
    if "<svg" in text:
        return f"an SVG drawing: {_CONVERT}"
    if "<html" in text or "<!doctype html" in text:
        return "a web page, not an image: was the download refused?"
    return "not an image (text)"


def _as_text(start: bytes) -> str | None:
    """The beginning of a file as lower-case text, or None if it is not text."""
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # more than a character cut off at the end
            return None
        text = start[: error.start].decode("utf-8")
    return None if "\0" in text else text.lower()


def _explain(error: Exception, kind: str, data: bytes) -> str:
    """A short reason why an image of a known format does not decode."""
    if "truncated" in str(error).lower() or _ends_early(kind, data):
        return "truncated: the file ends before the image is complete"
    if isinstance(error, UnidentifiedImageError):  # its message is the address of an object
        return f"broken {kind}: its header cannot be read"
    return f"broken {kind}: {str(error).strip() or type(error).__name__}"


def _ends_early(kind: str, data: bytes) -> bool:
    if kind == "PNG":
        return b"IEND" not in data[-64:]
    if kind == "WEBP":
        return len(data) < int.from_bytes(data[4:8], "little")
    return False

"""Bad images. Each lies in a folder of good ones: msft skips it, or trains on it."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bad_kit import Case, unique
from image_kit import encode, picture
from PIL import Image, ImageCms

TRUNCATED = "truncated: the file ends before the image is complete"
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")


def image(name: str, make: Callable[[], bytes], reason: str = "") -> Case:
    """A case that is skipped for a reason, or without one trains."""
    expected: Any = "skipped" if reason else "trains"
    file = f"train/cats/{name}.jpg"

    def write(data: Path) -> None:
        (data / file).write_bytes(make())

    return Case("images", name, write, expected, reason, together=True, about=file)


def fixed(data: bytes) -> Callable[[], bytes]:
    return lambda: data


def truncated() -> Iterator[Case]:
    for kind in FORMATS:
        data = encode(picture(), kind)
        for quarter in (1, 2, 3):
            part = data[: quarter * len(data) // 4]
            yield image(f"{kind} cut after {quarter} of 4 quarters", fixed(part), TRUNCATED)
    data = encode(picture())
    yield image("JPEG without its last byte", fixed(data[:-1]), TRUNCATED)
    yield image("JPEG cut in its header", fixed(data[:20]), "broken JPEG: its header cannot be")
    yield image("JPEG of two bytes", fixed(data[:2]), "not an image")


def of_other_kinds() -> Iterator[Case]:
    yield image("zero bytes", fixed(b""), "empty file (zero bytes)")
    yield image("only zeros", fixed(bytes(5000)), "it begins with zeros")
    yield image("one byte", fixed(b"\xff"), "not an image")
    yield image("noise", fixed(bytes(range(128, 256)) * 40), "not an image")
    yield image("text named .jpg", fixed(b"a photograph of a cat\n"), "not an image (text)")
    yield image("HTML named .jpg", fixed(b"<!DOCTYPE html><html>404</html>"), "a web page")
    yield image("SVG", fixed(b'<?xml version="1.0"?>\n<svg xmlns="x"/>'), "an SVG drawing")
    yield image("GIF", lambda: encode(picture(), "GIF"), "a GIF, not a photograph")
    yield image("animated GIF", lambda: animated("GIF"), "a GIF, not a photograph")
    yield image("PDF named .png", fixed(b"%PDF-1.7\n"), "a PDF")
    yield image("video named .jpg", fixed(b"\0\0\0\x18ftypisom\0\0\0\0isom"), "a video")
    yield image("zip named .jpg", fixed(b"PK\x03\x04" + bytes(60)), "a zip archive")
    yield image("Photoshop file", fixed(b"8BPS\0\1" + bytes(60)), "a Photoshop file")
    yield image("JPEG XL", fixed(b"\xff\x0a" + bytes(60)), "a JPEG XL image")
    yield image("camera raw", fixed(b"II*\0\x10\0\0\0CR\x02\0" + bytes(60)), "a camera raw")
    yield image(
        "Git LFS pointer",
        fixed(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "a Git LFS pointer",
    )
    yield image("executable named .jpg", fixed(b"\x7fELF" + bytes(60)), "not an image")
    yield image(
        "HEIC that is only a header",
        fixed(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)),
        "HE",  # "broken HEIF" with pillow-heif, "a HEIC image" without
    )


def of_other_names() -> Iterator[Case]:
    # Every image is written as NAME.jpg, whatever it is.
    for kind in ("PNG", "WEBP", "BMP", "TIFF"):
        yield image(f"{kind} named .jpg", lambda kind=kind: encode(picture(), kind))  # type: ignore[misc]


def animated(kind: str) -> bytes:
    frames = [picture(shade=shade) for shade in (0, 60, 120)]
    return encode(frames[0], kind, save_all=True, append_images=frames[1:])


def flipped(data: bytes, start: int, stop: int, seed: int) -> bytes:
    """Eight bits of data[start:stop] flipped."""
    changed, draw = bytearray(data), random.Random(seed)
    for _ in range(8):
        changed[draw.randrange(start, stop)] ^= 1 << draw.randrange(8)
    return bytes(changed)


def flips() -> Iterator[Case]:
    many = "million pixels"
    jpeg, png = encode(picture()), encode(picture(), "PNG")
    webp, tiff, bmp = (encode(picture(), kind) for kind in ("WEBP", "TIFF", "BMP"))
    yield image("bits flipped in the body of a JPEG", lambda: flipped(jpeg, 700, len(jpeg), 1))
    yield image(
        "bits flipped in the body of a PNG",
        lambda: flipped(png, 60, len(png) - 20, 2),
        "broken PNG",
    )
    yield image("bits flipped in the body of a BMP", lambda: flipped(bmp, 54, len(bmp), 3))
    yield image(
        "wrong length in the header of a JPEG",
        lambda: jpeg[:2] + b"\xff\xc4\xff\xff" + jpeg[6:],
        TRUNCATED,
    )
    yield image("bits flipped in the header of a PNG", lambda: flipped(png, 8, 33, 5), "PNG")
    yield image("bits flipped in the header of a WebP", lambda: flipped(webp, 12, 30, 6), "WEBP")
    yield image("bits flipped in the header of a TIFF", lambda: flipped(tiff, 4, 8, 7), "TIFF")
    yield image("bits flipped in the header of a BMP", lambda: flipped(bmp, 18, 30, 8), many)
    yield image("first byte of a JPEG wrong", lambda: b"\0" + jpeg[1:], "not an image")
    yield image("half of a JPEG replaced by zeros", lambda: jpeg[:1000] + bytes(640), TRUNCATED)
    yield image("a JPEG after another", lambda: jpeg + jpeg)
    yield image("a JPEG with 100 kB of rubbish after it", lambda: jpeg + bytes(100_000))


def png(width: int, height: int, colour: int, depth: int, content: bytes) -> bytes:
    """A PNG that declares these sizes, whatever it holds."""

    def chunk(name: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"IDAT", content),
            chunk(b"IEND", b""),
        ]
    )


def zeros(size: int) -> bytes:
    packer, packed = zlib.compressobj(1), []
    block = bytes(1 << 20)
    for start in range(0, size, len(block)):
        packed.append(packer.compress(block[: size - start]))
    return b"".join([*packed, packer.flush()])


def bomb(side: int, colour: int, depth: int) -> bytes:
    """A black PNG of so many pixels, small as a file."""
    samples = {0: 1, 2: 3, 6: 4}[colour]
    return png(side, side, colour, depth, zeros((side * samples * depth // 8 + 1) * side))


def declared(kind: str, width: int, height: int) -> bytes:
    """A small image whose header declares another size."""
    data = bytearray(encode(picture(), kind))
    if kind == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", height, width)
    elif kind == "BMP":
        data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def sizes() -> Iterator[Case]:
    yield image("1x1", lambda: encode(Image.new("RGB", (1, 1), "red")))
    yield image("1x20000", lambda: encode(picture(2, 20_000).resize((1, 20_000)), "PNG"))
    yield image("20000x1", lambda: encode(picture(20_000, 2).resize((20_000, 1)), "PNG"))
    many = "million pixels"
    yield image("PNG, 50,000x50,000 declared", lambda: png(50_000, 50_000, 2, 8, zeros(1000)), many)
    yield image("JPEG, 50,000x50,000 declared", lambda: declared("JPEG", 50_000, 50_000), many)
    yield image("BMP, 50,000x50,000 declared", lambda: declared("BMP", 50_000, 50_000), many)
    yield image("JPEG, larger than its data", lambda: declared("JPEG", 2000, 2000))
    yield image("PNG, 0x0 declared", lambda: png(0, 0, 2, 8, zeros(10)), "broken PNG")
    yield image("BMP, negative width", lambda: declared("BMP", -96, 64), many)
    yield image("PNG bomb of 400 million pixels", lambda: bomb(20_000, 0, 8), many)
    yield image("PNG bomb, 100 million pixels RGBA", lambda: bomb(10_000, 6, 8), many)
    yield image("PNG, 81 million pixels RGBA", lambda: bomb(9_000, 6, 8))
    yield image("PNG, 81 million pixels of 16-bit grey", lambda: bomb(9_000, 0, 16))
    yield image("PNG with a text of 100 MB, compressed", text_bomb, "broken PNG")


def text_bomb() -> bytes:
    data = encode(picture(), "PNG")
    text = b"note\0\0" + zeros(100_000_000)
    crc = struct.pack(">I", zlib.crc32(b"zTXt" + text))
    return data[:33] + struct.pack(">I", len(text)) + b"zTXt" + text + crc + data[33:]


def modes() -> Iterator[Case]:
    yield image("CMYK JPEG", lambda: encode(picture().convert("CMYK")))
    yield image("grey JPEG", lambda: encode(picture().convert("L")))
    yield image("progressive JPEG", lambda: encode(picture(), progressive=True))
    yield image("PNG with a palette", lambda: encode(picture().convert("P"), "PNG"))
    yield image("PNG of one bit", lambda: encode(picture().convert("1"), "PNG"))
    yield image("PNG of 16-bit grey", lambda: encode(grey(np.uint16), "PNG"))
    yield image("PNG with transparency", lambda: encode(transparent(), "PNG"))
    yield image("TIFF of 16-bit grey", lambda: encode(grey(np.uint16), "TIFF"))
    yield image("TIFF of floating point", lambda: encode(grey(np.float32), "TIFF"), "floating")
    yield image("TIFF of 32-bit grey", lambda: encode(grey(np.int32, 999), "TIFF"), "32-bit grey")
    yield image("TIFF of three pages", lambda: animated("TIFF"))
    yield image("animated WebP", lambda: animated("WEBP"))
    yield image("animated PNG", lambda: animated("PNG"))


def grey(dtype: Any, factor: int = 250) -> Image.Image:
    pixels = np.asarray(picture().convert("L")).astype(dtype)
    return Image.fromarray(pixels * factor)


def transparent() -> Image.Image:
    image = picture()
    image.putalpha(120)
    return image


def metadata() -> Iterator[Case]:
    for orientation in (*range(2, 9), 0, 9, 65_535):
        yield image(
            f"EXIF orientation {orientation}",
            lambda orientation=orientation: with_exif(orientation),  # type: ignore[misc]
        )
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    yield image("EXIF that is noise", lambda: encode(picture(), exif=b"Exif\0\0" + bytes(99)))
    yield image("EXIF that ends early", lambda: encode(picture(), exif=exif(6)[:14]))
    yield image("EXIF that points to itself", lambda: encode(picture(), exif=circular_exif()))
    yield image("ICC profile cut short", lambda: encode(picture(), icc_profile=profile[:100]))
    yield image("ICC profile of noise", lambda: encode(picture(), icc_profile=bytes(5000)))
    yield image("PNG with a broken ICC profile", lambda: encode(picture(), "PNG", icc_profile=b"x"))
    yield image("XMP of 60 kB", lambda: encode(picture(), xmp=b"<x>" * 20_000))


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def with_exif(orientation: int) -> bytes:
    return encode(picture(), exif=exif(orientation))


def circular_exif() -> bytes:
    entry = struct.pack("<HHII", 0x8769, 4, 1, 8)  # the tag of a further directory, at this one
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 8)


def heic() -> Iterator[Case]:
    try:
        import pillow_heif
    except ImportError:
        return
    buffer = io.BytesIO()
    pillow_heif.from_pillow(picture()).save(buffer, quality=90)
    data = buffer.getvalue()
    yield image("HEIC", fixed(data))
    yield image("HEIC cut in half", fixed(data[: len(data) // 2]), "HEIF")


def all_cases() -> Iterator[Case]:
    for part in (
        truncated, of_other_kinds, of_other_names, flips, sizes, modes, metadata, heic
    ):  # fmt: skip
        yield from part()


CASES = unique(all_cases())

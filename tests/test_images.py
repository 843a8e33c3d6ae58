from __future__ import annotations

import io
import pickle
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_kit import difference, encode, picture
from PIL import Image, features

from msft_core import Preprocessing
from msft_core.data.checking import check_images, duplicates_between
from msft_core.data.mindspore_pipeline import plain
from msft_core.data.views import (
    Augmentation,
    denormalise,
    evaluation_view,
    normalise,
    training_view,
)
from msft_core.images import (
    FileTable,
    ImageError,
    MemoryTable,
    decode,
    inspect_image,
    subset,
)
from msft_core.testing import RecordingReporter

IMAGENET = Preprocessing(32, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
AUGMENTATION = Augmentation()
PICTURE = picture()
GREY = PICTURE.convert("L")


def view(data: bytes, *, seed: int = 0, image_id: str = "a", number: int = 1) -> np.ndarray:
    return training_view(data, IMAGENET, AUGMENTATION, seed=seed, image_id=image_id, view=number)


# ---- decoding


def grey_16(**options: str) -> bytes:
    pixels = np.asarray(GREY).astype(np.uint16) * 257
    return encode(Image.fromarray(pixels), **options)


def png_16(pixels: np.ndarray, colour_type: int) -> bytes:
    """A 16-bit PNG, which Pillow cannot write in colour."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def without_adobe_marker(jpeg: bytes) -> bytes:
    start = jpeg.index(b"\xff\xee")
    length = int.from_bytes(jpeg[start + 2 : start + 4], "big")
    return jpeg[:start] + jpeg[start + 2 + length :]


CMYK = PICTURE.convert("CMYK")

SAME_PICTURE = {
    "jpeg": encode(PICTURE),
    "progressive jpeg": encode(PICTURE, progressive=True),
    "png": encode(PICTURE, "PNG"),
    "webp": encode(PICTURE, "WEBP", quality=95),
    "bmp": encode(PICTURE, "BMP"),
    "tiff": encode(PICTURE, "TIFF"),
    "lzw tiff": encode(PICTURE, "TIFF", compression="tiff_lzw"),
    "cmyk jpeg of Adobe's": encode(CMYK),
    "cmyk jpeg without Adobe's marker": without_adobe_marker(
        encode(CMYK.point(lambda value: 255 - value))
    ),
    "cmyk tiff": encode(CMYK, "TIFF"),
    "palette": encode(PICTURE.quantize(256), "PNG"),
    "16-bit colour png": png_16(np.asarray(PICTURE).astype(int) * 257, 2),
    "opaque rgba": encode(PICTURE.convert("RGBA"), "PNG"),
}


@pytest.mark.parametrize("name", SAME_PICTURE)
def test_each_colour_encoding_decodes_to_the_same_picture(name: str) -> None:
    assert difference(decode(SAME_PICTURE[name]), PICTURE) < 4


SAME_GREY = {
    "grey png": encode(GREY, "PNG"),
    "grey jpeg": encode(GREY),
    "16-bit grey png": grey_16(kind="PNG"),
    "16-bit grey tiff": grey_16(kind="TIFF"),
    "32-bit tiff of 16-bit grey": encode(
        Image.fromarray(np.asarray(GREY).astype(np.int32) * 257), "TIFF"
    ),
}


@pytest.mark.parametrize("name", SAME_GREY)
def test_each_grey_encoding_decodes_to_the_same_picture(name: str) -> None:
    assert difference(decode(SAME_GREY[name]), GREY.convert("RGB")) < 1


def test_one_bit_pictures_decode_to_black_and_white() -> None:
    bits = GREY.point(lambda value: 255 * (value > 90)).convert("1")

    assert difference(decode(encode(bits, "PNG")), bits.convert("RGB")) == 0


ALPHA = Image.linear_gradient("L").resize(PICTURE.size)


def over_white(image: Image.Image) -> np.ndarray:
    alpha = np.asarray(ALPHA)[..., None] / 255
    return np.asarray(image.convert("RGB")) * alpha + 255 * (1 - alpha)


def transparent(mode: str) -> Image.Image:
    image = PICTURE.convert("RGB" if mode == "RGBA" else "L")
    image.putalpha(ALPHA)
    return image


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("RGBA", "PNG", {}),
        ("RGBA", "WEBP", {"lossless": True}),
        ("RGBA", "TIFF", {}),
        ("LA", "PNG", {}),
        ("LA", "TIFF", {}),
    ],
)
def test_transparency_is_laid_over_white(mode: str, kind: str, options: dict[str, bool]) -> None:
    image = transparent(mode)

    assert difference(decode(encode(image, kind, **options)), over_white(image)) < 1


def test_a_transparent_palette_entry_becomes_white() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(0, (0, 0, 4, 8))

    pixels = np.asarray(decode(encode(image, "PNG", transparency=0)))

    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[0, 7].tolist() == [0, 0, 255]


LAID_DOWN = {
    1: lambda image: image,
    2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
    4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
    7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
}
"""What a camera held so stores of a picture."""


def laid_down(orientation: int, image: Image.Image = PICTURE, kind: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(LAID_DOWN[orientation](image), kind, exif=exif)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", LAID_DOWN)
def test_pictures_come_out_upright(orientation: int, kind: str) -> None:
    data = laid_down(orientation, kind=kind)

    assert difference(decode(data), PICTURE) < 4
    assert (inspect_image(data).width, inspect_image(data).height) == PICTURE.size


def test_a_turned_cmyk_jpeg_without_adobes_marker_is_right_too() -> None:
    data = laid_down(6, CMYK.point(lambda value: 255 - value))

    assert difference(decode(without_adobe_marker(data)), PICTURE) < 4


@pytest.mark.parametrize(
    "exif", [b"rubbish", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_corrupt_exif_does_not_spoil_an_image(kind: str, exif: bytes) -> None:
    assert difference(decode(encode(PICTURE, kind, exif=exif)), PICTURE) < 3


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow does not read AVIF")
def test_avif_is_read_where_pillow_reads_it() -> None:
    assert difference(decode(encode(PICTURE, "AVIF")), PICTURE) < 4


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_heic_is_read_where_pillow_heif_is_installed(orientation: int) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = decode(encode(PICTURE, "PNG", exif=exif))
    buffer = io.BytesIO()
    pillow_heif.from_pillow(PICTURE).save(buffer, quality=90, exif=exif.tobytes())
    assert inspect_image(buffer.getvalue()).format == "HEIF"
    assert difference(decode(buffer.getvalue()), upright) < 4


REFUSED = {
    "zero bytes": (b"", "empty file"),
    "a GIF": (encode(PICTURE, "GIF"), "a GIF, not a photograph: convert it to JPEG or PNG"),
    "text": (b"ceci n'est pas une image\n", "not an image (text)"),
    "long text": ("é\n".encode() * 2000, "not an image (text)"),
    "text that begins like a BMP": (b"BMW makes cars, and not only those.", "text"),
    "a web page": (b"<!DOCTYPE html><html>404</html>", "a web page"),
    "an SVG": (b'<?xml version="1.0"?>\n<svg xmlns="x"/>', "an SVG"),
    "a PDF": (b"%PDF-1.7\n", "a PDF"),
    "a video": (b"\0\0\0\x18ftypisom\0\0\0\0isom", "a video"),
    "a zip": (b"PK\x03\x04....", "a zip"),
    "a camera raw file": (b"II*\0\x10\0\0\0CR\x02\0", "camera raw"),
    "a thumbnail in a camera raw file": (
        encode(PICTURE, "TIFF", tiffinfo={254: 1}),
        "camera raw",
    ),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "zeros": (bytes(2000), "zeros"),
    "noise": (bytes(range(128, 256)) * 20, "not an image"),
    "floating point": (
        encode(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"),
        "floating-point",
    ),
    "a JPEG without a picture": (encode(PICTURE)[:20], "broken JPEG: its header cannot be read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_photograph_is_refused_by_name(name: str) -> None:
    data, reason = REFUSED[name]

    with pytest.raises(ImageError) as caught:
        inspect_image(data)

    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_truncated_image_is_called_truncated(kind: str, part: float) -> None:
    data = encode(PICTURE, kind)

    with pytest.raises(ImageError, match="truncated"):
        inspect_image(data[: int(part * len(data))])


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    bomb = bytearray(encode(PICTURE, "PNG"))
    bomb[16:24] = struct.pack(">II", 60_000, 60_000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bytes(bomb[12:29])))

    with pytest.raises(ImageError, match="million pixels"):
        inspect_image(bytes(bomb))


ENCODED = st.sampled_from(
    [encode(PICTURE, kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF")]
)


@st.composite
def damaged_images(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(ENCODED))
    for _ in range(draw(st.integers(0, 4))):
        data[draw(st.integers(0, min(len(data) - 1, 400)))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@given(st.binary(max_size=300) | damaged_images())
@settings(deadline=None, max_examples=300)
def test_whatever_the_bytes_checking_agrees_with_decoding(data: bytes) -> None:
    decoded = outcome(lambda: decode(data).size)

    assert outcome(lambda: (inspect_image(data).width, inspect_image(data).height)) == decoded
    if isinstance(decoded, str):
        assert outcome(lambda: view(data)) == decoded
    else:
        assert view(data).shape == (32, 32, 3)


def outcome(function: Callable[[], Any]) -> Any:
    """What it returns, or the reason why it cannot."""
    try:
        return function()
    except ImageError as error:
        return str(error)


def test_inspecting_tells_format_size_and_mode() -> None:
    info = inspect_image(encode(CMYK))

    assert (info.format, info.width, info.height, info.mode) == ("JPEG", 96, 64, "CMYK")


# ---- tables


def test_tables_read_their_images_and_survive_pickling(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"content")
    files = FileTable(("x",), (0,), (str(tmp_path / "x.jpg"),))
    memory = MemoryTable(("y", "z"), (0, 1), (b"why", b"zed"))

    for table, content in ((files, b"content"), (memory, b"why")):
        assert pickle.loads(pickle.dumps(table)).read(0) == content


def test_a_subset_reads_the_rows_it_was_given_in_that_order(tmp_path: Path) -> None:
    table = MemoryTable(("a", "b", "c"), (0, 1, 0), (b"A", b"B", b"C"))

    rows = pickle.loads(pickle.dumps(subset(table, [2, 1])))

    assert (rows.ids, rows.labels) == (("c", "b"), (0, 1))
    assert [rows.read(i) for i in range(2)] == [b"C", b"B"]
    assert not hasattr(rows, "paths")


def test_a_subset_of_files_keeps_their_paths() -> None:
    table = FileTable(("a", "b"), (0, 1), ("/a.jpg", "/b.jpg"))

    assert subset(table, [1]).paths == ("/b.jpg",)  # type: ignore[attr-defined]


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="must have the same length"):
        MemoryTable(("a", "b"), (0,), (b"", b""))


# ---- checking


def test_checking_keeps_what_decodes_and_says_why_of_the_rest(tmp_path: Path) -> None:
    contents = [encode(PICTURE), encode(PICTURE, "GIF"), b"text", encode(GREY)]
    paths = [tmp_path / f"{number}.jpg" for number in range(4)]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    gone = tmp_path / "gone.jpg"
    names = tuple(map(str, [*paths, gone]))
    reporter = RecordingReporter()

    check = check_images(
        FileTable(tuple("abcde"), (0, 0, 0, 1, 1), names), workers=2, reporter=reporter
    )

    assert check.kept == (0, 3)
    assert len(set(check.digests)) == 2
    assert [image.id for image in check.skipped] == ["b", "c", "e"]
    assert [image.path for image in check.skipped] == [names[1], names[2], names[4]]
    assert check.skipped[2].reason == "cannot be read: No such file or directory"
    assert reporter.done == 5


def test_an_image_in_both_splits_is_found_by_its_bytes() -> None:
    one, other, third = (encode(picture(shade=shade)) for shade in (0, 50, 100))
    train = MemoryTable(("t1", "t2", "t3"), (0, 0, 1), (one, other, one))
    val = MemoryTable(("v1", "v2"), (0, 1), (third, one))
    checks = [
        check_images(table, workers=1, reporter=RecordingReporter()) for table in (train, val)
    ]

    assert duplicates_between(train, checks[0], val, checks[1]) == (("t1", "v2"),)


class _CountingTable:
    ids = tuple(map(str, range(900)))
    labels = (0,) * 900

    def __init__(self) -> None:
        self.reads = 0

    def read(self, index: int) -> bytes:
        self.reads += 1
        return encode(picture(256, 256))


def test_ctrl_c_ends_the_check_within_a_few_images() -> None:
    class Interrupted(RecordingReporter):
        def advance(self, count: int) -> None:
            raise KeyboardInterrupt

    table = _CountingTable()

    with pytest.raises(KeyboardInterrupt):
        check_images(table, workers=2, reporter=Interrupted())

    assert table.reads < 100


# ---- views

JPEG = encode(PICTURE)
NAMES = st.text(max_size=8)
SEEDS = st.integers(0, 2**64)


@given(SEEDS, NAMES, st.integers(0, 10**6))
@settings(deadline=None, max_examples=50)
def test_the_same_seed_id_and_number_give_the_same_view(seed: int, name: str, number: int) -> None:
    first = view(JPEG, seed=seed, image_id=name, number=number)
    view(JPEG, seed=seed + 1, image_id=name, number=number)  # what is drawn between is no matter

    assert (view(JPEG, seed=seed, image_id=name, number=number) == first).all()


@given(st.permutations(range(12)), st.integers(1, 4))
@settings(deadline=None, max_examples=20)
def test_views_depend_neither_on_order_nor_on_threads(order: list[int], threads: int) -> None:
    alone = {number: view(JPEG, number=number) for number in range(12)}

    with ThreadPoolExecutor(threads) as pool:
        together = list(pool.map(lambda number: view(JPEG, number=number), order))

    for number, pixels in zip(order, together, strict=True):
        assert (pixels == alone[number]).all()


def test_another_seed_id_or_number_gives_another_view() -> None:
    views = [
        view(JPEG),
        view(JPEG, seed=1),
        view(JPEG, image_id="b"),
        view(JPEG, number=2),
        view(JPEG, seed=11, image_id="1"),
        view(JPEG, seed=1, image_id="11"),
    ]

    assert len({pixels.tobytes() for pixels in views}) == len(views)


def test_views_are_the_same_on_every_machine() -> None:
    # A picture whose pixels say where they are, so that the crop can be read off.
    y, x = np.mgrid[0:256, 0:256]
    pixels = np.stack([x, y, np.zeros_like(x)], axis=2).astype(np.uint8)
    data = encode(Image.fromarray(pixels), "PNG")

    corners = [
        view(data, image_id="train/dogs/x.jpg", number=number)[[0, -1], [0, -1], :2]
        for number in (1, 2, 3)
    ]

    # Upper left and lower right corner of each, as x and y; the first is mirrored.
    expected = [[[187, 114], [63, 250]], [[84, 26], [243, 184]], [[99, 136], [224, 243]]]
    np.testing.assert_allclose(corners, expected, atol=1)


@given(
    st.integers(1, 200),
    st.integers(1, 200),
    st.integers(0, 1000),
    st.sampled_from([(0.08, 1.0), (1.0, 1.0), (0.01, 0.02)]),
)
@settings(deadline=None, max_examples=100)
def test_pictures_of_any_shape_give_views_of_the_same_shape(
    width: int, height: int, number: int, scale: tuple[float, float]
) -> None:
    data = encode(Image.new("RGB", (width, height), (10, 200, 30)), "PNG")

    pixels = training_view(
        data, IMAGENET, Augmentation(scale=scale), seed=0, image_id="a", view=number
    )

    for square in (pixels, evaluation_view(data, IMAGENET)):
        assert square.shape == (32, 32, 3)
        assert square.dtype == np.uint8
        assert (square == (10, 200, 30)).all()


def test_half_of_the_views_are_mirrored() -> None:
    mirrored = sum(
        bool(pixels[:, 0, 0].mean() > pixels[:, -1, 0].mean())
        for pixels in (view(JPEG, number=number) for number in range(400))
    )

    assert 160 < mirrored < 240


def test_crops_cover_the_areas_that_were_asked_for() -> None:
    y, x = np.mgrid[0:256, 0:256]
    data = encode(
        Image.fromarray(np.stack([x, y, y], axis=2).astype(np.uint8)), "PNG", compress_level=1
    )
    spans = []
    for number in range(300):
        pixels = view(data, number=number).astype(int)
        spans.append([abs(pixels[0, -1, 0] - pixels[0, 0, 0]), pixels[-1, 0, 1] - pixels[0, 0, 1]])
    width, height = np.array(spans).T * 32 / 31  # between pixel centres, so a little less
    area = width * height / 256**2

    assert 0.07 < area.min() < 0.12
    assert 0.85 < area.max() < 1.02
    assert abs(area.mean() - 0.5) < 0.08
    assert 0.7 < (width / height).min() < (width / height).max() < 1.4


def test_evaluation_sees_the_middle_as_after_resize_and_centre_crop() -> None:
    image = picture(148, 74)  # resize to 74x37, crop 32
    expected = image.resize((74, 37), Image.Resampling.BILINEAR).crop((21, 2, 53, 34))

    assert difference(evaluation_view(encode(image, "PNG"), IMAGENET), expected) < 2


def test_large_photographs_are_decoded_smaller_and_look_the_same() -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (90, 120, 3), np.uint8))
    image = noise.resize((1200, 900), Image.Resampling.BICUBIC)
    as_jpeg = encode(image)
    as_png = encode(decode(as_jpeg), "PNG", compress_level=1)  # never decoded smaller

    for number in range(8):
        assert difference(view(as_jpeg, number=number), view(as_png, number=number)) < 1.5
    assert difference(evaluation_view(as_jpeg, IMAGENET), evaluation_view(as_png, IMAGENET)) < 1.5


@pytest.mark.parametrize("orientation", LAID_DOWN)
def test_large_photographs_are_cropped_upright_too(orientation: int) -> None:
    image = picture(1200, 900)

    for number in range(3):
        turned = view(laid_down(orientation, image), number=number)
        assert difference(turned, view(encode(image), number=number)) < 2


# ---- normalising

PIXELS = np.arange(2 * 16 * 24 * 3, dtype=np.uint32).astype(np.uint8).reshape(2, 16, 24, 3)


def test_normalising_is_the_formula_and_channels_first() -> None:
    images = normalise(PIXELS, IMAGENET)

    expected = (PIXELS / 255 - IMAGENET.mean) / IMAGENET.std
    assert images.dtype == np.float32
    assert images.flags.c_contiguous
    np.testing.assert_allclose(images, expected.transpose(0, 3, 1, 2), atol=1e-6)


UNIT = st.floats(0, 1)
DEVIATION = st.floats(0.01, 2)


@given(st.tuples(UNIT, UNIT, UNIT), st.tuples(DEVIATION, DEVIATION, DEVIATION))
@settings(deadline=None)
def test_denormalising_gives_back_every_pixel(
    mean: tuple[float, float, float], std: tuple[float, float, float]
) -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    preprocessing = Preprocessing(16, mean, std)

    assert (denormalise(normalise(levels, preprocessing), preprocessing) == levels).all()


# ---- for MindSpore's own decoder


@pytest.mark.parametrize("data", [JPEG, encode(GREY), encode(PICTURE, "PNG"), encode(GREY, "PNG")])
def test_plain_images_stay_as_they_are(data: bytes) -> None:
    assert plain(data) is data


NOT_PLAIN = {
    **{name: SAME_PICTURE[name] for name in SAME_PICTURE if name not in ("jpeg", "png")},
    **{name: SAME_GREY[name] for name in SAME_GREY if "16" in name},
    "transparent": encode(transparent("RGBA"), "PNG"),
    "turned": laid_down(6),
    "turned png": laid_down(6, kind="PNG"),
}
del NOT_PLAIN["progressive jpeg"]


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_all_other_images_become_a_plain_png(name: str) -> None:
    made = plain(NOT_PLAIN[name])

    image = Image.open(io.BytesIO(made))
    assert (image.format, image.mode) == ("PNG", "RGB")
    assert difference(image, decode(NOT_PLAIN[name])) == 0


def test_mindspore_reads_plain_images_as_we_do() -> None:
    vision = pytest.importorskip("mindspore.dataset.vision")
    for data in [*NOT_PLAIN.values(), *SAME_PICTURE.values(), *SAME_GREY.values()]:
        theirs = vision.Decode()(np.frombuffer(plain(data), np.uint8))
        assert difference(theirs, decode(data)) < 1

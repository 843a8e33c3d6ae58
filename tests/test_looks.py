"""Images that look alike are found; images that do not are left alone, a million too."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from image_kit import encode, scene
from PIL import Image

from msft_core import DatasetSplits
from msft_core.data import looks
from msft_core.data.checking import Findings, check_splits
from msft_core.data.looks import NONE, find_alike, look_of
from msft_core.images import MemoryTable, decode
from msft_core.testing import RecordingReporter


def cropped(image: Image.Image, part: float) -> Image.Image:
    x, y = (round(side * part / 2) for side in image.size)
    return image.crop((x, y, image.width - x, image.height - y))


EDITS = {
    "saved again": lambda image: encode(image, quality=50),
    "as PNG": lambda image: encode(image, "PNG"),
    "half the size": lambda image: encode(image.resize((120, 90)), quality=85),
    "cropped by 3 %": lambda image: encode(cropped(image, 0.03)),
    "brighter": lambda image: encode(image.point(lambda value: value * 1.1)),
    "grey": lambda image: encode(image.convert("L")),
}


def checked(train: list[bytes], val: list[bytes], memory: Path | None = None) -> Findings:
    tables = []
    for name, images in (("t", train), ("v", val)):
        ids = tuple(f"{name}{number}" for number in range(len(images)))
        tables.append(MemoryTable(ids, (0,) * len(images), tuple(images)))
    return check_splits(
        DatasetSplits(("one",), *tables),
        plugin="mine",
        workers=1,
        reporter=RecordingReporter(),
        memory=memory,
    )


@pytest.mark.parametrize("edit", EDITS)
def test_a_copy_of_a_training_image_is_found(edit: str) -> None:
    images = [scene(number) for number in range(12)]
    val = [encode(scene(99)), EDITS[edit](images[7])]
    found = checked([encode(image) for image in images], val)
    assert found.near_duplicates.pairs == (("t7", "v1"),)
    assert found.near_duplicates.complete
    assert found.twins == ()


def test_different_pictures_are_no_near_duplicates() -> None:
    found = checked(*([encode(scene(n)) for n in part] for part in (range(60), range(100, 160))))
    assert found.near_duplicates.pairs == ()


def test_the_same_bytes_are_a_twin_and_not_a_near_duplicate_too() -> None:
    images = [encode(scene(number)) for number in range(3)]
    found = checked(images, [images[1]])
    assert found.twins == (("t1", "v0"),)
    assert found.near_duplicates.pairs == ()


def test_plain_surfaces_are_like_nothing() -> None:
    """Black frames and white pages have no look: each would be like every other one."""
    plain = [Image.new("RGB", (64, 48), shade) for shade in ("black", "white", (30, 30, 32))]
    assert [look_of(image) for image in plain] == [NONE] * 3
    assert find_alike([NONE, NONE], [NONE]).pairs == ()


def test_looks_are_remembered_with_the_content_that_has_them(tmp_path: Path) -> None:
    image = scene(5)
    train, val = [encode(scene(1)), encode(image)], [encode(image, quality=60)]
    first = checked(train, val, tmp_path)
    assert first.near_duplicates.pairs == (("t1", "v0"),)

    def broken(data: bytes) -> object:
        raise AssertionError("decoded again")

    again = check_splits(
        first.splits,
        plugin="mine",
        workers=1,
        reporter=RecordingReporter(),
        memory=tmp_path,
        decode=broken,
    )
    assert again.looks == first.looks
    assert again.near_duplicates.pairs == (("t1", "v0"),)


def flipped(look: bytes, low: int, high: int, random: np.random.Generator) -> bytes:
    """A look in which so many of the 64 lowest bits differ, and so many others."""
    bits = np.unpackbits(np.frombuffer(look, np.uint8))
    bits[random.permutation(64)[:low]] ^= 1
    bits[64 + random.permutation(192)[:high]] ^= 1
    return np.packbits(bits).tobytes()


def random_looks(count: int, random: np.random.Generator) -> list[bytes]:
    return [row.tobytes() for row in random.integers(0, 256, (count, 32), np.uint8)]


def test_the_search_finds_exactly_what_comparing_every_pair_finds() -> None:
    random = np.random.default_rng(0)
    others = random_looks(300, random)
    asked = random_looks(50, random)
    for low in range(11):
        for high in (0, 30, 38, 39, 41, 48, 60):
            asked.append(flipped(others[len(asked) % 300], low, high, random))
    bits = [
        np.unpackbits(np.frombuffer(b"".join(x), np.uint8)).reshape(-1, 256)
        for x in (asked, others)
    ]
    differ = bits[0][:, None] != bits[1][None]
    near = (differ[..., :64].sum(-1) <= looks.LOW_BITS) & (differ.sum(-1) <= looks.ALL_BITS)
    expected = {int(index) for index in np.flatnonzero(near.any(axis=1))}
    found = find_alike(asked, others)
    assert {index for index, _ in found.pairs} == expected
    assert all(near[pair] for pair in found.pairs)
    assert 20 < len(expected) < 70


def test_a_large_dataset_is_searched_in_seconds() -> None:
    """Comparing every pair of these would take 2 * 10^9 comparisons."""
    random = np.random.default_rng(0)
    others, asked = random_looks(200_000, random), random_looks(10_000, random)
    asked[17] = flipped(others[123], 7, 40, random)
    began = time.process_time()
    assert find_alike(asked, others).pairs == ((17, 123),)
    assert time.process_time() - began < 10


def test_a_search_that_would_take_too_long_says_that_it_is_not_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(looks, "MOST_COMPARED", 1000)
    random = np.random.default_rng(0)
    one = random_looks(1, random)[0]
    crowd = [flipped(one, 0, 120, random) for _ in range(100)]  # all with the same lowest bits
    found = find_alike(crowd[:50], crowd[50:])
    assert (found.pairs, found.complete) == ((), False)


def test_an_image_decodes_the_same_whether_or_not_it_has_a_look() -> None:
    """Looks are taken of the decoded picture, which is not changed by it."""
    picture = decode(encode(scene(3)))
    before = picture.tobytes()
    assert len(look_of(picture)) == looks.BYTES
    assert picture.tobytes() == before

"""Datasets for the benchmark: photographs repeated under other names, and small drawn ones."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import count, cycle, islice
from pathlib import Path

from benchmarks.commands import NotMeasured

_SUFFIXES = (".jpg", ".jpeg")


def repeat_photographs(source: Path, target: Path, train: int, val: int) -> Path:
    """Fill ``target/{train,val}/CLASS`` with so many photographs, taken in turn from ``source``.

    Each class gets an equal share. Features are stored by the content of a file, so a copy of
    the same bytes would be computed once and look faster than it is: each copy has a JPEG comment
    of its own, which changes the bytes and not the pixels.

    Raises:
        NotMeasured: there are no JPEG files.
    """
    numbers = count()
    for split, wanted in (("train", train), ("val", val)):
        classes = {
            folder.name: sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES)
            for folder in sorted((source / split).glob("*/"))
        }
        if not classes or not all(classes.values()):
            raise NotMeasured(f"{source / split} has no class folders with JPEG files in each")
        for (name, files), share in zip(
            classes.items(), _shares(wanted, len(classes)), strict=True
        ):
            folder = target / split / name
            folder.mkdir(parents=True)
            for file, number in zip(islice(cycle(files), share), numbers, strict=False):
                data = with_comment(file.read_bytes(), f"copy {number}")
                (folder / f"{number:05}.jpg").write_bytes(data)
    return target


def draw_pictures(target: Path, train: int, val: int, side: int = 64) -> Path:
    """Fill ``target/{train,val}/{dark,light}`` with small JPEG files, all different."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    bases: dict[str, bytes] = {}
    for name, low in (("dark", 0), ("light", 128)):
        pixels = random.integers(low, low + 128, (8, 8, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).resize((side, side)).save(buffer, "JPEG")
        bases[name] = buffer.getvalue()
    for split, wanted in (("train", train), ("val", val)):
        for (name, base), share in zip(bases.items(), _shares(wanted, len(bases)), strict=True):
            folder = target / split / name
            folder.mkdir(parents=True)
            for number in range(share):
                data = with_comment(base, f"{split} {number}")
                (folder / f"{number:05}.jpg").write_bytes(data)
    return target


def with_comment(jpeg: bytes, comment: str) -> bytes:
    """The same picture with a comment (a COM segment) after the segments that must stand first."""
    at = 2
    while jpeg[at] == 0xFF and 0xE0 <= jpeg[at + 1] <= 0xEF:  # APP0 is JFIF's, APP1 has EXIF
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    text = comment.encode()
    segment = b"\xff\xfe" + (2 + len(text)).to_bytes(2, "big") + text
    return jpeg[:at] + segment + jpeg[at:]


def _shares(wanted: int, parts: int) -> Iterator[int]:
    return (wanted // parts + (part < wanted % parts) for part in range(parts))

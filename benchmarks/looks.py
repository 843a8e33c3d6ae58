"""How often near-duplicates are found, and how often wrongly: ``python -m benchmarks.looks DIR``.

Each photograph below DIR is edited in the ways in which copies come about, and compared with the
original; and all photographs are compared with each other, none of which may count as a copy. So
DIR must hold no near-duplicates.
"""

from __future__ import annotations

import argparse
import io
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from msft_core.data.looks import ALL_BITS, LOW_BITS, look_of
from msft_core.images import ImageError, decode


def _jpeg(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _scaled(image: Image.Image, factor: float) -> Image.Image:
    width, height = (max(1, round(side * factor)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _cropped(image: Image.Image, part: float, place: float = 0.5) -> Image.Image:
    width, height = image.size
    left, top = round(width * part * place), round(height * part * place)
    return image.crop(
        (left, top, left + round(width * (1 - part)), top + round(height * (1 - part)))
    )


EDITS: dict[str, Callable[[Image.Image], bytes]] = {
    "saved at quality 50": lambda image: _jpeg(image, 50),
    "saved at quality 20": lambda image: _jpeg(image, 20),
    "half the size": lambda image: _jpeg(_scaled(image, 0.5)),
    "a quarter of the size": lambda image: _jpeg(_scaled(image, 0.25)),
    "cropped by 3 %, centre": lambda image: _jpeg(_cropped(image, 0.03)),
    "cropped by 3 %, corner": lambda image: _jpeg(_cropped(image, 0.03, 0)),
    "cropped by 5 %, centre": lambda image: _jpeg(_cropped(image, 0.05)),
    "cropped by 10 %, centre": lambda image: _jpeg(_cropped(image, 0.1)),
    "15 % brighter": lambda image: _jpeg(image.point(lambda value: min(255, value * 1.15))),
    "grey": lambda image: _jpeg(image.convert("L")),
    "mirrored": lambda image: _jpeg(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
}


def main() -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    photographs, seconds = [], [0.0, 0.0]
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            began = time.perf_counter()
            try:
                photographs.append(decode(path.read_bytes()))
            except ImageError:
                continue
            seconds[0] += time.perf_counter() - began
    look_of(photographs[0])  # imports
    began = time.perf_counter()
    originals = [_bits(photograph) for photograph in photographs]
    seconds[1] = time.perf_counter() - began
    console = Console()

    table = Table("edit", "found", "bits that differ, median", "most")
    for name, edit in EDITS.items():
        copies = (_bits(decode(edit(photograph))) for photograph in photographs)
        differ = [_differ(*pair) for pair in zip(originals, copies, strict=True)]
        total = [both[1] for both in differ]
        found = sum(_alike(both) for both in differ)
        table.add_row(
            name, f"{100 * found / len(differ):.1f} %", f"{np.median(total):.0f}", f"{max(total)}"
        )
    console.print(table)

    pairs = [_differ(*pair) for pair in itertools.combinations(originals, 2)]
    least = [min(both[place] for both in pairs) for place in (0, 1)]
    wrong = sum(_alike(both) for both in pairs)
    console.print(
        f"{len(pairs)} pairs of different photographs: {wrong} taken for copies. At least "
        f"{least[0]} of the 64 lowest bits differ (limit {LOW_BITS}), and {least[1]} of all 256 "
        f"(limit {ALL_BITS})."
    )
    decoding, looking = (1000 * total / len(photographs) for total in seconds)
    console.print(
        f"A photograph takes {decoding:.1f} ms to decode, and {looking:.1f} ms more for its look."
    )


def _bits(image: Image.Image) -> np.ndarray:
    return np.unpackbits(np.frombuffer(look_of(image), np.uint8))


def _differ(one: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    different = one != other
    return int(different[:64].sum()), int(different.sum())


def _alike(differ: tuple[int, int]) -> bool:
    return differ[0] <= LOW_BITS and differ[1] <= ALL_BITS


if __name__ == "__main__":
    main()

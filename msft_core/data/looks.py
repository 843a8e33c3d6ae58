"""Find images that look alike though their bytes differ: saved again, resized, slightly cropped.

The look of an image is a perceptual hash of 256 bits: which of the 16 x 16 lowest frequencies of
its grey picture are above their median (``imagehash.phash``; Zauner 2010, "Implementation and
benchmarking of perceptual image hash functions"). Two images are alike if few bits differ.
docs/running.md says how often that is wrong; ``python -m benchmarks.looks`` measures it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from msft_core.columns import Rows, first_places
from msft_core.types import Array

BYTES = 32
"""Size of a look. The first 8 bytes are the 8 x 8 lowest frequencies."""

NONE = bytes(BYTES)
"""The look of an image that has none: plain surfaces would all look alike."""

LOW_BITS = 7
"""Images are alike only if at most so many of the 64 bits of the lowest frequencies differ."""

ALL_BITS = 48
"""And at most so many of all 256 bits."""

MOST_COMPARED = 300_000_000
"""The search ends after so many pairs, see ``find_alike``."""

_SIDE = 64  # imagehash takes pictures of this size for 16 x 16 frequencies
_LOW = np.add.outer(np.arange(16) // 8, np.arange(16) // 8) == 0

_PART_BITS, _PARTS = 16, 4  # the lowest 64 bits, as numbers of 16 bits

# Where at most 7 bits in 4 parts differ, at most one of them is in the same part, for one part at
# least (Norouzi et al. 2012, "Fast search in Hamming space with multi-index hashing").
_FLIPS = (0, *(1 << bit for bit in range(_PART_BITS)))
_BLOCK = 1_000_000


def look_of(picture: Image.Image) -> bytes:
    """The look of a decoded image, 32 bytes; ``NONE`` where its brightness hardly varies."""
    from imagehash import phash

    # Small first: hashing the whole picture gives the same, but takes as long as decoding.
    small = picture.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    grey = small.convert("L")
    low, high = grey.getextrema()
    if high - low < 8:  # type: ignore[operator]
        return NONE
    bits = phash(grey, hash_size=16).hash
    return np.packbits(np.concatenate([bits[_LOW], bits[~_LOW]])).tobytes()


@dataclass(frozen=True)
class Alike:
    """The result of ``find_alike``.

    Args:
        pairs: (index into the looks, index into the others), ascending; one for each look that is
            like one of the others.
        complete: whether all looks were compared.
    """

    pairs: tuple[tuple[int, int], ...]
    complete: bool


def find_alike(looks: Rows | Sequence[bytes], others: Rows | Sequence[bytes]) -> Alike:
    """For each look that is like one of the others, that one, or one of several.

    It does not compare every pair: it looks up parts of the lowest bits. Where very many images
    have the same parts, such as scans that differ only in details, that does not help, and the
    search ends after ``MOST_COMPARED`` pairs.

    Args:
        looks: of images.
        others: of other images.
    """
    asked, _, number, of_asked = _distinct(looks)
    known, first, _, _ = _distinct(others)
    found = np.full(len(asked), -1)
    complete = not len(known) or _search(asked, known, found)
    of_each = found[number]
    alike = of_each >= 0
    pairs = zip(of_asked[alike].tolist(), first[of_each[alike]].tolist(), strict=True)
    return Alike(tuple(pairs), complete)


def _distinct(looks: Rows | Sequence[bytes]) -> tuple[Array, Array, Array, Array]:
    """Each look once, in the order in which they come.

    Returns: the looks, uint16 (D, 16); int64 (D,), the index at which each is first; int64 (M,),
    for each of those that have a look, its number among the D; int64 (M,), its index.
    """
    rows = (looks if isinstance(looks, Rows) else Rows.of(looks, BYTES)).array
    there = np.flatnonzero(rows.any(axis=1))
    first, number = first_places(rows[there])
    each = np.ascontiguousarray(rows[there[first]])
    return each.view(np.uint16).reshape(-1, BYTES // 2), there[first], number, there


def _search(asked: Array, known: Array, found: Array) -> bool:
    """Set ``found`` to an index into ``known`` where one is alike. False: it ended too early."""
    orders = [np.argsort(known[:, part], kind="stable") for part in range(_PARTS)]
    values = np.arange((1 << _PART_BITS) + 1)
    starts = [np.searchsorted(known[order, part], values) for part, order in enumerate(orders)]
    asked_low, known_low = (looks[:, :_PARTS].copy().view(np.uint64) for looks in (asked, known))
    compared = 0
    for flip in _FLIPS:
        for part, (order, start) in enumerate(zip(orders, starts, strict=True)):
            still = np.flatnonzero(found < 0)
            keys = (asked[still, part] ^ np.uint16(flip)).astype(np.int64)
            counts = start[keys + 1] - start[keys]
            compared += int(counts.sum())
            if compared > MOST_COMPARED:
                return False
            for rows in _blocks(counts):
                many = counts[rows]
                which = np.repeat(still[rows], many)
                place = np.arange(len(which)) - np.repeat(np.cumsum(many) - many, many)
                other = order[np.repeat(start[keys[rows]], many) + place]
                near = _differing(asked_low[which], known_low[other]) <= LOW_BITS
                which, other = which[near], other[near]
                near = _differing(asked[which], known[other]) <= ALL_BITS
                found[which[near]] = other[near]
    return True


def _blocks(counts: Array) -> Iterator[Array]:
    """Indices of the counts that are not 0, in blocks with a sum of about a million."""
    rows = np.flatnonzero(counts)
    ends = np.cumsum(counts[rows]) // _BLOCK
    yield from np.split(rows, np.flatnonzero(np.diff(ends)) + 1) if len(rows) else ()


def _differing(one: Array, other: Array) -> Array:
    """How many bits differ in each row, int64 (N,)."""
    return _ONES[(one ^ other).view(np.uint16)].sum(axis=1, dtype=np.int64)


_NUMBERS = np.arange(1 << 16, dtype=np.uint16)[:, None]
_ONES = np.unpackbits(_NUMBERS.view(np.uint8), axis=1).sum(axis=1, dtype=np.uint8)
"""The number of ones in each 16-bit number."""

"""Columns of a table of images, a few bytes an image: each is a sequence over one array. Public.

A million Python strings take 80 MB, and as many tuples around them more. A ``Texts`` of them takes
what their letters take. A dataset plugin may use these classes, or tuples and lists.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np

from msft_core.types import Array

if TYPE_CHECKING:
    from typing_extensions import Self

Item = TypeVar("Item")

_BLOCK = 4096
"""So many items become Python objects at a time where a column is iterated."""


class Column(Sequence[Item], Generic[Item]):
    """A sequence that makes its items when they are asked for. It equals any sequence of them."""

    def __len__(self) -> int:
        raise NotImplementedError

    def take(self, indices: Sequence[int] | Array) -> Self:
        """The items at these places, in this order, as a column of the same class."""
        raise NotImplementedError

    def _item(self, index: int) -> Item:
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Item | Self:
        if isinstance(index, slice):
            return self.take(np.arange(*index.indices(len(self))))
        place = int(index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"{index} is not a place among {len(self)}")
        return self._item(place % len(self))

    def __iter__(self) -> Iterator[Item]:
        return map(self._item, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, (str, bytes)):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(repr(self._item(i)) for i in range(min(3, len(self))))
        return f"<{type(self).__name__} of {len(self)}: {shown}{', ...' if len(self) > 3 else ''}>"


class Texts(Column[str]):
    """Texts, in one string of bytes.

    Args:
        data: all texts as UTF-8, one after the other; uint8 (bytes,). Any surrogates, as names of
            files that are not UTF-8 have them, are encoded like other characters.
        ends: where each text ends, int64 (N,).
    """

    def __init__(self, data: Array, ends: Array) -> None:
        self.data, self.ends = data, ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        """The same texts as a column."""
        if isinstance(texts, Texts):
            return texts
        data, ends = bytearray(), []
        blocks: list[Array] = []
        for text in texts:
            data += text.encode("utf-8", "surrogatepass")
            ends.append(len(data))
            if len(ends) == _BLOCK:
                blocks.append(np.asarray(ends, np.int64))
                ends = []
        blocks.append(np.asarray(ends, np.int64))
        return cls(np.frombuffer(bytes(data), np.uint8), np.concatenate(blocks))

    @classmethod
    def joined(cls, parts: Sequence[Texts]) -> Texts:
        """The texts of several columns, one after the other."""
        if not parts:
            return cls.of(())
        shifts = np.cumsum([0, *(len(part.data) for part in parts)])
        ends = [part.ends + shift for part, shift in zip(parts, shifts[:-1], strict=True)]
        return cls(np.concatenate([part.data for part in parts]), np.concatenate(ends))

    def __len__(self) -> int:
        return len(self.ends)

    def _item(self, index: int) -> str:
        start = self.ends[index - 1] if index else 0
        return self.data[start : self.ends[index]].tobytes().decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        start = 0
        for first in range(0, len(self), _BLOCK):
            ends = self.ends[first : first + _BLOCK].tolist()
            data = self.data[start : ends[-1]].tobytes()
            base = start
            for end in ends:
                yield data[start - base : end - base].decode("utf-8", "surrogatepass")
                start = end

    def take(self, indices: Sequence[int] | Array) -> Texts:
        """See ``Column.take``."""
        chosen = np.asarray(indices, np.int64)
        starts = np.concatenate([[0], self.ends[:-1]])[chosen] if len(chosen) else chosen
        lengths = self.ends[chosen] - starts
        ends = np.cumsum(lengths)
        data = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
        for first in range(0, len(chosen), _BLOCK):
            part = slice(first, first + _BLOCK)
            before = ends[part] - lengths[part]
            # The place of each byte: its place in the result, shifted as its text is.
            place = np.arange(before[0], ends[part][-1])
            data[place] = self.data[place + np.repeat(starts[part] - before, lengths[part])]
        return Texts(data, ends)


class FilePaths(Column[str]):
    """Paths of files whose ids are their places below a folder.

    Args:
        root: the folder.
        ids: for each file its path relative to the folder, with slashes.
    """

    def __init__(self, root: Path, ids: Texts) -> None:
        self.ids = ids
        self._prefix = str(root / "x")[:-1]

    def __len__(self) -> int:
        return len(self.ids)

    def _path(self, name: str) -> str:
        return self._prefix + (name if os.sep == "/" else name.replace("/", os.sep))

    def _item(self, index: int) -> str:
        return self._path(self.ids[index])

    def __iter__(self) -> Iterator[str]:
        return map(self._path, self.ids)

    def take(self, indices: Sequence[int] | Array) -> FilePaths:
        """See ``Column.take``."""
        return self.sharing(self.ids.take(indices))

    def sharing(self, ids: Texts) -> FilePaths:
        """Files of the same folder, with ids that are held already."""
        other = FilePaths(Path(), ids)
        other._prefix = self._prefix
        return other


class _OfArray(Column[Item]):
    """A column over the rows of an array.

    Args:
        array: (N, ...).
    """

    def __init__(self, array: Array) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.array, dtype) if copy else np.asarray(self.array, dtype)

    def take(self, indices: Sequence[int] | Array) -> Self:
        """See ``Column.take``."""
        return type(self)(self.array[np.asarray(indices, np.int64)])


class Numbers(_OfArray[int]):
    """Whole numbers, such as the labels of images: ``array`` is of an integer dtype, (N,)."""

    def _item(self, index: int) -> int:
        return int(self.array[index])

    def __iter__(self) -> Iterator[int]:
        for first in range(0, len(self), _BLOCK):
            yield from self.array[first : first + _BLOCK].tolist()


class Rows(_OfArray[bytes]):
    """Strings of one length: ``array`` is uint8, (N, length)."""

    @classmethod
    def of(cls, rows: Iterable[bytes], length: int) -> Self:
        """The same strings as a column."""
        return cls(np.frombuffer(b"".join(rows), np.uint8).reshape(-1, length))

    def _item(self, index: int) -> bytes:
        return self.array[index].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        length = self.array.shape[1]
        for first in range(0, len(self), _BLOCK):
            data = self.array[first : first + _BLOCK].tobytes()
            yield from (data[i : i + length] for i in range(0, len(data), length))

    @property
    def sortable(self) -> Array:
        """See the function ``sortable``."""
        return sortable(self.array)


class Hashes(_OfArray[str]):
    """Hashes in hexadecimal digits: ``array`` is uint8, (N, bytes)."""

    @classmethod
    def of(cls, hashes: Iterable[str]) -> Hashes:
        """The same hashes, of 32 digits each, as a column."""
        if isinstance(hashes, Hashes):
            return hashes
        return cls(np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(-1, 16))

    @property
    def sortable(self) -> Array:
        """See the function ``sortable``."""
        return sortable(self.array)

    def _item(self, index: int) -> str:
        return self.array[index].tobytes().hex()

    def __iter__(self) -> Iterator[str]:
        return (row.hex() for row in Rows(self.array))


def sortable(rows: Array) -> Array:
    """Rows of bytes, uint8 (N, length), as (N,) of a dtype that NumPy sorts and compares.

    All rows have one length, so that it ignores zeros at their end changes nothing.
    """
    return np.ascontiguousarray(rows).view(f"S{rows.shape[1]}").reshape(-1)


def numbers(values: Sequence[int] | Array) -> Numbers:
    """Whole numbers as a column."""
    if isinstance(values, Numbers):
        return values
    return Numbers(np.fromiter(values, np.int64, len(values)))


def has_repeats(texts: Sequence[str]) -> bool:
    """Whether a text comes twice, found without a set of all of them."""
    hashes = np.sort(np.fromiter(map(hash, texts), np.int64, len(texts)))
    if not (hashes[1:] == hashes[:-1]).any():
        return False
    return len(set(texts)) != len(texts)


def first_places(rows: Array) -> tuple[Array, Array]:
    """The different rows among rows of bytes.

    Args:
        rows: uint8 (N, length).

    Returns: int64 (D,), where each different row is first, ascending; int64 (N,), for each row its
    number among these D.
    """
    _, first, inverse = np.unique(sortable(rows), return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[inverse.reshape(-1)]


def last_of_each(ascending: Array) -> Array:
    """int64 (D,): where the last of each run of equal items is, ascending.

    Args:
        ascending: (N,).
    """
    return np.flatnonzero(np.append(ascending[1:] != ascending[:-1], True)[: len(ascending)])


class Finder:
    """Finds rows of bytes among known ones, in 8 bytes a row besides them.

    Args:
        known: uint8 (K, length), ascending as ``sortable`` gives them. Of equal rows the last is
            found.
    """

    def __init__(self, known: Array) -> None:
        self._known, self._starts = known, _starts(known)

    def find(self, rows: Array) -> Array:
        """Where rows are, int64 (N,); -1 for a row that is not there.

        Args:
            rows: uint8 (N, length).
        """
        if not len(self._known):
            return np.full(len(rows), -1)
        # Numbers are compared ten times as fast as bytes.
        starts = _starts(rows)
        place = np.searchsorted(self._starts, starts, side="right") - 1
        unlike = place >= 0
        while True:
            unlike &= (self._known[place] != rows).any(axis=1)
            # Another row that begins alike stands before it, perhaps.
            place[unlike] -= 1
            unlike &= place >= 0
            gone = unlike & (self._starts[place] != starts)
            place[gone] = -1
            unlike &= ~gone
            if not unlike.any():
                return place


def _starts(rows: Array) -> Array:
    """The first 8 bytes of each row as a number, uint64 (N,), in the order of the rows."""
    return np.ascontiguousarray(rows[:, :8]).view(">u8").reshape(-1).astype(np.uint64)

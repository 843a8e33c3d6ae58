"""Where each stored feature of a space is: 32 bytes a feature."""

from __future__ import annotations

import numpy as np

from msft_core.columns import Finder, Rows, last_of_each, sortable
from msft_core.features.segments import KEY_BYTES
from msft_core.types import Array


class Places:
    """The place of each key, a number of the caller's. A key that is added again moves."""

    def __init__(self) -> None:
        self._keys: Array = np.zeros((0, KEY_BYTES), np.uint8)
        self._finder = Finder(self._keys)
        self._places: Array = np.zeros(0, np.int64)
        self._new: list[tuple[Array, Array]] = []

    def find(self, keys: Rows) -> Array:
        """int64 (N,): the place of each key, -1 where it has none."""
        self._merge()
        index = self._finder.find(keys.array)
        if not len(self._places):
            return index
        return np.where(index >= 0, self._places[index], -1)

    def add(self, keys: Rows, first: int) -> None:
        """Give keys the places from ``first`` on."""
        self._new.append((keys.array, np.arange(first, first + len(keys))))

    def drop(self, keys: Rows) -> None:
        """Forget the places of keys."""
        self._merge()
        index = self._finder.find(keys.array)
        stays = np.ones(len(self._keys), bool)
        stays[index[index >= 0]] = False
        self._keys, self._places = self._keys[stays], self._places[stays]
        self._finder = Finder(self._keys)

    def between(self, first: int, end: int) -> Rows:
        """The keys whose places are from ``first`` to before ``end``, in the order of places."""
        self._merge()
        there = np.flatnonzero((self._places >= first) & (self._places < end))
        there = there[np.argsort(self._places[there])]
        return Rows(self._keys[there])

    def _merge(self) -> None:
        if not self._new:
            return
        keys = np.concatenate([self._keys, *(keys for keys, _ in self._new)])
        places = np.concatenate([self._places, *(places for _, places in self._new)])
        self._new = []
        # Stable, so that the last of equal keys is the one that was added last.
        names = sortable(keys)
        order = np.argsort(names, kind="stable")
        last = order[last_of_each(names[order])]
        self._keys, self._places = keys[last], places[last]
        self._finder = Finder(self._keys)

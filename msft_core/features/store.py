"""The store of features on disk, shared by all runs: spaces, their limit, eviction."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from msft_core.features.segments import count_features, is_segment
from msft_core.features.space import (
    Segmentation,
    Space,
    files_in,
    is_leftover,
    remove,
    remove_features,
    remove_if_empty,
)
from msft_core.files import json_value, size_text


@dataclass(frozen=True)
class SpaceInfo:
    """What ``msft cache`` shows of a space.

    Args:
        key: name of the space's folder, 32 hex digits.
        description: empty if it cannot be read.
        features: number of features in complete segments.
        bytes: size of all its files.
        last_used: in UTC.
    """

    key: str
    description: Mapping[str, Any]
    features: int
    bytes: int
    last_used: datetime


class FeatureStore:
    """All spaces below one folder. Several processes may use it at once.

    Args:
        folder: need not be there yet.
        limit: greatest size of all spaces, bytes; infinity for none.
        segmentation: of the files.
    """

    def __init__(
        self, folder: Path, limit: float, segmentation: Segmentation | None = None
    ) -> None:
        self.folder, self.limit = folder, limit
        self._segmentation = segmentation or Segmentation()
        self._opened: list[Space] = []

    def open(self, description: Mapping[str, Any]) -> Space:
        """Open the space of a function. Removes damaged segments and old leftovers.

        Nothing is created on disk before a feature is written, so a read-only folder can still be
        read.

        Args:
            description: everything that the features depend on, as JSON values.
        """
        for folder in self._folders():
            for path, status in files_in(folder):
                if is_leftover(path, status) and remove(path):
                    remove_if_empty(folder)
        space = Space(self.folder / key_of(description), description, self._segmentation)
        small = sum(segment.size for segment in space.small_segments())
        if small and not self.refusal(small):
            with suppress(OSError):
                space.merge_small_segments()
        self._opened.append(space)
        return space

    def refusal(self, needed: int) -> str:
        """Why ``needed`` more bytes cannot be stored, as one clause; ``""`` if they can.

        Segments that this store's spaces use are not evicted, so they count against the limit.
        """
        if not needed:
            return ""
        wanted = needed + sum(self._in_use().values())
        if wanted > self.limit:
            limit = f"the limit of {size_text(self.limit)} (cache.limit_gb)"
            return f"{size_text(wanted)} are needed, more than {limit}"
        total = sum(status.st_size for _, status in self._all_files())
        evicted = max(0, total + needed - self.limit)
        try:
            there = next(path for path in (self.folder, *self.folder.parents) if path.exists())
            free = shutil.disk_usage(there).free + evicted
        except OSError as error:
            return f"{self.folder} cannot be used: {error.strerror}"
        if needed > free:
            there_is = f"the disk of {self.folder} has only {size_text(free)} free"
            return f"{size_text(needed)} are needed, but {there_is}"
        return ""

    def make_room(self, needed: int) -> None:
        """Evict the least recently used segments until ``needed`` more bytes fit into the limit.

        Segments that this store's spaces use are kept. Segments that another process uses may be
        evicted: that process has them open and can read on.
        """
        in_use = self._in_use()
        files = self._all_files()
        total = sum(status.st_size for _, status in files)
        emptied = set()
        for path, status in sorted(files, key=lambda file: (file[1].st_mtime_ns, file[0].name)):
            if total + needed <= self.limit:
                break
            if is_segment(path) and path not in in_use and remove(path):
                total -= status.st_size
                emptied.add(path.parent)
        for folder in emptied:
            remove_if_empty(folder)

    def spaces(self) -> list[SpaceInfo]:
        """All spaces, last used first. A damaged file counts with its bytes, but has 0 features."""
        infos = []
        for folder in self._folders():
            if files := files_in(folder):
                used = max(status.st_mtime for _, status in files)
                infos.append(
                    SpaceInfo(
                        key=folder.name,
                        description=_read_description(folder),
                        features=sum(count_features(path) for path, _ in files if is_segment(path)),
                        bytes=sum(status.st_size for _, status in files),
                        last_used=datetime.fromtimestamp(used, timezone.utc),
                    )
                )
        return sorted(infos, key=lambda info: (info.last_used, info.key), reverse=True)

    def clear(self, keys: Sequence[str] | None = None) -> int:
        """Remove the features of these spaces, but not the files that a run is still writing.

        Args:
            keys: as in ``SpaceInfo.key``; None for all spaces.

        Returns: bytes freed.
        """
        folders = [folder for folder in self._folders() if keys is None or folder.name in keys]
        return sum(remove_features(folder) for folder in folders)

    def _folders(self) -> list[Path]:
        try:
            found = sorted(self.folder.iterdir())
        except OSError:
            return []
        return [path for path in found if re.fullmatch(r"[0-9a-f]{32}", path.name)]

    def _all_files(self) -> list[tuple[Path, os.stat_result]]:
        return [file for folder in self._folders() for file in files_in(folder)]

    def _in_use(self) -> dict[Path, int]:
        return {path: size for space in self._opened for path, size in space.in_use().items()}


def key_of(description: Mapping[str, Any]) -> str:
    """The key of the space with this description: 32 hex digits."""
    text = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _read_description(folder: Path) -> Mapping[str, Any]:
    try:
        value = json_value((folder / "space.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}

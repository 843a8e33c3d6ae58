"""Check the cache folder, and the free space on the disks."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from msft_core.config.sections import CacheSettings
from msft_core.doctor.findings import Finding
from msft_core.files import size_text
from msft_core.system.cache_folder import cache_dir, who_else_may_write

LOW_BYTES, TOO_LOW_BYTES = 5e9, 0.5e9
"""Free space below which a disk gives a note, and a problem."""


def check_cache_folder() -> Iterator[Finding]:
    """Whether the cache can be written, and by whom else."""
    folder = cache_dir()
    chosen = " (MSFT_CACHE)" if os.environ.get("MSFT_CACHE") else ""
    try:
        # If the folder does not exist yet, a run creates it.
        with tempfile.TemporaryFile(dir=_existing(folder)):
            pass
    except OSError as error:
        found = f"{folder}{chosen} cannot be written: {error.strerror or error}"
        advice = "set MSFT_CACHE to a folder that can be written"
        yield Finding("folder", "problem", found, advice)
    else:
        yield Finding("folder", "ok", f"{folder}{chosen} can be written")
    if others := who_else_may_write():
        advice = f"if you do not trust them: chmod -R go-w {folder}, or set MSFT_CACHE"
        yield Finding("others", "note", others, advice)


def check_cache_size() -> Iterator[Finding]:
    """The size of the cache, and the files that killed runs left there."""
    from msft_core.features.space import LEFTOVER_SECONDS

    folder = cache_dir()
    sizes: Counter[str] = Counter()
    leftovers: dict[Path, int] = {}
    for path, status in _files_below(folder):
        part = path.relative_to(folder).parts[0]
        sizes[part] += status.st_size
        if _is_unfinished(part, path) and time.time() - status.st_mtime > LEFTOVER_SECONDS:
            leftovers[path] = status.st_size
    limit = CacheSettings().limit_gb * 1e9
    features, downloads = sizes.pop("features", 0), sizes.pop("downloads", 0)
    yield Finding(
        "features",
        "ok",
        f"{size_text(features)}; runs keep this below {size_text(limit)} (cache.limit_gb)",
        value={"bytes": features, "limit_bytes": round(limit)},
    )
    yield Finding("downloads", "ok", size_text(downloads), value={"bytes": downloads})
    yield Finding("all else", "ok", size_text(sizes.total()), value={"bytes": sizes.total()})
    if leftovers:
        size = sum(leftovers.values())
        yield Finding(
            "unfinished",
            "note",
            f"{len(leftovers)} unfinished files left by killed runs, {size_text(size)}",
            f"delete them, for example {min(leftovers)}",
            {"files": len(leftovers), "bytes": size},
        )


def _files_below(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """All files below a folder. Files that vanish meanwhile or cannot be read are left out."""
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            try:
                yield path, path.lstat()
            except OSError:
                continue


def _is_unfinished(part: str, path: Path) -> bool:
    """Whether a file has a name that the store or pooch gives to an unfinished file."""
    if part == "features":
        return path.name.startswith(".") and path.suffix == ".tmp"
    return part == "downloads" and re.fullmatch(r"tmp\w+", path.name) is not None


def check_disk(name: str, folder: Path) -> Iterator[Finding]:
    """The free space on the disk of a folder.

    Args:
        name: ``cache`` or ``working directory``.
        folder: need not exist yet.
    """
    free = shutil.disk_usage(_existing(folder)).free
    found, value = f"{size_text(free)} free for {folder}", {"free_bytes": free}
    if free >= LOW_BYTES:
        yield Finding(name, "ok", found, value=value)
        return
    needs = {
        "cache": "msft keeps downloads and features there: set MSFT_CACHE to a folder on a larger "
        "disk, or remove features with msft cache clear",
        "working directory": "a run writes two checkpoints there (0.2 GB for a ResNet-50): free "
        "some space, or run with --out on a larger disk",
    }
    yield Finding(name, "problem" if free < TOO_LOW_BYTES else "note", found, needs[name], value)


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())

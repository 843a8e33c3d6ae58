"""The cache folder: downloads, features and other files that runs share."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path


def cache_dir() -> Path:
    """The folder in ``MSFT_CACHE``, or the platform's cache folder for this user."""
    chosen = os.environ.get("MSFT_CACHE")
    if chosen:
        return Path(chosen).absolute()
    import pooch

    return Path(pooch.os_cache("msft"))


def who_else_may_write() -> str:
    """Who besides this user may change files in the cache, as a line; empty if nobody may.

    Features in the cache have checksums, but no signatures: somebody else could change what
    networks compute. A group that only this user is in does not count: with the umask 002 of many
    systems, each user's own group may write.
    """
    if not hasattr(os, "geteuid"):
        return ""
    for folder in _folders():
        try:
            status = folder.stat()
        except OSError:
            continue
        if status.st_uid not in (os.geteuid(), 0):
            return f"{folder} belongs to another user, who may change what msft reads from it"
        if status.st_mode & stat.S_IWOTH:
            return f"all users may write into {folder}, and so change what msft reads from it"
        if status.st_mode & stat.S_IWGRP and not _is_private_group(status.st_gid):
            return f"a group may write into {folder}, and so change what msft reads from it"
    return ""


def warning_about_others() -> str:
    """The same, with what to do about it."""
    found = who_else_may_write()
    return found and (
        f"{found}. If you do not trust them: chmod -R go-w {cache_dir()}, or another MSFT_CACHE."
    )


def _folders() -> Iterator[Path]:
    """The cache folder, and the folders in it."""
    top = cache_dir()
    yield top
    try:
        yield from sorted(path for path in top.iterdir() if path.is_dir())
    except OSError:
        return


def _is_private_group(group: int) -> bool:
    """Whether a group is that of this user alone."""
    import grp
    import pwd

    try:
        user, entry = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    others = set(entry.gr_mem) - {user.pw_name}
    return user.pw_gid == group and entry.gr_name == user.pw_name and not others

"""A disk that is full, for real: the operating system refuses to let files grow."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

TOO_LARGE = os.strerror(errno.EFBIG)
"""What the operating system says then."""


@contextmanager
def disk_that_takes(size: int) -> Iterator[None]:
    """No file of this process can grow beyond ``size`` bytes."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nobody can create a file in the folder meanwhile, root neither."""
    mode = folder.stat().st_mode
    folder.chmod(0o555)
    # Root may write everywhere, unless it acts as somebody else; who must get to the folder.
    opened = [parent for parent in folder.parents if os.geteuid() == 0 and _private(parent)]
    for parent in opened:
        parent.chmod(0o711)
    if opened or os.geteuid() == 0:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        for parent in opened:
            parent.chmod(0o700)
        folder.chmod(mode)


_NOBODY = 65534


def _private(folder: Path) -> bool:
    return folder.stat().st_mode & 0o777 == 0o700

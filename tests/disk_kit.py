"""A disk that is full, for real: the operating system refuses to let files grow."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

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

"""The cache folder: downloads, features and other files that runs share."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """The folder in ``MSFT_CACHE``, or the platform's cache folder for this user."""
    chosen = os.environ.get("MSFT_CACHE")
    if chosen:
        return Path(chosen).absolute()
    import pooch

    return Path(pooch.os_cache("msft"))

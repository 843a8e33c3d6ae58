"""The folder for what is worth keeping between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """``MSFT_CACHE``, else the user's cache folder as the platform has it."""
    chosen = os.environ.get("MSFT_CACHE")
    if chosen:
        return Path(chosen).absolute()
    import pooch

    return Path(pooch.os_cache("msft"))

"""What a test gives to a run besides the installed plugins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def split_plugins(plugins: Sequence[object]) -> tuple[list[str], list[object]]:
    """What ``--plugin`` takes (strings and paths), and what ``run(plugins=[...])`` takes.

    The tiny plugin is always there; a test that names it too does not get it twice.
    """
    from msft_core.testing import tiny

    files = [str(plugin) for plugin in plugins if isinstance(plugin, (str, Path))]
    objects = [plugin for plugin in plugins if not isinstance(plugin, (str, Path))]
    return files, [tiny, *(plugin for plugin in objects if plugin is not tiny)]

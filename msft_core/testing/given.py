"""Plugins that a test gives to a run, besides the installed ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__tracebackhide__ = True


def split_plugins(plugins: Sequence[object]) -> tuple[list[str], list[object]]:
    """What ``--plugin`` takes (strings and paths), and what ``run(plugins=[...])`` takes.

    Adds the tiny plugin, but not twice if the test gives it too.
    """
    from msft_core.testing import tiny

    files = [str(plugin) for plugin in plugins if isinstance(plugin, (str, Path))]
    objects = [plugin for plugin in plugins if not isinstance(plugin, (str, Path))]
    return files, [tiny, *(plugin for plugin in objects if plugin is not tiny)]

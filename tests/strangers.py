"""Installed packages for tests, made of a module's source without pip."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import dedent


def python_path(*folders: Path) -> str:
    """``PYTHONPATH`` with these folders before what is in it."""
    return os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])])


def install(folder: Path, name: str, source: str, version: str = "1.2") -> str:
    """A distribution ``stranger_NAME`` with one plugin; ``folder`` is to be on the module path.

    Returns: its module's name.
    """
    module = f"stranger_{name}"
    (folder / f"{module}.py").write_text(dedent(source))
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[msft]\n{name} = {module}\n")
    return module

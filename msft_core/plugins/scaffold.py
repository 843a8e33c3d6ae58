"""What ``msft plugins new`` writes: the package of a small plugin that works.

The templates are the files of a package that works as it is, ``msft-example`` with the plugin
``example``: those of the kind and those that all kinds share. Its names are replaced by the new
ones; there is no other templating.
"""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from msft_core.errors import UsageError, suggest
from msft_core.plugins import compat
from msft_core.plugins.registry import Plugins

KINDS = ("dataset", "backbone", "strategy", "callback", "metric")

_TEMPLATES = Path(__file__).parent / "templates"
# Under a name with a dot, git and packaging tools would take these for this project's own.
_DOTTED = ("gitignore", "github")


@dataclass(frozen=True)
class Written:
    """A package that was written.

    Args:
        name: of the plugin and of its component.
        kind: of the component.
        package: name of the distribution.
        module: its module.
        folder: of the package.
        files: paths in the folder.
    """

    name: str
    kind: str
    package: str
    module: str
    folder: Path
    files: tuple[str, ...]


def write(name: str, kind: str, out: Path, plugins: Plugins) -> Written:
    """Write the package of a new plugin: all of it, or nothing.

    Args:
        name: of the plugin and its component; a leading ``msft-`` is dropped.
        kind: one of ``KINDS``.
        out: an existing folder; the package becomes the folder ``msft-NAME`` in it.
        plugins: what is installed, whose names are taken.

    Raises:
        UsageError: the name or the kind will not do, or the folder is there or cannot be written.
    """
    name = name.removeprefix("msft-")
    if kind == "extractor":
        raise UsageError("--kind extractor has no template: docs/plugins/extractors.md shows one.")
    if kind not in KINDS:
        raise UsageError(f"--kind {kind}: it is one of {', '.join(KINDS)}.{suggest(kind, KINDS)}")
    _require_usable(name, kind, plugins)
    package, module = f"msft-{name.replace('_', '-')}", f"msft_{_identifier(name)}"
    if importlib.util.find_spec(module) is not None:
        raise UsageError(f"there is a module {module} already: choose another name.")
    folder = out / package
    if not out.is_dir():
        raise UsageError(f"no folder {out}: make it first, or name another with --out DIR.")
    if os.path.lexists(folder):
        raise UsageError(f"{folder} is there already: choose another name, or another --out DIR.")
    texts = dict(sorted(_files(name, kind)))
    try:
        # Beside its place, so that the package appears there as a whole or not at all.
        with tempfile.TemporaryDirectory(prefix=f".{package}-", dir=out) as scratch:
            unfinished = Path(scratch, package)
            for path, text in texts.items():
                (unfinished / path).parent.mkdir(parents=True, exist_ok=True)
                (unfinished / path).write_text(text, encoding="utf-8")
            unfinished.rename(folder)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}.") from error
    return Written(name, kind, package, module, folder, tuple(texts))


def _require_usable(name: str, kind: str, plugins: Plugins) -> None:
    if not re.fullmatch(r"[a-z]([a-z0-9_-]*[a-z0-9])?", name):
        raise UsageError(
            f"{name!r} is no name for a plugin: take lower-case letters, digits, - and _, with a "
            "letter first and no - or _ last."
        )
    if keyword.iskeyword(name):
        raise UsageError(f"{name!r} is a word of Python's own: choose another name.")
    for info in plugins.infos:
        if _identifier(info.name) == _identifier(name):
            raise UsageError(
                f"there is a plugin {info.name!r} already ({info.origin}): choose another name."
            )
        for component in info.components:
            if component.kind == kind and _identifier(component.name) == _identifier(name):
                raise UsageError(
                    f"plugin {info.name!r} ({info.origin}) has a {kind} {component.name!r} "
                    "already: choose another name."
                )


def _files(name: str, kind: str) -> Iterator[tuple[str, str]]:
    """Path and text of each file of the new package."""
    for part in ("common", kind):
        for source in (_TEMPLATES / part).rglob("*"):
            if source.is_file() and "__pycache__" not in source.parts:
                first, *rest = source.relative_to(_TEMPLATES / part).parts
                path = "/".join([f".{first}" if first in _DOTTED else first, *rest])
                text = source.read_text(encoding="utf-8")
                yield path.replace("example", _identifier(name)), _renamed(text, name)


def _renamed(text: str, name: str) -> str:
    # The contract that this msft has, whatever the templates were written for.
    major, minor = map(int, compat.API_VERSION.split("."))
    text = re.sub(r'msft_api = "[\d.]+"', f'msft_api = "{compat.API_VERSION}"', text)
    text = re.sub(r"msft>=[\d.]+,<[\d.]+", f"msft>={compat.API_VERSION},<{major}.{minor + 1}", text)
    names = {
        "msft-example": f"msft-{name.replace('_', '-')}",
        "msft_example": f"msft_{_identifier(name)}",
        "test_example": f"test_{_identifier(name)}",
        "Example": "".join(word.capitalize() for word in re.split("[-_]+", name)),
        "example": name,
    }
    # In one pass, since the new name may have "example" in it.
    return re.sub("|".join(names), lambda found: names[found[0]], text)


def _identifier(name: str) -> str:
    return name.replace("-", "_")

"""Writes the package of a small, working plugin: ``msft plugins new``.

The templates are the files of a working package, ``msft-example`` with the plugin ``example``: a
folder of files for each kind, and a folder that all kinds share. Writing a package replaces these
names by the new ones; there is no other templating.
"""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from msft_core.errors import UsageError, suggest
from msft_core.files import folder_beside, rename_folder
from msft_core.plugins import compat
from msft_core.plugins.registry import Plugins

KINDS = ("dataset", "backbone", "strategy", "callback", "metric", "exporter")

_TEMPLATES = Path(__file__).parent / "templates"
# With a leading dot, git and packaging tools would use these files for msft's own repository.
_DOTTED = ("gitignore", "github")


@dataclass(frozen=True)
class Written:
    """A package that was written.

    Args:
        name: name of the plugin and of its component.
        kind: kind of the component.
        package: name of the distribution.
        module: name of its module.
        folder: the package's folder.
        files: paths in the folder.
    """

    name: str
    kind: str
    package: str
    module: str
    folder: Path
    files: tuple[str, ...]


def write(name: str, kind: str, out: Path, plugins: Plugins) -> Written:
    """Write the package of a new plugin completely, or write nothing.

    Args:
        name: name of the plugin and its component. A leading ``msft-`` is dropped.
        kind: one of ``KINDS``.
        out: an existing folder. The package becomes the folder ``msft-NAME`` in it.
        plugins: the installed plugins. Their names cannot be used again.

    Raises:
        UsageError: the name or the kind is not allowed, or the folder exists or cannot be written.
    """
    name = name.removeprefix("msft-")
    if kind == "extractor":
        raise UsageError(
            "--kind extractor: there is no template; see the example in docs/plugins/extractors.md."
        )
    if kind not in KINDS:
        raise UsageError(f"--kind {kind}: choose one of {', '.join(KINDS)}.{suggest(kind, KINDS)}")
    _require_usable(name, kind, plugins)
    package, module = f"msft-{name.replace('_', '-')}", f"msft_{_identifier(name)}"
    if importlib.util.find_spec(module) is not None:
        raise UsageError(f"a module {module} already exists: choose another name.")
    folder = out / package
    if not out.is_dir():
        raise UsageError(f"no folder {out}: create it first, or name another with --out DIR.")
    if os.path.lexists(folder):
        raise UsageError(f"{folder} already exists: choose another name, or another --out DIR.")
    texts = dict(sorted(_files(name, kind)))
    try:
        # Written beside the final folder and then renamed, so that no half package appears.
        with folder_beside(folder) as scratch:
            unfinished = scratch / package
            for path, text in texts.items():
                (unfinished / path).parent.mkdir(parents=True, exist_ok=True)
                (unfinished / path).write_text(text, encoding="utf-8")
            rename_folder(unfinished, folder)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}.") from error
    return Written(name, kind, package, module, folder, tuple(texts))


def _require_usable(name: str, kind: str, plugins: Plugins) -> None:
    if not re.fullmatch(r"[a-z]([a-z0-9_-]*[a-z0-9])?", name):
        raise UsageError(
            f"{name!r} is not a valid name for a plugin: use lower-case letters, digits, - and _, "
            "with a letter first and no - or _ last."
        )
    if keyword.iskeyword(name):
        raise UsageError(f"{name!r} is a keyword of Python: choose another name.")
    for info in plugins.infos:
        if _identifier(info.name) == _identifier(name):
            raise UsageError(
                f"a plugin {info.name!r} already exists ({info.origin}): choose another name."
            )
        for component in info.components:
            if component.kind == kind and _identifier(component.name) == _identifier(name):
                raise UsageError(
                    f"plugin {info.name!r} ({info.origin}) already has a {kind} "
                    f"{component.name!r}: choose another name."
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
    # The contract version of this msft, whichever version the templates declare.
    major = int(compat.API_VERSION.split(".")[0])
    text = re.sub(r'msft_api = "[\d.]+"', f'msft_api = "{compat.API_VERSION}"', text)
    text = re.sub(r"msft>=[\d.]+,<[\d.]+", f"msft>={compat.API_VERSION},<{major + 1}", text)
    names = {
        "msft-example": f"msft-{name.replace('_', '-')}",
        "msft_example": f"msft_{_identifier(name)}",
        "test_example": f"test_{_identifier(name)}",
        "Example": "".join(word.capitalize() for word in re.split("[-_]+", name)),
        "example": name,
    }
    # In one pass, since the new name may contain "example".
    return re.sub("|".join(names), lambda found: names[found[0]], text)


def _identifier(name: str) -> str:
    return name.replace("-", "_")

"""Shell completion: the names that a user may type next.

A completer runs while the user waits at the prompt, so it takes no longer than listing the plugins
does, and it writes nothing but the names, whatever the plugins do.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from msft_core.plugins.registry import PluginInfo

_HEAVY = ("mindspore", "numpy", "matplotlib", "torch", "tensorflow")
"""Importing one of these takes longer than a user waits for a completion."""


def components(*kinds: str) -> Callable[[typer.Context], list[tuple[str, str]]]:
    """A completer of the names of all components of some kinds."""

    def complete(context: typer.Context) -> list[tuple[str, str]]:
        return [
            (component.name, _plain(component.summary))
            for info in _plugins(context)
            for component in info.components
            if component.kind in kinds
        ]

    return complete


def listed_components(kind: str) -> Callable[[typer.Context, str], list[tuple[str, str]]]:
    """A completer of a list of names with commas: of the last name, without those before it."""

    def complete(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
        begun = incomplete[: incomplete.rfind(",") + 1]
        return [
            (begun + name, summary)
            for name, summary in components(kind)(context)
            if name not in begun.split(",")
        ]

    return complete


def installed_plugins(context: typer.Context) -> list[str]:
    """Complete names of plugins, without importing them."""
    with _nothing_else_printed():
        from importlib.metadata import entry_points

        from msft_core.plugins.loading import ENTRY_POINT_GROUP

        names = [entry_point.name for entry_point in entry_points(group=ENTRY_POINT_GROUP)]
    return sorted({*names, *_given(context, "plugin")})


def plugins_and_components(context: typer.Context, incomplete: str) -> list[str]:
    """Complete names of plugins; once a name is begun, those of components too.

    A plugin may offer hundreds of networks, which would bury the plugins.
    """
    infos = _plugins(context)
    names = [info.name for info in infos]
    if incomplete:
        names += [component.name for info in infos for component in info.components]
    return list(dict.fromkeys(names))


def plugin_kinds() -> list[str]:
    """Complete the kinds that ``msft plugins new`` has templates of."""
    from msft_core.plugins.scaffold import KINDS

    return list(KINDS)


def devices() -> list[str]:
    """Complete the values of ``runtime.device``."""
    from typing import get_args

    from msft_core.config.sections import RuntimeSettings

    return list(get_args(RuntimeSettings.model_fields["device"].annotation))


def run_folders(incomplete: str) -> list[str]:
    """Complete run folders: those in ``runs/``, and those in the folder that is being typed."""
    from msft_core.runs.folder import is_run_folder

    begun = incomplete[: incomplete.rfind("/") + 1]
    found: dict[str, None] = {}
    for parent in dict.fromkeys((begun, "runs/")):
        folder = Path(parent or ".").expanduser()
        try:
            # The newest first, since names begin with the time.
            names = sorted((path.name for path in folder.iterdir()), reverse=True)
        except OSError:
            continue
        for name in names:
            if name.startswith("."):  # the run has not begun yet
                continue
            if (parent + name).startswith(incomplete) and is_run_folder(folder / name):
                found[parent + name] = None
    return list(found)


def _plugins(context: typer.Context) -> Iterable[PluginInfo]:
    """The installed plugins and those of ``--plugin``, as far as they can be loaded.

    A plugin that imports MindSpore, NumPy or the like while it is loaded counts as broken here.
    """
    with _nothing_else_printed():
        _refuse_to_import(*_HEAVY)
        from msft_core.errors import MsftError
        from msft_core.plugins.loading import load_plugins

        infos: Iterable[PluginInfo] = ()
        given = _given(context, "plugin"), _given(context, "without")
        for modules, without in (given, ((), ())):
            try:
                infos = load_plugins(modules=modules, without=without).infos
                break
            except MsftError:
                continue  # one of the names given so far is wrong: the command will say so
    # Typer imports rich for the summaries if it can, and the user would wait for that.
    _refuse_to_import("rich")
    return infos


def _refuse_to_import(*names: str) -> None:
    """Let imports of these modules fail from now on, except of those that are imported already."""
    for name in names:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


def _given(context: Any, option: str) -> tuple[str, ...]:
    """The values that the command line has so far, before a subcommand and after it."""
    values: tuple[str, ...] = ()
    while context is not None:
        values = (*(context.params.get(option) or ()), *values)
        context = context.parent
    return values


def _plain(summary: object) -> str:
    """A summary on one line. For rich, which typer may use, brackets would be tags."""
    return " ".join(str(summary).split()).replace("[", "(").replace("]", ")")


@contextmanager
def _nothing_else_printed() -> Iterator[None]:
    """Discard what plugins write, also below Python; standard error stays closed to them.

    The shell reads names from standard output, and shows standard error in the middle of the line
    that is being typed. A plugin may write there until the process ends.
    """
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    sys.stdout.flush()
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)

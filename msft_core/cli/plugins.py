"""``msft plugins``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from msft_core.cli.errors import reported

if TYPE_CHECKING:
    from msft_core.plugins import PluginInfo


def command(
    plugin: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="A module or .py file to use as a plugin."),
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A plugin not to import.")
    ] = None,
) -> None:
    """List every plugin: version, origin, status, hooks, components."""
    with reported():
        from msft_core.plugins import Plugins

        loaded = Plugins.load(modules=plugin or (), without=without or ())
        for info in loaded.infos:
            _show(info)


def _show(info: PluginInfo) -> None:
    status = f"broken: {info.problem}" if info.status == "broken" else info.status
    typer.echo(f"{info.name}  {info.version or '-'}  ({info.origin})  {status}")
    if info.hooks:
        typer.echo(f"    hooks: {', '.join(info.hooks)}")
    for component in info.components:
        typer.echo(f"    {component.kind} {component.name}: {component.summary}")

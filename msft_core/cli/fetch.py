"""``msft fetch``."""

from __future__ import annotations

from typing import Annotated

import typer

from msft_core.cli import completion
from msft_core.cli.errors import reported
from msft_core.cli.options import Blocked, Modules, Verbose


def command(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME",
            help="Datasets and backbones, such as canidae.",
            autocompletion=completion.components("dataset", "backbone"),
        ),
    ],
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a setting, such as dataset.url=URL."
        ),
    ] = None,
    plugin: Modules = None,
    without: Blocked = None,
    verbose: Verbose = False,
) -> None:
    """Download the files of datasets and backbones, to train offline later."""
    with reported(verbose=verbose):
        from msft_core import config as configuration
        from msft_core.errors import UsageError, blaming, suggest
        from msft_core.plugins.loading import load_plugins
        from msft_core.system.cache_folder import cache_dir, warning_about_others
        from msft_core.system.console import console_reporter
        from msft_core.types import Context

        plugins = load_plugins(modules=plugin or (), without=without or ())
        reporter = console_reporter()
        chosen = configuration.merge(*map(configuration.parse_assignment, assignments or []))
        known = {**plugins.components("dataset"), **plugins.components("backbone")}
        for name in names:
            if name not in known:
                raise UsageError(f"no dataset or backbone {name!r}.{suggest(name, known)}")
        if others := warning_about_others():
            reporter.warning(others)
        for name in names:
            component = known[name]
            if component.fetch is None:
                reporter.info(f"{name}: nothing to download")
                continue
            owner = plugins.owner(component.kind, name)
            section = chosen.get(component.kind, {})
            settings = configuration.component_settings(component, section, owner)
            with plugins.named_by_package(), blaming(owner, "", f"fetching {name} failed: "):
                for path in component.fetch(settings, Context(0, cache_dir(), reporter)):
                    reporter.info(f"{name}: {path}")

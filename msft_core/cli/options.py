"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msft_core.cli import completion

PLUGINS = "Plugins"
"""The group of the options about plugins."""

Modules = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="MODULE",
        help="Use a module or .py file as a plugin (repeatable).",
        rich_help_panel=PLUGINS,
    ),
]
Blocked = Annotated[
    list[str] | None,
    typer.Option(
        "--without",
        metavar="NAME",
        help="Do not import this plugin (repeatable).",
        autocompletion=completion.installed_plugins,
        rich_help_panel=PLUGINS,
    ),
]
FinishedRun = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="Run folder, or a checkpoint (.ckpt) of one.",
        autocompletion=completion.run_folders,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="DEVICE",
        help="cpu, gpu, ascend or auto.",
        autocompletion=completion.devices,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print no progress.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Print the traceback of an error.")]

"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Modules = Annotated[
    list[str] | None,
    typer.Option("--plugin", metavar="MODULE", help="A module or .py file to use as a plugin."),
]
Blocked = Annotated[
    list[str] | None, typer.Option("--without", metavar="NAME", help="A plugin not to import.")
]

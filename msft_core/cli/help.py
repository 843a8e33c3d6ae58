"""``--help`` in groups, as plain text.

The groups are typer's own: ``rich_help_panel`` of an option or a command names its group. Typer
draws them as panels with rich, but with rich `msft --help` takes more than 2.5 times as long as
`import typer`, the bound that benchmarks/comparisons/startup.py checks. Plain text is also readable
in a pipe, in a log and in a narrow terminal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typer.core import TyperCommand, TyperGroup

_ARGUMENTS = "Arguments"
_OPTIONS = "Options"
_OTHER_OPTIONS = "Other options"
_COMMANDS = "Commands"
_COMPLETION = "Shell completion"

_WIDEST_NAMES = 26
"""A longer option takes a line of its own, and its help starts on the next one."""

_Rows = dict[str, list[tuple[str, str]]]
"""By the title of a group, its lines: what the user types, and its help."""


class Command(TyperCommand):
    """A command whose options are listed in groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and options."""
        _write(_parameters(self, ctx), formatter)


class CommandGroup(TyperGroup):
    """A command with subcommands, which come first in its help, in groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the subcommands, then the arguments and options."""
        _write(_subcommands(self, ctx), formatter)
        _write(_parameters(self, ctx), formatter)


def _subcommands(group: TyperGroup, context: Any) -> _Rows:
    groups: _Rows = {}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        title = getattr(command, "rich_help_panel", None) or _COMMANDS
        # The whole first sentence: it is wrapped here, not cut off.
        summary = command.get_short_help_str(limit=1000)
        groups.setdefault(str(title), []).append((name, summary))
    return groups


def _parameters(command: Any, context: Any) -> _Rows:
    groups: _Rows = {_ARGUMENTS: []}
    without_group = []
    completion = []
    for parameter in command.get_params(context):
        row = parameter.get_help_record(context)
        if row is None:
            continue
        if parameter.param_type_name == "argument":
            row = (parameter.metavar or row[0], row[1])  # without its Python type
        title = getattr(parameter, "rich_help_panel", None)
        if parameter.name in ("install_completion", "show_completion"):
            completion.append(row)
        elif title:
            groups.setdefault(str(title), []).append(row)
        elif parameter.param_type_name == "argument":
            groups[_ARGUMENTS].append(row)
        else:
            without_group.append(row)
    there_are_groups = any(title != _ARGUMENTS for title in groups)
    groups[_OTHER_OPTIONS if there_are_groups else _OPTIONS] = without_group
    groups[_COMPLETION] = completion
    return groups


def _write(groups: Mapping[str, list[tuple[str, str]]], formatter: Any) -> None:
    """Write the groups that have lines, the help of all of them in one column."""
    widths = [len(name) for rows in groups.values() for name, _ in rows]
    width = max((width for width in widths if width <= _WIDEST_NAMES), default=0)
    for title, rows in groups.items():
        if rows:
            with formatter.section(title):
                formatter.write_dl(
                    [(name.ljust(width), text) for name, text in rows], col_max=width
                )

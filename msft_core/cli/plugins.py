"""``msft plugins``."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from msft_core.cli import completion, help
from msft_core.cli.errors import reported
from msft_core.cli.options import AsJson, Blocked, Modules, Verbose

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from msft_core.plugins.registry import PluginInfo, Plugins
    from msft_core.types import Component

app = typer.Typer(name="plugins", cls=help.CommandGroup)


@dataclass(frozen=True)
class _Options:
    """The options that are allowed both before a subcommand and after it."""

    modules: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    as_json: bool = False

    def joined(
        self, modules: list[str] | None, without: list[str] | None, as_json: bool
    ) -> _Options:
        return _Options(
            (*self.modules, *(modules or ())),
            (*self.without, *(without or ())),
            self.as_json or as_json,
        )

    def load(self) -> Plugins:
        from msft_core.plugins.loading import load_plugins

        # Keep the output of a plugin's import out of the list and the JSON.
        with contextlib.redirect_stdout(sys.stderr):
            return load_plugins(modules=self.modules, without=self.without)


@app.callback(invoke_without_command=True)
def listing(
    context: typer.Context,
    plugin: Modules = None,
    without: Blocked = None,
    as_json: AsJson = False,
) -> None:
    """List plugins, show one, or write the package of a new one.

    Without a command, list every plugin: version, origin, status, hooks, components.
    """
    options = _Options().joined(plugin, without, as_json)
    context.obj = options
    if context.invoked_subcommand:
        return
    with reported():
        infos = options.load().infos
        if options.as_json:
            _print_json([_listed(info) for info in infos])
            return
        for info in infos:
            typer.echo(_heading(info))
            if info.hooks:
                typer.echo(f"    hooks: {', '.join(info.hooks)}")
            for component in info.components:
                typer.echo(f"    {component.kind} {component.name}: {component.summary}")
            for warning in info.warnings:
                typer.echo(f"    warning: {warning}")


@app.command("show", cls=help.Command)
def show(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A plugin or one of its components.",
            autocompletion=completion.plugins_and_components,
        ),
    ],
    plugin: Modules = None,
    without: Blocked = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show a plugin: its origin, its hooks in call order, its settings."""
    options = context.obj.joined(plugin, without, as_json)
    with reported(verbose=verbose):
        loaded = options.load()
        info, claim = _find(name, loaded)
        if verbose and info.error is not None:
            typer.echo("".join(traceback.format_exception(info.error)).rstrip(), err=True)
        hooks = [_hook(loaded, info, hook) for hook in info.hooks]
        settings = [list(_settings(component)) for component in info.components]
        if options.as_json:
            _print_json(
                {
                    **_listed(info),
                    "location": info.location,
                    "hooks": hooks,
                    "components": [
                        {**_component(component), "settings": rows}
                        for component, rows in zip(info.components, settings, strict=True)
                    ],
                }
            )
            return
        if claim:
            typer.echo(claim)
        _show(info, hooks, settings)


@app.command("new", cls=help.Command)
def new(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Name of the plugin: birds becomes package msft-birds."
        ),
    ],
    kind: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="Kind of component: dataset, backbone, strategy, callback or metric.",
            autocompletion=completion.plugin_kinds,
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder in which to create the package.")
    ] = Path(),
    as_json: AsJson = False,
) -> None:
    """Write the package of a new plugin: a small example that works, with tests."""
    options = context.obj.joined(None, None, as_json)
    with reported():
        from msft_core.plugins import scaffold

        written = scaffold.write(name, kind, out, options.load())
        commands = [
            f"cd {shlex.quote(str(written.folder))}",
            'pip install -e ".[test]"',
            "pytest",
            f"msft plugins show {written.name}",
        ]
        if options.as_json:
            _print_json(
                {
                    "name": written.name,
                    "kind": written.kind,
                    "package": written.package,
                    "module": written.module,
                    "folder": str(written.folder),
                    "files": list(written.files),
                    "next": commands,
                }
            )
            return
        typer.echo(f"{written.folder}: a package with the {written.kind} {written.name}")
        for file in written.files:
            typer.echo(f"    {file}")
        typer.echo("Next:")
        for command in commands:
            typer.echo(f"    {command}")


# Finding


def _find(name: str, loaded: Plugins) -> tuple[PluginInfo, str]:
    """Find a plugin by its own name or by the name of one of its components.

    Returns:
        The plugin, and a line that names the component, empty for the plugin's own name.

    Raises:
        UsageError: no plugin has that name, or several plugins have a component of that name.
    """
    from msft_core.errors import UsageError, suggest

    owners = []
    for info in loaded.infos:
        if info.name == name:
            return info, ""
        kinds = [component.kind for component in info.components if component.name == name]
        if kinds:
            claim = f"{' and '.join(kinds)} {name!r} of plugin {info.name!r}"
            owners.append((info, claim))
    if not owners:
        known = [info.name for info in loaded.infos]
        known += [component.name for info in loaded.infos for component in info.components]
        raise UsageError(f"no plugin {name!r}.{suggest(name, known)} `msft plugins` lists all.")
    if len(owners) > 1:
        claims = ", ".join(claim for _, claim in owners)
        raise UsageError(f"no plugin {name!r}, but the {claims}: name one of these plugins.")
    return owners[0]


# Facts about plugins


def _listed(info: PluginInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "version": info.version,
        "origin": info.origin,
        "status": info.status,
        "problem": info.problem,
        "warnings": list(info.warnings),
        "seconds": round(info.seconds, 4),
        "hooks": list(info.hooks),
        "components": [_component(component) for component in info.components],
    }


def _component(component: Component) -> dict[str, Any]:
    return {"kind": component.kind, "name": component.name, "summary": component.summary}


def _hook(loaded: Plugins, info: PluginInfo, hook: str) -> dict[str, Any]:
    """The place of a plugin, from 1, among all plugins that implement a hook."""
    order = loaded.order(hook)
    return {
        "name": hook,
        "position": order.index(info.name) + 1,
        "order": order,
        "mark": loaded.mark(hook, info.name),
    }


def _settings(component: Component) -> Iterator[dict[str, Any]]:
    """Each setting with its key for --set, in the order of the model."""
    from msft_core.config import settings_model
    from msft_core.types import SWITCHED_KINDS

    prefix: str = component.kind
    if component.kind in SWITCHED_KINDS:
        prefix += f".{component.name}"
    yield from _fields(settings_model(component), prefix)


def _fields(model: Any, prefix: str) -> Iterator[dict[str, Any]]:
    for name, field in model.model_fields.items():
        key = f"{prefix}.{field.alias or name}"
        inner = _without_none(field.annotation)
        if len(inner) == 1 and hasattr(inner[0], "model_fields"):
            yield from _fields(inner[0], key)
            continue
        required = field.is_required()
        yield {
            "key": key,
            "type": _type(field),
            "required": required,
            "default": None if required else _default(field),
            "help": field.description or "",
        }


def _default(field: FieldInfo) -> Any:
    """The default as a JSON value. The plugin's own function may compute it, and may fail."""
    from pydantic_core import to_jsonable_python

    from msft_core.errors import first_line

    compute: Any = field.default_factory
    try:
        default = field.default if compute is None else compute()
    except Exception as error:
        return f"cannot be computed ({first_line(error)})"
    return to_jsonable_python(default, fallback=str)


def _type(field: FieldInfo) -> str:
    """The type in plain words, with its bounds if it has any."""
    bounds = [
        f"{sign} {getattr(bound, name)}"
        for name, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))
        for bound in field.metadata
        if isinstance(getattr(bound, name, None), (int, float))
    ]
    return ", ".join([_words(field.annotation), *bounds])


def _words(annotation: Any) -> str:
    import enum
    from typing import Literal, get_args, get_origin

    simple = {bool: "true or false", int: "int", float: "float", str: "text", Path: "path"}
    if annotation in simple:
        return simple[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(arguments[0])
    if origin is Literal:
        return f"one of {'|'.join(map(str, arguments))}"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return f"one of {'|'.join(str(each.value) for each in annotation)}"
    if isinstance(origin, type) and issubclass(origin, dict):
        return f"table of {_words(arguments[1])}"
    if origin is tuple and Ellipsis not in arguments:
        return f"[{', '.join(map(_words, arguments))}]"
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return f"list of {_words(arguments[0])}"
    alternatives = _without_none(annotation)
    if alternatives != [annotation]:
        return " or ".join(map(_words, alternatives))
    return str(getattr(annotation, "__name__", annotation))


def _without_none(annotation: Any) -> list[Any]:
    """The alternatives of a union except None, which TOML cannot express."""
    from types import NoneType, UnionType
    from typing import Union, get_args, get_origin

    if get_origin(annotation) not in (Union, UnionType):
        return [annotation]
    return [each for each in get_args(annotation) if each is not NoneType]


# Printing


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _heading(info: PluginInfo) -> str:
    status = f"broken: {info.problem}" if info.status == "broken" else info.status
    return f"{info.name}  {info.version or '-'}  ({info.origin})  {status}"


def _show(
    info: PluginInfo, hooks: Sequence[dict[str, Any]], settings: Sequence[list[dict[str, Any]]]
) -> None:
    typer.echo(_heading(info))
    loaded = f", loaded in {info.seconds:.3f} s" if info.status == "ok" else ""
    typer.echo(f"    from {info.location or info.name}{loaded}")
    for warning in info.warnings:
        typer.echo(f"    warning: {warning}")
    if hooks:
        typer.echo("hooks, in the order in which a run calls them:")
        for line in _columns([[hook["name"], _place(hook, info)] for hook in hooks]):
            typer.echo(f"    {line}")
    # Components in a row with the same settings share one table: a plugin may have 250 networks.
    pairs = zip(info.components, settings, strict=True)
    for rows, sharing in groupby(pairs, lambda pair: pair[1]):
        for component, _ in sharing:
            typer.echo(f"{component.kind} {component.name}: {component.summary}")
        table = [[row["key"], row["type"], _default_text(row), row["help"]] for row in rows]
        for line in _columns(table):
            typer.echo(f"    {line}")


def _place(hook: dict[str, Any], info: PluginInfo) -> str:
    if hook["name"] == "list_components":
        return "when the plugin is loaded"
    from msft_core.hookspecs import HOOKS

    facts = HOOKS[hook["name"]]
    if facts.first_result:
        kind = str(facts.kind)
        plural = {"strategy": "strategies"}.get(kind, f"{kind}s")
        if info.given:
            return f"asked for any {kind}, before the plugin that lists it"
        return f"asked for the {plural} it lists"
    mark = f" ({hook['mark']})" if hook["mark"] else ""
    return f"{_ordinal(hook['position'])} of {len(hook['order'])}{mark}: {', '.join(hook['order'])}"


def _ordinal(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


def _default_text(row: dict[str, Any]) -> str:
    if row["required"]:
        return "required"
    if row["default"] is None:
        return "no default"
    return f"default {json.dumps(row['default'], ensure_ascii=False)}"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]

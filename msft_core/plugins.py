"""Plugins: find, block, load, validate, list; resolve a component by name; call hooks.

Every function of a plugin is registered behind a guard (``guard.py``), so that whatever it raises
names the plugin and the hook. Nothing here imports MindSpore or NumPy.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

import pluggy

from msft_core import compat, hookspecs, trace
from msft_core.errors import MsftError, PluginError, UsageError, first_line, suggest
from msft_core.guard import Guard, RefusedFunction
from msft_core.types import Component, Kind, Observer, Settings

ENTRY_POINT_GROUP = "msft"

# Callbacks, metrics and extractors are switched by their own `enabled`; a hook of a plugin whose
# components of that kind are all switched off is not called.
_KIND_OF_HOOK: dict[str, Kind] = {
    "build_feature_extractor": "extractor",
    "compute_metrics": "metric",
    "on_run_start": "callback",
    "on_epoch_end": "callback",
    "on_run_end": "callback",
}

CHOSEN_KINDS: tuple[Kind, ...] = ("dataset", "backbone", "strategy")
"""A run has one of each, by name."""

SWITCHED_KINDS: tuple[Kind, ...] = ("callback", "metric", "extractor")
"""All of them take part that are ``enabled``."""

_SLOW_SECONDS = 0.5
"""A plugin that takes longer to load slows down every command, so it is told."""
_MANY = 20
_HEAVY = ("mindspore", "numpy", "matplotlib", "torch", "tensorflow", "sklearn", "pandas", "scipy")


@dataclass(frozen=True)
class PluginInfo:
    """What ``msft plugins`` says of one plugin."""

    name: str
    version: str
    origin: str
    status: Literal["ok", "blocked", "broken"]
    hooks: tuple[str, ...] = ()
    components: tuple[Component, ...] = ()
    problem: str = ""
    given: bool = False
    """Given to this run (``--plugin``, ``run(plugins=[...])``), so asked before the owner."""
    location: str = ""
    """Its module, or its file."""
    warnings: tuple[str, ...] = ()
    """What works, but should be mended: old names, slow loading."""
    seconds: float = 0.0
    """How long it took to load."""


class Plugins:
    """The plugins of one run or command."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = (trace.Tracer(), *observers) if trace.is_asked_for() else (*observers,)
        self._depth = [0]
        self._manager = pluggy.PluginManager("msft")
        self._manager.add_hookspecs(hookspecs)
        self._infos: dict[str, PluginInfo] = {}
        self._owners: dict[tuple[Kind, str], str] = {}
        self._contested: dict[tuple[Kind, str], str] = {}

    @classmethod
    def load(
        cls,
        *,
        modules: Sequence[str] = (),
        without: Sequence[str] = (),
        objects: Sequence[object] = (),
        observers: Sequence[Observer] = (),
    ) -> Plugins:
        """Load every installed plugin, then those given to this run.

        Args:
            modules: modules or ``.py`` files, as with ``--plugin``; those of ``MSFT_PLUGINS``
                (comma-separated) come first.
            without: names of plugins not to import, as with ``--without``; joined with
                ``MSFT_WITHOUT``.
            objects: plugin objects or classes, as with ``run(plugins=[...])``.
            observers: see every hook call; with ``MSFT_TRACE=1`` one that prints them does too.

        Raises:
            UsageError: ``without`` names no plugin.
            PluginError: a plugin that was given to this run is broken. An installed one that is
                broken is only listed as such.
        """
        plugins = cls(observers)
        modules = [*_from_environment("MSFT_PLUGINS"), *modules]
        blocked = {*_from_environment("MSFT_WITHOUT"), *without}
        entry_points = sorted(
            metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda e: (not _is_ours(e), e.name)
        )
        known = [e.name for e in entry_points] + [*modules]
        for name in sorted(blocked):
            if name not in known:
                raise UsageError(f"--without {name}: no such plugin.{suggest(name, known)}")
        for entry_point in entry_points:
            plugins._load_entry_point(entry_point, blocked)
        for module in dict.fromkeys(modules):
            if module in blocked:
                plugins._infos[module] = PluginInfo(module, "", "--plugin", "blocked", given=True)
            else:
                plugins._load_module(module)
        for plugin in objects:
            plugins._add_given(plugin, _name_of_object(plugin), "run(plugins=[...])")
        return plugins

    # Loading

    def _load_entry_point(self, entry_point: metadata.EntryPoint, blocked: set[str]) -> None:
        name, dist = entry_point.name, entry_point.dist
        info = PluginInfo(
            name,
            version=dist.version if dist else "",
            origin=f"{dist.name} {dist.version}" if dist else entry_point.value,
            status="broken",
            location=entry_point.value,
        )
        if name in blocked:
            self._infos[name] = replace(info, status="blocked")
            return
        if name in self._infos:
            problem = f"another plugin is called {name!r} already ({self._infos[name].origin})"
            name = f"{name} ({entry_point.value})"
            self._infos[name] = replace(info, name=name, problem=problem)
            return
        loading = _Loading()
        try:
            self._add(_imported(entry_point.load), info, loading)
        except _Broken as error:
            self._infos[name] = replace(info, problem=str(error), seconds=loading.seconds)

    def _load_module(self, module: str) -> None:
        loading = _Loading()
        try:
            plugin = _imported(functools.partial(_import_named, module))
        except _Broken as error:
            raise PluginError(module, "", str(error)) from error
        self._add_given(plugin, module, "--plugin", loading)

    def _add_given(
        self, plugin: object, name: str, origin: str, loading: _Loading | None = None
    ) -> None:
        base, number = name, 2
        while name in self._infos:
            name, number = f"{base}-{number}", number + 1
        info = PluginInfo(
            name,
            version="",
            origin=origin,
            status="broken",
            given=True,
            location=_location_of(plugin),
        )
        try:
            info = replace(info, version=str(_attribute(plugin, "__version__", "")))
            self._add(plugin, info, loading or _Loading())
        except _Broken as error:
            raise PluginError(name, error.hook, str(error)) from error

    def _add(self, plugin: object, info: PluginInfo, loading: _Loading) -> None:
        refusal = compat.why_refused(_attribute(plugin, compat.REQUIREMENT, compat.API_VERSION))
        if refusal:
            raise _Broken(refusal)
        if inspect.isclass(plugin):
            plugin = _imported(plugin)
        name = info.name
        guarded = _Guarded()
        hooks = []
        warnings: list[str] = []
        for attribute in dir(plugin):
            options = self._manager.parse_hookimpl_opts(plugin, attribute)
            if options is None:
                known_as = compat.RENAMED_HOOKS.get(attribute)
                hook = known_as.new if known_as else attribute
                if hook in hookspecs.HOOK_NAMES and callable(getattr(plugin, attribute, None)):
                    raise _Broken(f"{attribute} lacks @msft_core.hookimpl", attribute)
                continue
            hook = options.get("specname") or attribute
            if renamed := compat.RENAMED_HOOKS.get(hook):
                warnings.append(_renamed_warning(f"hook {hook}", renamed))
                hook = renamed.new
            if hook not in hookspecs.HOOK_NAMES:
                known = suggest(hook, hookspecs.HOOK_NAMES)
                raise _Broken(f"{hook} is not a hook of msft.{known}", hook)
            if options.get("wrapper") or options.get("hookwrapper"):
                raise _Broken("hook wrappers are not part of the contract", hook)
            if reason := _why_never_run(getattr(plugin, attribute), hook):
                raise _Broken(reason, hook)
            if hook in hooks:
                raise _Broken(f"{hook} is there twice, once under another name", hook)
            try:
                guard = Guard(getattr(plugin, attribute), name, hook, self._observers, self._depth)
            except RefusedFunction as error:
                raise _Broken(str(error), hook) from None
            for old, change in guard.renamed.items():
                warnings.append(_renamed_warning(f"argument {old} of {hook}", change))
            hooks.append(hook)
            setattr(guarded, hook, guard.registered(options))
        if not hooks:
            module = plugin.__name__ if isinstance(plugin, ModuleType) else ""
            own = f", for it is Python's own module {module!r}"
            why = own if module in sys.stdlib_module_names else ""
            raise _Broken(f"it has no function marked @msft_core.hookimpl{why}")
        self._manager.register(guarded, name)
        try:
            components = self._components_of(guarded, name)
        except _Broken:
            self._manager.unregister(name=name)
            raise
        in_order = [hook for hook in hookspecs.HOOK_NAMES if hook in hooks]
        self._infos[name] = replace(
            info,
            status="ok",
            hooks=tuple(in_order),
            components=components,
            warnings=(*warnings, *loading.warnings()),
            seconds=loading.seconds,
        )

    def _components_of(self, guarded: Any, name: str) -> tuple[Component, ...]:
        if not hasattr(guarded, "list_components"):
            return ()
        try:
            listed = guarded.list_components()
        except MsftError as error:
            cause = error.__cause__ or error
            raise _Broken(
                f"list_components raised {first_line(cause)}", "list_components"
            ) from error
        if not isinstance(listed, Iterable):
            raise _Broken(
                f"list_components gave {type(listed).__name__}, no list", "list_components"
            )
        components = tuple(listed)
        for component in components:
            if not isinstance(component, Component):
                raise _Broken(
                    f"list_components gave {type(component).__name__}, not a msft_core.Component",
                    "list_components",
                )
            problem = _problem_of(component)
            if problem:
                raise _Broken(f"list_components gave {problem}", "list_components")
        for component in components:
            key = (component.kind, component.name)
            if key in self._owners:
                message = (
                    f"list_components claims the {component.kind} {component.name!r}, which "
                    f"plugin {self._owners[key]!r} has already (--without {self._owners[key]} "
                    "leaves that one out)"
                )
                self._contested[key] = name
                raise _Broken(message, "list_components")
        for component in components:
            self._owners[component.kind, component.name] = name
        return components

    # Listing and resolving

    @property
    def infos(self) -> tuple[PluginInfo, ...]:
        """Every plugin found, in the order of loading."""
        return tuple(self._infos.values())

    @property
    def broken(self) -> tuple[PluginInfo, ...]:
        """The plugins that cannot be used."""
        return tuple(info for info in self._infos.values() if info.status == "broken")

    def components(self, kind: Kind) -> dict[str, Component]:
        """Every component of a kind by name."""
        return {
            component.name: component
            for info in self._infos.values()
            for component in info.components
            if component.kind == kind
        }

    def component(self, kind: Kind, name: str) -> Component:
        """Resolve a component by name.

        Raises:
            UsageError: there is none of that name, or two plugins claim it.
        """
        key = (kind, name)
        if key in self._contested:
            raise UsageError(
                f"{kind} {name!r} is claimed by two plugins, {self._owners[key]!r} and "
                f"{self._contested[key]!r} (hook list_components): block one with --without NAME."
            )
        components = self.components(kind)
        if name in components:
            return components[name]
        message = f"no {kind} {name!r}.{suggest(name, components)}"
        message += f" There are: {_some(sorted(components))}."
        for info in self.broken:
            message += f"\nPlugin {info.name!r} could not be loaded: {info.problem}"
        raise UsageError(message)

    def components_of(self, plugin: str) -> tuple[Component, ...]:
        """What a plugin offers."""
        return self._infos[plugin].components

    def owner(self, kind: Kind, name: str) -> str:
        """Name of the plugin that offers a component."""
        return self._owners[kind, name]

    # Calling

    @contextmanager
    def named_by_package(self) -> Iterator[None]:
        """Whatever plugin an error names, name the package that it came with."""
        try:
            yield
        except PluginError as error:
            info = self._infos.get(error.plugin)
            if info is not None and not info.given and not error.package:
                error.package = info.origin
            raise

    def ask(self, hook: str, kind: Kind, name: str, **arguments: Any) -> tuple[Any, str, bool]:
        """Ask for a component: the plugins given to this run, the last one first, then its owner.

        Returns: the first answer that is not None, the plugin it came from, and whether that is
        an override of the owner.

        Raises:
            PluginError: the hook raised, or nobody answered.
        """
        owner = self.owner(kind, name)
        given = [info.name for info in self.infos if info.given and info.name != owner]
        for plugin in [*reversed(given), owner]:
            if hook in self._infos[plugin].hooks:
                answer = self.call_one(hook, plugin, name=name, **arguments)
                if answer is not None:
                    return answer, plugin, plugin != owner
        problem = f"gave no answer for the {kind} {name!r} that it lists"
        if hook not in self._infos[owner].hooks:
            problem = (
                f"it lists the {kind} {name!r} and has no {hook}: is the name right, and marked?"
            )
        raise PluginError(owner, hook, problem)

    def call_each(
        self, hook: str, enabled: Callable[[Kind, str], bool], **arguments: Any
    ) -> Iterator[tuple[str, Any]]:
        """Call a hook of one plugin after another, in pluggy's order; give name and answer."""
        for plugin in self.names_with(hook, enabled):
            yield plugin, self.call_one(hook, plugin, **arguments)

    def names_with(self, hook: str, enabled: Callable[[Kind, str], bool]) -> list[str]:
        """Plugins that would be called, in order."""
        return [name for name in self.order(hook) if self._switched_on(name, hook, enabled)]

    def order(self, hook: str) -> list[str]:
        """Plugins that implement a hook in the order they are called, switched on or not."""
        if hook == "list_components":  # of each as it is loaded
            return [info.name for info in self.infos if hook in info.hooks]
        if hook in hookspecs.FIRST_RESULT_HOOKS:
            having = [info for info in self.infos if hook in info.hooks]
            given = [info.name for info in having if info.given]
            return [*reversed(given), *(info.name for info in having if not info.given)]
        return [i.plugin_name for i in reversed(getattr(self._manager.hook, hook).get_hookimpls())]

    def mark(self, hook: str, plugin: str) -> str:
        """``tryfirst``, ``trylast`` or nothing: where a plugin wants to be in the order."""
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            if implementation.plugin_name == plugin:
                marks = ("tryfirst", implementation.tryfirst), ("trylast", implementation.trylast)
                return next((name for name, is_set in marks if is_set), "")
        return ""

    def call_one(self, hook: str, plugin: str, **arguments: Any) -> Any:
        """Call a hook of one plugin; None where it has no answer."""
        others = [p for name, p in self._manager.list_name_plugin() if name != plugin]
        answers = self._manager.subset_hook_caller(hook, others)(**arguments)
        return answers[0] if answers else None

    def _switched_on(self, plugin: str, hook: str, enabled: Callable[[Kind, str], bool]) -> bool:
        kind = _KIND_OF_HOOK[hook]
        ours = [c for c in self._infos[plugin].components if c.kind == kind]
        return not ours or any(enabled(kind, c.name) for c in ours)


class _Broken(Exception):
    """Why a plugin cannot be used."""

    def __init__(self, problem: str, hook: str = "") -> None:
        super().__init__(problem)
        self.hook = hook


class _Guarded:
    """Stands for a plugin in pluggy: its hook functions, each behind a guard."""


def _imported(load: Callable[[], Any]) -> Any:
    try:
        return load()
    except (Exception, SystemExit) as error:
        hint = ""
        if isinstance(error, ImportError) and str(error.name).partition(".")[0] == "msft_core":
            hint = f" (this msft has plugin API {compat.API_VERSION}; the plugin may need another)"
        raise _Broken(f"import failed, {first_line(error)}{hint}") from error


class _Loading:
    """What loading a plugin costs, from now on."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._before = [name for name in _HEAVY if name in sys.modules]

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started

    def warnings(self) -> list[str]:
        heavy = [name for name in _HEAVY if name in sys.modules and name not in self._before]
        if heavy:
            return [
                f"loading it imports {', '.join(heavy)} ({self.seconds:.1f} s): import that inside "
                "the functions that need it"
            ]
        if self.seconds > _SLOW_SECONDS:
            return [f"loading it takes {self.seconds:.1f} s, which every command has to wait for"]
        return []


def _attribute(plugin: object, name: str, default: object) -> Any:
    """An attribute of a plugin, which may compute it, and may fail."""
    try:
        return getattr(plugin, name, default)
    except Exception as error:
        raise _Broken(f"asking it for {name} raised {first_line(error)}") from error


def _why_never_run(function: object, hook: str) -> str:
    """Why calling a hook's function would not run it; empty where it would."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return f"{hook} is async, and nothing awaits it: write a plain function"
    if inspect.isgeneratorfunction(function) and hook != "list_components":
        return f"{hook} has a yield, and nothing iterates over it: write a plain function"
    return ""


def _problem_of(component: Component) -> str:
    """What is wrong with a component's fields; empty where nothing is."""
    if not isinstance(component.name, str) or not component.name:
        return f"a component with the name {component.name!r}, which is no text"
    named = f"the component {component.name!r} with"
    if component.kind not in get_args(Kind):
        return f"{named} kind {component.kind!r}: {', '.join(get_args(Kind))}"
    if not (isinstance(component.settings, type) and issubclass(component.settings, Settings)):
        return f"{named} settings that are no subclass of msft_core.Settings"
    if component.kind in CHOSEN_KINDS and "name" in _keys(component):
        return f"{named} a setting called 'name', which is the component's own"
    if component.kind in SWITCHED_KINDS and "enabled" in _keys(component):
        own = component.settings.model_fields.get("enabled")
        if own is None or own.annotation is not bool:
            return f"{named} a setting called 'enabled' that is no bool: it switches the component"
    if not isinstance(component.urls, tuple):
        return f"{named} urls that are no tuple"
    return ""


def _some(names: Sequence[str]) -> str:
    """The names, or where they are many, how to see them."""
    if len(names) <= _MANY:
        return ", ".join(names) or "none"
    return f"{', '.join(names[:_MANY])} and {len(names) - _MANY} more (msft plugins)"


def _keys(component: Component) -> set[str]:
    return {field.alias or name for name, field in component.settings.model_fields.items()}


def _renamed_warning(what: str, renamed: compat.Renamed) -> str:
    return f"{what} is now {renamed.new}; the old name works until msft {renamed.until}"


def _import_named(module: str) -> Any:
    if module.endswith(".py"):
        path = Path(module).resolve()
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if not path.is_file() or spec is None or spec.loader is None:
            raise FileNotFoundError(f"no file {module}")
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = loaded
        spec.loader.exec_module(loaded)
        return loaded
    # The console script does not put the working directory on the path; `python -m` does.
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    return importlib.import_module(module)


def _location_of(plugin: object) -> str:
    if inspect.ismodule(plugin):
        return str(getattr(plugin, "__file__", None) or plugin.__name__)
    named = plugin if inspect.isclass(plugin) else type(plugin)
    return f"{named.__module__}:{named.__qualname__}"


def _name_of_object(plugin: object) -> str:
    named = plugin if inspect.isclass(plugin) or inspect.ismodule(plugin) else type(plugin)
    return str(named.__name__)


def _is_ours(entry_point: metadata.EntryPoint) -> bool:
    return entry_point.dist is not None and entry_point.dist.name == "msft"


def _from_environment(variable: str) -> list[str]:
    return [name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()]

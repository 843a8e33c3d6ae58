"""The plugins of one run or command: list them, resolve a component by name, call hooks.

Every function of a plugin is wrapped in a guard (``guard.py``), so that every exception names the
plugin and the hook. Nothing here imports MindSpore or NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pluggy

from msft_core import hookspecs
from msft_core.errors import MsftError, PluginError, UsageError, first_line, suggest
from msft_core.plugins import checks
from msft_core.types import Component, Kind

_MANY = 20


class BrokenPlugin(Exception):
    """A plugin cannot be used. The message says why."""

    def __init__(self, problem: str, hook: str = "") -> None:
        super().__init__(problem)
        self.hook = hook


@dataclass(frozen=True)
class PluginInfo:
    """What ``msft plugins`` shows of one plugin."""

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
    """Its module or its file."""
    warnings: tuple[str, ...] = ()
    """Flaws that its authors should fix, though it works: old names, slow loading."""
    seconds: float = 0.0
    """Seconds that loading it took."""
    error: BaseException | None = field(default=None, compare=False, repr=False)
    """What its code raised, where that is why it is broken."""


class Plugins:
    """The plugins of one run or command, empty at first. See ``loading.load_plugins``."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager("msft")
        self._manager.add_hookspecs(hookspecs)
        self._infos: dict[str, PluginInfo] = {}
        self._owners: dict[tuple[Kind, str], str] = {}
        self._contested: dict[tuple[Kind, str], str] = {}

    # Filling

    def marks_of(self, plugin: object, attribute: str) -> Mapping[str, Any] | None:
        """The options that ``@hookimpl`` set on a plugin's function; None if it is not marked."""
        marks: Any = self._manager.parse_hookimpl_opts(plugin, attribute)
        return marks

    def note(self, info: PluginInfo) -> None:
        """List a plugin that is blocked or broken."""
        self._infos[info.name] = info

    def register(self, info: PluginInfo, functions: Mapping[str, Callable[..., Any]]) -> None:
        """Register a plugin and its components.

        Args:
            info: the facts about it known so far.
            functions: its guarded functions, by name of the hook.

        Raises:
            BrokenPlugin: its list of components is wrong. Then the plugin is not registered.
        """
        plugin = _Guarded()
        for hook, function in functions.items():
            setattr(plugin, hook, function)
        self._manager.register(plugin, info.name)
        try:
            components = self._components_of(plugin, info.name)
        except BrokenPlugin:
            self._manager.unregister(name=info.name)
            raise
        hooks = tuple(hook for hook in hookspecs.HOOK_NAMES if hook in functions)
        lacking = tuple(filter(None, (lacks_hook(one, hooks) for one in components)))
        self._infos[info.name] = replace(
            info,
            status="ok",
            hooks=hooks,
            components=components,
            warnings=(*info.warnings, *lacking),
        )

    def _components_of(self, plugin: Any, name: str) -> tuple[Component, ...]:
        hook = "list_components"
        if not hasattr(plugin, hook):
            return ()
        try:
            listed = plugin.list_components()
        except MsftError as error:
            cause = error.__cause__ or error
            raise BrokenPlugin(f"{hook} raised {first_line(cause)}", hook) from error
        if isinstance(listed, Iterable):
            listed = tuple(listed)
        if problem := checks.problem_of(hook, listed):
            raise BrokenPlugin(f"{hook} {problem}", hook)
        components: tuple[Component, ...] = listed
        for component in components:
            key = (component.kind, component.name)
            if key in self._owners:
                message = (
                    f"{hook} lists the {component.kind} {component.name!r}, which plugin "
                    f"{self._owners[key]!r} already offers (--without {self._owners[key]} blocks "
                    "that plugin)"
                )
                self._contested[key] = name
                raise BrokenPlugin(message, hook)
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
            UsageError: no plugin offers it, or two plugins do.
        """
        key = (kind, name)
        if key in self._contested:
            raise UsageError(
                f"two plugins offer the {kind} {name!r}, {self._owners[key]!r} and "
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
        """The components that a plugin offers."""
        return self._infos[plugin].components

    def origin(self, plugin: str) -> str:
        """Where a plugin came from: ``msft-digits 0.1.0``, ``--plugin photos.py``."""
        info = self._infos[plugin]
        return f"{info.origin} {info.name.rpartition('/')[2]}" if info.given else info.origin

    def owner(self, kind: Kind, name: str) -> str:
        """Name of the plugin that offers a component."""
        return self._owners[kind, name]

    # Calling

    @contextmanager
    def named_by_package(self) -> Iterator[None]:
        """Add the plugin's package to every ``PluginError`` that is raised inside."""
        try:
            yield
        except PluginError as error:
            info = self._infos.get(error.plugin)
            if info is not None and not info.given and not error.package:
                error.package = info.origin
            raise

    def ask(self, hook: str, kind: Kind, name: str, **arguments: Any) -> tuple[Any, str, bool]:
        """Ask for a component: first the plugins given to this run, the last one first, then its
        owner.

        Returns: the first hook result that is not None, the plugin that returned it, and whether
        this plugin overrides the owner.

        Raises:
            PluginError: the hook raised, or every plugin returned None.
        """
        owner = self.owner(kind, name)
        given = [info.name for info in self.infos if info.given and info.name != owner]
        for plugin in [*reversed(given), owner]:
            if hook in self._infos[plugin].hooks:
                answer = self.call_one(hook, plugin, name=name, **arguments)
                if answer is not None:
                    return answer, plugin, plugin != owner
        info = self._infos[owner]
        lacking = lacks_hook(self.component(kind, name), info.hooks)
        problem = lacking or f"returned None for the {kind} {name!r} that it lists"
        raise PluginError(owner, hook, problem)

    def call_each(
        self, hook: str, enabled: Callable[[Kind, str], bool], **arguments: Any
    ) -> Iterator[tuple[str, Any]]:
        """Call a hook of one plugin after another, in pluggy's order. Yield name and result."""
        for plugin in self.names_with(hook, enabled):
            yield plugin, self.call_one(hook, plugin, **arguments)

    def names_with(self, hook: str, enabled: Callable[[Kind, str], bool]) -> list[str]:
        """The plugins whose hook would be called, in order."""
        return [name for name in self.order(hook) if self._switched_on(name, hook, enabled)]

    def order(self, hook: str) -> list[str]:
        """The plugins that implement a hook, switched on or off, in the order of the calls."""
        if hook == "list_components":  # called when a plugin is loaded
            return [info.name for info in self.infos if hook in info.hooks]
        if hookspecs.HOOKS[hook].first_result:
            having = [info for info in self.infos if hook in info.hooks]
            given = [info.name for info in having if info.given]
            return [*reversed(given), *(info.name for info in having if not info.given)]
        return [i.plugin_name for i in reversed(getattr(self._manager.hook, hook).get_hookimpls())]

    def mark(self, hook: str, plugin: str) -> str:
        """``tryfirst``, ``trylast`` or ``""``: the place in the order that a plugin asks for."""
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            if implementation.plugin_name == plugin:
                marks = ("tryfirst", implementation.tryfirst), ("trylast", implementation.trylast)
                return next((name for name, is_set in marks if is_set), "")
        return ""

    def call_one(self, hook: str, plugin: str, **arguments: Any) -> Any:
        """Call a hook of one plugin, and check its result. Returns None if the hook does.

        Raises:
            PluginError: the function raised, or its result breaks the contract.
        """
        others = [p for name, p in self._manager.list_name_plugin() if name != plugin]
        results = self._manager.subset_hook_caller(hook, others)(**arguments)
        if not results:
            return None
        if problem := checks.problem_of(hook, results[0], arguments):
            raise PluginError(plugin, hook, problem)
        return results[0]

    def _switched_on(self, plugin: str, hook: str, enabled: Callable[[Kind, str], bool]) -> bool:
        kind = hookspecs.HOOKS[hook].kind
        if kind is None:
            return True
        ours = [c for c in self._infos[plugin].components if c.kind == kind]
        return not ours or any(enabled(kind, c.name) for c in ours)


class _Guarded:
    """The object registered with pluggy for a plugin. It holds the guarded hook functions."""


def lacks_hook(component: Component, hooks: Sequence[str]) -> str:
    """What a plugin with these hooks lacks to offer a component; empty if nothing."""
    needed = [name for name, facts in hookspecs.HOOKS.items() if facts.kind == component.kind]
    if set(needed).intersection(hooks):
        return ""
    which = needed[0] if len(needed) == 1 else f"such as {needed[0]}"
    return (
        f"it lists the {component.kind} {component.name!r} but has no function {which}: check the "
        "function's name and its @hookimpl"
    )


def _some(names: Sequence[str]) -> str:
    """The names. If there are many, the first ones and the command that lists all."""
    if len(names) <= _MANY:
        return ", ".join(names) or "none"
    return f"{', '.join(names[:_MANY])} and {len(names) - _MANY} more (msft plugins)"

"""Find, block, import and validate plugins. Nothing here imports MindSpore or NumPy."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from msft_core import hookspecs
from msft_core.errors import PluginError, UsageError, first_line, suggest
from msft_core.files import hash_of
from msft_core.plugins import compat, trace
from msft_core.plugins.guard import Guard, RefusedFunction
from msft_core.plugins.registry import BrokenPlugin, PluginInfo, Plugins
from msft_core.types import Observer

ENTRY_POINT_GROUP = "msft"

FROM_PYTHON = "run(plugins=[...])"
"""The origin of plugins that were given as objects."""

_SLOW_SECONDS = 1.0
"""A plugin that takes longer to load gets a warning, since it slows down every command."""

_HEAVY = ("mindspore", "numpy", "matplotlib", "torch", "tensorflow", "sklearn", "pandas", "scipy")


def load_plugins(
    *,
    modules: Sequence[str] = (),
    without: Sequence[str] = (),
    objects: Sequence[object] = (),
    observers: Sequence[Observer] = (),
) -> Plugins:
    """Load every installed plugin, then those given to this run.

    Args:
        modules: modules or ``.py`` files, as with ``--plugin``. Those in ``MSFT_PLUGINS``
            (separated by commas) come first.
        without: names of plugins not to import, as with ``--without``. Those in ``MSFT_WITHOUT``
            are added.
        objects: plugin objects or classes, as with ``run(plugins=[...])``.
        observers: notified of every hook call. ``MSFT_TRACE=1`` adds one that prints the calls.

    Raises:
        UsageError: a name in ``without`` is not a plugin.
        PluginError: a plugin that was given to this run is broken. A broken installed plugin is
            only listed as broken.
    """
    modules = [*names_in_environment("MSFT_PLUGINS"), *modules]
    blocked = {*names_in_environment("MSFT_WITHOUT"), *without}
    entry_points = sorted(
        metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda e: (not _is_ours(e), e.name)
    )
    known = [e.name for e in entry_points] + [*modules]
    for name in sorted(blocked):
        if name not in known:
            raise UsageError(f"--without {name}: no such plugin.{suggest(name, known)}")
    loader = _Loader(observers)
    for entry_point in entry_points:
        loader.load_entry_point(entry_point, blocked)
    for module in dict.fromkeys(modules):
        loader.load_module(module, blocked)
    for plugin in objects:
        loader.load_given(plugin, _name_of_object(plugin), FROM_PYTHON)
    return loader.plugins


class _Loader:
    """Fills the ``Plugins`` of one run or command."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.plugins = Plugins()
        self._observers = (trace.Tracer(), *observers) if trace.is_asked_for() else (*observers,)
        self._depth = [0]

    def load_entry_point(self, entry_point: metadata.EntryPoint, blocked: set[str]) -> None:
        """Load an installed plugin. A broken one is listed as broken."""
        name = entry_point.name
        package, version = _package_of(entry_point.dist)
        info = PluginInfo(
            name,
            version=version,
            origin=f"{package} {version}" if package else entry_point.value,
            status="broken",
            location=entry_point.value,
        )
        if name in blocked:
            self.plugins.note(replace(info, status="blocked"))
            return
        there = next((other for other in self.plugins.infos if other.name == name), None)
        if there is not None:
            problem = f"another plugin already has the name {name!r} ({there.origin})"
            self.plugins.note(replace(info, name=f"{name} ({entry_point.value})", problem=problem))
            return
        cost = _Cost()
        try:
            self._load(_imported(entry_point.load), info, cost)
        except BrokenPlugin as error:
            self.plugins.note(
                replace(info, problem=str(error), seconds=cost.seconds, error=error.__cause__)
            )

    def load_module(self, module: str, blocked: set[str]) -> None:
        """Load a plugin of ``--plugin``. Raises PluginError where it is broken."""
        if module in blocked:
            self.plugins.note(PluginInfo(module, "", "--plugin", "blocked", given=True))
            return
        cost = _Cost()
        try:
            plugin = _imported(functools.partial(_import_named, module))
        except BrokenPlugin as error:
            raise PluginError(module, "", str(error)) from error
        self.load_given(plugin, module, "--plugin", cost)

    def load_given(self, plugin: object, name: str, origin: str, cost: _Cost | None = None) -> None:
        """Load a plugin that was given to this run. Raises PluginError where it is broken."""
        base, number = name, 2
        while any(info.name == name for info in self.plugins.infos):
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
            self._load(plugin, info, cost or _Cost())
        except BrokenPlugin as error:
            raise PluginError(name, error.hook, str(error)) from error

    def _load(self, plugin: object, info: PluginInfo, cost: _Cost) -> None:
        refusal = compat.why_refused(_attribute(plugin, compat.REQUIREMENT, compat.API_VERSION))
        if refusal:
            raise BrokenPlugin(refusal)
        if inspect.isclass(plugin):
            plugin = _imported(plugin)
        functions: dict[str, Callable[..., Any]] = {}
        warnings: list[str] = []
        for attribute in dir(plugin):
            marks = self.plugins.marks_of(plugin, attribute)
            hook = _hook_of(plugin, attribute, marks, warnings)
            if hook is None:
                continue
            if hook in functions:
                raise BrokenPlugin(f"two of its functions implement {hook}", hook)
            function = getattr(plugin, attribute)
            try:
                guard = Guard(function, info.name, hook, self._observers, self._depth)
            except RefusedFunction as error:
                raise BrokenPlugin(str(error), hook) from None
            for old, change in guard.renamed.items():
                warnings.append(_renamed_warning(f"argument {old} of {hook}", change))
            functions[hook] = guard.registered(marks or {})
        if not functions:
            module = plugin.__name__ if isinstance(plugin, ModuleType) else ""
            own = f" (Python has a module {module!r} of its own: was that one loaded?)"
            why = own if module in sys.stdlib_module_names else ""
            raise BrokenPlugin(f"it has no function marked @msft_core.hookimpl{why}")
        info = replace(info, warnings=tuple(warnings))
        self.plugins.register(info, functions)
        info = next(one for one in self.plugins.infos if one.name == info.name)
        # Measured only now, since list_components may be the slow part.
        self.plugins.note(
            replace(info, warnings=(*info.warnings, *cost.warnings()), seconds=cost.seconds)
        )


def _hook_of(
    plugin: object, attribute: str, marks: Mapping[str, Any] | None, warnings: list[str]
) -> str | None:
    """The hook that an attribute of a plugin implements; None if it is not a hook.

    Raises:
        BrokenPlugin: the attribute is meant as a hook but cannot be one.
    """
    if marks is None:
        known_as = compat.RENAMED_HOOKS.get(attribute)
        hook = known_as.new if known_as else attribute
        if hook in hookspecs.HOOK_NAMES and callable(getattr(plugin, attribute, None)):
            raise BrokenPlugin(f"{attribute} is not marked @msft_core.hookimpl", attribute)
        return None
    hook = marks.get("specname") or attribute
    if renamed := compat.RENAMED_HOOKS.get(hook):
        warnings.append(_renamed_warning(f"hook {hook}", renamed))
        hook = renamed.new
    if hook not in hookspecs.HOOK_NAMES:
        raise BrokenPlugin(
            f"{hook} is not a hook of msft.{suggest(hook, hookspecs.HOOK_NAMES)}", hook
        )
    if marks.get("wrapper") or marks.get("hookwrapper"):
        raise BrokenPlugin(f"{hook} is a hook wrapper, which msft does not support", hook)
    if reason := _why_never_run(getattr(plugin, attribute), hook):
        raise BrokenPlugin(reason, hook)
    return hook


def _imported(load: Callable[[], Any]) -> Any:
    try:
        return load()
    except (Exception, SystemExit) as error:
        hint = ""
        if isinstance(error, ImportError) and str(error.name).partition(".")[0] == "msft_core":
            hint = f" (this msft has plugin API {compat.API_VERSION}; the plugin may need another)"
        raise BrokenPlugin(f"import failed, {first_line(error)}{hint}") from error


class _Cost:
    """Measures the time and the imports of loading a plugin, from now on."""

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
                f"loading it imports {', '.join(heavy)} ({self.seconds:.1f} s): move that import "
                "into the functions that need it"
            ]
        if self.seconds > _SLOW_SECONDS:
            return [f"loading it takes {self.seconds:.1f} s, and every command waits for it"]
        return []


def _attribute(plugin: object, name: str, default: object) -> Any:
    """An attribute of a plugin. The plugin may compute it, and that may fail."""
    try:
        return getattr(plugin, name, default)
    except Exception as error:
        raise BrokenPlugin(f"reading its attribute {name} raised {first_line(error)}") from error


def _why_never_run(function: object, hook: str) -> str:
    """Why calling a hook's function would not run its code; empty if it would."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return f"{hook} is async, but msft does not await it: write a plain function"
    if inspect.isgeneratorfunction(function) and hook != "list_components":
        return f"{hook} has a yield, but msft does not iterate over it: write a plain function"
    return ""


def _renamed_warning(what: str, renamed: compat.Renamed) -> str:
    return f"{what} is now {renamed.new}; the old name works until msft {renamed.until}"


def _import_named(module: str) -> Any:
    if module.endswith(".py"):
        path = Path(module).resolve()
        # A name of its own: two files may have one stem, and queue.py must not replace Python's.
        name = f"msft_plugin_file_{hash_of(path).hex()[:8]}_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        if not path.is_file() or spec is None or spec.loader is None:
            raise FileNotFoundError(f"no file {module}")
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[name] = loaded
        try:
            spec.loader.exec_module(loaded)
        except BaseException:
            del sys.modules[name]
            raise
        return loaded
    # The console script does not put the working directory on the module path; `python -m` does.
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
    return _package_of(entry_point.dist)[0] == "msft"


@functools.cache
def _package_of(dist: metadata.Distribution | None) -> tuple[str, str]:
    """Name and version of a package, empty where there is none.

    Each look into a distribution parses its metadata again, with the whole description in it.
    """
    if dist is None:
        return "", ""
    found = dist.metadata
    return found["Name"], found["Version"]


def names_in_environment(variable: str) -> list[str]:
    """The comma-separated names in a variable; paths of module files are made absolute."""
    names = [name.strip() for name in os.environ.get(variable, "").split(",")]
    return [absolute_if_module_file(name) for name in names if name]


def absolute_if_module_file(name: object) -> str:
    """A module's name as it is, the path of a ``.py`` file made absolute.

    So the configuration that a run writes can be run again from elsewhere.
    """
    text = str(name)
    return str(Path(text).expanduser().absolute()) if text.endswith(".py") else text

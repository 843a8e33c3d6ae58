"""What stands between the core and a plugin's function.

It passes the arguments that the function takes, under the names it knows them by; whatever the
function raises names the plugin and the hook; observers see the call.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msft_core import hookspecs
from msft_core.errors import blaming
from msft_core.plugins import compat
from msft_core.types import HookCall, Observer


class RefusedFunction(Exception):
    """Why a function cannot be the hook that it is marked as."""


class Guard:
    """A plugin's function behind its guard.

    Args:
        function: the plugin's.
        plugin: name of the plugin.
        hook: which hook the function is.
        observers: see every call.
        depth: one number, shared by all guards: how many calls are going on.

    Raises:
        RefusedFunction: it takes arguments that the hook does not have.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        plugin: str,
        hook: str,
        observers: Sequence[Observer],
        depth: list[int],
    ) -> None:
        self._function, self._plugin, self._hook = function, plugin, hook
        self._observers, self._depth = observers, depth
        self.renamed: dict[str, compat.Renamed] = {}
        """Old names of arguments that the function still has."""
        self._taken = self._match_arguments()

    def _match_arguments(self) -> dict[str, str]:
        """The hook's name of each argument that the function takes, by the function's name."""
        hook = self._hook
        allowed = list(inspect.signature(getattr(hookspecs, hook)).parameters)
        old_names = compat.RENAMED_ARGUMENTS.get(hook, {})
        taken: dict[str, str] = {}
        for parameter in inspect.signature(self._function).parameters.values():
            name = parameter.name
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise RefusedFunction(
                    f"{hook} must name its arguments; they are {', '.join(allowed)}"
                )
            if parameter.kind is parameter.POSITIONAL_ONLY:
                raise RefusedFunction(f"argument {name!r} of {hook} must not be positional-only")
            if parameter.default is not parameter.empty:
                raise RefusedFunction(
                    f"argument {name!r} of {hook} must have no default: pluggy would pass no value"
                )
            if name in old_names:
                self.renamed[name] = old_names[name]
            elif name not in allowed:
                known = f"they are {', '.join(allowed)}" if allowed else "it takes none"
                raise RefusedFunction(f"{hook} has no argument {name!r}; {known}")
            taken[name] = old_names[name].new if name in old_names else name
        return taken

    def registered(self, options: Mapping[str, Any]) -> Callable[..., Any]:
        """What pluggy gets: it takes all of the hook's arguments, in the hook's order.

        Args:
            options: the plugin's own, ``tryfirst`` and ``trylast``.
        """
        specification = getattr(hookspecs, self._hook)
        names = list(inspect.signature(specification).parameters)

        # pluggy reads the arguments' names off the function that this one wraps.
        @functools.wraps(specification, updated=())
        def guarded(*values: Any) -> Any:
            return self(**dict(zip(names, values, strict=True)))

        first, last = bool(options.get("tryfirst")), bool(options.get("trylast"))
        return hookspecs.hookimpl(guarded, tryfirst=first, trylast=last)

    def __call__(self, **arguments: Any) -> Any:
        """Call the function.

        Raises:
            MsftError: as the function raised it, or ``PluginError`` for whatever else it raised.
        """
        given = {own: arguments[name] for own, name in self._taken.items()}
        if not self._observers:
            return self._guarded(given)
        call = HookCall(self._plugin, self._hook, given, self._depth[0])
        for observer in self._observers:
            observer.begin(call)
        self._depth[0] += 1
        started = time.perf_counter()
        try:
            call.result = self._guarded(given)
        except BaseException as error:
            call.error = error
            raise
        finally:
            call.seconds = time.perf_counter() - started
            self._depth[0] -= 1
            for observer in self._observers:
                observer.end(call)
        return call.result

    def _guarded(self, given: Mapping[str, Any]) -> Any:
        with blaming(self._plugin, self._hook):
            return self._function(**given)

"""Wraps a plugin's hook functions.

A guard passes the arguments that the function takes, under the names that the function uses. It
adds the names of the plugin and the hook to every exception, and it notifies the observers.
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
    """A function is marked as a hook but cannot be one. The message says why."""


class Guard:
    """Wraps one function of a plugin.

    Args:
        function: the plugin's function.
        plugin: name of the plugin.
        hook: the hook that the function implements.
        observers: notified of every call.
        depth: one number, shared by all guards: how many calls are in progress.

    Raises:
        RefusedFunction: the function takes an argument that the hook does not have.
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
        """Old names of arguments that the function still uses."""
        self._taken = self._match_arguments()

    def _match_arguments(self) -> dict[str, str]:
        """For each argument of the function, the hook's name for it."""
        hook = self._hook
        allowed = list(inspect.signature(getattr(hookspecs, hook)).parameters)
        known = f"its arguments are {', '.join(allowed)}" if allowed else "it has no arguments"
        old_names = compat.RENAMED_ARGUMENTS.get(hook, {})
        taken: dict[str, str] = {}
        for parameter in inspect.signature(self._function).parameters.values():
            name = parameter.name
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise RefusedFunction(f"{hook} must not take *args or **kwargs; {known}")
            if parameter.kind is parameter.POSITIONAL_ONLY:
                raise RefusedFunction(f"argument {name!r} of {hook} must not be positional-only")
            if parameter.default is not parameter.empty:
                raise RefusedFunction(
                    f"argument {name!r} of {hook} must have no default: pluggy would pass no value"
                )
            if name in old_names:
                self.renamed[name] = old_names[name]
            elif name not in allowed:
                raise RefusedFunction(f"{hook} has no argument {name!r}; {known}")
            taken[name] = old_names[name].new if name in old_names else name
        return taken

    def registered(self, options: Mapping[str, Any]) -> Callable[..., Any]:
        """The function to register with pluggy. It takes all arguments of the hook, in order.

        Args:
            options: the plugin's options ``tryfirst`` and ``trylast``.
        """
        specification = getattr(hookspecs, self._hook)
        names = list(inspect.signature(specification).parameters)

        # pluggy reads the names of the arguments from the wrapped function.
        @functools.wraps(specification, updated=())
        def guarded(*values: Any) -> Any:
            return self(**dict(zip(names, values, strict=True)))

        first, last = bool(options.get("tryfirst")), bool(options.get("trylast"))
        return hookspecs.hookimpl(guarded, tryfirst=first, trylast=last)

    def __call__(self, **arguments: Any) -> Any:
        """Call the function.

        Raises:
            MsftError: the function raised it. Any other exception becomes a ``PluginError``.
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

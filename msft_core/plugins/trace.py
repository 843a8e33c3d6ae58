"""``MSFT_TRACE=1`` and ``--trace``: every hook call as it happens, on standard error.

::

    trace: > best_checkpoint.on_epoch_end(epoch=1, run=LiveRun)
    trace:   > metrics.compute_metrics(predictions=Predictions)
    trace:   < metrics.compute_metrics = {'accuracy': 0.96}  0.1 ms
    trace: < best_checkpoint.on_epoch_end = None  41.3 ms
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from msft_core.types import HookCall

VARIABLE = "MSFT_TRACE"
_LONGEST = 60


def is_asked_for() -> bool:
    """Whether the environment switches the trace on."""
    return os.environ.get(VARIABLE, "").lower() not in ("", "0", "false", "no", "off")


class Tracer:
    """Prints the hook calls that it observes.

    Args:
        out: default standard error.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out

    def begin(self, call: HookCall) -> None:
        """See ``msft_core.types.Observer``."""
        arguments = ", ".join(f"{name}={shortly(v)}" for name, v in call.arguments.items())
        self._print(call, f"> {call.plugin}.{call.hook}({arguments})")

    def end(self, call: HookCall) -> None:
        """See ``msft_core.types.Observer``."""
        came = f"raised {call.error}" if call.error is not None else f"= {shortly(call.result)}"
        self._print(call, f"< {call.plugin}.{call.hook} {came}  {1000 * call.seconds:.1f} ms")

    def _print(self, call: HookCall, text: str) -> None:
        print(f"trace: {'  ' * call.depth}{text}", file=self._out or sys.stderr, flush=True)


def shortly(value: Any) -> str:
    """A value as short text: an array as dtype and shape, an object as its class."""
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, str):
        return _cut(repr(value))
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype} {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return _cut("{" + ", ".join(f"{k!r}: {shortly(v)}" for k, v in value.items()) + "}")
    if isinstance(value, (list, tuple)):
        return _cut("[" + ", ".join(shortly(item) for item in value) + "]")
    name = getattr(value, "name", None)
    called = f" {name!r}" if isinstance(name, str) else ""
    return f"{type(value).__name__}{called}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."

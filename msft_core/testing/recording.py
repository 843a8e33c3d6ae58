"""Records for tests: hook calls and messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from msft_core.types import HookCall


class HookRecorder:
    """Records every hook call, in the order of their beginning."""

    def __init__(self) -> None:
        self.calls: list[HookCall] = []

    def begin(self, call: HookCall) -> None:
        """See ``msft_core.types.Observer``."""
        self.calls.append(call)

    def end(self, call: HookCall) -> None:
        """See ``msft_core.types.Observer``."""

    def of(self, hook: str | None = None, plugin: str | None = None) -> list[HookCall]:
        """Return the calls of a hook, of a plugin, or of a hook in a plugin."""
        return [
            call
            for call in self.calls
            if hook in (None, call.hook) and plugin in (None, call.plugin)
        ]

    @property
    def names(self) -> list[str]:
        """``plugin.hook`` of each call."""
        return [f"{call.plugin}.{call.hook}" for call in self.calls]


class RecordingReporter:
    """A ``msft_core.Reporter`` that records every message."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        """Infos and warnings, in order."""
        self.infos: list[str] = []
        self.warnings: list[str] = []
        self.totals: list[tuple[str, int | None]] = []
        """Description and total of each progress bar."""
        self.done = 0
        """Sum of the units of all progress bars."""

    def info(self, message: str) -> None:
        """See ``msft_core.types.Reporter``."""
        self.lines.append(message)
        self.infos.append(message)

    def warning(self, message: str) -> None:
        """See ``msft_core.types.Reporter``."""
        self.lines.append(message)
        self.warnings.append(message)

    @contextmanager
    def progress(
        self, description: str, total: int | None = None, unit: str = ""
    ) -> Iterator[Callable[[int], None]]:
        """See ``msft_core.types.Reporter``."""
        self.totals.append((description, total))
        yield self.advance

    def advance(self, count: int) -> None:
        """Add units to ``done``."""
        self.done += count

"""Ctrl-C: end soon, but never in the middle of a step or a write.

While MindSpore runs an operator, its own handler of SIGINT sends SIGTERM to the process, and that
would kill it. So msft catches SIGTERM too, and treats both signals alike; and SIGHUP, which comes
when a terminal or a connection is closed. Under ``nohup`` SIGHUP stays ignored.

What a run does then is in ``engine/epochs.py``; what is printed, in ``cli/errors.py``.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""The signals that end a run."""


class Interrupts:
    """Turns signals into ``KeyboardInterrupt``, and holds it back where it would do harm.

    A second signal is not held back by ``held``: files are written beside their names, so nothing
    is lost.
    """

    def __init__(self) -> None:
        self._holds = 0
        self._notes_only = False
        self._pending = False
        self.patient = False
        """Whether ``held`` holds back every signal, not only the first: where several processes
        are in the same step, none may leave it alone."""
        self._ignored: list[int] = []

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch the signals inside the block. Only the main thread can receive signals."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self._ignored = [one for one in SIGNALS[2:] if before[one] == signal.SIG_IGN]
        self.install()
        try:
            yield
        finally:
            for number, handler in before.items():
                if handler is not None:  # not one that was installed by other than Python
                    signal.signal(number, handler)

    def install(self) -> None:
        """Install msft's handlers. Call it again wherever MindSpore may have replaced them."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if number not in self._ignored:
                    signal.signal(number, self._handle)

    @contextmanager
    def held(self, *, then_check: bool = True) -> Iterator[None]:
        """Hold an interrupt back until the end of the block, or until ``check``.

        Args:
            then_check: raise it at the end of the block; otherwise at the next ``check``, where
                what follows belongs to the block.
        """
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
        if then_check and not self._holds:
            self.check()

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Only note signals, however many come; raise at the end of the block.

        For the import of MindSpore 2.10: an exception in the middle of it, Python's own
        KeyboardInterrupt included, crashes the process (signal 11).
        """
        self._notes_only = True
        try:
            yield
        finally:
            self._notes_only = False
        self.check()

    def note(self) -> None:
        """Only note signals from now on, until ``resume`` or inside ``heeded``."""
        self._notes_only = True

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Raise signals inside the block, though they are only noted around it."""
        self._notes_only = False
        try:
            yield
        finally:
            self._notes_only = True

    def resume(self) -> None:
        """Heed signals again after ``note``, and raise one that came meanwhile."""
        self._notes_only = False
        self.check()

    def check(self) -> None:
        """Raise the interrupt that was held back, if there is one."""
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

    @property
    def pending(self) -> bool:
        """Whether an interrupt is held back."""
        return self._pending

    def forget(self) -> None:
        """Forget an interrupt that was held back: it is raised in another way."""
        self._pending = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._notes_only or (self._holds and (self.patient or not self._pending)):
            self._pending = True
        else:
            self._pending = False
            raise KeyboardInterrupt

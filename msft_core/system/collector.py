"""Python's garbage collector, where MindSpore's import fills memory with objects that stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

process_is_ours = False
"""Whether only msft runs in this process, as with the command ``msft``."""


@contextmanager
def imports_only() -> Iterator[None]:
    """Collect no garbage inside the block, in which nothing but imports happens.

    The import of MindSpore 2.10 makes some hundred thousand objects. Python looks at all of them
    again and again while their number grows, and finds no garbage.

    In a process of msft's own, no later collection looks at them either, nor the last one at its
    end. In another process, objects of other people might be garbage one day.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
    if process_is_ours:
        gc.freeze()

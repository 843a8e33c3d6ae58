"""Compile a step or a forward pass, and run it eagerly if it does not compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from msft_core.errors import first_line
from msft_core.system.device import MINDSPORE as MINDSPORE
from msft_core.types import Array


def in_graph_mode(cell: nn.Cell, *arguments: Any) -> Any:
    """Call a Cell in graph mode, whatever the current mode. It is compiled once for each shape."""
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        return cell(*arguments)
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)


def compiled_or_eager(
    compiled: Callable[..., Any], eager: Callable[..., Any], say: Callable[[str], None]
) -> Callable[..., Any]:
    """Compile at the first call. If that fails, say so and run eagerly from then on."""
    chosen: Callable[..., Any] | None = None

    def call(*arguments: Any) -> Any:
        nonlocal chosen
        if chosen is not None:
            return chosen(*arguments)
        try:
            result = compiled(*arguments)
            chosen = compiled
        except Exception as error:
            result = eager(*arguments)  # if this fails too, the error is in the network
            say(f"This network does not compile, so it runs in PyNative mode: {first_line(error)}")
            chosen = eager
        return result

    return call


def padded(inputs: Array, count: int) -> Array:
    """Pad (n, ...) to (count, ...) by repeating the last element."""
    missing = count - len(inputs)
    return inputs if missing <= 0 else np.concatenate([inputs, np.repeat(inputs[-1:], missing, 0)])

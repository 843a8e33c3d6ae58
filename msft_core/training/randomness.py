"""Which cells draw random numbers that a run cannot bring back."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

from mindspore import nn, ops

from msft_core.stages import Dropout

_PRIMITIVES = re.compile(
    r"Dropout|Normal|Uniform|Random|Bernoulli|Gamma|Poisson|Multinomial|Laplace|Randperm|RandInt"
)
_CALLS = re.compile(
    r"\b(?:ops|ms|mint|mindspore|F|P)\.(?:\w+\.)*"
    r"(?:rand\w*|dropout\w*|alpha_dropout|bernoulli|multinomial\w*|normal|uniform|gamma|poisson|"
    r"standard_\w+|random_\w+|gumbel_softmax)\("
)


def random_cells(network: nn.Cell) -> Iterator[str]:
    """Names of cells that draw random numbers otherwise than ``msft_core.stages.Dropout`` does.

    A guess, from their classes, operators and source: for a message, not for a decision.
    """
    for name, cell in network.cells_and_names():
        if isinstance(cell, Dropout):
            continue
        kind = type(cell)
        if kind.__module__.startswith("mindspore."):
            if kind.__name__.startswith("Dropout") and getattr(cell, "p", True):
                yield f"{name} ({kind.__name__})"
            continue
        operators = [*vars(cell).values(), *getattr(cell, "_primitives", {}).values()]
        drawing = [
            one
            for one in operators
            if isinstance(one, ops.Primitive) and _PRIMITIVES.search(type(one).__name__)
        ]
        if drawing or _CALLS.search(_source_of_construct(kind)):
            yield f"{name} ({kind.__name__})"


def _source_of_construct(kind: type[nn.Cell]) -> str:
    try:
        return inspect.getsource(kind.construct)
    except (OSError, TypeError):  # typed into a session
        return ""

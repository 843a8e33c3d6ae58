"""How a run feeds its frozen stages, as a saved run has it. Imports no MindSpore."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field


@dataclass(frozen=True)
class Fed:
    """How leading frozen stages are fed; a resumed run goes on in the same way.

    Args:
        views: stored views of each training image; 0 stores no features.
        engine: what computes them; empty where there are none.
        asks: whether extractors are asked for; not where one has failed.
        engines: all that computed some so far.
    """

    views: Annotated[int, Field(ge=0)]
    engine: str
    asks: bool
    engines: tuple[str, ...] = ()

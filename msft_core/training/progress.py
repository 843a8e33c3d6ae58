"""How far an unfinished epoch has come. Imports no MindSpore, since a saved run is read first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field


@dataclass
class PartOfEpoch:
    """What is done of an epoch that has not ended.

    Args:
        steps: training steps of the epoch so far; the batches that come next follow from it.
        images: images in these steps.
        loss_sum: sum of their losses, from which the epoch's mean is made.
        seconds: time that they took.
    """

    steps: Annotated[int, Field(ge=0)] = 0
    images: Annotated[int, Field(ge=0)] = 0
    loss_sum: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

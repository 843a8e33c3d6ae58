"""The networks that this package offers, from ``models.json``. Imports nothing heavy.

``tools/make_table.py`` writes that file from mindcv and from what ``tools/try_all.py`` found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from msft_mindcv.families import FAMILIES, Family

PREFIX = "mindcv/"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Model:
    """A network of mindcv. Preprocessing is what mindcv's own configuration says, or its default.

    Args:
        name: mindcv's.
        family: how it is cut into stages; None where it does not run.
        url: of mindcv's ImageNet weights; empty where it publishes none.
        size: side of the images it was made for, pixels.
        mean: of R, G, B on a scale of 0 to 1.
        std: likewise.
        crop_fraction: of evaluation's resized image that is cropped.
        interpolation: of the resize.
        parameters: how many, without the classifier; 0 where it is not known.
        problem: why it does not run; it is not offered then. Empty where it runs.
        tried: whether it was tried at all.
    """

    name: str
    family: Family | None
    url: str = ""
    size: int = 224
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    crop_fraction: float = 0.875
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    parameters: int = 0
    problem: str = ""
    tried: bool = True

    @property
    def component(self) -> str:
        """How ``--backbone`` names it."""
        return PREFIX + self.name

    @property
    def summary(self) -> str:
        """One line about it."""
        size = f"{self.parameters / 1e6:.1f} M parameters, " if self.parameters else ""
        weights = "ImageNet weights" if self.url else "no published weights"
        return f"{size}{self.size} pixels, {weights}" + ("" if self.tried else "; not tried")


@cache
def every_model() -> Mapping[str, Model]:
    """Each classifier of mindcv by its name, those that do not run among them."""
    text = (Path(__file__).parent / "models.json").read_text(encoding="utf-8")
    return {name: _model(name, row) for name, row in json.loads(text).items()}


@cache
def models() -> dict[str, Model]:
    """Those that are offered, by the name of the component."""
    return {m.component: m for m in every_model().values() if m.family and not m.problem}


def _model(name: str, row: dict[str, Any]) -> Model:
    for key in ("mean", "std"):
        if key in row:
            row[key] = tuple(row[key])
    return Model(name, FAMILIES.get(row.pop("family")), **row)

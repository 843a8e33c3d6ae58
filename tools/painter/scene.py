"""What a place is, and the parts that many places share."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from PIL import Image

from tools.painter.brush import Colour, Point, mix
from tools.painter.canvas import WHITE, Canvas


@dataclass(frozen=True)
class Scene:
    """A place to stand in.

    Args:
        picture: RGB, painted.
        light: unit vector towards the light, pixels (y down).
        tint: what the light does to red, green and blue.
        shadow: how dark a shadow on the ground is, 0 to 1.
        blades: colours of what grows from the ground; empty indoors.
        cold: whether it may snow.
    """

    picture: Image.Image
    light: Point
    tint: Colour
    shadow: float
    blades: tuple[Colour, ...] = ()
    cold: bool = False


def sunlight(rng: random.Random) -> Point:
    """A direction towards the sun, drawn at random."""
    angle = rng.uniform(0.5, math.pi - 0.5)
    return math.cos(angle), -math.sin(angle)


def sky(c: Canvas, horizon: float) -> None:
    """Paint a sky with clouds down to the horizon."""
    rng = c.rng
    top, low = rng.choice(
        [
            ((112, 164, 214), (206, 226, 240)),
            ((150, 178, 204), (226, 230, 232)),
            ((128, 140, 178), (246, 206, 176)),
            ((168, 180, 190), (214, 220, 224)),
        ]
    )
    c.fade(0, horizon, top, low)
    for _ in range(rng.randint(0, 4)):
        x, y = rng.uniform(0, 1), rng.uniform(0.02, horizon * 0.7)
        for _ in range(7):
            c.disc(
                (x + rng.gauss(0, 0.07), y + rng.gauss(0, 0.012)),
                rng.uniform(0.02, 0.055),
                mix(low, WHITE, rng.uniform(0.5, 0.9)),
                0.7,
            )
    c.blur(3)

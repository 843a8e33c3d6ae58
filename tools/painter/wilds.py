"""Places without houses."""

from __future__ import annotations

import math

from tools.painter.brush import Colour, dim, mix
from tools.painter.canvas import WHITE, Canvas
from tools.painter.scene import Scene, sky, sunlight


def snow(c: Canvas, horizon: float) -> Scene:
    """A snowy clearing."""
    rng = c.rng
    sky(c, horizon + 0.05)
    c.ridge(horizon - 0.14, 0.1, (176, 192, 212), (214, 222, 234))
    for _ in range(rng.randint(8, 22)):
        x, tall = rng.uniform(-0.05, 1.05), rng.uniform(0.14, 0.5)
        c.fir(
            x,
            horizon + 0.03,
            tall,
            mix((52, 78, 74), (170, 186, 200), 0.65 - tall),
            rng.uniform(0.2, 0.9),
        )
    c.ridge(horizon, 0.03, (240, 244, 250), (214, 224, 240))
    c.brush(horizon + 0.05, 1, 500, 30, 0.02, spread=0.06)
    return Scene(
        c.picture,
        sunlight(rng),
        (0.98, 1.0, 1.04),
        0.32,
        ((186, 176, 140), (226, 232, 240), (150, 142, 116)),
        cold=True,
    )


def forest(c: Canvas, horizon: float) -> Scene:
    """Among trees in summer or in autumn."""
    rng = c.rng
    autumn = rng.random() < 0.45
    air: Colour = (226, 196, 130) if autumn else (176, 204, 150)
    leaf: Colour = (202, 122, 44) if autumn else (74, 116, 58)
    floor: Colour = (150, 104, 60) if autumn else (96, 104, 60)
    c.fade(0, horizon, mix(air, leaf, 0.35), air)
    for depth in (0.75, 0.5, 0.2):
        for _ in range(rng.randint(4, 8)):
            x, w = rng.uniform(0, 1), (0.05 - 0.04 * depth) * rng.uniform(0.7, 1.4)
            bark = mix((72, 56, 46), air, depth)
            c.fill(
                [
                    (x - w * 0.8, -0.02),
                    (x + w * 0.8, -0.02),
                    (x + w, horizon + 0.03),
                    (x - w, horizon + 0.03),
                ],
                bark,
            )
            c.fill(
                [
                    (x - w * 0.8, -0.02),
                    (x - w * 0.3, -0.02),
                    (x - w * 0.4, horizon),
                    (x - w, horizon),
                ],
                mix(bark, air, 0.25),
            )
        for _ in range(24):
            c.disc(
                (rng.uniform(0, 1), rng.uniform(-0.05, 0.3)),
                rng.uniform(0.03, 0.1),
                mix(dim(leaf, rng.uniform(0.7, 1.3)), air, depth),
            )
        for _ in range(3):
            c.bush(
                (rng.uniform(0, 1), horizon + 0.02),
                rng.uniform(0.06, 0.16),
                mix(dim(leaf, 0.9), air, depth),
            )
    c.fade(horizon, 1, mix(floor, air, 0.3), dim(floor, 0.8))
    c.brush(0, horizon, 700, 13, 0.07, angle=math.pi / 2, spread=0.9)
    c.brush(horizon, 1, 1400, 11, 0.14, spread=1.2)
    if rng.random() < 0.6:
        c.glow((rng.uniform(0.1, 0.9), 0.1), 0.5, (255, 246, 206), 0.6)
    return Scene(
        c.picture,
        sunlight(rng),
        (1.02, 1.0, 0.93) if autumn else (0.97, 1.0, 0.95),
        0.4,
        (leaf, floor, dim(leaf, 1.2)),
    )


def meadow(c: Canvas, horizon: float) -> Scene:
    """Grass and flowers under an open sky."""
    rng = c.rng
    sky(c, horizon + 0.05)
    green: Colour = rng.choice([(122, 158, 74), (150, 164, 84), (184, 170, 98), (96, 144, 84)])
    c.ridge(horizon - 0.1, 0.07, mix(green, (170, 196, 216), 0.6), mix(green, (190, 206, 210), 0.4))
    for _ in range(rng.randint(1, 6)):
        c.leafy(
            rng.uniform(0, 1),
            horizon + 0.02,
            rng.uniform(0.12, 0.42),
            (104, 82, 64),
            mix(green, (70, 110, 60), 0.6),
        )
    c.ridge(horizon, 0.03, mix(green, WHITE, 0.15), dim(green, 0.85))
    c.brush(horizon + 0.04, 1, 900, 12, 0.1, angle=-math.pi / 2, spread=0.4)
    c.grass(horizon + 0.06, (green, dim(green, 0.8), mix(green, (236, 226, 150), 0.4)), 420, 23)
    bloom = rng.choice([(250, 246, 240), (236, 196, 64), (206, 92, 110), (140, 110, 190)])
    for _ in range(rng.choice((0, 25, 60))):
        y = rng.uniform(horizon + 0.06, 1)
        c.disc((rng.uniform(0, 1), y), 0.004 + 0.008 * (y - horizon), bloom)
    return Scene(
        c.picture,
        sunlight(rng),
        (1.02, 1.0, 0.96),
        0.35,
        (green, dim(green, 0.8), mix(green, (236, 226, 150), 0.4)),
    )


def mountains(c: Canvas, horizon: float) -> Scene:
    """Rocky heights."""
    rng = c.rng
    sky(c, horizon + 0.1)
    for depth in (0.8, 0.55, 0.3):
        rock = mix((98, 98, 112), (196, 208, 222), depth)
        c.ridge(horizon - 0.42 * depth, 0.16, mix(rock, WHITE, 0.55 * depth), rock, 0.58)
    ground: Colour = rng.choice([(146, 134, 106), (128, 134, 96), (150, 142, 132)])
    c.ridge(horizon, 0.03, ground, dim(ground, 0.82))
    c.brush(horizon - 0.4, horizon, 500, 11, 0.05, angle=1.0, spread=0.5)
    for _ in range(rng.randint(4, 10)):
        y = rng.uniform(horizon + 0.02, 0.98)
        c.rock(
            (rng.uniform(0, 1), y),
            0.02 + 0.12 * (y - horizon) * rng.random(),
            dim((150, 146, 144), rng.uniform(0.8, 1.15)),
        )
    c.brush(horizon + 0.03, 1, 900, 10, 0.1, spread=0.6)
    return Scene(
        c.picture,
        sunlight(rng),
        (1.0, 1.0, 1.0),
        0.35,
        (ground, dim(ground, 0.75), dim(ground, 1.2)),
        cold=True,
    )


def night(c: Canvas, horizon: float) -> Scene:
    """Moonlight."""
    rng = c.rng
    c.fade(0, horizon + 0.05, (22, 30, 60), (76, 92, 134))
    for _ in range(90):
        c.disc(
            (rng.uniform(0, 1), rng.uniform(0, horizon)), rng.uniform(0.001, 0.004), (236, 238, 250)
        )
    moon = (rng.uniform(0.12, 0.88), rng.uniform(0.08, 0.3))
    c.glow(moon, 0.32, (190, 204, 236), 0.55)
    c.disc(moon, rng.uniform(0.05, 0.09), (246, 244, 226))
    c.ridge(horizon - 0.12, 0.1, (48, 60, 96), (60, 74, 110))
    for _ in range(rng.randint(3, 14)):
        c.fir(rng.uniform(-0.05, 1.05), horizon + 0.03, rng.uniform(0.15, 0.5), (30, 42, 62))
    ground: Colour = rng.choice([(64, 78, 96), (120, 134, 166), (70, 74, 78)])
    c.ridge(horizon, 0.03, ground, dim(ground, 0.7))
    c.brush(horizon + 0.03, 1, 900, 12, 0.09, spread=0.5)
    side = moon[0] - 0.5
    norm = math.hypot(side, 0.6)
    return Scene(
        c.picture,
        (side / norm, -0.6 / norm),
        (0.66, 0.72, 0.88),
        0.45,
        (dim(ground, 0.8), dim(ground, 1.2)),
        cold=True,
    )


def shore(c: Canvas, horizon: float) -> Scene:
    """A beach or the bank of a lake."""
    rng = c.rng
    sky(c, horizon)
    water: Colour = rng.choice([(86, 132, 160), (108, 152, 160), (120, 132, 150)])
    if rng.random() < 0.6:
        c.ridge(horizon - 0.2, 0.06, (136, 154, 170), (160, 176, 186))
    c.fade(horizon - 0.1, horizon + 0.04, dim(water, 1.15), water)
    c.brush(horizon - 0.1, horizon + 0.02, 260, 22, 0.1, spread=0.03)
    sand: Colour = rng.choice([(222, 200, 158), (196, 180, 152), (170, 164, 156)])
    c.ridge(horizon + 0.02, 0.02, mix(sand, WHITE, 0.5), sand)
    c.ridge(horizon + 0.04, 0.02, dim(sand, 0.86), sand)
    c.brush(horizon + 0.06, 1, 900, 7, 0.06, spread=0.5)
    for _ in range(rng.randint(0, 6)):
        y = rng.uniform(horizon + 0.08, 0.98)
        c.rock((rng.uniform(0, 1), y), 0.01 + 0.08 * (y - horizon) * rng.random(), (146, 140, 134))
    return Scene(
        c.picture, sunlight(rng), (1.02, 1.0, 0.97), 0.34, (dim(sand, 0.8), (150, 152, 96))
    )

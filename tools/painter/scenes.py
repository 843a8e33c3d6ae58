"""Places: what is behind an animal, how it is lit, and what stands in front of it.

Both classes are set in the same places, so that a background gives nothing away.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageDraw

from tools.painter.brush import Colour, Point, curve, dim, mix, whole
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


def _sunlight(rng: random.Random) -> Point:
    angle = rng.uniform(0.5, math.pi - 0.5)
    return math.cos(angle), -math.sin(angle)


def _sky(c: Canvas, horizon: float) -> None:
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


def snow(c: Canvas, horizon: float) -> Scene:
    """A snowy clearing."""
    rng = c.rng
    _sky(c, horizon + 0.05)
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
        _sunlight(rng),
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
        _sunlight(rng),
        (1.02, 1.0, 0.93) if autumn else (0.97, 1.0, 0.95),
        0.4,
        (leaf, floor, dim(leaf, 1.2)),
    )


def meadow(c: Canvas, horizon: float) -> Scene:
    """Grass and flowers under an open sky."""
    rng = c.rng
    _sky(c, horizon + 0.05)
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
        _sunlight(rng),
        (1.02, 1.0, 0.96),
        0.35,
        (green, dim(green, 0.8), mix(green, (236, 226, 150), 0.4)),
    )


def mountains(c: Canvas, horizon: float) -> Scene:
    """Rocky heights."""
    rng = c.rng
    _sky(c, horizon + 0.1)
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
        _sunlight(rng),
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


def indoors(c: Canvas, horizon: float) -> Scene:
    """A room."""
    rng = c.rng
    wall: Colour = rng.choice(
        [(214, 200, 178), (170, 186, 190), (186, 160, 146), (206, 206, 200), (128, 146, 138)]
    )
    wood: Colour = rng.choice([(158, 112, 72), (184, 146, 102), (112, 82, 62), (170, 160, 148)])
    c.fade(0, horizon, dim(wall, 1.08), dim(wall, 0.88))
    if rng.random() < 0.5:
        for i in range(0, 24, 2):
            c.box(i / 24, 0, (i + 1) / 24, horizon, dim(wall, 0.95))
    window = rng.random() < 0.6
    if window:
        x, w = rng.uniform(0.05, 0.6), rng.uniform(0.22, 0.34)
        c.box(x - 0.02, 0.04, x + w + 0.02, 0.44, (240, 236, 228))
        c.box(x, 0.06, x + w, 0.42, rng.choice([(178, 208, 230), (196, 214, 186), (60, 70, 104)]))
        c.box(x + w / 2 - 0.008, 0.06, x + w / 2 + 0.008, 0.42, (240, 236, 228))
        c.box(x, 0.23, x + w, 0.25, (240, 236, 228))
    for _ in range(0 if window else rng.randint(1, 3)):
        x, y, w = rng.uniform(0, 0.85), rng.uniform(0.06, 0.3), rng.uniform(0.1, 0.16)
        c.box(x, y, x + w, y + w * 1.1, (84, 62, 46))
        c.box(
            x + 0.012,
            y + 0.014,
            x + w - 0.012,
            y + w * 1.1 - 0.014,
            dim(
                rng.choice([(120, 150, 130), (190, 150, 110), (110, 130, 170)]),
                rng.uniform(0.8, 1.2),
            ),
        )
    c.box(0, horizon - 0.035, 1, horizon, (232, 228, 220))
    c.fade(horizon, 1, dim(wood, 0.9), dim(wood, 1.1))
    for i in range(-6, 20):
        x0, x1 = 0.5 + (i / 13 - 0.5) * 1.1, 0.5 + (i / 13 - 0.5) * 2.2
        c.fill([(x0, horizon), (x0 + 0.003, horizon), (x1 + 0.009, 1), (x1, 1)], dim(wood, 0.68))
    thing = rng.choice(("sofa", "plant", "shelf", "none", "rug"))
    if thing == "sofa":
        cloth = dim(
            rng.choice([(150, 70, 66), (84, 104, 128), (126, 128, 96), (150, 132, 116)]),
            rng.uniform(0.9, 1.15),
        )
        x, w = rng.uniform(-0.2, 0.5), rng.uniform(0.5, 0.75)
        c.box(x, horizon - 0.3, x + w, horizon + 0.05, dim(cloth, 0.8))
        c.box(x + 0.04, horizon - 0.12, x + w - 0.04, horizon - 0.02, dim(cloth, 1.1))
        for edge in (x - 0.05, x + w - 0.05):
            c.box(edge, horizon - 0.2, edge + 0.1, horizon + 0.07, cloth)
            c.disc((edge + 0.05, horizon - 0.2), 0.055, cloth)
    elif thing == "plant":
        x = rng.choice((0.1, 0.88))
        for _ in range(16):
            a, far = rng.uniform(0.3, math.pi - 0.3), rng.uniform(0.15, 0.36)
            tip = (x + 0.6 * far * math.cos(a), horizon - 0.12 - far * math.sin(a))
            c.fill(
                curve(
                    [
                        (x, horizon - 0.1),
                        ((x + tip[0]) / 2 + 0.03, (horizon - 0.1 + tip[1]) / 2),
                        tip,
                        ((x + tip[0]) / 2 - 0.03, (horizon - 0.1 + tip[1]) / 2),
                    ],
                    closed=True,
                ),
                dim((78, 124, 74), rng.uniform(0.7, 1.2)),
            )
        c.fill(
            [
                (x - 0.08, horizon - 0.14),
                (x + 0.08, horizon - 0.14),
                (x + 0.06, horizon + 0.04),
                (x - 0.06, horizon + 0.04),
            ],
            (176, 100, 72),
        )
    elif thing == "shelf":
        y = rng.uniform(0.12, 0.3)
        x = rng.uniform(0, 0.6)
        while x < 0.95:
            w = rng.uniform(0.015, 0.035)
            c.box(
                x,
                y - rng.uniform(0.08, 0.13),
                x + w,
                y,
                dim(
                    rng.choice([(170, 80, 70), (80, 110, 140), (200, 170, 100), (96, 120, 90)]),
                    rng.uniform(0.8, 1.2),
                ),
            )
            x += w + 0.004
        c.box(0, y, 1, y + 0.018, dim(wood, 0.8))
    elif thing == "rug":
        cloth = rng.choice([(160, 84, 78), (96, 112, 140), (196, 178, 140)])
        c.disc((0.5, 0.88), 0.36, cloth, 0.34)
        c.disc((0.5, 0.88), 0.3, mix(cloth, WHITE, 0.3), 0.32)
    c.brush(horizon, 1, 400, 17, 0.04, angle=math.pi / 2, spread=0.3)
    return Scene(c.picture, _sunlight(rng), (1.02, 0.99, 0.94), 0.34)


def street(c: Canvas, horizon: float) -> Scene:
    """A pavement in front of houses."""
    rng = c.rng
    _sky(c, horizon)
    x = -rng.uniform(0, 0.2)
    while x < 1:
        w = rng.uniform(0.28, 0.46)
        wall = dim(
            rng.choice(
                [(176, 112, 90), (206, 184, 150), (150, 152, 158), (196, 170, 160), (126, 138, 150)]
            ),
            rng.uniform(0.85, 1.1),
        )
        roof = rng.uniform(-0.05, 0.16)
        c.box(x, roof, x + w - 0.006, horizon, wall)
        c.box(x, roof, x + w - 0.006, roof + 0.03, dim(wall, 0.7))
        columns = rng.choice((2, 3))
        for i in range(columns):
            for y in (roof + 0.09, roof + 0.32):
                left, wide = x + w * (i + 0.22) / columns, w * 0.56 / columns
                glass = rng.choice([(92, 112, 132), (236, 206, 140), (70, 84, 98)])
                if y + 0.14 < horizon - 0.06:
                    c.box(
                        left - 0.008, y - 0.01, left + wide + 0.008, y + 0.15, mix(wall, WHITE, 0.6)
                    )
                    c.box(left, y, left + wide, y + 0.14, glass)
        if rng.random() < 0.6:
            left = x + w * rng.uniform(0.1, 0.7)
            c.box(
                left,
                horizon - 0.24,
                left + 0.1,
                horizon,
                dim(rng.choice([(120, 60, 52), (60, 92, 84), (72, 84, 120)]), 1.0),
            )
        x += w
    c.brush(0, horizon, 500, 7, 0.05)
    stone = dim((168, 164, 160), rng.uniform(0.75, 1.1))
    c.fade(horizon, 1, dim(stone, 0.92), stone)
    for i in range(6):
        y = horizon + (1 - horizon) * (i / 6) ** 1.6
        c.box(0, y, 1, y + 0.003 + 0.003 * i / 6, dim(stone, 0.8))
    for i in range(-4, 14):
        x0, x1 = 0.5 + (i / 9 - 0.5) * 1.1, 0.5 + (i / 9 - 0.5) * 2.4
        c.fill([(x0, horizon), (x0 + 0.003, horizon), (x1 + 0.007, 1), (x1, 1)], dim(stone, 0.82))
    if rng.random() < 0.5:
        x = rng.choice((rng.uniform(0.02, 0.25), rng.uniform(0.75, 0.98)))
        c.box(x - 0.012, 0.1, x + 0.012, horizon + 0.06, (58, 62, 66))
        c.disc((x, 0.08), 0.035, (250, 232, 176))
    elif rng.random() < 0.6:
        c.leafy(
            rng.uniform(0, 1), horizon + 0.04, rng.uniform(0.5, 0.75), (98, 78, 62), (92, 128, 72)
        )
    c.brush(horizon, 1, 500, 10, 0.06, spread=0.8)
    return Scene(c.picture, _sunlight(rng), (1.0, 1.0, 0.99), 0.36, cold=True)


def shore(c: Canvas, horizon: float) -> Scene:
    """A beach or the bank of a lake."""
    rng = c.rng
    _sky(c, horizon)
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
        c.picture, _sunlight(rng), (1.02, 1.0, 0.97), 0.34, (dim(sand, 0.8), (150, 152, 96))
    )


def garden(c: Canvas, horizon: float) -> Scene:
    """A lawn with a fence."""
    rng = c.rng
    _sky(c, horizon)
    for _ in range(rng.randint(2, 5)):
        c.leafy(
            rng.uniform(0, 1),
            horizon,
            rng.uniform(0.35, 0.65),
            (98, 78, 60),
            dim((92, 132, 74), rng.uniform(0.8, 1.15)),
        )
    c.brush(0.1, horizon, 400, 8, 0.1, spread=2)
    paint = dim(
        rng.choice([(236, 232, 222), (158, 118, 82), (124, 132, 132), (120, 92, 70)]),
        rng.uniform(0.9, 1.05),
    )
    top = horizon - rng.uniform(0.2, 0.34)
    step = rng.choice((0.05, 0.07))
    for y in (top + 0.07, horizon - 0.06):
        c.box(0, y, 1, y + 0.025, dim(paint, 0.8))
    for i in range(int(1 / step) + 2):
        x = i * step - 0.01
        w = step * 0.72
        c.fill(
            [
                (x, horizon + 0.01),
                (x, top + 0.02),
                (x + w / 2, top),
                (x + w, top + 0.02),
                (x + w, horizon + 0.01),
            ],
            dim(paint, rng.uniform(0.92, 1.02)),
        )
    green: Colour = rng.choice([(112, 152, 72), (132, 158, 84), (92, 136, 76)])
    c.fade(horizon, 1, mix(green, WHITE, 0.1), dim(green, 0.85))
    for _ in range(rng.randint(0, 4)):
        c.bush((rng.uniform(0, 1), horizon + 0.03), rng.uniform(0.06, 0.14), dim(green, 0.8))
    c.brush(horizon, 1, 900, 9, 0.1, angle=-math.pi / 2, spread=0.4)
    c.grass(horizon + 0.03, (green, dim(green, 0.8), dim(green, 1.2)), 300, 13)
    return Scene(
        c.picture,
        _sunlight(rng),
        (1.01, 1.0, 0.96),
        0.36,
        (green, dim(green, 0.8), dim(green, 1.2)),
    )


PLACES: tuple[Callable[[Canvas, float], Scene], ...] = (
    snow,
    forest,
    forest,
    meadow,
    mountains,
    night,
    indoors,
    street,
    shore,
    garden,
)


def behind(c: Canvas, at: float) -> None:
    """Put a few things on the ground around the height ``at``: a ball, a rock, a log, a bush."""
    rng = c.rng
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        x = rng.choice((rng.uniform(0.02, 0.2), rng.uniform(0.8, 0.98)))
        y = at + rng.uniform(-0.03, 0.04)
        thing = rng.choice(("ball", "rock", "log", "bush", "ball"))
        if thing == "ball":
            colour = rng.choice([(206, 60, 52), (70, 120, 190), (232, 190, 60), (240, 240, 236)])
            r = rng.uniform(0.03, 0.055)
            c.disc((x, y + r * 0.9), r, dim(colour, 0.4), 0.25)
            c.disc((x, y), r, dim(colour, 0.75))
            c.disc((x - r * 0.12, y - r * 0.14), r * 0.78, colour)
            c.disc((x - r * 0.3, y - r * 0.4), r * 0.22, mix(colour, WHITE, 0.7))
        elif thing == "rock":
            c.rock((x, y), rng.uniform(0.05, 0.1), dim((150, 146, 144), rng.uniform(0.7, 1.1)))
        elif thing == "log":
            bark = dim((112, 84, 62), rng.uniform(0.8, 1.2))
            c.box(x - 0.14, y - 0.06, x + 0.14, y + 0.02, bark)
            c.box(x - 0.14, y - 0.06, x + 0.14, y - 0.035, dim(bark, 1.25))
            c.disc((x + 0.14, y - 0.02), 0.042, (206, 176, 132))
            c.disc((x + 0.14, y - 0.02), 0.022, (176, 140, 98))
        else:
            c.bush((x, y), rng.uniform(0.08, 0.16), dim((96, 122, 72), rng.uniform(0.7, 1.1)))


def in_front(c: Canvas, scene: Scene, at: float, tail_right: bool) -> None:
    """Hide a bit of the animal, or nothing: grass, a bush, rails, a trunk, a rock, snowflakes.

    Args:
        c: the picture, with the animal.
        scene: where it is.
        at: height of the animal's feet.
        tail_right: which side its head is not on.
    """
    rng = c.rng
    thing = rng.choice(
        ("grass", "grass", "bush", "rails", "trunk", "flakes", "rock", "nothing", "nothing")
    )
    if thing == "grass" and scene.blades:
        draw = ImageDraw.Draw(c.picture)
        for _ in range(rng.randint(60, 260)):
            x, y = rng.uniform(0, 1) * c.width, (at + abs(rng.gauss(0.03, 0.05))) * c.height
            tall = rng.uniform(0.03, 0.12) * c.height
            fill = whole(dim(rng.choice(scene.blades), rng.uniform(0.75, 1.15)))
            draw.line([(x, y), (x + rng.gauss(0, 0.2) * tall, y - tall)], fill=fill, width=3)
    elif thing == "bush":
        c.bush(
            (0.92 if tail_right else 0.08, 1.02),
            rng.uniform(0.14, 0.26),
            dim((92, 116, 70), rng.uniform(0.6, 1.0)),
        )
    elif thing == "rails":
        wood = dim(
            rng.choice([(150, 118, 88), (200, 194, 184), (104, 84, 68)]), rng.uniform(0.8, 1.1)
        )
        for y in (at - 0.12, at + 0.02):
            c.box(0, y, 1, y + 0.028, wood)
            c.box(0, y, 1, y + 0.009, dim(wood, 1.18))
        for x in (rng.uniform(0.02, 0.2), rng.uniform(0.8, 0.95)):
            c.box(x, at - 0.18, x + 0.04, 1, dim(wood, 0.9))
    elif thing == "trunk":
        x, w = 0.93 if tail_right else 0.0, rng.uniform(0.05, 0.1)
        bark = dim((86, 70, 58), rng.uniform(0.7, 1.2))
        c.fill([(x, 0), (x + w, 0), (x + w * 1.1, 1), (x - 0.01, 1)], bark)
        c.fill([(x, 0), (x + w * 0.3, 0), (x + w * 0.3, 1), (x - 0.01, 1)], dim(bark, 1.2))
    elif thing == "flakes" and scene.cold:
        for _ in range(rng.randint(30, 90)):
            c.disc(
                (rng.uniform(0, 1), rng.uniform(0, 1)), rng.uniform(0.003, 0.008), (246, 248, 252)
            )
    elif thing == "rock":
        c.rock(
            (0.88 if tail_right else 0.12, 1.0),
            rng.uniform(0.1, 0.2),
            dim((146, 142, 138), rng.uniform(0.7, 1.1)),
        )

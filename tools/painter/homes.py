"""Places where people live."""

from __future__ import annotations

import math

from tools.painter.brush import Colour, curve, dim, mix
from tools.painter.canvas import WHITE, Canvas
from tools.painter.scene import Scene, sky, sunlight


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
    return Scene(c.picture, sunlight(rng), (1.02, 0.99, 0.94), 0.34)


def street(c: Canvas, horizon: float) -> Scene:
    """A pavement in front of houses."""
    rng = c.rng
    sky(c, horizon)
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
    return Scene(c.picture, sunlight(rng), (1.0, 1.0, 0.99), 0.36, cold=True)


def garden(c: Canvas, horizon: float) -> Scene:
    """A lawn with a fence."""
    rng = c.rng
    sky(c, horizon)
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
        sunlight(rng),
        (1.01, 1.0, 0.96),
        0.36,
        (green, dim(green, 0.8), dim(green, 1.2)),
    )

"""Things that stand behind an animal or in front of it."""

from __future__ import annotations

from PIL import ImageDraw

from tools.painter.brush import dim, mix, whole
from tools.painter.canvas import WHITE, Canvas
from tools.painter.scene import Scene


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

"""Heads, seen from the front and from the side."""

from __future__ import annotations

import math

from tools.painter.brush import Colour, Figure, Frame, both_sides, dim, mix, ring
from tools.painter.looks import Look

DARK: Colour = (30, 26, 28)
GLOSS: Colour = (120, 116, 122)
MOUTH: Colour = (78, 44, 48)
PINK: Colour = (206, 104, 108)
UP = math.pi / 2


def head_front(fig: Figure, f: Frame, look: Look, turn: float, mouth: float) -> None:
    """A head that looks at the viewer.

    Args:
        fig: painted on.
        f: half a head's width is one unit, and the eyes are a bit above the origin.
        look: of the animal.
        turn: -1 to 1, how far the face is turned to a side.
        mouth: 0 closed, 1 open.
    """
    hair = max(6.0, look.fur * 0.9 * f.unit)
    r, t = look.ruff, 0.2 * turn
    chin, wide = -0.85 - 0.5 * look.muzzle, 0.12 + 0.3 * look.jowl
    nose = (1.6 * t, -0.34 - 0.52 * look.muzzle)
    sides = [f.flipped(side) for side in (-1.0, 1.0)]
    if look.ears == "erect":
        for side, g in zip((-1.0, 1.0), sides, strict=True):
            _ear_erect(fig, g, look, narrow=1 - 0.25 * max(0.0, side * turn))
    brow = [(0, 0.86), (0.46, 0.8), (0.8, 0.48), (0.92, 0.06)]
    cheek = [(0.9 + 0.3 * r, -0.34), (0.74 + 0.2 * r, -0.6), (0.4 + 0.1 * r, 0.86 * chin)]
    skull = both_sides([*brow, *cheek, (0, chin)])
    fig.shape(f, skull, look.crown, look.coat, hair=(nose[0], nose[1] + 0.25), bulge=0.6)
    _face_marks(fig, f, look, t)
    fig.comb(hair, spread=max(0.2, look.curls))
    if mouth > 0:
        _tongue(fig, f.inner((1.5 * t, nose[1] - 0.34), wide), look, 0.34 * mouth / wide)
    _muzzle_front(fig, f, look, t, wide, nose[1])
    fig.comb(max(5.0, hair * 0.45), contrast=0.09)
    for side in (-1.0, 1.0):
        g = f.inner(nose, 1.0).flipped(side)
        fig.line(g, [(0, 0), (0, -0.25), (wide / 2, -0.32), (wide, -0.2)], DARK, 0.035)
    g = f.inner(nose, 1.0)
    tip = both_sides([(0, 0.13), (0.2, 0.1), (0.12, -0.06), (0, -0.12)])
    fig.fill(g, tip, DARK)
    fig.fill(g, ring((-0.05, 0.06), 0.07, 0.025), GLOSS)
    for side in (-1.0, 1.0):
        x = side * (0.34 if look.wolf else 0.39) + 0.7 * t - 0.06 * turn
        if look.wolf:
            _eye(fig, f.inner((x, 0.22), 0.115, 0.38 * side), look)
        else:
            _eye(fig, f.inner((x, 0.22), 0.135, 0.1 * side), look)
    if look.ears != "erect":
        for g in sides:
            _ear_hanging(fig, g, look)
            fig.comb(hair, spread=max(0.25, look.curls))


def _face_marks(fig: Figure, f: Frame, look: Look, t: float) -> None:
    """Marks of the coat on a face seen from the front."""
    rng = fig.rng
    if look.pattern == "mask":
        for side in (-1.0, 1.0):
            g = f.inner((0.5 * t, 0), 1.0).flipped(side)
            cheek = [(0.2, -0.3), (0.56, -0.02), (0.98, -0.3), (0.6, -0.8), (0.3, -1.2), (0, -1.2)]
            fig.patch(g, cheek, mix(look.pale, (255, 252, 246), 0.3), 0.07)
            fig.patch(g, ring((0.32, 0.42), 0.17, 0.1, 0.4), look.pale, 0.06, strength=0.85)
        stripe = [(-0.1, 0.9), (0.1, 0.9), (0.16 + t, 0.2), (t, -0.2), (-0.16 + t, 0.2)]
        fig.patch(f, stripe, dim(look.back, 0.8), 0.1, strength=0.7)
    elif look.pattern in ("blaze", "bib"):
        blaze = both_sides([(0.1, 0.86), (0.16, 0.3), (0.5, -0.5), (0.3, -1.2)])
        fig.patch(f.inner((0.7 * t, 0), 1.0), blaze, look.pale)
    elif look.pattern == "saddle":
        fig.patch(f, ring((t, 0.75), 0.5, 0.3), look.back, 0.15, strength=0.6)
        for x in (t - 0.36, t + 0.36):
            fig.patch(f, ring((x, 0.36), 0.12, 0.08), look.pale, 0.05, strength=0.6)
    elif look.pattern == "patches":
        fig.patch(f, ring((rng.choice((-0.55, 0.55)) + t, 0.25), 0.46, 0.5), look.back, 0.05)
    elif look.pattern == "spots":
        for _ in range(14):
            at = (rng.uniform(-0.8, 0.8), rng.uniform(-0.3, 0.85))
            fig.patch(f, ring(at, 0.08, 0.07), look.back, 0.02)


def _muzzle_front(fig: Figure, f: Frame, look: Look, t: float, wide: float, nose: float) -> None:
    """The muzzle stands out from the face; ``nose`` is its height."""
    base = {
        "mask": mix(look.pale, look.coat, 0.15),
        "blaze": look.pale,
        "bib": look.pale,
        "saddle": mix(look.back, look.coat, 0.3),
        "plain": mix(look.coat, look.pale, 0.35),
    }.get(look.pattern, look.coat)
    if look.flat_faced:
        base = dim(look.back, 0.6)
    bridge = mix(look.back, look.coat, 0.4) if look.pattern == "mask" else base
    top = -0.1 if look.flat_faced else 0.2
    half = [(0.17, top), (0.9 * wide, -0.36), (1.08 * wide, nose - 0.16), (0.6 * wide, nose - 0.42)]
    # what is lower is nearer, and moves further when the face turns
    outline = [(x + t * (0.4 if y == top else 1.3), y) for x, y in both_sides(half)]
    fig.shape(f, outline, bridge, base, hair=(1.6 * t, nose + 0.2), bulge=0.8)
    if look.pattern == "mask":
        for x in (t - 0.9 * wide, t + 0.9 * wide):
            fig.patch(f, ring((x, nose), 0.2, 0.36), look.pale, 0.07)
        fig.patch(f, ring((1.5 * t, nose - 0.34), 0.3, 0.14), look.pale, 0.06)


def _tongue(fig: Figure, f: Frame, look: Look, drop: float) -> None:
    """An open mouth below the muzzle, two units wide."""
    jaw = both_sides([(0.8, 0), (0.55, -drop), (0, -drop - 0.25)])
    fig.shape(f, jaw, mix(look.pale, look.coat, 0.3))
    fig.comb(6)
    fig.fill(f, both_sides([(0.66, 0), (0.42, -0.8 * drop), (0, -drop)]), MOUTH)
    fig.fill(f, both_sides([(0.42, 0), (0.4, -1.05 * drop), (0, -1.35 * drop)]), PINK)
    fig.line(f, [(0, 0), (0, -drop)], dim(PINK, 0.8), 0.07)


def _eye(fig: Figure, f: Frame, look: Look) -> None:
    """An eye, half of which is about a unit: a wolf's narrow and light, a dog's round and dark."""
    rim, iris, pupil = (0.95, 0.66, 0.4) if look.wolf else (1.2, 0.96, 0.6)
    fig.fill(f, ring((0, 0), 1.45 if look.wolf else 1.3, rim), DARK)
    fig.fill(f, ring((0, 0), 1.0, iris), look.eye)
    fig.fill(f, ring((0, 0), pupil, pupil), DARK)
    fig.fill(f, ring((-0.4, 0.5), 0.26, 0.26), (250, 250, 250))


def _ear_erect(fig: Figure, f: Frame, look: Look, narrow: float) -> None:
    """The right ear, seen from the front; ``narrow`` is 1 unless it is turned away."""
    lean, tip = 0.08 if look.wolf else 0.0, 0.8 + 0.66 * look.ear_size
    outer = [(0.5, 0.4), (0.93, 0.3), (0.96 + lean, 0.72), (0.83 + lean, tip - 0.16)]
    inner = [(0.75 + lean, tip), (0.65 + lean, tip - 0.14), (0.38, 0.98), (0.2, 0.7)]
    hollow = [(0.78, 0.5), (0.83 + lean, 0.8), (0.72 + lean, tip - 0.22), (0.5, 1.0), (0.38, 0.7)]
    tuft = [(0.4, 0.6), (0.5, 0.95), (0.6, 0.7)]
    ear, hollow, tuft = (
        [(0.55 + (x - 0.55) * narrow, y) for x, y in outline]
        for outline in ([*outer, *inner], hollow, tuft)
    )
    fig.shape(f, ear, look.ear, look.coat, hair=UP)
    fig.patch(f, hollow, mix(look.pale, (150, 104, 96), 0.55))
    fig.patch(f, tuft, look.pale, 0.05, strength=0.8)
    fig.comb(max(5.0, look.fur * 0.5 * f.unit))


def _ear_hanging(fig: Figure, f: Frame, look: Look) -> None:
    """The right ear, seen from the front."""
    e, colour = look.ear_size, look.ear
    if look.ears == "folded":
        base = [(0.28, 0.76), (0.4, 1.04), (0.76, 1.16), (1.08, 0.92), (1.12, 0.6), (0.86, 0.44)]
        flap = [(0.42, 1.0), (0.76, 1.14), (1.1, 0.92), (1.3, 0.44), (1.0, 0.54), (0.64, 0.84)]
        for outline, light in ((base, 0.85), (flap, 1.0)):
            fig.shape(f, [(x, 0.8 + (y - 0.8) * e) for x, y in outline], dim(colour, light))
    else:
        low = -0.2 - (0.85 if look.ears == "long" else 0.35) * e
        outer = [(0.5, 0.84), (0.8, 0.82), (1.08, 0.45), (1.24, 0.5 * low), (1.2, low)]
        inner = [(0.98, low - 0.14), (0.8, 0.7 * low), (0.76, 0.2)]
        fig.shape(f, [*outer, *inner], dim(colour, 1.1), dim(colour, 0.9), bulge=0.7)


def head_side(fig: Figure, f: Frame, look: Look, mouth: float, howls: bool = False) -> None:
    """A head in profile, facing +x.

    Args:
        fig: painted on.
        f: the skull is one unit across and centred on the origin.
        look: of the animal.
        mouth: 0 closed, 1 open.
        howls: whether it does, with its eyes shut and its ears back.
    """
    jowl, tip, hair = look.jowl, 0.55 + look.muzzle, max(5.0, look.fur * 0.8 * f.unit)
    snout = {
        "mask": mix(look.back, look.coat, 0.5),
        "bib": look.pale,
        "blaze": look.pale,
        "saddle": mix(look.back, look.coat, 0.3),
        "plain": mix(look.coat, look.pale, 0.25),
    }.get(look.pattern, look.coat)
    lower = look.pale if look.pale_front else mix(snout, look.pale, 0.3)
    if look.flat_faced:
        snout = lower = dim(look.back, 0.6)
    if look.ears == "erect":
        _ear_profile(fig, f.inner((0.14, 0.02), 1.0), look, dim(look.back, 0.8), howls)
    _jaw(fig, f, dim(lower, 0.92), tip, jowl, 0.34 * mouth, tongue=not howls)
    if look.ruff > 0.2:
        cheek = 0.45 + 0.13 * look.ruff
        below = mix(look.coat, look.pale, 0.5 if look.pattern == "mask" else 0.0)
        bones = [(-0.1, -0.05, cheek), (0.02, -0.12, cheek - 0.05)]
        fig.limb(f, bones, look.crown, below, hair=math.pi * 0.93)
        fig.comb(hair * 1.3, spread=0.3)
    if look.wolf:  # the forehead slopes; a dog's falls to the muzzle in a step
        bones = [(0.1, 0.12, 0.36), (0.46, -0.02, 0.24)]
        fig.limb(f, bones, look.crown, snout, hair=math.pi * 0.9)
    bones = [(0.2, -0.12, 0.34), (0.46, -0.15, 0.27), (tip - 0.12, -0.19, 0.2 * jowl)]
    fig.limb(f, [*bones, (tip, -0.17, 0.16 * jowl)], snout, lower, hair=math.pi)
    if look.ears == "erect":
        fig.comb(hair)
        _ear_profile(fig, f, look, look.ear, howls)
    bones = [(-0.02, 0.0, 0.5), (0.06, 0.02, 0.45)]
    fig.limb(f, bones, look.crown, look.coat, hair=math.pi * 0.95, shadow=0.0)
    if not look.wolf:
        fig.limb(f, [(0.0, 0.16, 0.32), (0.24, 0.14, 0.3)], look.crown, hair=math.pi * 0.9)
    _profile_marks(fig, f, look, tip)
    fig.comb(hair, spread=max(0.3, min(look.curls, 0.8)))
    fig.line(f, [(tip + 0.08, -0.3), (tip - 0.1, -0.36), (0.5, -0.36), (0.38, -0.3)], DARK, 0.03)
    fig.fill(f, ring((tip + 0.07, -0.12), 0.09, 0.08), DARK)
    fig.fill(f, ring((tip + 0.06, -0.09), 0.04, 0.02), GLOSS)
    if howls:
        fig.line(f, [(0.2, 0.1), (0.3, 0.06), (0.4, 0.1)], DARK, 0.04)
    else:
        _eye(fig, f.inner((0.3, 0.12), 0.08, -0.45 if look.wolf else -0.1), look)
    if look.ears != "erect":
        _ear_profile_hanging(fig, f, look)


def _jaw(
    fig: Figure, f: Frame, colour: Colour, tip: float, jowl: float, drop: float, tongue: bool
) -> None:
    """The lower jaw in profile, ``drop`` below where it is when it is shut."""
    bones = [(0.2, -0.3, 0.2), (0.5, -0.36 - 0.5 * drop, 0.12 * jowl)]
    fig.limb(f, [*bones, (tip - 0.12, -0.34 - drop, 0.09 * jowl)], colour)
    fig.comb(max(4.0, 0.03 * f.unit), contrast=0.08)
    if drop > 0:
        back = -0.32 if not tongue else -0.3 - 0.5 * drop
        fig.fill(
            f, [(0.47, -0.26), (tip - 0.04, -0.28), (tip - 0.1, -0.3 - drop), (0.52, back)], MOUTH
        )
    if drop > 0 and tongue:
        upper = [(0.5, -0.33), (tip - 0.1, -0.3 - 0.8 * drop), (tip, -0.42 - drop)]
        under = [(tip - 0.1, -0.62 - drop), (tip - 0.22, -0.44 - drop), (0.55, -0.4 - 0.4 * drop)]
        fig.fill(f, [*upper, *under], PINK)


def _profile_marks(fig: Figure, f: Frame, look: Look, tip: float) -> None:
    """Marks of the coat on a face in profile."""
    rng = fig.rng
    if look.pattern == "mask":
        upper = [(-0.3, -0.1), (-0.1, -0.3), (0.12, -0.2), (0.34, -0.12), (tip, -0.24)]
        under = [(tip - 0.1, -0.5), (0.1, -0.62), (-0.34, -0.5)]
        fig.patch(f, [*upper, *under], look.pale, 0.06)
        fig.patch(f, ring((0.26, 0.28), 0.12, 0.07, -0.4), look.pale, strength=0.8)
    elif look.pattern in ("blaze", "bib"):
        blaze = [(0.2, 0.45), (0.44, 0.2), (tip, 0.0), (tip, -0.5), (0.3, -0.5), (0.4, -0.1)]
        fig.patch(f, blaze, look.pale)
    elif look.pattern == "patches":
        fig.patch(f, ring((0.1, 0.15), 0.4, 0.36), look.back, 0.05)
    elif look.pattern == "spots":
        for _ in range(9):
            at = (rng.uniform(-0.4, 0.6), rng.uniform(-0.4, 0.4))
            fig.patch(f, ring(at, 0.06, 0.05), look.back, 0.02)


def _ear_profile(fig: Figure, f: Frame, look: Look, colour: Colour, back: bool) -> None:
    """An ear that stands, in profile."""
    g = f.inner((-0.16, 0.3), min(0.95, look.ear_size), 0.4 if back else 0.1)
    rear = [(-0.3, -0.1), (-0.24, 0.28), (-0.06, 0.62), (0.02, 0.74)]
    front = [(0.08, 0.62), (0.22, 0.3), (0.3, 0.0), (0.0, -0.2)]
    fig.shape(g, [*rear, *front], colour, mix(colour, look.coat, 0.6), hair=UP)
    hollow = [(0.0, 0.12), (0.04, 0.5), (0.14, 0.3), (0.2, 0.08)]
    fig.patch(g, hollow, mix(dim(colour, 0.7), (120, 84, 78), 0.4), 0.03)
    fig.comb(max(5.0, look.fur * 0.35 * f.unit))


def _ear_profile_hanging(fig: Figure, f: Frame, look: Look) -> None:
    """An ear that hangs or is folded, in profile."""
    e, colour = look.ear_size, look.ear
    if look.ears == "folded":
        g = f.inner((-0.12, 0.36), e)
        base = [(-0.3, -0.12), (-0.26, 0.18), (-0.08, 0.3), (0.1, 0.22), (0.12, -0.06)]
        flap = [
            (-0.26, 0.16),
            (-0.06, 0.3),
            (0.16, 0.18),
            (0.28, -0.26),
            (0.16, -0.46),
            (-0.1, -0.2),
        ]
        fig.shape(g, base, dim(colour, 0.8), hair=UP)
        fig.shape(g, flap, colour, hair=-1.2)
    else:
        low = -0.25 - (0.6 if look.ears == "long" else 0.2) * e
        front = [(-0.3, 0.44), (-0.04, 0.42), (0.04, 0.05), (0.0, 0.8 * low)]
        rear = [(-0.2, low), (-0.46, 0.7 * low), (-0.52, 0.1)]
        fig.shape(f, [*front, *rear], dim(colour, 1.1), dim(colour, 0.88), bulge=0.7)
    fig.comb(max(5.0, look.fur * 0.8 * f.unit), spread=max(0.25, look.curls))

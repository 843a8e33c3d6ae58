"""Bodies, and the poses they take.

An animal that stands is about one unit high at the shoulder, faces +x, and its feet are at y = 0.
Parts are painted from the far side to the near one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tools.painter.brush import Colour, Figure, Frame, Point, both_sides, dim, mix, ring
from tools.painter.heads import head_front, head_side
from tools.painter.looks import Look

Bone = tuple[float, float, float]  # x, y, radius

TAG: Colour = (226, 190, 84)
TAILS: dict[str, tuple[Bone, ...]] = {  # they grow towards -x
    "bushy": ((0.06, 0, 0.06), (-0.1, -0.14, 0.085), (-0.2, -0.4, 0.105), (-0.18, -0.68, 0.02)),
    "curled": ((0.06, 0, 0.07), (-0.08, 0.16, 0.09), (0, 0.37, 0.1), (0.2, 0.3, 0.07)),
    "plume": ((0.06, 0, 0.05), (-0.18, 0.1, 0.07), (-0.34, 0.3, 0.09), (-0.36, 0.52, 0.03)),
    "thin": ((0.06, 0, 0.045), (-0.16, 0.08, 0.035), (-0.32, 0.26, 0.028), (-0.36, 0.46, 0.014)),
}


@dataclass(frozen=True)
class Body:
    """An animal while it is being painted.

    Args:
        fig: painted on.
        f: the frame its parts are placed in.
        look: of the animal.
    """

    fig: Figure
    f: Frame
    look: Look

    def comb(self, share: float, contrast: float = 0.1, most_curls: float = 3.0) -> None:
        """Lay fur over the last parts; its length is a share of the animal's."""
        length = max(4.0, share * self.look.fur * self.f.unit)
        self.fig.comb(length, contrast, spread=min(max(0.22, self.look.curls), most_curls))

    def leg(self, *bones: Bone, far: bool = False) -> None:
        """A leg, from the trunk to the toes; the far side is darker."""
        fig, f, look = self.fig, self.f, self.look
        foot = {"mask": mix(look.coat, look.pale, 0.7), "bib": look.pale, "blaze": look.pale}.get(
            look.pattern, look.coat
        )
        light = 0.68 if far else 1.0
        fig.limb(f, bones, dim(look.coat, light), dim(foot, light))
        if look.pattern == "spots" and not far:
            for x, y, r in bones:
                fig.patch(f, ring((x + fig.rng.uniform(-r, r), y), 0.03, 0.03), look.back, 0.01)
        self.comb(0.45, most_curls=1.5)
        x, y, r = bones[-1]
        for toe in (0.1, 0.7) if not far else ():
            line = [(x + r * toe, y - r * 0.2), (x + r * (toe + 0.1), y - r * 0.9)]
            fig.line(f, line, dim(foot, 0.6), 0.012)

    def front_leg(self, x: float, stride: float, far: bool) -> None:
        """A foreleg that stands; ``stride`` is how far forward."""
        h, s = self.look.legs, 0.9 + 0.1 * self.look.girth
        lift = 0.06 * max(0.0, stride) * h
        self.leg(
            (x, h + 0.1, 0.13 * s),
            (x - 0.04 + 0.2 * stride, h * 0.72, 0.085 * s),
            (x + 0.02 + 0.6 * stride, h * 0.36, 0.055 * s),
            (x + 0.01 + 0.9 * stride, 0.09 + lift, 0.048 * s),
            (x + 0.07 + 0.95 * stride, 0.05 + lift, 0.055 * s),
            far=far,
        )

    def hind_leg(self, x: float, stride: float, far: bool) -> None:
        """A hind leg that stands."""
        h, s = self.look.legs, 0.9 + 0.1 * self.look.girth
        self.leg(
            (x, h + 0.12, 0.19 * s),
            (x + 0.06 + 0.2 * stride, h * 0.74, 0.13 * s),
            (x - 0.1 + 0.6 * stride, h * 0.4, 0.058 * s),
            (x - 0.06 + 0.9 * stride, 0.1, 0.05 * s),
            (x + 0.02 + 0.95 * stride, 0.05, 0.056 * s),
            far=far,
        )

    def haunch(self, *bones: Bone) -> None:
        """The thigh of an animal that sits or lies."""
        look = self.look
        self.fig.limb(self.f, bones, look.coat, mix(look.coat, look.pale, 0.4), hair=-0.9)
        self.comb(0.6)

    def tail(self, root: Point, bushy: float, other: float) -> None:
        """The tail, turned by one angle (radians) where it is bushy and by another if not."""
        fig, look = self.fig, self.look
        g = self.f.inner(root, 1.0, bushy if look.tail == "bushy" else other)
        bones = TAILS[look.tail]
        fig.limb(g, bones, mix(look.coat, look.back, 0.6), mix(look.coat, look.pale, 0.3))
        x, y, _ = bones[-1]
        if look.wolf:
            fig.patch(g, ring((x, y), 0.1, 0.13), dim(look.back, 0.6), 0.05)
        elif look.pattern in ("bib", "blaze"):
            fig.patch(g, ring((x, y), 0.1, 0.12), look.pale, 0.03)
        self.comb(0.4 if look.tail == "thin" else 0.85, most_curls=1.5)

    def trunk(self, *bones: Bone) -> None:
        """The trunk, from the rump to the shoulder."""
        look = self.look
        bones = tuple((x, y, r * look.girth) for x, y, r in bones)
        below = mix(look.coat, look.pale, 0.75 if look.pattern == "mask" else 0.35)
        self.fig.limb(self.f, bones, look.coat, below, hair=math.pi * 1.06)
        self.marks([(x, y + r) for x, y, r in bones], depth=2 * bones[0][2])
        self.comb(0.6)

    def marks(self, spine: Sequence[Point], depth: float) -> None:
        """Marks of the coat below an upper edge that goes from the rump to the shoulder."""
        fig, f, look, rng = self.fig, self.f, self.look, self.fig.rng
        if look.pattern in ("mask", "saddle", "bib"):
            low = depth * {"mask": 0.5, "saddle": 0.62, "bib": 0.9}[look.pattern]
            top = [(x, y + 0.08) for x, y in spine]
            edge = [(x, y - low * rng.uniform(0.85, 1.1)) for x, y in reversed(spine)]
            soft = 0.06 if look.pattern == "mask" else 0.03
            fig.patch(f, [*top, *edge], look.back, soft, strength=0.9)
        elif look.pattern in ("patches", "spots"):
            big = look.pattern == "patches"
            for _ in range(4 if big else 26):
                x, y = rng.choice(spine)
                at = (x + rng.uniform(-0.15, 0.15), y - depth * rng.uniform(0.0, 0.9))
                r = rng.uniform(0.09, 0.2) if big else rng.uniform(0.02, 0.045)
                soft = 0.02 if big else 0.01
                fig.patch(f, ring(at, r * rng.uniform(0.8, 1.4), r), look.back, soft)

    def neck(self, *bones: Bone) -> None:
        """The neck, from the shoulder to the skull, and the collar."""
        fig, f, look = self.fig, self.f, self.look
        thick = 1 + 0.28 * look.ruff
        front = look.pale if look.pale_front else look.coat
        nape = {"mask": 0.5, "bib": 1.0, "saddle": 0.5}.get(look.pattern, 0.0)
        back = mix(look.coat, look.back, nape)
        bones = tuple((x, y, r * thick) for x, y, r in bones)
        (x0, y0, r0), (x1, y1, r1) = bones[0], bones[-1]
        down = math.atan2(y0 - y1, x0 - x1)
        fig.limb(f, bones, back, mix(back, front, 0.4), hair=down)
        throat = [(x + r * 0.55, y) for x, y, r in bones]
        fig.patch(f, [*throat, (x0 + r0, y0 - r0), (x0, y0 - r0)], front, 0.06, strength=0.8)
        self.comb(0.55 + 0.15 * look.ruff)
        # across the neck, a bit below the skull
        xm, ym, _ = bones[-2]
        up = math.atan2(y1 - ym, x1 - xm)
        x, y, wide = 0.55 * x1 + 0.45 * xm, 0.55 * y1 + 0.45 * ym, 1.15 * r1
        left, right = (
            (x - side * math.sin(up) * wide, y + side * math.cos(up) * wide) for side in (1, -1)
        )
        dip = (x - 0.07 * math.cos(up), y - 0.07 * math.sin(up))
        throat_side = (0.8 * right[0] + 0.2 * x, 0.8 * right[1] + 0.2 * y)
        self.collar(left, dip, right, tag=throat_side)

    def collar(self, start: Point, middle: Point, end: Point, tag: Point) -> None:
        """A collar, if it wears one, with a tag that hangs below a point."""
        if self.look.collar:
            self.fig.line(self.f, [start, middle, end], self.look.collar, 0.06)
            self.fig.fill(self.f, ring((tag[0], tag[1] - 0.05), 0.045, 0.045), TAG)

    def chest(self, outline: Sequence[Point]) -> None:
        """The chest, seen from the front."""
        look = self.look
        colour = look.pale if look.pale_front else mix(look.coat, look.pale, 0.2)
        self.fig.shape(self.f, outline, colour, bulge=0.7)
        self.comb(0.55 + 0.15 * look.ruff)

    def face(self, at: Point, half: float, tilt: float, turn: float) -> None:
        """A head that looks at the viewer; ``half`` is half its width."""
        rng = self.fig.rng
        frame = self.f.inner(at, half, rng.uniform(-tilt, tilt))
        head_front(self.fig, frame, self.look, turn, self._mouth())

    def head(self, at: Point, tilt: float = 0.0) -> None:
        """A head on a body seen from the side: in profile, or turned to the viewer."""
        rng, size = self.fig.rng, self.look.head
        if rng.random() < 0.45:
            self.face((at[0] + 0.03, at[1] + 0.02), size * 0.5, 0.12, turn=rng.uniform(0, 1))
        else:
            frame = self.f.inner(at, size, tilt + rng.uniform(-0.12, 0.12))
            head_side(self.fig, frame, self.look, self._mouth())

    def _mouth(self) -> float:
        return self.fig.rng.uniform(0.5, 1.0) if self.look.pants else 0.0


def stand(b: Body) -> None:
    """Standing or walking, from the side."""
    rng, h = b.fig.rng, b.look.legs
    walk = rng.choice((0.0, 0.0, rng.uniform(0.1, 0.24)))
    up = rng.uniform(-0.15, 0.05) if b.look.wolf else rng.uniform(-0.05, 0.12)
    _on_all_fours(b, walk)
    b.neck((0.4, h + 0.22, 0.21), (0.54, h + 0.34 + up / 2, 0.18), (0.63, h + 0.46 + up, 0.155))
    b.head((0.7, h + 0.55 + up))


def sniff(b: Body) -> None:
    """Standing with the nose to the ground."""
    h, y = b.look.legs, 0.1 + b.look.head * (0.6 + 0.68 * b.look.muzzle)
    _on_all_fours(b, walk=0.08)
    b.neck((0.42, h + 0.18, 0.2), (0.6, (h + y) / 2 + 0.14, 0.17), (0.72, y + 0.1, 0.15))
    head_side(b.fig, b.f.inner((0.79, y), b.look.head, -0.75), b.look, mouth=0.0)


def _on_all_fours(b: Body, walk: float) -> None:
    h, swing = b.look.legs, b.fig.rng.uniform(-0.3, 0.2)
    b.hind_leg(-0.36, walk + 0.08, far=True)
    b.front_leg(0.36, 0.08 - walk, far=True)
    b.tail((-0.6, h + 0.26), swing, swing)
    b.trunk(
        (-0.44, h + 0.19, 0.2),
        (-0.2, h + 0.21, 0.19),
        (0.12, h + 0.17, 0.22),
        (0.38, h + 0.18, 0.23),
    )
    b.hind_leg(-0.42, -walk, far=False)
    b.front_leg(0.34, walk, far=False)


def run(b: Body) -> None:
    """Running."""
    h = b.look.legs
    b = replace(b, f=b.f.inner((0, 0.06), 1.0, b.fig.rng.uniform(-0.1, 0.12)))

    def leg(x: float, reach: float, far: bool) -> None:
        foot = x + 1.15 * reach
        shin = ((x + 0.8 * reach, h * 0.48, 0.058), (foot, h * 0.2, 0.05))
        b.leg(
            (x, h + 0.1, 0.15),
            (x + 0.35 * reach, h * 0.72, 0.1),
            *shin,
            (foot + 0.06, h * 0.12, 0.052),
            far=far,
        )

    leg(-0.38, -0.34, far=True)
    leg(0.4, 0.44, far=True)
    b.tail((-0.6, h + 0.24), -0.9, 0.2)
    b.trunk(
        (-0.44, h + 0.19, 0.19),
        (-0.15, h + 0.2, 0.18),
        (0.14, h + 0.16, 0.21),
        (0.4, h + 0.17, 0.22),
    )
    leg(-0.44, -0.5, far=False)
    leg(0.34, 0.3, far=False)
    b.neck((0.42, h + 0.22, 0.2), (0.6, h + 0.34, 0.16), (0.72, h + 0.44, 0.14))
    b.head((0.8, h + 0.5))


def sit(b: Body) -> None:
    """Sitting, from the side."""
    h = _sitting(b)
    b.neck((0.15, h + 0.06, 0.22), (0.22, h + 0.2, 0.19), (0.28, h + 0.33, 0.16))
    b.head((0.34, h + 0.44), b.fig.rng.uniform(-0.1, 0.2))


def howl(b: Body) -> None:
    """Sitting with the nose to the sky."""
    h = _sitting(b)
    b.neck((0.15, h + 0.04, 0.22), (0.18, h + 0.2, 0.19), (0.22, h + 0.34, 0.165))
    frame = b.f.inner((0.26, h + 0.46), b.look.head, b.fig.rng.uniform(0.6, 0.95))
    head_side(b.fig, frame, b.look, mouth=0.45, howls=True)


def _sitting(b: Body) -> float:
    """A body that sits, and the height of its shoulder."""
    h = _seat(b)
    b.tail((-0.4, 0.16), -1.15, 0.3)
    b.leg(
        (0.24, h * 0.9, 0.12),
        (0.3, h * 0.5, 0.07),
        (0.33, 0.1, 0.052),
        (0.4, 0.05, 0.056),
        far=True,
    )
    b.trunk((-0.24, 0.22, 0.22), (-0.12, h * 0.55, 0.23), (0.08, h * 0.86, 0.23), (0.17, h, 0.21))
    b.haunch((-0.2, 0.24, 0.2), (-0.06, 0.22, 0.17))
    b.leg((-0.1, 0.1, 0.07), (0.04, 0.055, 0.056), (0.14, 0.05, 0.056))
    b.leg((0.17, h * 0.9, 0.14), (0.2, h * 0.5, 0.08), (0.22, 0.1, 0.055), (0.3, 0.05, 0.06))
    return h


def _seat(b: Body) -> float:
    return 0.34 + 0.4 * b.look.legs


def lie(b: Body) -> None:
    """Lying with the forelegs stretched out."""
    b.tail((-0.62, 0.2), -0.9, -0.4)
    b.leg((0.36, 0.2, 0.12), (0.6, 0.1, 0.07), (0.82, 0.08, 0.055), (0.9, 0.06, 0.056), far=True)
    b.trunk((-0.48, 0.24, 0.21), (-0.2, 0.28, 0.22), (0.12, 0.3, 0.23), (0.34, 0.32, 0.23))
    b.haunch((-0.46, 0.22, 0.2), (-0.34, 0.2, 0.17))
    b.leg((-0.36, 0.09, 0.07), (-0.2, 0.055, 0.056), (-0.1, 0.05, 0.056))
    b.leg((0.3, 0.24, 0.14), (0.46, 0.1, 0.08), (0.72, 0.065, 0.058), (0.82, 0.055, 0.06))
    b.neck((0.38, 0.38, 0.21), (0.5, 0.54, 0.17), (0.56, 0.68, 0.145))
    b.head((0.62, 0.76))


def bow(b: Body) -> None:
    """The play bow: front down, rear up."""
    h = b.look.legs
    b.hind_leg(-0.4, 0.06, far=True)
    b.leg((0.4, 0.24, 0.12), (0.52, 0.1, 0.07), (0.78, 0.07, 0.055), (0.86, 0.05, 0.056), far=True)
    b.tail((-0.56, h + 0.3), -0.5, -0.5)
    back = ((-0.42, h + 0.16, 0.2), (-0.2, h * 0.8 + 0.16, 0.19), (0.1, h * 0.4 + 0.2, 0.21))
    b.trunk(*back, (0.34, 0.32, 0.22))
    b.hind_leg(-0.44, -0.02, far=False)
    b.leg((0.34, 0.26, 0.14), (0.4, 0.11, 0.08), (0.66, 0.065, 0.058), (0.76, 0.055, 0.06))
    b.neck((0.38, 0.36, 0.2), (0.52, 0.5, 0.165), (0.6, 0.6, 0.145))
    b.head((0.68, 0.66), 0.1)


def sit_front(b: Body) -> None:
    """Sitting, facing the viewer."""
    fig, f, look, rng = b.fig, b.f, b.look, b.fig.rng
    h, g = _seat(b), look.girth
    b.tail((-0.28, 0.16), -1.2, -0.2)
    side = [(0.26 * g, h + 0.1), (0.32 * g, h * 0.6), (0.38 * g, 0.2), (0.26, 0.02)]
    fig.shape(
        f, both_sides([(0, h + 0.36), *side]), look.coat, mix(look.coat, look.pale, 0.5), bulge=0.7
    )
    if look.pattern in ("patches", "spots"):
        b.marks([(-0.3, h), (-0.1, h * 0.9), (0.1, h * 0.9), (0.3, h)], depth=h)
    b.comb(0.6)
    for s in (-1.0, 1.0):
        b.haunch((s * 0.29 * g, 0.2, 0.14), (s * 0.3 * g, 0.14, 0.13))
        b.leg((s * 0.3, 0.08, 0.06), (s * 0.32, 0.05, 0.065))
    for s in (-1.0, 1.0):
        upper = ((s * 0.15, h * 0.8, 0.12), (s * 0.14, h * 0.4, 0.075))
        b.leg(*upper, (s * 0.13, 0.1, 0.06), (s * 0.13, 0.055, 0.068))
    b.chest(both_sides([(0, h + 0.3), (0.22 * g, h + 0.12), (0.2 * g, h * 0.75), (0, h * 0.5)]))
    b.collar((-0.2, h + 0.26), (0, h + 0.16), (0.2, h + 0.26), tag=(0, h + 0.16))
    b.face((rng.uniform(-0.04, 0.04), h + 0.5), look.head * 0.56, 0.25, rng.uniform(-0.8, 0.8))


def portrait(b: Body) -> None:
    """Head and chest, facing the viewer."""
    b = replace(b, look=replace(b.look, fur=b.look.fur * 0.6))
    fig, f, look, rng = b.fig, b.f, b.look, b.fig.rng
    w = 0.34 + 0.08 * look.ruff
    shoulders = both_sides([(0, 0.5), (w, 0.3), (w + 0.1, -0.1), (w + 0.1, -0.4)])
    fig.shape(f, shoulders, look.coat, bulge=0.6)
    bib = [(-w * 0.7, 0.4), (w * 0.7, 0.4), (w * 0.5, -0.4), (-w * 0.5, -0.4)]
    chest = look.pale if look.pale_front else mix(look.coat, look.pale, 0.2)
    fig.patch(f, bib, chest, 0.08, strength=0.9)
    if look.pattern == "spots":
        b.marks([(-0.3, 0.2), (-0.1, 0.2), (0.1, 0.2), (0.3, 0.2)], depth=0.4)
    b.comb(0.9, contrast=0.08)
    b.collar((-0.3, 0.2), (0, 0.08), (0.3, 0.2), tag=(0, 0.08))
    b.face((rng.uniform(-0.04, 0.04), 0.52), 0.36, 0.22, rng.uniform(-0.9, 0.9))


def profile(b: Body) -> None:
    """Head and neck from the side; a wolf may howl."""
    b = replace(b, look=replace(b.look, fur=b.look.fur * 0.8))
    rng = b.fig.rng
    howls = b.look.wolf and rng.random() < 0.3
    up = rng.uniform(0.6, 0.85) if howls else rng.uniform(-0.1, 0.3)
    mouth = 0.5 if howls else 0.7 if b.look.pants else 0.0
    b.neck((-0.3, -0.5, 0.37), (-0.22, -0.05, 0.28), (-0.1, 0.3, 0.23))
    head_side(b.fig, b.f.inner((0.0, 0.5), 0.6, up), b.look, mouth, howls)


@dataclass(frozen=True)
class Pose:
    """A pose, the room it takes and how often it is taken.

    Args:
        paint: paints it.
        left: where it begins, local.
        right: where it ends.
        top: likewise.
        dogs: how often a dog takes it.
        wolves: how often a wolf does.
        bottom: where the picture ends below, if not at the feet.
        close: whether it is a head and no more.
    """

    paint: Callable[[Body], None]
    left: float
    right: float
    top: float
    dogs: float
    wolves: float
    bottom: float = 0.0
    close: bool = False


POSES = (
    Pose(stand, -0.9, 1.3, 1.5, dogs=4, wolves=4),
    Pose(sniff, -0.9, 1.2, 1.25, dogs=1, wolves=1.5),
    Pose(run, -1.1, 1.35, 1.4, dogs=2, wolves=2),
    Pose(sit, -0.85, 0.95, 1.4, dogs=3, wolves=2),
    Pose(howl, -0.85, 0.75, 1.55, dogs=0.2, wolves=3),
    Pose(lie, -1.0, 1.2, 1.15, dogs=2.5, wolves=2),
    Pose(bow, -1.0, 1.25, 1.25, dogs=1.5, wolves=0.5),
    Pose(sit_front, -0.7, 0.6, 1.45, dogs=3, wolves=2),
    Pose(portrait, -0.5, 0.5, 1.05, dogs=4, wolves=4, bottom=-0.35, close=True),
    Pose(profile, -0.6, 0.8, 1.05, dogs=2, wolves=3, bottom=-0.35, close=True),
)

"""Brushes: rounded shapes, soft patches and fur, painted with Pillow.

Everything is painted at ``SCALE`` times the final size and made smaller at the end, which smooths
the edges. Colours are (red, green, blue) from 0 to 255, points are (x, y).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

SCALE = 2
BILINEAR = Image.Resampling.BILINEAR

Colour = tuple[float, float, float]
Box = tuple[int, int, int, int]  # left, top, right, bottom, pixels
Array = np.ndarray[Any, Any]
Outline = Sequence[Sequence[float]] | Array  # of points
Point = tuple[float, float]


def mix(first: Colour, second: Colour, part: float) -> Colour:
    """A colour between two: ``part`` is 0 for the first and 1 for the second."""
    return (
        first[0] + (second[0] - first[0]) * part,
        first[1] + (second[1] - first[1]) * part,
        first[2] + (second[2] - first[2]) * part,
    )


def dim(colour: Colour, factor: float) -> Colour:
    """The colour made darker (factor below 1) or lighter."""
    return (
        min(255.0, colour[0] * factor),
        min(255.0, colour[1] * factor),
        min(255.0, colour[2] * factor),
    )


def whole(colour: Colour) -> tuple[int, int, int]:
    """The colour rounded to integers, as Pillow expects it."""
    return round(colour[0]), round(colour[1]), round(colour[2])


def arrays(rng: random.Random) -> np.random.Generator:
    """A NumPy generator, seeded from the next value of ``rng``."""
    return np.random.default_rng(rng.getrandbits(64))


def curve(points: Outline, closed: bool = False, steps: int = 8) -> Array:
    """Points on a smooth (Catmull-Rom) curve through ``points``, of any number of coordinates.

    Returns: float64, (about ``len(points) * steps``, coordinates).
    """
    p = np.asarray(points, dtype=float)
    p = np.vstack([p[-1:], p, p[:2]]) if closed else np.vstack([p[:1], p, p[-1:]])
    t = (np.arange(steps) / steps)[None, :, None]
    a, b, c, d = (p[i : len(p) - 3 + i, None, :] for i in range(4))
    pieces = 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    )
    found = pieces.reshape(-1, p.shape[1])
    return found if closed else np.vstack([found, p[-1:]])


def ring(centre: Point, rx: float, ry: float, angle: float = 0.0, steps: int = 28) -> Array:
    """Points of an ellipse turned by ``angle`` (radians)."""
    t = np.arange(steps) * (2 * math.pi / steps)
    x, y = rx * np.cos(t), ry * np.sin(t)
    cos, sin = math.cos(angle), math.sin(angle)
    return np.stack([centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos], axis=1)


def shifted(values: Array, x: int, y: int) -> Array:
    """Values from ``x`` columns and ``y`` rows further on; beyond the edge, those of the edge."""
    height, width = values.shape
    rows = np.clip(np.arange(height) + y, 0, height - 1)
    columns = np.clip(np.arange(width) + x, 0, width - 1)
    found: Array = values[rows[:, None], columns]
    return found


def both_sides(half: Sequence[Point]) -> list[Point]:
    """An outline that is the same on both sides of x = 0, from its right half, top to bottom."""
    return [*half, *[(-x, y) for x, y in reversed(half) if x]]


@dataclass(frozen=True)
class Frame:
    """Local coordinates, y up, on a picture.

    Args:
        origin: pixels of the local (0, 0).
        axes: columns are the pixels that a local unit of x and of y moves by, (2, 2).
    """

    origin: Array
    axes: Array

    @staticmethod
    def on(origin: Point, unit: float, mirrored: bool) -> Frame:
        """A frame whose unit is ``unit`` pixels."""
        return Frame(np.array(origin), np.array([[-unit if mirrored else unit, 0.0], [0.0, -unit]]))

    @property
    def unit(self) -> float:
        """Pixels of a local unit."""
        return float(math.hypot(self.axes[0, 0], self.axes[1, 0]))

    def pixels(self, points: Outline) -> Array:
        """Where local points are on the picture, (N, 2)."""
        found: Array = np.asarray(points, dtype=float) @ self.axes.T + self.origin
        return found

    def flipped(self, side: float) -> Frame:
        """This frame for side 1, and for -1 its mirror image."""
        return Frame(self.origin, self.axes * (side, 1.0))

    def inner(self, at: Point, unit: float, angle: float = 0.0) -> Frame:
        """A frame within this one, turned counterclockwise by ``angle`` (radians)."""
        cos, sin = math.cos(angle) * unit, math.sin(angle) * unit
        return Frame(self.pixels([at])[0], self.axes @ np.array([[cos, -sin], [sin, cos]]))


def strokes(
    picture: Image.Image,
    box: Box,
    starts: Array,
    angles: Array,
    lengths: Array,
    contrast: float,
    width: int,
    rng: np.random.Generator,
) -> None:
    """Draw short lines, each in the colour found where it starts, a bit lighter or darker.

    This is what fur, grass and the brushwork of the backgrounds are made of.

    Args:
        picture: RGB or RGBA; drawn on.
        box: the part of it that the lines start in.
        starts: pixels within the box, integers, (N, 2).
        angles: radians, y down, (N,).
        lengths: pixels, (N,).
        contrast: how much lighter or darker, as a fraction.
        width: of a line, pixels.
        rng: source of chance.
    """
    # colours are looked up on every second pixel: reading pixels is what takes the time
    half = ((box[2] - box[0]) // 2, (box[3] - box[1]) // 2)
    even = picture.crop((box[0], box[1], box[0] + 2 * half[0], box[1] + 2 * half[1]))
    pixels = np.asarray(even.resize(half, Image.Resampling.NEAREST))
    found = np.minimum(starts // 2, np.array(half) - 1)
    colours = pixels[found[:, 1], found[:, 0]].astype(np.float32)
    factors = 1 + contrast * rng.standard_normal((len(starts), 1), np.float32)
    colours[:, :3] = colours[:, :3] * factors + 60 * (factors - 1)
    fills = [tuple(c) for c in np.clip(colours, 0, 255).astype(int).tolist()]
    starts = starts + np.array(box[:2])
    ends = starts + np.stack([np.cos(angles), np.sin(angles)], axis=1) * lengths[:, None]
    draw = ImageDraw.Draw(picture)
    for line, fill in zip(np.hstack([starts, ends]).tolist(), fills, strict=True):
        draw.line(line, fill=fill, width=width)


def _half(box: Box) -> tuple[slice, slice]:
    """Rows and columns of a box in an array of half the size."""
    return slice(box[1] // 2, box[3] // 2), slice(box[0] // 2, box[2] // 2)


class Figure:
    """An animal on transparent paper, painted part by part from the far side to the near one.

    Args:
        size: of the paper, pixels (width, height).
        light: unit vector towards the light, pixels (y down).
        rng: source of chance.
    """

    def __init__(self, size: tuple[int, int], light: Point, rng: random.Random) -> None:
        self.paper = Image.new("RGBA", size)
        self.light = light
        self.rng = rng
        self._noise = arrays(rng)
        # at half size, since they are only looked up: where the hair points, and what has none yet
        self._flow = np.zeros((size[1] // 2, size[0] // 2), np.float32)
        self._fresh = np.zeros(self._flow.shape, bool)
        self._fresh_box: Box | None = None

    def limb(
        self,
        frame: Frame,
        bones: Sequence[tuple[float, float, float]],
        colour: Colour,
        below: Colour | None = None,
        hair: float | None = None,
        shadow: float = 0.3,
    ) -> None:
        """Paint a rounded tube along (x, y, radius) points; hair lies along it.

        Args:
            frame: of the points.
            bones: the middle line and the thickness.
            colour: of its upper side.
            below: of its lower side, where it is another.
            hair: direction of the hair, local radians, where it is not along the tube.
            shadow: how dark its shadow is on what is under it.
        """
        line = curve(bones)
        middle = frame.pixels(line[:, :2])
        radius = np.maximum(line[:, 2] * frame.unit, 1.0)
        turn = np.gradient(middle, axis=0)
        angles = np.arctan2(turn[:, 1], turn[:, 0])
        if hair is not None:
            angles[:] = self._angle(frame, hair)
        thickness = float(np.median(radius))
        box = self._box(
            np.vstack([middle - radius[:, None], middle + radius[:, None]]), margin=thickness
        )
        if box is None:
            return
        shape = Image.new("L", (box[2] - box[0], box[3] - box[1]))
        flow = Image.new("F", (shape.width // 2, shape.height // 2))
        on_shape, on_flow = ImageDraw.Draw(shape), ImageDraw.Draw(flow)
        for (x, y), r, angle in zip(
            (middle - box[:2]).tolist(), radius.tolist(), angles.tolist(), strict=True
        ):
            on_shape.ellipse((x - r, y - r, x + r, y + r), fill=255)
            on_flow.ellipse(((x - r) / 2, (y - r) / 2, (x + r) / 2, (y + r) / 2), fill=angle)
        self._paint(box, shape, np.asarray(flow), colour, below or colour, thickness, shadow)

    def shape(
        self,
        frame: Frame,
        outline: Outline,
        colour: Colour,
        below: Colour | None = None,
        hair: float | Point = -math.pi / 2,
        bulge: float = 0.5,
    ) -> None:
        """Paint a rounded surface within an outline.

        Args:
            frame: of the points.
            outline: points on its smooth edge.
            colour: of its upper side.
            below: of its lower side, where it is another.
            hair: direction of the hair, local radians, or the local point that it grows away from.
            bulge: how far from the edge the surface turns flat, as a fraction of its half height.
        """
        points = frame.pixels(curve(outline, closed=True))
        thickness = bulge * float((points.max(axis=0) - points.min(axis=0)).min()) / 2
        box = self._box(points, margin=thickness)
        if box is None:
            return
        shape = Image.new("L", (box[2] - box[0], box[3] - box[1]))
        ImageDraw.Draw(shape).polygon((points - box[:2]).ravel().tolist(), fill=255)
        half = (shape.height // 2, shape.width // 2)
        if isinstance(hair, tuple):
            x0, y0 = (frame.pixels([hair])[0] - box[:2]).tolist()
            y, x = np.mgrid[: half[0], : half[1]].astype(np.float32)
            flow = np.arctan2(2 * y - y0, 2 * x - x0)
        else:
            flow = np.full(half, self._angle(frame, hair), np.float32)
        self._paint(box, shape, flow, colour, below or colour, thickness)

    def patch(
        self,
        frame: Frame,
        outline: Outline,
        colour: Colour,
        soft: float = 0.04,
        strength: float = 1.0,
    ) -> None:
        """Colour what is painted within a smooth outline, with soft edges (``soft`` is local).

        Only what was painted since the last ``comb`` takes it.
        """
        points = frame.pixels(curve(outline, closed=True))
        blur = soft * frame.unit
        box = self._box(points, margin=2 * blur)
        if box is None:
            return
        fresh = self._fresh[_half(box)]
        if not fresh.any():
            return
        mask = Image.new("L", (fresh.shape[1], fresh.shape[0]))
        corners = ((points - box[:2]) / 2).ravel().tolist()
        ImageDraw.Draw(mask).polygon(corners, fill=round(255 * strength))
        mask = mask.filter(ImageFilter.GaussianBlur(blur / 2))
        mask = Image.fromarray(np.where(fresh, np.asarray(mask), 0).astype(np.uint8))
        under = self.paper.crop(box)
        grey = np.asarray(under.convert("L").reduce(2), np.float32)
        relief = np.clip(grey / max(float(grey[fresh].mean()), 1.0), 0.75, 1.25)[:, :, None]
        tinted = np.clip(relief * np.asarray(colour, np.float32), 0, 255).astype(np.uint8)
        painted = Image.fromarray(tinted).resize(under.size, BILINEAR).convert("RGBA")
        within = ImageChops.darker(mask.resize(under.size, BILINEAR), under.getchannel("A"))
        self.paper.paste(painted, box, within)

    def comb(self, length: float, contrast: float = 0.1, spread: float = 0.2) -> None:
        """Lay fur over what was painted since the last time.

        Args:
            length: of a hair, pixels.
            contrast: between hairs.
            spread: how far hairs stray from the direction, radians; 3 makes curls.
        """
        box, self._fresh_box = self._fresh_box, None
        if box is None:
            return
        part = _half(box)
        ys, xs = np.nonzero(self._fresh[part])
        self._fresh[part] = False
        if not len(xs):
            return
        width = 2 if length < 14 else 3
        count = int(4.8 * len(xs) / (width * length)) + 1
        chosen = self._noise.integers(len(xs), size=count)
        xs, ys = xs[chosen], ys[chosen]
        starts = np.stack([2 * xs + 1, 2 * ys + 1], axis=1)
        angles = self._flow[part][ys, xs] + spread * self._noise.standard_normal(count)
        lengths = length * self._noise.uniform(0.5, 1.2, count)
        strokes(self.paper, box, starts, angles, lengths, contrast, width, self._noise)

    def fill(
        self,
        frame: Frame,
        outline: Outline,
        colour: Colour,
    ) -> None:
        """Paint a flat surface without fur (eyes, noses, tongues)."""
        points = frame.pixels(curve(outline, closed=True))
        ImageDraw.Draw(self.paper).polygon(points.ravel().tolist(), fill=(*whole(colour), 255))

    def line(
        self, frame: Frame, points: Sequence[Sequence[float]], colour: Colour, width: float
    ) -> None:
        """Draw a smooth line; ``width`` is local."""
        ImageDraw.Draw(self.paper).line(
            frame.pixels(curve(points)).ravel().tolist(),
            fill=(*whole(colour), 255),
            width=max(1, round(width * frame.unit)),
            joint="curve",
        )

    def _angle(self, frame: Frame, local: float) -> float:
        x, y = frame.axes @ np.array([math.cos(local), math.sin(local)])
        return math.atan2(y, x)

    def _box(self, points: Array, margin: float = 0.0) -> Box | None:
        """The part of the paper that holds the points, in even pixels, or None if there is none."""
        left, top = np.floor((points.min(axis=0) - margin) / 2).astype(int).tolist()
        right, bottom = np.ceil((points.max(axis=0) + margin) / 2).astype(int).tolist()
        left, top = max(left, 0), max(top, 0)
        right = min(right + 1, self.paper.width // 2)
        bottom = min(bottom + 1, self.paper.height // 2)
        if left >= right or top >= bottom:
            return None
        return 2 * left, 2 * top, 2 * right, 2 * bottom

    def _paint(
        self,
        box: Box,
        shape: Image.Image,
        flow: Array,
        colour: Colour,
        below: Colour,
        thickness: float,
        shadow: float = 0.3,
    ) -> None:
        """Put a shape on the paper, lit as if it bulged, with a soft shadow on what is under it."""
        small = shape.reduce(2)
        step_x, step_y = (round(side * thickness * 0.25) for side in self.light)
        height = np.asarray(small.filter(ImageFilter.GaussianBlur(thickness * 0.3)), np.int16)
        towards_light = shifted(height, step_x, step_y)
        relief = np.clip((height - towards_light) / np.float32(255), -0.6, 0.6)[:, :, None]
        rows = np.linspace(0, 1, len(height), dtype=np.float32)[:, None, None]
        paint = np.asarray(colour, np.float32) * (1 - rows) + np.asarray(below, np.float32) * rows
        paint = np.clip(paint * (1 + 0.55 * relief) + 36 * relief, 0, 255)
        painted = Image.fromarray(paint.astype(np.uint8)).resize(shape.size, BILINEAR)
        if shadow:
            cast = shifted(height, step_x // 2, step_y // 2) * np.float32(shadow)
            shade = Image.fromarray(cast.astype(np.uint8)).resize(shape.size, BILINEAR)
            shade = ImageChops.darker(shade, self.paper.crop(box).getchannel("A"))
            self.paper.paste((24, 22, 30, 255), box, shade)
        self.paper.paste(painted.convert("RGBA"), box, shape)
        inside = np.asarray(small) == 255
        part = _half(box)
        self._flow[part][inside] = flow[inside]
        self._fresh[part] |= inside
        old = self._fresh_box or box
        self._fresh_box = (
            min(old[0], box[0]),
            min(old[1], box[1]),
            max(old[2], box[2]),
            max(old[3], box[3]),
        )

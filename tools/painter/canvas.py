"""A picture of a place while it is being painted, and the things that stand there."""

from __future__ import annotations

import math
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tools.painter.brush import (
    BILINEAR,
    Array,
    Colour,
    Point,
    arrays,
    curve,
    dim,
    mix,
    ring,
    strokes,
    whole,
)

WHITE: Colour = (255, 255, 255)


class Canvas:
    """A picture being painted; all places are fractions of its width and height.

    Args:
        size: pixels.
        rng: source of chance.
    """

    def __init__(self, size: tuple[int, int], rng: random.Random) -> None:
        self.picture = Image.new("RGB", size)
        self.width, self.height = size
        self.rng = rng
        self._noise = arrays(rng)

    def fade(self, top: float, bottom: float, first: Colour, last: Colour) -> None:
        """Fill the whole width between two heights, from one colour to another."""
        y0, y1 = round(top * self.height), round(bottom * self.height)
        rows = np.linspace(0, 1, max(2, y1 - y0), dtype=np.float32)[:, None, None]
        column = np.asarray(first) * (1 - rows) + np.asarray(last) * rows
        strip = Image.fromarray(column.clip(0, 255).astype(np.uint8))
        self.picture.paste(
            strip.resize((self.width, max(1, y1 - y0)), Image.Resampling.NEAREST), (0, y0)
        )

    def fill(self, points: Array | list[Point], colour: Colour) -> None:
        """Fill a polygon."""
        pixels = (np.asarray(points) * (self.width, self.height)).ravel().tolist()
        ImageDraw.Draw(self.picture).polygon(pixels, fill=whole(colour))

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Fill a rectangle."""
        self.fill([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def disc(self, at: Point, radius: float, colour: Colour, flat: float = 1.0) -> None:
        """Fill a circle whose radius is a fraction of the height; ``flat`` squeezes it."""
        aspect = self.height / self.width
        self.fill(ring(at, radius * aspect, radius * flat), colour)

    def glow(self, at: Point, radius: float, colour: Colour, strength: float) -> None:
        """Add light that fades with the distance from a point."""
        x, y = at[0] * self.width, at[1] * self.height
        small = 4
        ys, xs = np.mgrid[0 : self.height : small, 0 : self.width : small]
        distance = np.hypot(xs - x, ys - y) / (radius * self.height)
        mask = Image.fromarray((255 * strength * np.exp(-(distance**2))).astype(np.uint8))
        self.picture.paste(whole(colour), (0, 0), mask.resize(self.picture.size, BILINEAR))

    def ridge(
        self, y: float, relief: float, colour: Colour, foot: Colour, rough: float = 0.5
    ) -> None:
        """A line of hills whose height is about ``y``; ``foot`` is their colour at the bottom."""
        line = np.zeros(2)
        for level in range(6):  # midpoint displacement
            middle = (line[:-1] + line[1:]) / 2
            middle += self._noise.uniform(-1, 1, len(middle)) * relief * rough**level
            line = np.insert(line, np.arange(1, len(line)), middle)
        edge = np.stack([np.linspace(0, 1, len(line)), y + line], axis=1)
        corners = np.vstack([edge, [(1.0, 1.0), (0.0, 1.0)]]) * (self.width, self.height)
        mask = Image.new("L", self.picture.size)
        ImageDraw.Draw(mask).polygon(corners.ravel().tolist(), fill=255)
        low = min(1.0, y + relief + 0.12)
        layer = Canvas(self.picture.size, self.rng)
        layer.box(0, 0, 1, 1, colour)
        layer.fade(max(0.0, y - relief), low, colour, foot)
        layer.box(0, low, 1, 1.01, foot)
        self.picture.paste(layer.picture, (0, 0), mask)

    def brush(
        self,
        top: float,
        bottom: float,
        count: int,
        length: float,
        contrast: float,
        angle: float = 0.0,
        spread: float = 0.2,
        width: int = 2,
    ) -> None:
        """Go over a band with strokes in the colours that are there (``length`` in pixels)."""
        box = (0, round(top * self.height), self.width, round(bottom * self.height))
        if box[3] <= box[1]:
            return
        starts = np.stack(
            [
                self._noise.integers(0, self.width, count),
                self._noise.integers(0, box[3] - box[1], count),
            ],
            axis=1,
        )
        # what is near is large
        near = 0.35 + 0.9 * starts[:, 1] / (box[3] - box[1])
        angles = angle + spread * self._noise.standard_normal(count)
        lengths = length * near * self._noise.uniform(0.5, 1.3, count)
        strokes(self.picture, box, starts, angles, lengths, contrast, width, self._noise)

    def grass(self, top: float, colours: tuple[Colour, ...], count: int, length: float) -> None:
        """Blades on the ground below ``top``."""
        draw = ImageDraw.Draw(self.picture)
        rng = self.rng
        for y in sorted(rng.uniform(top, 1.05) for _ in range(count)):
            near = 0.25 + 0.9 * (y - top) / (1.05 - top)
            x, tall = rng.uniform(0, 1), length * near * rng.uniform(0.6, 1.2)
            lean = rng.gauss(0, 0.25)
            fill = whole(dim(rng.choice(colours), rng.uniform(0.8, 1.15)))
            foot = (x * self.width, y * self.height)
            tip = (foot[0] + lean * tall, foot[1] - tall)
            draw.line([foot, tip], fill=fill, width=2 if near > 0.7 else 1)

    def fir(self, x: float, foot: float, tall: float, colour: Colour, snow: float = 0.0) -> None:
        """A conifer."""
        aspect = self.height / self.width
        self.box(x - 0.012 * tall, foot - 0.1 * tall, x + 0.012 * tall, foot, dim(colour, 0.5))
        layers = 6
        for i in range(layers):
            y = foot - tall * (0.1 + 0.9 * i / layers)
            half = 0.26 * tall * aspect * (1 - 0.85 * i / layers)
            top = y - tall * 0.3
            droop = 0.03 * tall
            left, right = self.rng.uniform(0.85, 1.1), self.rng.uniform(0.85, 1.1)
            shade = dim(colour, 0.8 + 0.35 * i / layers)
            self.fill(
                [
                    (x, top),
                    (x + half * right, y),
                    (x + half * 0.5, y - droop),
                    (x, y),
                    (x - half * 0.5, y - droop),
                    (x - half * left, y),
                ],
                shade,
            )
            if snow:
                self.fill(
                    [
                        (x, top),
                        (x + half * 0.55, y - 0.12 * tall),
                        (x, y - 0.1 * tall),
                        (x - half * 0.7, y - 0.1 * tall),
                    ],
                    mix(shade, (236, 242, 250), snow),
                )

    def leafy(self, x: float, foot: float, tall: float, trunk: Colour, leaves: Colour) -> None:
        """A broad-leaved tree."""
        rng, aspect = self.rng, self.height / self.width
        w = 0.045 * tall * aspect
        self.fill(
            [
                (x - w, foot),
                (x - w * 0.6, foot - tall * 0.6),
                (x + w * 0.6, foot - tall * 0.6),
                (x + w, foot),
            ],
            trunk,
        )
        for _ in range(16):
            at = (x + rng.gauss(0, 0.16) * tall * aspect, foot - tall * rng.uniform(0.48, 1.0))
            light = 0.75 + 0.5 * (foot - at[1]) / tall * rng.uniform(0.7, 1.1)
            self.disc(at, tall * rng.uniform(0.08, 0.16), dim(leaves, light))

    def rock(self, at: Point, radius: float, colour: Colour) -> None:
        """A boulder that rests at a point."""
        rng, aspect = self.rng, self.height / self.width
        x, y = at
        outline = [
            (
                x + radius * aspect * math.cos(a) * rng.uniform(0.85, 1.1),
                y - radius * 0.75 * math.sin(a) * rng.uniform(0.85, 1.1),
            )
            for a in np.linspace(0, math.pi, 7)
        ]
        self.fill(curve(outline, closed=True), dim(colour, 0.75))
        top = [
            (
                px * 0.86 + x * 0.14 - radius * 0.06,
                py * 0.9 + (y - radius * 0.4) * 0.1 - radius * 0.03,
            )
            for px, py in outline[1:-1]
        ]
        self.fill(curve(top, closed=True), colour)

    def bush(self, at: Point, radius: float, colour: Colour) -> None:
        """A shrub that rests at a point."""
        rng, aspect = self.rng, self.height / self.width
        for i in range(26):
            a = rng.uniform(0, math.pi)
            far = rng.uniform(0.2, 0.9) * radius
            where = (at[0] + 1.2 * far * aspect * math.cos(a), at[1] - far * math.sin(a) * 0.8)
            self.disc(
                where,
                radius * rng.uniform(0.14, 0.26),
                dim(colour, 0.65 + 0.02 * i + 0.3 * far / radius),
            )

    def blur(self, radius: float) -> None:
        """Put what is painted so far out of focus (``radius`` in pixels)."""
        self.picture = self.picture.filter(ImageFilter.GaussianBlur(radius))

    def enlarge(self, factor: int) -> None:
        """Go on at a larger size."""
        self.width, self.height = self.width * factor, self.height * factor
        self.picture = self.picture.resize((self.width, self.height), BILINEAR)

"""One picture: an animal in a place."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from tools.painter import homes, looks, poses, props, wilds
from tools.painter.brush import BILINEAR, SCALE, Figure, Frame
from tools.painter.canvas import Canvas
from tools.painter.scene import Scene

CLASSES = ("dogs", "wolves")
QUALITY = 90
SIZES = ((288, 288), (304, 272), (272, 296), (296, 280), (312, 288), (280, 280))

# Both classes are set in the same places, so that a background gives nothing away.
PLACES: tuple[Callable[[Canvas, float], Scene], ...] = (
    wilds.snow,
    wilds.forest,
    wilds.forest,
    wilds.meadow,
    wilds.mountains,
    wilds.night,
    homes.indoors,
    homes.street,
    wilds.shore,
    homes.garden,
)


def encode(image_id: str, seed: int) -> bytes:
    """Draw a picture and return the content of its JPEG file.

    Args:
        image_id: such as ``train/dogs/000.jpg``; the folder decides the animal.
        seed: the same seed and id give the same picture.
    """
    buffer = io.BytesIO()
    draw(image_id, seed).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def draw(image_id: str, seed: int) -> Image.Image:
    """Draw a picture, see ``encode``.

    Returns: RGB, about 300 pixels a side.
    """
    kind = image_id.split("/")[1]
    key = f"{kind} {seed} {image_id}".encode()
    rng = random.Random(hashlib.blake2b(key, digest_size=16).digest())
    width, height = rng.choice(SIZES)
    size = (width * SCALE, height * SCALE)
    wolf = kind == "wolves"
    look = looks.wolf(rng) if wolf else looks.dog(rng)
    pose = rng.choices(poses.POSES, [p.wolves if wolf else p.dogs for p in poses.POSES])[0]

    canvas = Canvas((width, height), rng)
    ground = 1.0 if pose.close else rng.uniform(0.84, 0.95)
    scene = rng.choice(PLACES)(canvas, rng.uniform(0.5, 0.66))
    if not pose.close:
        props.behind(canvas, ground - 0.06)
    canvas.blur(rng.uniform(2.5, 5) if pose.close else rng.uniform(0.5, 2))
    canvas.enlarge(SCALE)

    unit = min(size[0] / (pose.right - pose.left), ground * size[1] / (pose.top - pose.bottom))
    unit *= rng.uniform(0.95, 1.1) if pose.close else rng.uniform(0.72, 1.0)
    mirrored = rng.random() < 0.5
    centre = (pose.left + pose.right) / 2 * unit * (-1 if mirrored else 1)
    room = max(0.0, size[0] - (pose.right - pose.left) * unit) / 2
    feet = (size[0] / 2 - centre + rng.uniform(-room, room), ground * size[1] + pose.bottom * unit)
    figure = Figure(size, scene.light, rng)
    pose.paint(poses.Body(figure, Frame.on(feet, unit, mirrored), look))

    if not pose.close:
        _shadow(canvas, figure, scene, feet[1])
    lit = [min(255, round(i * tint)) for tint in (*scene.tint, 1.0) for i in range(256)]
    animal = figure.paper.point(lit)
    canvas.picture.paste(animal, (0, 0), animal)
    if not pose.close:
        props.in_front(canvas, scene, ground, tail_right=mirrored)
    return _develop(canvas.picture.reduce(SCALE), rng)


def _shadow(canvas: Canvas, figure: Figure, scene: Scene, feet: float) -> None:
    """Lay the animal's outline on the ground, flattened and slanted away from the light."""
    outline = figure.paper.getchannel("A").reduce(4)
    line, flat, slant = feet / 4, 0.22, 1.6 * scene.light[0]
    cast = outline.transform(
        outline.size,
        Image.Transform.AFFINE,
        (1, -slant, slant * line, 0, 1 / flat, line - line / flat),
    )
    cast = cast.filter(ImageFilter.GaussianBlur(2)).resize(canvas.picture.size, BILINEAR)
    cast = cast.point([round(i * scene.shadow) for i in range(256)])
    canvas.picture.paste((22, 24, 34), (0, 0), cast)


def _develop(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Exposure, warmth, vividness, haze, darker corners and a little grain."""
    noise = np.random.default_rng(rng.getrandbits(64))
    pixels = np.asarray(picture, np.float32)
    grey = np.asarray(picture.convert("L"), np.float32)[:, :, None]
    pixels = grey + (pixels - grey) * np.float32(rng.uniform(0.75, 1.25))
    height, width = grey.shape[:2]
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None]
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None, None]
    corners = 1 - np.float32(rng.uniform(0.02, 0.12)) * (across**2 + down**2)
    warm = rng.uniform(-0.05, 0.05)
    light = np.array([1 + warm, 1.0, 1 - warm], np.float32) * np.float32(rng.uniform(0.85, 1.12))
    haze = rng.uniform(0, 20)
    light *= 1 - haze / 255
    grain = haze + rng.uniform(1, 3) * noise.standard_normal(grey.shape, np.float32)
    return Image.fromarray(np.clip(pixels * corners * light + grain, 0, 255).astype(np.uint8))

"""What dogs and wolves look like: build, coat, colours."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tools.painter.brush import Colour, dim, mix

Ears = Literal["erect", "folded", "floppy", "long"]
Tail = Literal["bushy", "curled", "plume", "thin"]
Pattern = Literal["mask", "saddle", "bib", "blaze", "patches", "spots", "plain"]


@dataclass(frozen=True, kw_only=True)
class Build:
    """The shape of an animal that is about one unit high at the shoulder.

    Args:
        ears: how they are carried.
        ear_size: 1 is usual.
        muzzle: its length; the skull is one unit across.
        jowl: thickness of the muzzle; 1 is usual.
        ruff: long hair at cheeks and neck, 0 to 1.
        tail: how it is carried.
        fur: length of a hair.
        curls: how far hairs stray, radians; 3 is a poodle.
        legs: height of the elbow.
        girth: thickness of the trunk; 1 is usual.
        head: width of the skull.
    """

    ears: Ears
    ear_size: float = 1.0
    muzzle: float = 0.5
    jowl: float = 1.0
    ruff: float = 0.0
    tail: Tail
    fur: float = 0.1
    curls: float = 0.2
    legs: float = 0.55
    girth: float = 1.0
    head: float = 0.47


@dataclass(frozen=True, kw_only=True)
class Look(Build):
    """One animal.

    Args:
        wolf: whether it is one.
        coat: colour of the flanks.
        back: colour of the back.
        pale: colour of the belly.
        pattern: how the colours lie.
        eye: colour of the iris.
        collar: its colour, or None.
        pants: whether the tongue shows.
    """

    wolf: bool
    coat: Colour
    back: Colour
    pale: Colour
    pattern: Pattern
    eye: Colour
    collar: Colour | None
    pants: bool

    @property
    def pale_front(self) -> bool:
        """Whether muzzle, throat and chest are pale."""
        return self.pattern in ("mask", "bib", "blaze")

    @property
    def flat_faced(self) -> bool:
        """Whether there is hardly a muzzle."""
        return self.muzzle < 0.3

    @property
    def crown(self) -> Colour:
        """Colour of the head's upper side."""
        return self.back if self.pale_front else self.coat

    @property
    def ear(self) -> Colour:
        """Colour of the ears: that of the back, where there are marks."""
        if self.pattern != "plain":
            return self.back
        return dim(self.coat, 0.9 if self.ears == "erect" else 0.72)


# Both kinds of animal draw from these alike, so that colours do not tell them apart.
COATS: dict[str, tuple[Colour, Colour, Colour]] = {  # flanks, back, belly
    "grey": ((142, 140, 138), (84, 84, 90), (222, 218, 210)),
    "silver": ((176, 174, 172), (116, 116, 122), (236, 234, 228)),
    "brown": ((132, 98, 70), (76, 54, 42), (208, 182, 148)),
    "tan": ((190, 136, 84), (112, 76, 50), (236, 212, 174)),
    "black": ((58, 55, 58), (34, 32, 36), (128, 120, 116)),
    "white": ((230, 224, 212), (202, 194, 180), (248, 245, 238)),
    "cream": ((214, 180, 126), (168, 128, 82), (242, 226, 192)),
}
COLLARS: tuple[Colour, ...] = (
    (178, 58, 54),
    (62, 102, 158),
    (68, 128, 92),
    (210, 168, 78),
    (112, 74, 128),
)
BROWN_EYES: tuple[Colour, ...] = ((96, 66, 44), (78, 56, 42), (124, 88, 54))
AMBER_EYES: tuple[Colour, ...] = ((212, 172, 82), (198, 148, 72), (186, 174, 104))
BLUE_EYES: Colour = (120, 176, 214)

BREEDS: dict[str, tuple[Build, tuple[Pattern, ...]]] = {
    "retriever": (Build(ears="floppy", jowl=1.15, ruff=0.3, tail="plume", head=0.48), ("plain",)),
    "beagle": (
        Build(
            ears="long",
            ear_size=0.9,
            muzzle=0.45,
            jowl=1.15,
            tail="thin",
            fur=0.05,
            legs=0.44,
            girth=0.95,
            head=0.5,
        ),
        ("saddle", "patches"),
    ),
    "spaniel": (
        Build(
            ears="long",
            ear_size=1.2,
            muzzle=0.45,
            jowl=1.05,
            ruff=0.3,
            tail="plume",
            fur=0.13,
            curls=0.5,
            legs=0.44,
            head=0.5,
        ),
        ("blaze", "patches", "plain"),
    ),
    "collie": (
        Build(
            ears="folded",
            muzzle=0.5,
            jowl=0.95,
            ruff=0.5,
            tail="plume",
            fur=0.13,
            curls=0.3,
            legs=0.54,
            girth=0.95,
            head=0.45,
        ),
        ("bib",),
    ),
    "terrier": (
        Build(
            ears="folded",
            ear_size=0.8,
            muzzle=0.4,
            jowl=1.1,
            ruff=0.3,
            tail="thin",
            curls=0.9,
            legs=0.48,
            girth=0.95,
            head=0.5,
        ),
        ("patches", "plain", "blaze"),
    ),
    "poodle": (
        Build(
            ears="floppy",
            ear_size=1.1,
            jowl=0.9,
            ruff=0.6,
            tail="curled",
            fur=0.09,
            curls=3.0,
            legs=0.58,
            head=0.5,
        ),
        ("plain",),
    ),
    "spotted": (
        Build(ears="floppy", ear_size=0.85, jowl=1.1, tail="thin", fur=0.05, legs=0.6, girth=0.9),
        ("spots",),
    ),
    "sausage": (
        Build(
            ears="long",
            ear_size=0.9,
            muzzle=0.6,
            jowl=0.95,
            tail="thin",
            fur=0.05,
            legs=0.24,
            girth=0.85,
        ),
        ("plain", "saddle"),
    ),
    "corgi": (
        Build(
            ears="erect",
            ear_size=1.15,
            muzzle=0.42,
            jowl=0.95,
            ruff=0.5,
            tail="plume",
            legs=0.27,
            girth=1.05,
            head=0.5,
        ),
        ("blaze", "bib"),
    ),
    "pug": (
        Build(
            ears="folded",
            ear_size=0.7,
            muzzle=0.12,
            jowl=1.35,
            tail="curled",
            fur=0.05,
            legs=0.4,
            girth=1.15,
            head=0.54,
        ),
        ("plain", "patches"),
    ),
    "shepherd": (
        Build(
            ears="erect",
            ear_size=1.2,
            muzzle=0.6,
            jowl=0.95,
            ruff=0.5,
            tail="bushy",
            legs=0.58,
            head=0.45,
        ),
        ("saddle",),
    ),
    "husky": (
        Build(ears="erect", ear_size=0.9, jowl=0.95, ruff=0.8, tail="curled", fur=0.12, legs=0.56),
        ("mask", "blaze"),
    ),
    "spitz": (
        Build(
            ears="erect",
            ear_size=0.75,
            muzzle=0.42,
            jowl=0.9,
            ruff=1.0,
            tail="curled",
            fur=0.15,
            curls=0.5,
            legs=0.5,
            girth=1.05,
        ),
        ("plain", "blaze"),
    ),
}
WOLF = Build(
    ears="erect",
    ear_size=0.95,
    muzzle=0.58,
    jowl=0.95,
    ruff=1.0,
    tail="bushy",
    fur=0.12,
    legs=0.62,
    head=0.45,
)


def dog(rng: random.Random) -> Look:
    """A dog of some breed or other; every coat goes with every breed."""
    # dogs with a wolf's ears are the hard ones: few enough that the rest can be learnt
    often = [1 if build.ears == "erect" else 5 for build, _ in BREEDS.values()]
    breed = rng.choices(tuple(BREEDS), often)[0]
    build, patterns = BREEDS[breed]
    pattern = rng.choice(patterns)
    coat, back, pale = _coat(rng)
    if pattern in ("spots", "patches"):
        coat, back = mix(pale, (240, 236, 228), 0.4), dim(back, 0.9)
    eye = rng.choice(BROWN_EYES)
    if breed == "husky" and rng.random() < 0.6:
        eye = BLUE_EYES
    return Look(
        **_vary(build, rng),
        wolf=False,
        coat=coat,
        back=back,
        pale=pale,
        pattern=pattern,
        eye=eye,
        collar=rng.choice(COLLARS)
        if rng.random() < (0.9 if build.ears == "erect" else 0.6)
        else None,
        pants=rng.random() < 0.45,
    )


def wolf(rng: random.Random) -> Look:
    """A wolf: the back darker, mask and belly paler than a dog's."""
    coat, back, pale = _coat(rng)
    back, pale = mix(back, (44, 42, 43), 0.25), mix(pale, (246, 240, 230), 0.35)
    return Look(
        **_vary(WOLF, rng),
        wolf=True,
        coat=coat,
        back=back,
        pale=pale,
        pattern="mask",
        eye=rng.choice(AMBER_EYES),
        collar=None,
        pants=rng.random() < 0.3,
    )


def _coat(rng: random.Random) -> tuple[Colour, Colour, Colour]:
    coat, back, pale = COATS[rng.choice(tuple(COATS))]
    other = COATS[rng.choice(tuple(COATS))][0]
    part, light = rng.uniform(0, 0.25), rng.uniform(0.88, 1.1)

    def own(colour: Colour) -> Colour:
        return dim(mix(colour, other, part), light)

    return own(coat), own(back), own(pale)


def _vary(build: Build, rng: random.Random) -> dict[str, Any]:
    """The build of one animal, as arguments: no two are quite alike."""
    by = {
        "ear_size": 0.1,
        "muzzle": 0.1,
        "jowl": 0.06,
        "fur": 0.2,
        "legs": 0.06,
        "girth": 0.08,
        "head": 0.05,
    }
    shape = asdict(build)
    return shape | {name: shape[name] * rng.uniform(1 - b, 1 + b) for name, b in by.items()}

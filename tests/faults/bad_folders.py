"""Bad folders of images."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bad_kit import Case, NotHere, Place, unique
from image_kit import encode, picture, write_classes

IMAGE = encode(picture())


def good(data: Path) -> None:
    """A folder that nothing is wrong with."""
    write_classes(data / "train", {"cats": 4, "dogs": 4})
    write_classes(data / "val", {"cats": 2, "dogs": 2}, size=(40, 30))


def added(name: str, add: Callable[[Path], object], reason: str = "", about: str = "") -> Case:
    """A case that does not hinder training: it is added to a folder with others."""
    expected: Any = "skipped" if reason else "trains"
    return Case("folders", name, add, expected, reason, together=True, about=about)


def folder(
    name: str,
    spoil: Callable[[Path], object],
    expected: Any,
    says: str = "",
    arguments: tuple[str, ...] = (),
    around: Callable[[Place], Any] | None = None,
) -> Case:
    """A case whose folder is a good one that was spoilt."""

    def make(place: Place) -> list[str]:
        data = place.inputs / "data"
        good(data)
        spoil(data)
        return place.run_folder(data, *arguments)

    more = {} if around is None else {"around": around}
    return Case("folders", name, make, expected, says, **more)


def put(name: str | bytes, content: bytes = IMAGE) -> Callable[[Path], object]:
    def spoil(data: Path) -> None:
        path = data / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return spoil


def link(name: str, target: str) -> Callable[[Path], object]:
    return lambda data: (data / name).symlink_to(target)


def links() -> Iterator[Case]:
    no_file = "a pipe, a device or a socket, not a file"
    cats = "train/cats/"
    yield added("link to the folder itself", link("train/cats/up", "."))
    yield added("link to itself", link("train/cats/a", "a"),
                "cannot be read: Too many levels of symbolic links", cats + "a")  # fmt: skip
    yield added("link to nothing", link("train/cats/gone.jpg", "nowhere.jpg"),
                "cannot be read: No such file or directory", cats + "gone.jpg")  # fmt: skip
    yield added("link to an image elsewhere", link(cats + "link.jpg", "../../val/cats/000.jpg"))
    yield added("class that is a link to another class", link("train/wolves", "dogs"))
    yield added("link to a device that never ends", link("train/cats/zero.jpg", "/dev/zero"),
                no_file, cats + "zero.jpg")  # fmt: skip
    yield added("pipe", lambda data: os.mkfifo(data / "train/cats/pipe.jpg"))
    yield added("link to a pipe that nobody writes to", lambda data: (
        os.mkfifo(data / "pipe"), link("train/cats/p.jpg", "../../pipe")(data)),
        no_file, cats + "p.jpg")  # fmt: skip
    yield added("socket", lambda data: bind(data / "train/cats/socket.jpg"))
    yield added("file of 100 GB with nothing in it",
                lambda data: sparse(data / "train/cats/huge.jpg", 100 << 30),
                "a file of more than 512 MiB", cats + "huge.jpg")  # fmt: skip


def bind(path: Path) -> None:
    old = Path.cwd()
    os.chdir(path.parent)  # the path of a socket has 108 bytes at most
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(old)


def sparse(path: Path, size: int) -> None:
    try:
        with path.open("wb") as file:
            file.truncate(size)
    except OSError as error:
        raise NotHere("this disk has no sparse files") from error


CLASSES = {
    "not UTF-8": b"d\xffgs",
    "with a line break": b"do\ngs",
    "with quotes, a comma and HTML": b"<b>\"a\",'b' & c",
    "that is a formula": b"=1+2",
    "of 255 bytes": b"d" * 255,
    "of 249 bytes in UTF-8": "狗".encode() * 83,
    "with control characters": b"\x1b[31mdogs\x07",
    "that turns the writing round": "\u202edogs".encode(),
    "that is a space": b" ",
    "that ends in dots": b"d...",
    "that differs from another in case": b"Cats",
    "that looks like another": "c\u0430ts".encode(),
    "that is a number": b"1",
    "that is null": b"null",
}


def names() -> Iterator[Case]:
    for what, name in CLASSES.items():
        yield added(f"class name {what}", lambda data, name=name: a_class(data, name))  # type: ignore[misc]
    yield added("file name that is not UTF-8", put(b"train/cats/\xfe.jpg"))
    yield added("file name with line feed and carriage return", put("train/cats/a\n\r.jpg"))
    yield added("file name that is an option", put("train/cats/--help"))
    yield added("file name of 255 bytes", put("train/cats/" + "x" * 255))


def a_class(data: Path, name: bytes) -> None:
    folder = data / "train" / os.fsdecode(name)
    if folder.exists():
        raise NotHere("this file system does not tell these names apart")
    write_classes(data / "train", {folder.name: 2})
    write_classes(data / "val", {folder.name: 1})


def contents() -> Iterator[Case]:
    yield added("hidden file", put("train/cats/.hidden.jpg", b"x"))
    yield added("hidden folder", put("train/.git/config", b"x"))
    yield added("files of file managers", put("train/cats/Thumbs.db", b"x"))
    yield added("folder of an archiver", put("train/__MACOSX/x", b"x"))
    yield added("file beside the class folders", put("train/readme.txt", b"hello"))
    yield added("image 60 folders deep", put("train/cats/" + "d/" * 60 + "deep.jpg"))
    yield added("the same image in train and val", put("val/cats/same.jpg", IMAGE_000))
    yield folder("an empty class", lambda data: (data / "train/birds").mkdir(), "refused",
                 "class 'birds' has no images")  # fmt: skip
    yield folder("a class without an image that decodes", put("train/birds/a.jpg", b"text"),
                 "refused", "class 'birds' has no training image that decodes")  # fmt: skip
    yield folder("no validation image decodes", spoil_val, "refused",
                 "no validation image decodes")  # fmt: skip
    yield folder("a class only in val", put("val/birds/a.jpg"), "refused", "class 'birds' in")
    yield folder("two val folders", put("valid/cats/a.jpg"), "refused", "keep only one of them")
    yield folder("an image that does not decode, with data.strict", put("train/cats/a.jpg", b"x"),
                 "refused", "1 images do not decode", ("--set", "data.strict=true"))  # fmt: skip
    yield Case(
        "folders", "a file instead of a folder", a_file, "refused", "is a file, not a folder"
    )
    yield Case("folders", "a folder that is not there", lambda place: place.run_folder(
        place.inputs / "nowhere"), "refused", "there is no folder")  # fmt: skip
    yield Case("folders", "an empty folder", lambda place: place.run_folder(place.inputs),
               "refused", "no class folders in")  # fmt: skip
    yield Case("folders", "one class", one_class, "refused", "only one class, 'cats'")
    yield Case("folders", "one image a class", lambda place: bare(place, 1), "refused",
               "has a single image")  # fmt: skip
    yield Case("folders", "two images a class, no val", lambda place: bare(place, 2), "trains")
    yield Case("folders", "1,000 classes", lambda place: many(place, 1000), "trains")
    yield Case("folders", "10,000 classes", lambda place: many(place, 10_000), "trains", long=True)


IMAGE_000 = encode(picture(32, 24))


def spoil_val(data: Path) -> None:
    for path in (data / "val").rglob("*.jpg"):
        path.write_bytes(b"text")


def a_file(place: Place) -> list[str]:
    path = place.inputs / "data"
    path.write_bytes(b"")
    return place.run_folder(path)


def one_class(place: Place) -> list[str]:
    write_classes(place.inputs, {"cats": 4})
    return place.run_folder(place.inputs)


def bare(place: Place, count: int) -> list[str]:
    write_classes(place.inputs, {"cats": count, "dogs": count})
    return place.run_folder(place.inputs)


def many(place: Place, count: int) -> list[str]:
    data, source = place.inputs / "data", place.inputs / "image.jpg"
    source.write_bytes(IMAGE_000)
    for number in range(count):
        folder = data / "train" / f"class {number}"
        folder.mkdir(parents=True)
        os.link(source, folder / "a.jpg")
    write_classes(data / "val", {f"class {number}": 1 for number in range(5)})
    return place.run_folder(data, "--batch-size", 1000)


# What changes while msft runs, and what may not be read


@contextmanager
def as_nobody(place: Place) -> Iterator[None]:
    """Permissions do not concern root."""
    if os.geteuid():
        yield
        return
    for path in (place.work, place.cache, place.out.parent):
        path.chmod(0o777)
    os.seteuid(65534)
    try:
        if not os.access(Path(__file__), os.R_OK, effective_ids=True):
            raise NotHere("another user may not read msft here")
        yield
    finally:
        os.seteuid(0)


def permissions() -> Iterator[Case]:
    yield folder("an image without permission", lambda data: (data / "train/cats/000.jpg").chmod(0),
                 "skipped", "train/cats/000.jpg: cannot be read: Permission denied",
                 around=as_nobody)  # fmt: skip
    yield folder("a class without permission", lambda data: (data / "train/cats").chmod(0),
                 "refused", "cannot read the folder ... cats: Permission denied",
                 around=as_nobody)  # fmt: skip


@contextmanager
def when_training(place: Place, change: Callable[[Path], object]) -> Iterator[None]:
    """Change the folder after the check of images, before the first batch."""
    from msft_core.engine import run as engine

    original = engine.train_to_the_end

    def train(*arguments: Any) -> Any:
        change(place.inputs / "data")
        return original(*arguments)

    engine.train_to_the_end = train
    try:
        yield
    finally:
        engine.train_to_the_end = original


def changing(name: str, change: Callable[[Path], object], expected: Any, says: str = "") -> Case:
    views = ("--set", "training.views=0")  # each image is read again in each epoch
    return folder(name, lambda data: None, expected, says, views,
                  lambda place: when_training(place, change))  # fmt: skip


def emptied(data: Path) -> None:
    for path in data.rglob("*.jpg"):
        path.unlink()


def in_mid_run() -> Iterator[Case]:
    gone = "can no longer be read: No such file or directory"
    changed = "has changed since this run checked it"
    yield changing("all images vanish in mid-run", emptied, "fails", gone)
    yield changing("an image vanishes in mid-run",
                   lambda data: (data / "train/cats/000.jpg").unlink(), "fails",
                   f"image train/cats/000.jpg {gone}")  # fmt: skip
    yield changing("a validation image vanishes in mid-run",
                   lambda data: (data / "val/cats/000.jpg").unlink(), "fails",
                   f"image val/cats/000.jpg {gone}")  # fmt: skip
    yield changing("an image is cut short in mid-run",
                   put("train/cats/000.jpg", IMAGE[:300]), "fails", changed)  # fmt: skip
    yield changing("an image is replaced in mid-run",
                   put("train/cats/000.jpg", IMAGE), "fails", changed)  # fmt: skip
    yield changing("an image becomes a pipe in mid-run", to_pipe, "fails",
                   "can no longer be read: ... not a file")  # fmt: skip
    yield changing("new images come in mid-run", put("train/cats/new.jpg"), "trains")
    yield changing("a class appears in mid-run", put("train/birds/new.jpg"), "trains")


def to_pipe(data: Path) -> None:
    path = data / "train/cats/000.jpg"
    with suppress(FileNotFoundError):
        path.unlink()
    os.mkfifo(path)


def all_cases() -> Iterator[Case]:
    for part in (links, names, contents, permissions, in_mid_run):
        yield from part()


CASES = unique(all_cases())

"""Bad archives, in the place of the zip file of the dataset ``canidae``."""

from __future__ import annotations

import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bad_kit import TINY, Case, Place, unique
from image_kit import encode, picture

GOOD = {
    f"data/Canidae/{part}/{name}/{number}.jpg": encode(picture(32, 24, 10 * number + place))
    for part, count in (("train", 3), ("val", 2))
    for place, name in enumerate(("dogs", "wolves"))
    for number in range(count)
}

OUT = "leads out of the folder"
NOT_ZIP = "is not a complete zip file"


def archive(name: str, make: Callable[[], bytes], says: str, expected: Any = "refused") -> Case:
    """A case whose archive the dataset downloads."""

    def arguments(place: Place) -> list[str]:
        path = place.inputs / "Canidae_data.zip"
        path.write_bytes(make())
        url = f"dataset.url={path.as_uri()}"
        return place.run(*TINY[:2], "--backbone", "tiny", "--dataset", "canidae", "--set", url)

    return Case("archives", name, arguments, expected, says)


def zipped(
    members: Mapping[str, bytes], attributes: int = 0, method: int = zipfile.ZIP_STORED
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as opened:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = attributes, method
            opened.writestr(info, content)
    return buffer.getvalue()


def added(*names: str, attributes: int = 0) -> Callable[[], bytes]:
    """A good archive, and these members."""

    def make() -> bytes:
        buffer = io.BytesIO(zipped(GOOD))
        with zipfile.ZipFile(buffer, "a") as opened:
            for name in names:
                info = zipfile.ZipInfo("x")
                info.filename, info.external_attr = name, attributes
                opened.writestr(info, b"../../stray")
        return buffer.getvalue()

    return make


def of_type(kind: int) -> int:
    return (kind | 0o777) << 16


def paths() -> Iterator[Case]:
    up = "data/"
    yield archive("that is sound", added(), "", "trains")
    yield archive("../", added("../stray"), OUT)
    yield archive("../ inside a path", added("data/../../../stray"), OUT)
    yield archive("absolute path", added("/tmp/msft-stray"), OUT)
    yield archive("absolute path of Windows", added("C:/stray"), OUT)
    yield archive("path on a server of Windows", added("//server/share/stray"), OUT)
    yield archive("backslashes upwards", added("..\\..\\stray"), OUT)
    yield archive("link out", added(up + "link", attributes=of_type(stat.S_IFLNK)), "the link")
    through = added("link", "link/stray", attributes=of_type(stat.S_IFLNK))
    yield archive("link, then a file through it", through, "the link")
    yield archive("device", added(up + "null", attributes=of_type(stat.S_IFCHR)), "the device")
    yield archive("pipe", added(up + "pipe", attributes=of_type(stat.S_IFIFO)), "the device")
    set_user_id = added(up + "tool", attributes=(stat.S_IFREG | 0o4777) << 16)
    yield archive("file with the set-user-ID bit", set_user_id, "", "trains")
    yield archive("names that differ in case", added("data/Canidae/train/DOGS/0.jpg"), "in case")
    yield archive("the same name twice", added("data/Canidae/train/dogs/0.jpg"), "twice")
    yield archive("a file that is also a folder", added("a", "a/b"), "cannot unpack")
    yield archive("a name of 300 bytes", added("x" * 300), "cannot unpack")
    yield archive("a path of 5,000 bytes", added("x/" * 2500 + "y"), "cannot unpack")
    yield archive("an empty name", added(""), "a file without a name")
    yield archive("a name with a line break", added("data/a\nb"), "", "trains")
    yield archive("a name of Windows' devices", added("data/CON"), "", "trains")


def bombs() -> Iterator[Case]:
    def declared() -> bytes:
        """One member that declares 2 GB."""
        content = bytearray(zipped({"data/1": b"x"}))
        at = content.rindex(b"PK\x01\x02") + 24
        content[at : at + 4] = struct.pack("<I", 2 << 30)
        return bytes(content)

    def packed() -> bytes:
        """Two members of 600 MB."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as opened:
            for number in range(2):
                with opened.open(f"data/{number}", "w") as file:
                    for _ in range(600):
                        file.write(bytes(1 << 20))
        return buffer.getvalue()

    def lying() -> bytes:
        """A member of 100 MB that declares 10 bytes."""
        content = bytearray(zipped({"data/1": bytes(100 << 20)}, method=zipfile.ZIP_DEFLATED))
        at = content.rindex(b"PK\x01\x02") + 24
        content[at : at + 4] = struct.pack("<I", 10)
        return bytes(content)

    def overlapping() -> bytes:
        """A hundred members that are all the same bytes of the file."""
        content = zipped({"data/1": bytes(1 << 20)})
        start = content.rindex(b"PK\x01\x02")
        entry, end = content[start:-22], bytearray(content[-22:])
        names = [entry.replace(b"data/1", b"data/%c" % (65 + n % 26) if n < 26 else b"dat%c/%c" % (
            65 + n // 26, 65 + n % 26)) for n in range(100)]  # fmt: skip
        end[8:12] = struct.pack("<HH", 100, 100)
        end[12:16] = struct.pack("<I", sum(map(len, names)))
        return content[:start] + b"".join(names) + bytes(end)

    yield archive("bomb of 1.2 GB", packed, "is not unpacked: it holds 2 files of 1200 MiB")
    yield archive("bomb that declares 2 GB", declared, "is not unpacked")
    yield archive("bomb that declares less than it holds", lying, NOT_ZIP)
    yield archive("bomb of 100 members over the same bytes", overlapping, NOT_ZIP)
    yield archive("bomb of 30,000 empty files",
                  lambda: zipped({f"data/{n}": b"" for n in range(30_000)}), "is not unpacked: it "
                  "holds 30000 files")  # fmt: skip


def broken() -> Iterator[Case]:
    whole = zipped(GOOD)

    def changed(at: int, new: bytes) -> Callable[[], bytes]:
        return lambda: whole[:at] + new + whole[at + len(new) :]

    def encrypted() -> bytes:
        content = bytearray(whole)
        for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            at = content.index(magic) + offset
            content[at] |= 1
        return bytes(content)

    def tar() -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as opened:
            for name, data in GOOD.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                opened.addfile(info, io.BytesIO(data))
        return buffer.getvalue()

    for quarter in (1, 2, 3):
        part = whole[: quarter * len(whole) // 4]
        yield archive(f"cut after {quarter} of 4 quarters", lambda part=part: part, NOT_ZIP)  # type: ignore[misc]
    yield archive("without its last byte", lambda: whole[:-1], NOT_ZIP)
    yield archive("empty", lambda: b"", NOT_ZIP)
    yield archive("HTML", lambda: b"<html>404</html>", NOT_ZIP)
    yield archive("tar.gz", tar, NOT_ZIP)
    yield archive("with a wrong checksum", changed(400, b"\xff\x00\xff"), NOT_ZIP)
    yield archive("that is encrypted", encrypted, NOT_ZIP)
    yield archive("of an unknown compression", lambda: method(whole, 98), NOT_ZIP)
    yield archive("with zeros before it", lambda: bytes(1000) + whole, "", "trains")
    yield archive("without a file", lambda: zipped({}), "no folder with train/ and val/")
    yield archive("without train", lambda: zipped({"data/val/dogs/1.jpg": b"x"}),
                  "no folder with train/ and val/")  # fmt: skip
    yield archive("whose images are text", lambda: zipped(dict.fromkeys(GOOD, b"text")),
                  "has no training image that decodes")  # fmt: skip
    yield archive("packed with bzip2", lambda: zipped(GOOD, method=zipfile.ZIP_BZIP2), "", "trains")
    yield archive("packed with LZMA", lambda: zipped(GOOD, method=zipfile.ZIP_LZMA), "", "trains")


def method(content: bytes, number: int) -> bytes:
    changed = bytearray(content)
    for magic, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = changed.index(magic) + offset
        changed[at : at + 2] = struct.pack("<H", number)
    return bytes(changed)


def all_cases() -> Iterator[Case]:
    for part in (paths, bombs, broken):
        yield from part()


CASES = unique(all_cases())

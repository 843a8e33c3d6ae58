"""Unpack a downloaded zip file into a folder that is either complete or does not exist."""

from __future__ import annotations

import json
import shutil
import stat
import zipfile
from pathlib import Path, PureWindowsPath

from msft_core import DataError
from msft_core.files import folder_beside, json_value, remove_leftovers, rename_folder

# The real zip file holds 300 photographs, 12 MB.
MAX_FILES = 20_000
MAX_BYTES = 1 << 30

_MARKER = "complete.json"


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip file, and replace ``folder`` by the result.

    The file is unpacked beside ``folder`` and renamed at the end. So an interruption leaves
    ``folder`` as it was.

    Raises: DataError if the archive is broken, is far too large, or holds a link or a path that
    leads outside; OSError if the folder cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder.parent)
    with folder_beside(folder) as beside:
        unpacked = beside / folder.name
        unpacked.mkdir()
        _extract(archive, unpacked)
        (unpacked / _MARKER).write_text(json.dumps(_measure(unpacked)), encoding="utf-8")
        if is_complete(folder):  # another process was faster
            return
        if folder.exists():
            shutil.rmtree(folder)
        rename_folder(unpacked, folder)


def is_complete(folder: Path) -> bool:
    """Whether `unpack` made this folder, and number and size of its files are still the same."""
    try:
        marker = json_value((folder / _MARKER).read_text(encoding="utf-8"))
        return bool(marker == _measure(folder))
    except (OSError, ValueError):
        return False


def _extract(archive: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [m for m in opened.infolist() if not m.filename.startswith("__MACOSX/")]
            _require_harmless(archive, members)
            for member in members:
                opened.extract(member, folder)
    except (OSError, DataError):
        raise
    except Exception as error:  # zipfile's parsers may raise any exception
        raise DataError(f"{archive} is not a complete zip file: {error}") from error


def _require_harmless(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    """Raise DataError for an archive that is not a harmless zip file of photographs."""
    # zipfile never writes more than the size that a member declares.
    total = sum(member.file_size for member in members)
    if len(members) > MAX_FILES or total > MAX_BYTES:
        raise DataError(
            f"{archive} is not unpacked: it holds {len(members)} files of {total >> 20} MiB, more "
            f"than {MAX_FILES} files or {MAX_BYTES >> 20} MiB"
        )
    for member in members:
        name = member.filename
        path = PureWindowsPath(name)  # it knows both kinds of slash, and drives
        if path.drive or path.root or ".." in path.parts:
            raise DataError(
                f"{archive} is not unpacked: it holds {name!r}, which leads out of the folder"
            )
        if not path.parts:
            raise DataError(f"{archive} is not unpacked: it holds a file without a name")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind == stat.S_IFLNK:
            raise DataError(f"{archive} is not unpacked: it holds the link {name!r}")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DataError(f"{archive} is not unpacked: it holds the device {name!r}")
    names: dict[str, str] = {}
    for name in (member.filename for member in members):
        # On a disk that does not tell them apart, one would replace the other.
        twin = names.setdefault(name.casefold(), name)
        if twin is not name:
            what = (
                f"it holds {name!r} twice"
                if twin == name
                else f"{twin!r} and {name!r} differ in case"
            )
            raise DataError(f"{archive} is not unpacked: {what}")


def _measure(folder: Path) -> dict[str, int]:
    """Number and total size of the files in a folder, without the marker."""
    sizes = [
        path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != _MARKER
    ]
    return {"files": len(sizes), "bytes": sum(sizes)}

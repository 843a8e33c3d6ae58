"""Files that no reader ever sees half of; hashes; sizes for people. Public."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

from msft_core.errors import OF_THE_DISK, OutputError

_CHUNK = 1 << 20

_TEMPORARY = ".tmp"
"""How the name of each temporary file and folder ends. It begins with a dot."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a file under a temporary name, flush it to disk, and rename it to ``path``.

    No reader ever sees half of the file, and neither does anyone after a power failure.

    The file gets the mode that the umask asks for. Whatever fails, ``path`` stays as it was, and
    nothing is left beside it. A process that is killed leaves a hidden folder: see
    ``remove_leftovers``.

    Args:
        path: the final name.
        write: called with a temporary path of the same name in a folder of its own.

    Raises:
        OutputError: the folder cannot be written, or the disk is full. It is an MsftError and an
            OSError.
        Exception: whatever else ``write`` raises.
    """

    def write_one(folder: Path) -> list[Path]:
        temporary = folder / path.name
        write(temporary)
        return [temporary]

    write_together([path], write_one)
    return path


def write_together(
    paths: Sequence[Path],
    write: Callable[[Path], Sequence[Path]],
    *,
    renaming: AbstractContextManager[object] | None = None,
) -> None:
    """Write files that belong together; each is whole, as with ``write_atomically``.

    All files are on disk before the first gets its name: if ``write`` fails or the disk is full,
    all of ``paths`` stay as they were. Then they get their names one after the other. If that fails
    or is interrupted at one of them, which is rare, those before it are new already.

    Args:
        paths: the final names, in one folder; the most important one last.
        write: called with an empty temporary folder. It writes the files there under any names, and
            returns them in the order of ``paths``.
        renaming: entered while the files get their names, such as to hold back interrupts.

    Raises:
        OutputError: as ``write_atomically``.
        Exception: whatever else ``write`` raises.
    """
    main = paths[-1]
    before = _what_is_there(main)
    with folder_beside(main) as beside:
        try:
            written = write(beside)
        except OSError as error:
            # Not what went wrong elsewhere, as with an image that `write` reads.
            if error.errno in OF_THE_DISK or str(beside) in str(error.filename):
                raise OutputError(main, error, before) from error
            raise
        try:
            for temporary in written:
                follow_umask(temporary)
                flush(temporary)
            with renaming or nullcontext():
                for temporary, path in zip(written, paths, strict=True):
                    temporary.replace(path)
                before = ""
                flush(main.parent)
        except OSError as error:
            raise OutputError(main, error, before) from error


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """A temporary folder in the folder of ``path``, hidden, and removed at the end of the block.

    What is written into it can then be renamed to ``path``. See also ``remove_leftovers``.

    Raises:
        OutputError: it cannot be made.
    """
    # A folder, since some writers (MindSpore's) leave files of their own where they fail.
    try:
        prefix = f".{path.name[:40]}."
        beside = Path(tempfile.mkdtemp(prefix=prefix, suffix=_TEMPORARY, dir=path.parent))
    except OSError as error:
        raise OutputError(path, error, _what_is_there(path)) from error
    try:
        yield beside
    finally:
        try:
            shutil.rmtree(beside, ignore_errors=True)
        except BaseException:  # Ctrl-C
            shutil.rmtree(beside, ignore_errors=True)
            raise


def rename_folder(beside: Path, path: Path) -> None:
    """Give a folder its name when all that is in it is on disk.

    Raises:
        OSError: the name is taken, or the disk is full. ``beside`` keeps its name then.
    """
    for folder, _, names in os.walk(beside):
        for name in names:
            flush(Path(folder, name))
        flush(Path(folder))
    beside.rename(path)
    flush(path.parent)


def flush(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, would survive a power failure.

    Raises:
        OSError: the disk is full, or broken.
    """
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":  # Windows cannot, and flushes names itself
        return
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems flush names whenever they change, and refuse to be asked.
        if not is_folder or error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path, seconds: float = 86_400) -> None:
    """Remove what a killed process was still writing in a folder.

    Args:
        folder: need not be there.
        seconds: leave alone what changed within so many seconds: another process may write it.
    """
    latest = time.time() - seconds
    with suppress(OSError):
        for path in folder.iterdir():
            if not (path.name.startswith(".") and path.name.endswith(_TEMPORARY)):
                continue
            with suppress(OSError):
                whole = path.is_dir() and not path.is_symlink()
                inside = [path, *path.rglob("*")] if whole else [path]
                if max(one.lstat().st_mtime for one in inside) > latest:
                    continue
                if whole:
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()


def _what_is_there(path: Path) -> str:
    there = os.path.exists(path)  # noqa: PTH110 - Path.exists may raise
    return "the file of before is intact" if there else "nothing was left there"


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text atomically. A name that is not UTF-8 is written with its own bytes."""
    content = text.encode("utf-8", "surrogateescape")
    return write_atomically(path, lambda temporary: temporary.write_bytes(content))


def write_json(path: Path, value: Any) -> Path:
    """Write a JSON file atomically, indented. See ``json_text``."""
    return write_text(path, json_text(value, indent=2) + "\n")


def write_json_lines(path: Path, values: Iterable[Mapping[str, Any]]) -> Path:
    """Write a file of one JSON value a line atomically. See ``json_text``."""
    return write_text(path, "".join(json_text(value) + "\n" for value in values))


def json_text(value: Any, *, indent: int | None = None) -> str:
    """A value as JSON that every reader takes: NaN and infinity become ``null``."""
    text = json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)
    # Names of files that are not UTF-8 have surrogates, which no other program reads.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def json_value(text: str | bytes) -> Any:
    """The value of JSON text. Raises ValueError whatever is wrong with it, deep nesting too."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def follow_umask(path: Path) -> None:
    """Give a file or folder the mode it would have had from ``open`` or ``mkdir``.

    Temporary files and folders are private (0600), and MindSpore's checkpoints read-only (0400).
    """
    path.chmod((0o777 if path.is_dir() else 0o666) & ~_umask())


def _umask() -> int:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return next(int(line[6:], 8) for line in status.splitlines() if line.startswith("Umask:"))
    except (OSError, StopIteration, ValueError):
        # Elsewhere it can only be read by setting it, which other threads may notice.
        mask = os.umask(0o077)
        os.umask(mask)
        return mask


def hash_of(*parts: object) -> bytes:
    """Hash of the parts, taken as text: 16 bytes, BLAKE2b."""
    text = "\0".join(str(part) for part in parts)
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def begun_hash(*parts: object) -> blake2b:
    """``hash_of`` these parts and a last one, which ``update`` of a ``copy`` adds as UTF-8."""
    text = "\0".join([*map(str, parts), ""])
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16)


def content_digest(data: bytes | memoryview) -> str:
    """Hash of an image's bytes: 32 hex digits, BLAKE2b."""
    return blake2b(data, digest_size=16).hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hex. Raises OSError."""
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def size_text(size: float) -> str:
    """A number of bytes as text: ``0.1 MB``, ``12.3 MB``, ``10.00 GB`` (10^6 and 10^9 bytes)."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"

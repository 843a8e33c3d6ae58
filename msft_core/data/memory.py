"""What is remembered of images between runs: what decodes, how it looks, which file holds it."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from msft_core.data.looks import BYTES
from msft_core.files import content_digest, hash_of, remove_leftovers, write_atomically
from msft_core.images import decoders

DIGEST_BYTES = 16

_IMAGE_ENTRY = struct.Struct(f"{DIGEST_BYTES}s{BYTES}s")  # digest, look
_FILE_ENTRY = struct.Struct("16s16s16s")  # path, fingerprint, digest
_MOST_FILES = 2_000_000
_RACY_SECONDS = 2.0
"""A file that changed so shortly before it was read may change again within the clock's tick, and
have the same time: it is not remembered. Git calls this racy."""


class CheckMemory:
    """Digests and looks of images that decoded, and digests of files by path, size and times.

    A file that has the path, size, inode and times (of change, too, which no program can set) of
    an earlier run is not read again to know its digest. What is damaged on disk is forgotten.

    Args:
        folder: where it is kept; None to remember nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self.decoded = _read_images(self._decoded_path)
        """The look, by digest, of images that decoded with this release of msft and Pillow."""
        self._files = _read_files(self._files_path)
        self._new_files: dict[bytes, tuple[bytes, str]] = {}

    def digest_of(self, path: str) -> str | None:
        """The digest of a file that has not changed since it was noted; None where unknown."""
        known = self._files.get(hash_of(Path(path).absolute()))
        if known is None:
            return None
        try:
            same = known[0] == _fingerprint(Path(path).stat())
        except OSError:
            return None
        return known[1].hex() if same else None

    def note_file(self, path: str, before: os.stat_result, digest: str) -> None:
        """Remember the digest of a file's content.

        Args:
            path: of the file.
            before: its status, taken before it was read.
            digest: of its content.
        """
        if max(before.st_mtime, before.st_ctime) < time.time() - _RACY_SECONDS:
            self._new_files[hash_of(Path(path).absolute())] = (_fingerprint(before), digest)

    def save(self, decoded: Mapping[str, bytes]) -> None:
        """Write what is new. A folder that cannot be written costs time, nothing else.

        Args:
            decoded: the looks of images that decoded, by digest.
        """
        with suppress(OSError):
            if self._decoded_path and not decoded.keys() <= self.decoded.keys():
                # What another run has added meanwhile stays.
                together = sorted({**_read_images(self._decoded_path), **decoded}.items())
                _write(
                    self._decoded_path,
                    b"".join(_IMAGE_ENTRY.pack(bytes.fromhex(d), look) for d, look in together),
                )
            if self._files_path and self._new_files:
                files = _read_files(self._files_path)
                for key, (fingerprint, digest) in self._new_files.items():
                    files.pop(key, None)  # so that it comes last, as the newest
                    files[key] = (fingerprint, bytes.fromhex(digest))
                newest = list(files.items())[-_MOST_FILES:]
                _write(
                    self._files_path, b"".join(_FILE_ENTRY.pack(k, f, d) for k, (f, d) in newest)
                )

    @property
    def _decoded_path(self) -> Path | None:
        # Another release, or another set of decoders, may decode more, or less, or see other looks.
        releases = (f"{name}-{version(name)}" for name in ("msft", "pillow", "imagehash"))
        name = f"{'-'.join(releases)}-{decoders()}.looks"
        return self._folder / name if self._folder else None

    @property
    def _files_path(self) -> Path | None:
        return self._folder / "files" if self._folder else None


def _fingerprint(status: os.stat_result) -> bytes:
    return hash_of(
        status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev
    )


def _read(path: Path | None) -> bytes:
    if path is not None:
        with suppress(OSError):
            content = path.read_bytes()
            # A wrong digest of a file would mean, at each run, that the file has changed.
            if content[-DIGEST_BYTES:] == _seal(content[:-DIGEST_BYTES]):
                return content[:-DIGEST_BYTES]
    return b""


def _entries(path: Path | None, entry: struct.Struct) -> Iterator[tuple[bytes, ...]]:
    """The entries of a file; none if it cannot be read."""
    data = _read(path)
    return entry.iter_unpack(data[: len(data) // entry.size * entry.size])


def _read_images(path: Path | None) -> dict[str, bytes]:
    return {digest.hex(): look for digest, look in _entries(path, _IMAGE_ENTRY)}


def _read_files(path: Path | None) -> dict[bytes, tuple[bytes, bytes]]:
    return {key: (f, digest) for key, f, digest in _entries(path, _FILE_ENTRY)}


def _seal(content: bytes) -> bytes:
    return bytes.fromhex(content_digest(content))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    sealed = content + _seal(content)
    write_atomically(path, lambda temporary: temporary.write_bytes(sealed))

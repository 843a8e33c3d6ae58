"""What is remembered of images between runs: what decodes, how it looks, which file holds it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

import numpy as np

from msft_core.columns import Finder, Rows, last_of_each, sortable
from msft_core.data.looks import ALL_BITS, BYTES, LOW_BITS, MOST_COMPARED, Alike, find_alike
from msft_core.files import content_digest, hash_of, remove_leftovers, write_atomically
from msft_core.images import decoders
from msft_core.types import Array

DIGEST_BYTES = 16

_IMAGE_ENTRY = DIGEST_BYTES + BYTES  # digest, look
_FILE_ENTRY = 3 * DIGEST_BYTES  # path, fingerprint, digest
_MOST_FILES = 2_000_000
_FEW = 1000
_ALIKE = "alike"
_MOST_ALIKE = 50
_RACY_SECONDS = 2.0
"""A file that changed so shortly before it was read may change again within the clock's tick, and
have the same time: it is not remembered. Git calls this racy."""


class CheckMemory:
    """Digests and looks of images that decoded, and digests of files by path, size and times.

    A file that has the path, size, inode and times (of change, too, which no program can set) of
    an earlier run is not read again to know its digest. What is damaged on disk is forgotten.

    It takes 56 bytes an image, and as many a file.

    Args:
        folder: where it is kept; None to remember nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._decoded = _sorted_by_start(_read(self._decoded_path, _IMAGE_ENTRY))
        self._files = _sorted_by_start(_read(self._files_path, _FILE_ENTRY))
        self._find_decoded = Finder(self._decoded[:, :DIGEST_BYTES])
        self._find_files = Finder(self._files[:, :DIGEST_BYTES])
        self._new_files = bytearray()

    def digest_of(self, path: str) -> str | None:
        """The digest of a file that has not changed since it was noted; None where unknown."""
        known, digests = self.digests_of([path])
        return digests[0].tobytes().hex() if known[0] else None

    def digests_of(self, paths: Sequence[str]) -> tuple[Array, Array]:
        """The digests of files that have not changed since they were noted.

        Returns: bool (N,), which of them are known; uint8 (N, 16), their digests.
        """
        place = self._find_files.find(_rows(map(_path_key, paths)))
        known = place >= 0
        entries = self._files[place] if len(self._files) else np.zeros((len(paths), 48), np.uint8)
        fingerprints = entries[:, DIGEST_BYTES : 2 * DIGEST_BYTES].tobytes()
        for index in np.flatnonzero(known).tolist():
            start = index * DIGEST_BYTES
            try:
                # os.stat, since a Path takes as long again.
                now = _fingerprint(os.stat(paths[index]))  # noqa: PTH116
            except OSError:
                now = b""
            if now != fingerprints[start : start + DIGEST_BYTES]:
                known[index] = False
        return known, entries[:, 2 * DIGEST_BYTES :]

    def looks_of(self, digests: Array) -> tuple[Array, Array]:
        """The looks of images that decoded with this release of msft and Pillow.

        Args:
            digests: of their content, uint8 (N, 16).

        Returns: bool (N,), which of them are known to decode; uint8 (N, 32), their looks.
        """
        place = self._find_decoded.find(digests)
        known = place >= 0
        looks: Array = np.zeros((len(digests), BYTES), np.uint8)
        looks[known] = self._decoded[place[known], DIGEST_BYTES:]
        return known, looks

    def look_of(self, digest: bytes) -> bytes | None:
        """The look of one image that decoded; None where unknown."""
        known, looks = self.looks_of(_rows([digest]))
        return looks[0].tobytes() if known[0] else None

    def note_file(self, path: str, before: os.stat_result, digest: str) -> None:
        """Remember the digest of a file's content. Several threads may call this.

        Args:
            path: of the file.
            before: its status, taken before it was read.
            digest: of its content.
        """
        if max(before.st_mtime, before.st_ctime) < time.time() - _RACY_SECONDS:
            # At once, so that the entries of two threads do not mix.
            self._new_files.extend(_path_key(path) + _fingerprint(before) + bytes.fromhex(digest))

    def save(self, decoded: Mapping[str, bytes]) -> None:
        """``save_rows`` of looks by digest."""
        digests = _rows(map(bytes.fromhex, decoded))
        self.save_rows(digests, np.frombuffer(b"".join(decoded.values()), np.uint8))

    def save_rows(self, digests: Array, looks: Array) -> None:
        """Write what is new. A folder that cannot be written costs time, nothing else.

        Args:
            digests: of images that decoded, uint8 (N, 16).
            looks: of these, uint8 (N, 32).
        """
        looks = looks.reshape(-1, BYTES)
        with suppress(OSError):
            new = self._find_decoded.find(digests) < 0
            if self._decoded_path and new.any():
                # What another run has added meanwhile stays.
                before = _read(self._decoded_path, _IMAGE_ENTRY)
                added = np.concatenate([digests[new], looks[new]], axis=1)
                together = _sorted_by_start(np.concatenate([before, added]))
                _write(self._decoded_path, together[last_of_each(_starts(together))])
            if self._files_path and self._new_files:
                added = np.frombuffer(bytes(self._new_files), np.uint8).reshape(-1, _FILE_ENTRY)
                together = np.concatenate([_read(self._files_path, _FILE_ENTRY), added])
                # The newest come last, and the oldest are forgotten.
                order = np.argsort(_starts(together), kind="stable")
                last = np.sort(order[last_of_each(_starts(together)[order])])
                _write(self._files_path, together[last[-_MOST_FILES:]])

    @property
    def _decoded_path(self) -> Path | None:
        # Another release, or another set of decoders, may decode more, or less, or see other looks.
        return self._folder / f"{releases()}.looks" if self._folder else None

    @property
    def _files_path(self) -> Path | None:
        return self._folder / "files" if self._folder else None


def find_alike_once(folder: Path | None, asked: Rows, others: Rows) -> Alike:
    """``looks.find_alike``, or what it found before among the same looks.

    Args:
        folder: see ``CheckMemory``.
        asked: looks of images.
        others: looks of other images.
    """
    if folder is None or len(asked) < _FEW:
        return find_alike(asked, others)
    limits = (LOW_BITS, ALL_BITS, MOST_COMPARED, len(asked))
    key = hash_of(*limits, *(_seal(one.array.tobytes()).hex() for one in (asked, others))).hex()
    path = folder / _ALIKE / key
    # The first entry says whether all were compared, and the others are the pairs.
    entries = _read(path, DIGEST_BYTES).reshape(-1).view("<i8").reshape(-1, 2)
    if len(entries):
        return Alike(tuple(map(tuple, entries[1:].tolist())), bool(entries[0, 0]))
    alike = find_alike(asked, others)
    entries = np.array([(int(alike.complete), 0), *alike.pairs], "<i8")
    with suppress(OSError):
        _write(path, entries.view(np.uint8))
        newest = sorted(path.parent.iterdir(), key=lambda one: one.stat().st_mtime)
        for old in newest[:-_MOST_ALIKE]:
            old.unlink()
    return alike


def releases() -> str:
    """What decides which images decode, and how they look."""
    named = (f"{name}-{version(name)}" for name in ("msft", "pillow", "imagehash"))
    return f"{'-'.join(named)}-{decoders()}"


def _path_key(path: str) -> bytes:
    whole = path if path.startswith(os.sep) else str(Path(path).absolute())
    return blake2b(whole.encode("utf-8", "surrogateescape"), digest_size=DIGEST_BYTES).digest()


def _fingerprint(status: os.stat_result) -> bytes:
    # `hash_of` all of them, in half the time.
    size, changed, noted = status.st_size, status.st_mtime_ns, status.st_ctime_ns
    text = f"{size}\0{changed}\0{noted}\0{status.st_ino}\0{status.st_dev}"
    return blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()


def _rows(hashes: Sequence[bytes] | map[bytes]) -> Array:
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, DIGEST_BYTES)


def _starts(entries: Array) -> Array:
    """What entries are found by, as NumPy compares it, (N,): their first 16 bytes."""
    return sortable(entries[:, :DIGEST_BYTES])


def _sorted_by_start(entries: Array) -> Array:
    starts = _starts(entries)
    if (starts[1:] >= starts[:-1]).all():
        return entries
    return entries[np.argsort(starts, kind="stable")]


def _read(path: Path | None, size: int) -> Array:
    """The entries of a file, uint8 (N, size); none if it cannot be read."""
    content = b""
    if path is not None:
        with suppress(OSError):
            content = path.read_bytes()
            # A wrong digest of a file would mean, at each run, that the file has changed.
            whole = content[-DIGEST_BYTES:] == _seal(memoryview(content)[:-DIGEST_BYTES])
            content = content if whole else b""
    entries = max(0, len(content) - DIGEST_BYTES) // size
    return np.frombuffer(content, np.uint8, entries * size).reshape(-1, size)


def _seal(content: bytes | memoryview) -> bytes:
    return bytes.fromhex(content_digest(content))


def _write(path: Path, entries: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    content = entries.tobytes()
    sealed = content + _seal(content)
    write_atomically(path, lambda temporary: temporary.write_bytes(sealed))

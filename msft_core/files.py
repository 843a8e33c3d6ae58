"""Atomic writes of files, hashes, and sizes as text. Public."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a file under a temporary name, flush it to disk, and rename it to ``path``.

    No reader ever sees half of the file.

    Args:
        path: the final path.
        write: called with a temporary path in the same folder, with the same suffix.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        write(temporary)
        temporary.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text atomically."""
    return write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> Path:
    """Write a JSON file atomically, indented."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_json_lines(path: Path, values: Iterable[Mapping[str, Any]]) -> Path:
    """Write a file with one JSON value in each line, atomically."""
    lines = (json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    return write_text(path, "".join(lines))


def hash_of(*parts: object) -> bytes:
    """Hash of the parts, taken as text: 16 bytes, BLAKE2b."""
    text = "\0".join(str(part) for part in parts)
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def content_digest(data: bytes) -> str:
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

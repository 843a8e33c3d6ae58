"""From drawings to dataset splits, by way of the cache folder."""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from msft_core import Context, DatasetSplits
from msft_core.images import MemoryTable
from msft_plugins.sample.drawing import VERSION, draw

CLASSES = ("dogs", "wolves")
QUALITY = 90


def build(seed: int, train_per_class: int, val_per_class: int, context: Context) -> DatasetSplits:
    """Draw both splits, or read what an earlier run drew.

    Args:
        seed: of the drawings.
        train_per_class: pictures of a class to train on.
        val_per_class: pictures of a class to evaluate on.
        context: of the run.
    """
    train_ids, val_ids = _ids("train", train_per_class), _ids("val", val_per_class)
    file = f"v{VERSION}-seed{seed}-{train_per_class}-{val_per_class}.zip"
    kept = context.cache_dir / "sample" / file
    blobs = _read(kept, train_ids + val_ids)
    if blobs is None:
        blobs = _draw(train_ids + val_ids, seed, context)
        try:
            _write(kept, train_ids + val_ids, blobs)
        except OSError as error:
            context.reporter.warning(f"the drawings cannot be kept for the next run: {error}")
    split_at = len(train_ids)
    return DatasetSplits(
        classes=CLASSES,
        train=_table(train_ids, blobs[:split_at]),
        val=_table(val_ids, blobs[split_at:]),
        description=(
            f"dogs and wolves drawn by a program (seed {seed}), not photographed; "
            "figures on them say nothing about real photographs"
        ),
    )


def _ids(split: str, per_class: int) -> tuple[str, ...]:
    return tuple(f"{split}/{name}/{i:03}.jpg" for name in CLASSES for i in range(per_class))


def _kind(image_id: str) -> str:
    return image_id.split("/")[1]


def _table(ids: tuple[str, ...], blobs: Sequence[bytes]) -> MemoryTable:
    labels = tuple(CLASSES.index(_kind(image_id)) for image_id in ids)
    return MemoryTable(ids, labels, tuple(blobs))


def encode(image_id: str, seed: int) -> bytes:
    """Draw a picture, as a JPEG file's content; it depends on the seed and its id alone."""
    buffer = io.BytesIO()
    draw(_kind(image_id), f"{seed} {image_id}").save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _draw(ids: Sequence[str], seed: int, context: Context) -> list[bytes]:
    blobs = []
    with context.reporter.progress("drawing dogs and wolves", len(ids), "pictures") as advance:
        for image_id in ids:
            blobs.append(encode(image_id, seed))
            advance(1)
    return blobs


def _read(path: Path, ids: Sequence[str]) -> list[bytes] | None:
    """The pictures kept in an archive, or None where it is missing, incomplete or damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [archive.read(image_id) for image_id in ids]  # checks each one's CRC
    except (OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error, ValueError):
        return None


def _write(path: Path, ids: Sequence[str], blobs: Sequence[bytes]) -> None:
    """Keep the pictures; the archive is there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=path.name, suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            with zipfile.ZipFile(file, "w") as archive:
                for image_id, blob in zip(ids, blobs, strict=True):
                    archive.writestr(zipfile.ZipInfo(image_id), blob)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

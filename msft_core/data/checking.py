"""Find unusable images before training. ``msft run`` and ``msft check`` use this."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from msft_core.errors import DataError
from msft_core.files import content_digest, write_atomically
from msft_core.images import ImageError, decode, subset
from msft_core.types import DatasetSplits, ImageTable, Reporter

Decoder = Callable[[bytes], object]


@dataclass(frozen=True)
class Findings:
    """The result of ``check_splits``.

    Args:
        splits: the splits without the skipped images.
        skipped: a line of ``skipped.jsonl`` for each skipped image: split, id, path, reason.
        twins: pairs (train id, val id) of images with the same bytes.
        digests: for "train" and "val", the hash of each image's bytes, in the order of the split.
    """

    splits: DatasetSplits
    skipped: tuple[dict[str, Any], ...]
    twins: tuple[tuple[str, str], ...]
    digests: dict[str, tuple[str, ...]]


def check_splits(
    splits: DatasetSplits,
    *,
    workers: int,
    reporter: Reporter,
    memory: Path | None = None,
    decode: Decoder = decode,
) -> Findings:
    """Decode every image of both splits once.

    Args:
        splits: a dataset's images.
        workers: number of threads.
        reporter: shows progress.
        memory: folder with the digests of images that decoded. These images are not decoded again
            in this run or in later ones.
        decode: decodes an image, or raises ImageError.

    Raises:
        DataError: a class has no training image that decodes, or no validation image does.
    """
    known = _recall(memory)
    checks = {
        name: check_images(
            getattr(splits, name),
            workers=workers,
            reporter=reporter,
            known=known,
            decode=decode,
        )
        for name in ("train", "val")
    }
    _remember(memory, known, {digest for check in checks.values() for digest in check.digests})
    skipped = tuple(
        {"split": name, "id": image.id, "path": image.path, "reason": image.reason}
        for name, check in checks.items()
        for image in check.skipped
    )
    kept = replace(
        splits,
        train=subset(splits.train, checks["train"].kept),
        val=subset(splits.val, checks["val"].kept),
    )
    first = f" The first problem: {skipped[0]['id']}: {skipped[0]['reason']}." if skipped else ""
    there = set(kept.train.labels)
    for label, name in enumerate(kept.classes):
        if label not in there:
            raise DataError(f"class {name!r} has no training image that decodes.{first}")
    if not kept.val.ids:
        raise DataError(f"no validation image decodes.{first}")
    twins = duplicates_between(kept.train, checks["train"], kept.val, checks["val"])
    digests = {name: check.digests for name, check in checks.items()}
    return Findings(kept, skipped, twins, digests)


@dataclass(frozen=True)
class SkippedImage:
    """An image that is skipped, and the reason. ``path`` is None if the image is not a file."""

    id: str
    path: str | None
    reason: str


@dataclass(frozen=True)
class ImageCheck:
    """The result of `check_images`.

    Args:
        kept: indices into the table of the images that decode, ascending.
        skipped: the other images.
        digests: BLAKE2b of the bytes of each kept image, hexadecimal, in the order of ``kept``.
    """

    kept: tuple[int, ...]
    skipped: tuple[SkippedImage, ...]
    digests: tuple[str, ...]


def check_images(
    table: ImageTable,
    *,
    workers: int,
    reporter: Reporter,
    known: Container[str] = (),
    decode: Decoder = decode,
) -> ImageCheck:
    """Decode every image of a table once, in threads, and find those that cannot be used.

    A file that cannot be read counts as an image that does not decode. Ctrl-C ends the check after
    the images that are being decoded.

    Args:
        table: the images.
        workers: number of threads.
        reporter: shows progress.
        known: digests of images that decoded before. These are read, but not decoded again.
        decode: decodes an image, or raises ImageError.
    """
    paths: Sequence[str] | None = getattr(table, "paths", None)

    def examine(index: int) -> tuple[str, str]:
        """The digest, or the reason why the image is skipped. The other one is empty."""
        try:
            data = table.read(index)
            digest = content_digest(data)
            if digest not in known:
                decode(data)
        except ImageError as error:
            return "", str(error)
        except OSError as error:
            return "", f"cannot be read: {error.strerror or error}"
        return digest, ""

    kept: list[int] = []
    skipped: list[SkippedImage] = []
    digests: list[str] = []
    total = len(table.ids)
    with (
        reporter.progress("checking images", total, "images") as advance,
        ThreadPoolExecutor(max(1, workers), thread_name_prefix="msft-check") as pool,
    ):
        # In blocks of a thousand, so that a million images do not become a million waiting tasks.
        for start in range(0, total, 1000):
            block = range(start, min(start + 1000, total))
            for index, (digest, reason) in zip(block, pool.map(examine, block), strict=True):
                if digest:
                    kept.append(index)
                    digests.append(digest)
                else:
                    path = None if paths is None else paths[index]
                    skipped.append(SkippedImage(table.ids[index], path, reason))
                advance(1)
    return ImageCheck(tuple(kept), tuple(skipped), tuple(digests))


def duplicates_between(
    train: ImageTable, train_check: ImageCheck, val: ImageTable, val_check: ImageCheck
) -> tuple[tuple[str, str], ...]:
    """Pairs (train id, val id) of images whose bytes are the same in both splits.

    Such an image makes validation look better than it is. If train has several copies, the pair
    names the first.

    Args:
        train: the images kept by ``train_check``, in its order.
        train_check: gives their digests.
        val: the images kept by ``val_check``, in its order.
        val_check: gives their digests.
    """
    first: dict[str, str] = {}
    for digest, image_id in zip(train_check.digests, train.ids, strict=True):
        first.setdefault(digest, image_id)
    return tuple(
        (first[digest], image_id)
        for digest, image_id in zip(val_check.digests, val.ids, strict=True)
        if digest in first
    )


# A file of 16-byte digests without separators. If it is cut short or damaged, images are decoded
# again, and nothing else happens.


def _recall(memory: Path | None) -> frozenset[str]:
    data = b""
    if memory is not None:
        with suppress(OSError):
            data = _file_in(memory).read_bytes()
    return frozenset(data[i : i + 16].hex() for i in range(0, len(data), 16))


def _remember(memory: Path | None, known: frozenset[str], found: set[str]) -> None:
    if memory is None or found <= known:
        return
    # Keep the digests that another run has added meanwhile.
    together = sorted(_recall(memory) | found)
    content = b"".join(bytes.fromhex(digest) for digest in together)
    with suppress(OSError):  # without the file the next run decodes again, and nothing else happens
        memory.mkdir(parents=True, exist_ok=True)
        write_atomically(_file_in(memory), lambda path: path.write_bytes(content))


def _file_in(memory: Path) -> Path:
    # Another release of msft or Pillow may decode other images.
    return memory / f"msft-{version('msft')}-pillow-{version('pillow')}.digests"

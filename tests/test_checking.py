"""Images that decoded once are not decoded again; nothing else is ever taken on trust."""

from __future__ import annotations

from pathlib import Path

import pytest

from msft_core import DatasetSplits
from msft_core.data.checking import Findings, check_splits
from msft_core.images import MemoryTable, decode
from msft_core.testing import RecordingReporter, tiny

SPLITS = DatasetSplits(tiny.CLASSES, tiny.table(4), tiny.table(2, start=1000))
IMAGES = 8 + 4


class Decoder:
    """Decodes, and remembers the size of each image."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, data: bytes) -> object:
        self.sizes.append(len(data))
        return decode(data)


@pytest.fixture
def decoder() -> Decoder:
    return Decoder()


def check(
    memory: Path | None, splits: DatasetSplits = SPLITS, decoder: Decoder | None = None
) -> Findings:
    return check_splits(
        splits,
        plugin="mine",
        workers=2,
        reporter=RecordingReporter(),
        memory=memory,
        decode=decoder or Decoder(),
    )


def test_what_decoded_before_is_not_decoded_again(decoder: Decoder, tmp_path: Path) -> None:
    first = check(tmp_path / "memory", decoder=decoder)
    assert len(decoder.sizes) == IMAGES
    assert check(tmp_path / "memory", decoder=decoder) == first
    assert len(decoder.sizes) == IMAGES


def test_without_a_memory_everything_is_decoded(decoder: Decoder, tmp_path: Path) -> None:
    check(tmp_path, decoder=decoder)
    check(None, decoder=decoder)
    assert len(decoder.sizes) == 2 * IMAGES


def test_only_a_new_image_is_decoded(decoder: Decoder, tmp_path: Path) -> None:
    check(tmp_path, decoder=decoder)
    more = DatasetSplits(tiny.CLASSES, tiny.table(5), SPLITS.val)
    check(tmp_path, more, decoder=decoder)
    assert len(decoder.sizes) == IMAGES + 2


def test_what_does_not_decode_is_found_each_time(tmp_path: Path) -> None:
    table = SPLITS.train
    assert isinstance(table, MemoryTable)
    broken = MemoryTable(table.ids, table.labels, (table.blobs[0][:200], *table.blobs[1:]))
    splits = DatasetSplits(tiny.CLASSES, broken, SPLITS.val)
    assert len(check(tmp_path, splits).skipped) == 1
    assert len(check(tmp_path, splits).skipped) == 1


@pytest.mark.parametrize("length", [0, 7, 16, 100])
def test_a_memory_cut_short_is_forgotten(decoder: Decoder, tmp_path: Path, length: int) -> None:
    check(tmp_path, decoder=decoder)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:length])
    assert not check(tmp_path, decoder=decoder).skipped
    assert len(decoder.sizes) == 2 * IMAGES


def test_a_memory_that_cannot_be_written_costs_time_only(decoder: Decoder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert check(tmp_path / "file", decoder=decoder) == check(tmp_path / "file", decoder=decoder)
    assert len(decoder.sizes) == 2 * IMAGES

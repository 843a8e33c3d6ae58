"""What is known of each image, in a few bytes: the columns, and what is made of them."""

from __future__ import annotations

import gc
import hashlib
import os
import pickle
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from msft_core.columns import (
    FilePaths,
    Hashes,
    Numbers,
    Rows,
    Texts,
    find_sorted,
    first_places,
    has_repeats,
    sortable,
)
from msft_core.data.checking import check_images, check_splits
from msft_core.data.memory import CheckMemory
from msft_core.data.pipeline import KeyedPipeline, Recipe
from msft_core.data.views import Augmentation
from msft_core.features.keys import feature_keys
from msft_core.features.places import Places
from msft_core.files import content_digest, hash_of
from msft_core.folders import read_splits
from msft_core.images import FileTable
from msft_core.testing import RecordingReporter, tiny
from msft_core.types import Preprocessing

NAMES = ("", "a", "wölfe/狼.jpg", os.fsdecode(b"not-utf8-\xff"), "\ud800", "a", "x" * 5000)
KEYS = [bytes([i, 0, *range(14)]) for i in (5, 0, 255, 9, 5)]


def test_texts_are_the_texts_that_went_in_whatever_their_letters() -> None:
    texts = Texts.of(iter(NAMES))
    assert texts == NAMES
    assert list(texts) == list(NAMES)
    assert [texts[i] for i in range(-len(NAMES), len(NAMES))] == [*NAMES, *NAMES]
    assert texts[1:6:2] == NAMES[1:6:2]
    assert texts.take([6, 0, 2, 2]) == (NAMES[6], "", NAMES[2], NAMES[2])
    assert Texts.joined([texts, Texts.of([]), texts]) == NAMES * 2
    assert pickle.loads(pickle.dumps(texts)) == NAMES
    assert texts != NAMES[:-1]
    with pytest.raises(IndexError):
        texts[len(NAMES)]


def test_more_texts_than_a_block_are_taken_in_any_order() -> None:
    names = [f"class/{i}" for i in range(10_000)]
    order = np.random.default_rng(0).permutation(10_000)
    assert Texts.of(names).take(order) == [names[i] for i in order]
    assert list(Texts.of(names)) == names


def test_empty_columns_are_empty() -> None:
    assert Texts.of([]) == ()
    assert Texts.of(["a"]).take([]) == ()
    assert Hashes.of([]) == ()
    assert Rows.of([], 16) == []
    assert Texts.joined([]) == ()


def test_arrays_show_their_items_as_python_values() -> None:
    assert Numbers(np.arange(3, dtype=np.int32)) == (0, 1, 2)
    assert type(Numbers(np.arange(3))[1]) is int
    assert Rows.of(KEYS, 16) == KEYS
    assert Hashes.of([KEYS[0].hex()]) == (KEYS[0].hex(),)
    assert np.asarray(Numbers(np.arange(3)), np.int32).dtype == np.int32


def test_keys_with_zeros_at_their_ends_are_found_and_told_apart() -> None:
    keys = [bytes(16), b"\x01" + bytes(15), bytes(15) + b"\x01", b"\xff" * 16]
    known = np.sort(sortable(Rows.of(keys, 16).array))
    assert find_sorted(known, Rows.of(keys, 16).array).tolist() == [0, 2, 1, 3]
    assert find_sorted(known, Rows.of([b"\x02" * 16], 16).array).tolist() == [-1]
    assert find_sorted(known[:0], Rows.of(keys, 16).array).tolist() == [-1] * 4


def test_the_first_of_equal_rows_stands_for_all() -> None:
    first, number = first_places(Rows.of(KEYS, 16).array)
    assert first.tolist() == [0, 1, 2, 3]
    assert number.tolist() == [0, 1, 2, 3, 0]


def test_places_move_when_a_key_is_added_again_and_are_forgotten() -> None:
    places = Places()
    keys = Rows.of(KEYS[:4], 16)
    assert places.find(keys).tolist() == [-1] * 4
    places.add(keys, 100)
    places.add(keys.take([1]), 7)
    assert places.find(keys).tolist() == [100, 7, 102, 103]
    places.drop(keys.take([2]))
    assert places.find(keys).tolist() == [100, 7, -1, 103]
    assert places.between(100, 200) == [KEYS[0], KEYS[3]]


def test_an_id_that_comes_twice_is_found() -> None:
    assert has_repeats(NAMES)
    assert not has_repeats(NAMES[:5])
    assert not has_repeats(())


def test_paths_are_those_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = Texts.of(["a/b.jpg", "c.jpg"])
    assert FilePaths(tmp_path, ids) == (str(tmp_path / "a/b.jpg"), str(tmp_path / "c.jpg"))
    assert FilePaths(tmp_path, ids)[1:] == (str(tmp_path / "c.jpg"),)
    assert FilePaths(Path(), ids)[0] == "a/b.jpg"
    assert FilePaths(Path("/"), ids)[1] == "/c.jpg"


def test_keys_of_features_are_those_of_earlier_releases() -> None:
    table = tiny.table(3)
    varied = Augmentation((0.1, 1.0), (0.75, 1.33), True)
    digests = [content_digest(blob) for blob in table.blobs]
    shape = Preprocessing(16, (0.5,) * 3, (0.5,) * 3)
    recipe = Recipe(shape, varied, 3, 2, True, False, 0, views=4)

    keys = feature_keys(KeyedPipeline(table, recipe), Hashes.of(digests), 6)
    each = zip(table.ids, digests, strict=True)
    assert keys == [hash_of("training", 3, 2, varied, name, digest) for name, digest in each]

    recipe = Recipe(shape, None, 3, 2, False, False, 0)
    keys = feature_keys(KeyedPipeline(table, recipe), Hashes.of(digests), 6)
    assert keys == [hash_of("evaluation", digest) for digest in digests]


def test_what_an_earlier_release_remembered_of_files_is_still_known(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(b"image")
    status = path.stat()
    fingerprint = hash_of(
        status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev
    )
    entries = struct.pack("16s16s16s", bytes(16), bytes(16), bytes(16))
    entries += struct.pack("16s16s16s", hash_of(path), fingerprint, bytes(range(16)))
    seal = hashlib.blake2b(entries, digest_size=16).digest()
    (tmp_path / "files").write_bytes(entries + seal)

    assert CheckMemory(tmp_path).digest_of(str(path)) == bytes(range(16)).hex()
    path.write_bytes(b"other")
    assert CheckMemory(tmp_path).digest_of(str(path)) is None


def write_files(folder: Path, count: int) -> None:
    """Two classes of files that a test's own decoder takes, old enough to be remembered."""
    before = time.time() - 60
    for number in range(count):
        path = folder / f"class_{number % 2}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(str(number).encode())
        os.utime(path, (before, before))


def test_an_image_takes_less_than_200_bytes(tmp_path: Path) -> None:
    def memory_of(count: int) -> int:
        folder = tmp_path / str(count)
        write_files(folder, count)
        tracemalloc.start()
        found = check_splits(
            read_splits(folder), plugin="", workers=1, reporter=RecordingReporter(), decode=bytes
        )
        gc.collect()
        # pathlib keeps names in Python's table of interned strings, which grows by leaps.
        others = [tracemalloc.Filter(False, "*pathlib.py")]
        traces = tracemalloc.take_snapshot().filter_traces(others)
        held = sum(each.size for each in traces.statistics("filename"))
        tracemalloc.stop()
        assert len(found.splits.train.ids) + len(found.splits.val.ids) == count
        return held

    few = memory_of(200)
    assert (memory_of(4200) - few) / 4000 < 200


def test_an_interrupted_check_goes_on_where_it_was(tmp_path: Path) -> None:
    write_files(tmp_path / "data", 40)
    table = read_splits(tmp_path / "data").train
    decoded: list[bytes] = []

    def until(most: int) -> None:
        def decode(data: bytes) -> object:
            if len(decoded) == most:
                raise KeyboardInterrupt
            decoded.append(data)
            return None

        memory = CheckMemory(tmp_path / "memory")
        reporter = RecordingReporter()
        check_images(table, workers=1, reporter=reporter, memory=memory, decode=decode)

    with pytest.raises(KeyboardInterrupt):
        until(10)
    assert len(decoded) == 10
    with pytest.raises(KeyboardInterrupt):
        until(20)
    assert len(set(decoded)) == 20


def test_a_strangers_table_keeps_its_own_columns(tmp_path: Path) -> None:
    write_files(tmp_path, 3)
    paths = tuple(str(path) for path in sorted(tmp_path.rglob("*.jpg")))
    table = FileTable(("a", "b", "c"), (0, 1, 1), paths)
    found = check_images(table, workers=1, reporter=RecordingReporter(), decode=bytes)
    assert found.kept == (0, 1, 2)
    assert found.digests[0] == content_digest(Path(paths[0]).read_bytes())

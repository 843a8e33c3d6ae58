"""Rows kept on disk: what was written comes back, what is damaged never does, nobody is harmed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from disk_kit import TOO_LARGE, disk_that_takes
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from msft_core.features.space import LEFTOVER_SECONDS, Segmentation
from msft_core.features.store import FeatureStore, Space, key_of

PLENTY = 10**12


def key(number: int) -> bytes:
    return number.to_bytes(16, "little")


KEYS = [key(number) for number in range(10)]


def row(number: int, shape: tuple[int, ...] = (2, 3)) -> Any:
    return np.random.default_rng(number).standard_normal(shape).astype(np.float32)


def rows(numbers: Sequence[int], shape: tuple[int, ...] = (2, 3)) -> Any:
    return np.stack([row(number, shape) for number in numbers])


def add(space: Space, numbers: Sequence[int], shape: tuple[int, ...] = (2, 3)) -> None:
    """One segment with these rows."""
    with space.writer() as writer:
        writer.add([key(number) for number in numbers], rows(numbers, shape))


def add_then_fail(space: Space, error: type[BaseException], *batches: Sequence[int]) -> None:
    with space.writer() as writer:
        for numbers in batches:
            writer.add([key(number) for number in numbers], rows(numbers))
        raise error


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("**/*.rows"))


def temporaries(folder: Path) -> list[Path]:
    return sorted(folder.glob("**/.*"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "features"


@pytest.fixture
def store(folder: Path) -> FeatureStore:
    return FeatureStore(folder, PLENTY)


def reopened(
    folder: Path,
    description: dict[str, Any] | None = None,
    segmentation: Segmentation | None = None,
) -> Space:
    return FeatureStore(folder, PLENTY, segmentation).open(description or {"a": 1})


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(first row, rows) of each read from the disk from now on."""
    calls: list[tuple[int, int]] = []
    pread, size = os.pread, row(0).nbytes

    def counted(file: int, count: int, offset: int) -> bytes:
        assert count % size == offset % size == 0
        calls.append((offset // size, count // size))
        return pread(file, count, offset)

    monkeypatch.setattr(os, "pread", counted)
    return calls


# What was written comes back


DTYPES = st.sampled_from(["<f4", "<f2", "<f8", ">f4", "u1", "<i8", "?", "<c8"]).map(np.dtype)
SHAPES = st.one_of(st.just(()), arrays.array_shapes(max_dims=3, max_side=4))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), dtype=DTYPES, shape=SHAPES, count=st.integers(1, 12))
def test_rows_of_any_dtype_and_shape_come_back_bit_by_bit(
    data: st.DataObject, dtype: np.dtype[Any], shape: tuple[int, ...], count: int
) -> None:
    values = data.draw(arrays.arrays(dtype, (count, *shape)))
    keys = data.draw(st.lists(st.binary(min_size=16, max_size=16), min_size=count, unique=True))
    order = data.draw(st.lists(st.integers(0, count - 1)))
    cut = data.draw(st.integers(0, count))
    with tempfile.TemporaryDirectory() as folder:
        space = reopened(Path(folder))
        with space.writer() as writer:
            writer.add(keys[:cut], values[:cut])
            writer.add(keys[cut:count], values[cut:])
        for each in (space, reopened(Path(folder))):
            assert (each.shape, each.dtype) == (shape, dtype)
            assert each.missing(keys) == keys[count:]
            got = each.read([keys[i] for i in order])
            assert got.dtype == dtype
            assert got.shape == (len(order), *shape)
            assert got.tobytes() == values[order].tobytes()
            each.close()


def test_a_space_without_rows_has_no_form_and_makes_nothing(
    store: FeatureStore, folder: Path
) -> None:
    space = store.open({"name": "a"})
    assert (space.shape, space.dtype) == (None, None)
    assert space.missing(KEYS) == KEYS
    assert len(space.read([])) == 0
    with space.writer() as writer:
        writer.add([], np.empty((0, 3)))
    with pytest.raises(KeyError, match="10 features"):
        space.read(KEYS)
    assert not folder.exists()


def test_missing_keeps_the_order_and_names_each_once(store: FeatureStore) -> None:
    space = store.open({"name": "a"})
    add(space, [1, 3])
    assert space.missing([key(5), key(1), key(2), key(5), key(3)]) == [key(5), key(2)]


def test_rows_are_added_to_those_of_earlier_runs(folder: Path) -> None:
    for numbers in ([0, 1, 2], [3, 4], [5]):
        space = reopened(folder)
        add(space, numbers)
        space.close()
    space = reopened(folder)
    assert space.missing(KEYS) == KEYS[6:]
    wanted = [5, 0, 4, 4, 2]
    assert np.array_equal(space.read([key(n) for n in wanted]), rows(wanted))
    assert len(segments(folder)) == 3


def test_another_description_is_another_space(store: FeatureStore) -> None:
    add(store.open({"a": 1, "b": [1, 2]}), [0])
    assert store.open({"b": [1, 2], "a": 1}).missing(KEYS[:1]) == []
    for other in ({"a": 1, "b": [2, 1]}, {"a": "1", "b": [1, 2]}, {"a": 1}):
        assert store.open(other).missing(KEYS[:1]) == KEYS[:1]


def test_a_row_that_was_written_again_replaces_the_older_one(folder: Path) -> None:
    space = reopened(folder)
    add(space, [0, 1])
    with space.writer() as writer:
        writer.add([key(1)], row(7)[None])
    for each in (space, reopened(folder)):
        assert np.array_equal(each.read([key(0), key(1)]), rows([0, 7]))


def test_without_pread_rows_are_read_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pread")
    add(reopened(folder), range(6))
    assert np.array_equal(reopened(folder).read([key(4), key(1)]), rows([4, 1]))


def test_neighbours_are_read_at_once_but_no_more_than_a_few_megabytes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = reopened(folder)
    add(space, range(10))
    calls = count_reads(monkeypatch)
    space.read([key(n) for n in (9, 3, 1, 2, 7, 8)])
    assert calls == [(1, 3), (7, 3)]
    calls.clear()
    space = reopened(folder, segmentation=Segmentation(read_bytes=4 * row(0).nbytes + 1))
    assert space.missing(KEYS) == []
    assert calls == [(0, 4), (4, 4), (8, 2)]
    calls.clear()
    assert np.array_equal(space.read(KEYS), rows(range(10)))
    assert calls == [(0, 4), (4, 4), (8, 2)]


def test_a_row_is_checked_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(reopened(folder), range(10))
    space = reopened(folder)
    calls = count_reads(monkeypatch)
    assert space.missing(KEYS[:6]) == []
    assert space.missing(KEYS) == []
    assert space.missing(KEYS) == []
    assert calls == [(0, 6), (6, 4)]


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_few_files_are_open_however_many_segments_there_are(folder: Path) -> None:
    space = reopened(folder, segmentation=Segmentation(open_files=3, merged=1000))
    for number in range(10):
        add(space, [number])
    before = open_files()
    for _ in range(2):
        assert np.array_equal(space.read(KEYS), rows(range(10)))
        assert open_files() <= before
    assert len(segments(folder)) == 10


def test_more_segments_than_a_process_may_open_files_are_all_found(folder: Path) -> None:
    """At a limit of 64 descriptors half of what was stored once counted as missing."""
    space = reopened(folder, segmentation=Segmentation(merged=1000))
    for number in range(80):
        add(space, [number])
    code = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from pathlib import Path
from msft_core.features.store import FeatureStore
from msft_core.features.space import Segmentation
space = FeatureStore(Path(sys.argv[1]), 10**12, Segmentation(merged=1000)).open({"a": 1})
keys = [number.to_bytes(16, "little") for number in range(80)]
print(len(space.missing(keys)), space.read(keys).shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "0 (80, 2, 3)"


def test_small_segments_become_one_when_the_space_is_opened(folder: Path) -> None:
    space = reopened(folder)
    for number in range(10):
        add(space, [number])
    assert len(segments(folder)) == 10
    merged = reopened(folder)
    assert len(segments(folder)) == 1
    for each in (merged, reopened(folder)):
        assert np.array_equal(each.read(KEYS), rows(range(10)))


def test_merging_takes_time_in_proportion_to_what_is_stored(folder: Path) -> None:
    space = reopened(folder, segmentation=Segmentation(merged=1000))
    for start in range(0, 8000, 1000):
        with space.writer() as writer:
            keys = [key(number) for number in range(start, start + 1000)]
            writer.add(keys, np.zeros((1000, 4), np.float32))
    began = time.process_time()
    reopened(folder)
    assert time.process_time() - began < 2  # one look at each key for each key took minutes
    assert len(segments(folder)) == 1


def test_segments_that_another_process_merges_are_found_again(folder: Path) -> None:
    """A few files are open at a time: the others are gone by their old names."""
    space = reopened(folder, segmentation=Segmentation(open_files=2, merged=1000))
    for number in range(10):
        add(space, [number])
    assert space.missing(KEYS) == []
    reopened(folder)  # merges
    with pytest.raises(KeyError, match="not there any more"):
        space.read(KEYS)
    assert space.missing(KEYS) == []
    assert np.array_equal(space.read(KEYS), rows(range(10)))


def test_all_that_is_stored_needs_no_room(folder: Path) -> None:
    add(reopened(folder), range(10))
    store = FeatureStore(folder, limit=1)
    space = store.open({"a": 1})
    assert space.missing(KEYS) == []
    assert store.refusal(0) == ""


def test_merging_keeps_the_newest_of_a_row_and_leaves_out_what_is_damaged(folder: Path) -> None:
    space = reopened(folder)
    for number in range(9):
        add(space, [number])
    with space.writer() as writer:
        writer.add([key(0)], row(7)[None])
    victim = segments(folder)[3]
    content = bytearray(victim.read_bytes())
    content[0] ^= 1
    victim.write_bytes(content)
    merged = reopened(folder)
    assert len(segments(folder)) == 1
    assert merged.missing(KEYS[:9]) == [key(3)]
    assert np.array_equal(merged.read([key(0), key(1)]), rows([7, 1]))


def test_nothing_is_merged_where_the_disk_is_full_and_nothing_is_lost(folder: Path) -> None:
    space = reopened(folder)
    for number in range(10):
        add(space, [number])
    store = FeatureStore(folder, limit=1)  # there is no room for a second copy
    assert np.array_equal(store.open({"a": 1}).read(KEYS), rows(range(10)))
    assert len(segments(folder)) == 10


def test_a_long_extraction_is_kept_in_segments(folder: Path) -> None:
    space = reopened(folder, segmentation=Segmentation(segment_bytes=3 * row(0).nbytes))
    counts = []
    with space.writer() as writer:
        for number in range(10):
            writer.add([key(number)], row(number)[None])
            counts.append(len(segments(folder)))
    assert counts == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3]
    assert len(segments(folder)) == 4
    assert np.array_equal(space.read(KEYS), rows(range(10)))


def test_a_slow_extraction_is_kept_in_segments(
    store: FeatureStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with store.open({"a": 1}).writer() as writer:
        for number in range(5):
            writer.add([key(number)], row(number)[None])
            now[0] += 31
            assert len(segments(folder)) == (0, 0, 1, 1, 1)[number]


@pytest.mark.parametrize(
    ("keys", "values"),
    [
        (KEYS[:2], rows([1])),
        ([b"short"], rows([1])),
        (KEYS[:1], row(1, (3, 2))[None]),
        (KEYS[:1], row(1)[None].astype(np.float64)),
    ],
)
def test_rows_of_another_form_are_refused_and_the_others_kept(
    keys: list[bytes], values: Any, folder: Path
) -> None:
    with reopened(folder).writer() as writer:
        writer.add([key(5)], rows([5]))
        with pytest.raises(ValueError, match="features"):
            writer.add(keys, values)
    space = reopened(folder)
    assert np.array_equal(space.read([key(5)]), rows([5]))
    with pytest.raises(ValueError, match="features"), space.writer() as writer:
        writer.add(keys, values)


def test_what_is_no_number_is_refused(store: FeatureStore, folder: Path) -> None:
    for values in (np.array(["a"]), np.array([None]), np.empty((1, 0))):
        with pytest.raises(ValueError, match="features"), store.open({"a": 1}).writer() as writer:
            writer.add(KEYS[:1], values)
    assert not folder.exists()


# A run that ends early


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
def test_an_interrupted_writer_keeps_its_rows(error: type[BaseException], folder: Path) -> None:
    with pytest.raises(error):
        add_then_fail(reopened(folder), error, [0, 1], [2])
    space = reopened(folder)
    assert space.missing(KEYS) == KEYS[3:]
    assert np.array_equal(space.read(KEYS[:3]), rows([0, 1, 2]))
    assert temporaries(folder) == []


def test_a_segment_is_on_the_disk_before_it_has_its_name_and_the_name_afterwards(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []

    def fsync(file: int) -> None:
        status = os.fstat(file)
        size = None if stat.S_ISDIR(status.st_mode) else status.st_size
        synced.append((size, segments(folder)))

    space = reopened(folder)
    with space.writer() as writer:
        writer.add(KEYS, rows(range(10)))
        monkeypatch.setattr(os, "fsync", fsync)
    (path,) = segments(folder)
    assert synced == [(path.stat().st_size, []), (None, [path])]


def test_a_disk_that_is_full_keeps_the_rows_before(folder: Path) -> None:
    with disk_that_takes(1000), pytest.raises(OSError, match=TOO_LARGE):
        add_then_fail(reopened(folder), AssertionError, [0, 1], range(2, 100))
    space = reopened(folder)
    assert space.missing(KEYS) == KEYS[2:]
    assert np.array_equal(space.read(KEYS[:2]), rows([0, 1]))
    assert temporaries(folder) == []


def test_rows_after_a_write_that_failed_are_the_right_ones(folder: Path) -> None:
    space = reopened(folder)
    with space.writer() as writer:
        writer.add(KEYS[:1], rows([0]))
        with disk_that_takes(2 * row(0).nbytes + 5), pytest.raises(OSError, match=TOO_LARGE):
            writer.add(KEYS[1:4], rows([1, 2, 3]))
        writer.add(KEYS[4:5], rows([4]))
    for each in (space, reopened(folder)):
        assert np.array_equal(each.read([key(0), key(4)]), rows([0, 4]))
        assert each.missing(KEYS[:5]) == KEYS[1:4]


def test_a_disk_that_is_full_at_the_end_leaves_nothing(folder: Path) -> None:
    with disk_that_takes(2 * row(0).nbytes + 5), pytest.raises(OSError, match=TOO_LARGE):
        add(reopened(folder), [0, 1])
    assert segments(folder) == temporaries(folder) == []


def test_a_full_disk_does_not_hide_an_interrupt(folder: Path) -> None:
    with disk_that_takes(2 * row(0).nbytes + 5), pytest.raises(KeyboardInterrupt):
        add_then_fail(reopened(folder), KeyboardInterrupt, [0, 1])
    assert segments(folder) == temporaries(folder) == []


def test_a_folder_that_cannot_be_made_is_an_error_with_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    space = reopened(tmp_path / "file" / "features")
    assert space.missing(KEYS) == KEYS
    with pytest.raises(OSError, match="Not a directory") as caught, space.writer() as writer:
        writer.add(KEYS[:1], rows([0]))
    assert caught.value.strerror


def test_a_folder_that_cannot_be_written_can_be_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(reopened(folder), [0])

    def forbidden(*_arguments: Any, **_options: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    for owner, name in ((os, "utime"), (Path, "unlink"), (Path, "mkdir")):
        monkeypatch.setattr(owner, name, forbidden)
    space = reopened(folder)
    assert np.array_equal(space.read(KEYS[:1]), rows([0]))
    with pytest.raises(PermissionError), space.writer() as writer:
        writer.add(KEYS[1:2], rows([1]))


KILLED = """
import itertools, sys
from pathlib import Path
import numpy as np
from msft_core.features.space import Segmentation
from msft_core.features.store import FeatureStore
def add(writer, number):
    writer.add([number.to_bytes(16, "little")], np.full((1, 1000), number, np.float32))
def writer(segment_bytes):
    store = FeatureStore(Path(sys.argv[1]), 10**12, Segmentation(segment_bytes=segment_bytes))
    return store.open({"a": 1}).writer()
with writer(40_000) as small:
    for number in range(30):
        add(small, number)
with writer(10**12) as endless:
    for number in itertools.count(30):
        add(endless, number)
        print(number, flush=True)
"""


def test_a_run_killed_while_it_writes_keeps_its_whole_segments(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, folder], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        while int(child.stdout.readline()) < 300:
            pass
        child.kill()
    space = reopened(folder)
    keys = [key(number) for number in range(100)]
    assert space.missing(keys) == keys[30:]
    assert np.array_equal(space.read(keys[:30])[:, 0], np.arange(30))
    (temporary,) = temporaries(folder)
    before = time.time() - LEFTOVER_SECONDS - 10
    os.utime(temporary, (before, before))
    reopened(folder, {"of": "another space"})
    assert not temporary.exists()
    assert len(segments(folder)) == 3


def test_a_temporary_file_of_a_run_that_goes_on_stays(store: FeatureStore, folder: Path) -> None:
    with store.open({"a": 1}).writer() as writer:
        writer.add(KEYS[:1], rows([0]))
        reopened(folder)
        other = FeatureStore(folder, 0)
        other.make_room(1)
        assert other.clear() == 0
        assert len(temporaries(folder)) == 1
    assert np.array_equal(reopened(folder).read(KEYS[:1]), rows([0]))


# Damage


def whole_segment(folder: Path) -> tuple[Path, bytes]:
    add(reopened(folder), [0, 1, 2])
    (path,) = segments(folder)
    return path, path.read_bytes()


def trusted(folder: Path) -> int:
    """How many of three rows are given, all of them the right ones."""
    space = reopened(folder)
    missing = space.missing(KEYS[:3])
    there = [n for n in range(3) if key(n) not in missing]
    if there:
        assert np.array_equal(space.read([key(n) for n in there]), rows(there))
    space.close()
    FeatureStore(folder, 0).spaces()
    return len(there)


def test_a_file_cut_at_any_length_is_not_trusted_and_removed(folder: Path) -> None:
    path, content = whole_segment(folder)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert trusted(folder) == 0
        assert not path.exists()
    path.write_bytes(content)
    assert trusted(folder) == 3


@pytest.mark.parametrize("flip", [0x01, 0x10, 0x80, 0xFF])
def test_a_changed_byte_anywhere_is_not_trusted(flip: int, folder: Path) -> None:
    path, content = whole_segment(folder)
    in_rows = 3 * row(0).nbytes
    for position in range(len(content)):
        path.write_bytes(
            content[:position] + bytes([content[position] ^ flip]) + content[position + 1 :]
        )
        assert trusted(folder) == (2 if position < in_rows else 0)
        assert path.exists() == (position < in_rows)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_damage_is_trusted_or_raises(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, content = whole_segment(Path(folder))
        start = data.draw(st.integers(0, len(content)))
        stop = data.draw(st.integers(start, len(content)))
        path.write_bytes(content[:start] + data.draw(st.binary(max_size=64)) + content[stop:])
        trusted(Path(folder))


def test_a_damaged_row_is_replaced_by_the_one_computed_anew(folder: Path) -> None:
    path, content = whole_segment(folder)
    path.write_bytes(b"\xff" + content[1:])
    space = reopened(folder)
    assert space.missing(KEYS[:3]) == KEYS[:1]
    add(space, [0])
    for each in (space, reopened(folder)):
        assert each.missing(KEYS[:3]) == []
        assert np.array_equal(each.read(KEYS[:3]), rows([0, 1, 2]))


def test_read_never_gives_a_damaged_row(folder: Path) -> None:
    path, content = whole_segment(folder)
    path.write_bytes(b"\xff" + content[1:])
    with pytest.raises(KeyError, match="1 features"):
        reopened(folder).read(KEYS[:3])


def test_a_file_cut_while_it_is_open_is_a_missing_row(folder: Path) -> None:
    path, _ = whole_segment(folder)
    space = reopened(folder)
    assert space.missing(KEYS[:2]) == []
    os.truncate(path, row(0).nbytes + 1)
    assert space.missing(KEYS[:3]) == KEYS[2:3]
    with pytest.raises(KeyError, match="not there any more"):
        space.read(KEYS[:2])
    # What computes features now sees that these are to be computed again.
    assert space.missing(KEYS[:2]) == KEYS[:2]


def test_a_segment_of_another_version_is_removed(folder: Path) -> None:
    add(reopened(folder), [0])
    (path,) = segments(folder)
    content = path.read_bytes()
    footer = struct.Struct("<II8s")
    _, length, magic = footer.unpack(content[-footer.size :])
    start = len(content) - footer.size - length
    trailer = {**json.loads(content[start : -footer.size]), "format": 2}
    text = json.dumps(trailer).encode()
    path.write_bytes(content[:start] + text + footer.pack(zlib.crc32(text), len(text), magic))
    assert reopened(folder).missing(KEYS[:1]) == KEYS[:1]
    assert segments(folder) == []


def test_segments_that_disagree_on_the_shape_are_not_both_believed(folder: Path) -> None:
    one, other = reopened(folder), reopened(folder)
    add(one, [0])
    add(other, [1], shape=(3, 2))
    space = reopened(folder)
    assert space.missing(KEYS[:2]) == KEYS[1:2]
    assert space.shape == (2, 3)
    assert len(segments(folder)) == 1


def test_discard_leaves_no_row(folder: Path) -> None:
    space, other = reopened(folder), reopened(folder, {"another": 1})
    add(space, [0, 1])
    add(other, [0])
    space.discard()
    assert space.missing(KEYS[:2]) == KEYS[:2]
    assert space.shape is None
    assert segments(folder) == segments(other.folder)
    add(space, [2], shape=(5,))
    assert np.array_equal(reopened(folder).read([key(2)]), rows([2], (5,)))


# Room


def stored(folder: Path, *ages: tuple[str, int, int]) -> dict[str, Path]:
    """A segment for each (space, row number, seconds since its last use)."""
    paths = {}
    for name, number, age in ages:
        before = set(segments(folder))
        space = reopened(folder, {"name": name})
        add(space, [number], shape=(1000,))
        space.close()
        (path,) = set(segments(folder)) - before
        os.utime(path, (time.time() - age,) * 2)
        paths[f"{name}{number}"] = path
    return paths


def total(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("**/*") if path.is_file())


def test_the_least_recently_used_segments_make_room(folder: Path) -> None:
    paths = stored(folder, ("a", 0, 50), ("b", 0, 90), ("a", 1, 20), ("c", 0, 70), ("a", 2, 60))
    size = total(folder)
    FeatureStore(folder, size + 100).make_room(100)
    assert len(segments(folder)) == 5
    FeatureStore(folder, size + 100).make_room(101)
    assert set(segments(folder)) == set(paths.values()) - {paths["b0"]}
    FeatureStore(folder, size).make_room(size - total(folder) + 4500)
    assert sorted(segments(folder)) == sorted(paths[name] for name in ("a0", "a1"))
    assert {path.name for path in folder.iterdir()} == {key_of({"name": "a"})}


def test_a_row_that_is_asked_for_is_used_and_its_neighbours_with_it(folder: Path) -> None:
    paths = stored(folder, ("a", 0, 90), ("a", 1, 80), ("b", 0, 10))
    space = reopened(folder, {"name": "a"})
    assert space.missing([key(0)]) == []
    space.close()
    FeatureStore(folder, total(folder)).make_room(4500)
    assert set(segments(folder)) == {paths["a0"]}


def test_make_room_never_takes_what_its_own_spaces_use(folder: Path) -> None:
    paths = stored(folder, ("a", 0, 90), ("a", 1, 80), ("b", 0, 10))
    own = FeatureStore(folder, 100)
    space = own.open({"name": "a"})
    assert space.missing([key(0)]) == []
    add(space, [2], shape=(1000,))
    own.make_room(100)
    left = set(segments(folder))
    assert paths["a0"] in left
    assert len(left) == 2
    wanted = [key(0), key(2)]
    assert np.array_equal(space.read(wanted), rows([0, 2], (1000,)))
    assert space.missing([key(1)]) == [key(1)]
    space.close()
    own.make_room(100)
    assert segments(folder) == []


def test_reading_goes_on_after_another_store_has_cleared(folder: Path) -> None:
    add(reopened(folder), [0, 1])
    space = reopened(folder)
    assert space.missing(KEYS[:2]) == []
    other = FeatureStore(folder, 0)
    size = segments(folder)[0].stat().st_size
    assert other.clear() == size
    assert not any(folder.iterdir())
    assert np.array_equal(space.read(KEYS[:2]), rows([0, 1]))
    add(space, [2])
    assert np.array_equal(space.read(KEYS[:3]), rows([0, 1, 2]))
    assert reopened(folder).missing(KEYS[:3]) == KEYS[:2]
    assert other.spaces()[0].description == {"a": 1}


def test_a_file_that_vanishes_after_the_space_was_opened_is_not_there(folder: Path) -> None:
    add(reopened(folder), [0, 1])
    space = reopened(folder)
    FeatureStore(folder, 0).clear()
    assert space.missing(KEYS[:2]) == KEYS[:2]


def test_a_row_that_vanished_is_not_taken_for_one_of_no_bytes(folder: Path) -> None:
    with_the_checksum_of_none = b"\x9d\x0a\xd9\x6d"
    assert zlib.crc32(with_the_checksum_of_none) == zlib.crc32(b"")
    with reopened(folder).writer() as writer:
        writer.add(KEYS[:1], np.frombuffer(with_the_checksum_of_none, np.float32))
    space = reopened(folder)
    FeatureStore(folder, 0).clear()
    assert space.missing(KEYS[:1]) == KEYS[:1]


def test_clear_takes_only_the_spaces_named(folder: Path) -> None:
    paths = stored(folder, ("a", 0, 9), ("b", 0, 9), ("b", 1, 9))
    size = sum(paths[name].stat().st_size for name in ("b0", "b1"))
    store = FeatureStore(folder, 0)
    assert store.clear([key_of({"name": "b"}), "0" * 32]) == size
    assert segments(folder) == [paths["a0"]]
    assert store.clear([]) == 0
    assert store.clear() > 0
    assert list(folder.iterdir()) == []


def test_spaces_are_described_last_used_first(folder: Path) -> None:
    stored(folder, ("a", 0, 500), ("b", 0, 100), ("a", 1, 300))
    for path in folder.glob("*/space.json"):
        os.utime(path, (0, 0))
    first, second = FeatureStore(folder, 0).spaces()
    assert (first.key, first.description, first.features) == (
        key_of({"name": "b"}),
        {"name": "b"},
        1,
    )
    assert (second.description, second.features) == ({"name": "a"}, 2)
    assert first.bytes + second.bytes == total(folder)
    assert abs(time.time() - 300 - second.last_used.timestamp()) < 60


def test_listing_a_damaged_store_does_not_raise(folder: Path) -> None:
    assert FeatureStore(folder, 0).spaces() == []
    (path,) = stored(folder, ("a", 0, 9)).values()
    (path.parent / "space.json").write_bytes(b"\xff{")
    (path.parent / "0.rows").write_bytes(b"nothing")
    (path.parent / "1.rows").mkdir()
    (path.parent / "strange").write_bytes(b"12345")
    (folder / "strange").mkdir()
    (folder / ("0" * 32)).write_bytes(b"a file")
    (folder / ("1" * 32)).mkdir()
    (folder / ("2" * 32)).mkdir()
    (folder / ("2" * 32) / "space.json").write_text("[1]")
    infos = {info.key: info for info in FeatureStore(folder, 0).spaces()}
    assert set(infos) == {path.parent.name, "2" * 32}
    assert infos[path.parent.name].description == infos["2" * 32].description == {}
    assert infos[path.parent.name].features == 1
    store = FeatureStore(folder, 0)
    store.make_room(10)
    store.clear()
    assert (folder / "strange").exists()
    assert not path.exists()


def test_what_is_above_the_limit_is_refused_with_both_figures(folder: Path) -> None:
    store = FeatureStore(folder, 2_000_000_000)
    assert store.refusal(2_000_000_000) == ""
    assert store.refusal(12_340_000_000) == (
        "12.34 GB are needed, more than the limit of 2.00 GB (cache.limit_gb)"
    )


def test_rows_in_use_count_against_the_limit_and_others_do_not(folder: Path) -> None:
    stored(folder, ("a", 0, 9), ("b", 0, 9))
    store = FeatureStore(folder, 10_000)
    space = store.open({"name": "a"})
    assert store.refusal(10_000) == ""
    assert space.missing([key(0)]) == []
    assert "cache.limit_gb" in store.refusal(10_000)
    assert store.refusal(5_000) == ""


def test_what_the_disk_has_no_room_for_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(folder, ("a", 0, 9))
    free = type("Usage", (), {"free": 3_000_000_000})
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: free)
    store = FeatureStore(folder, PLENTY)
    assert store.refusal(3_000_000_000) == ""
    assert store.refusal(3_100_000_000) == (
        f"3.10 GB are needed, but the disk of {folder} has only 3.00 GB free"
    )
    # What make_room would remove is free too.
    full = total(folder)
    free.free = 0
    assert " free" in FeatureStore(folder, full + 10).refusal(20)
    assert FeatureStore(folder, full).refusal(20) == ""


# Several processes


WORKER = """
import sys, time
from pathlib import Path
import numpy as np
from msft_core.features.space import Segmentation
from msft_core.features.store import FeatureStore

folder, what = Path(sys.argv[1]), sys.argv[2]
keys = [number.to_bytes(16, "little") for number in range(40)]
value = lambda key: np.full(50, key[0], np.float32)
end, rounds = time.monotonic() + 1.5, 0
while time.monotonic() < end or rounds < 3:
    rounds += 1
    if what == "evict":
        own = FeatureStore(folder, 3000)
        own.make_room(1000)
        if rounds % 5 == 0:
            own.clear()
        assert all(len(info.key) == 32 for info in own.spaces())
        continue
    own = FeatureStore(folder, 10**6, Segmentation(segment_seconds=0))
    space = own.open({"name": "a"})
    missing = space.missing(keys)
    own.make_room(len(missing) * 220)
    with space.writer() as writer:
        for i in range(0, len(missing), 7):
            some = missing[i : i + 7]
            writer.add(some, np.stack([value(key) for key in some]))
    for key, got in zip(keys, space.read(keys)):
        assert (got == value(key)).all()
    space.close()
print(rounds)
"""


def test_a_folder_removed_while_it_is_made_is_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(reopened(folder), [0])
    is_dir = Path.is_dir

    def removed_meanwhile(path: Path, **options: Any) -> bool:
        monkeypatch.setattr(Path, "is_dir", is_dir)
        FeatureStore(folder, 0).clear()
        return is_dir(path, **options)

    # mkdir(exist_ok=True) asks this once it has met the folder.
    monkeypatch.setattr(Path, "is_dir", removed_meanwhile)
    add(reopened(folder), [1])
    assert reopened(folder).missing(KEYS[:2]) == KEYS[:1]


def test_a_segment_that_is_evicted_as_soon_as_it_is_written_does_not_stop_its_writer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def evicted(path: Path, target: Path) -> Path:
        done = replace(path, target)
        if path.name.endswith(".rows.tmp"):
            FeatureStore(folder, 0).clear()
        return done

    monkeypatch.setattr(Path, "replace", evicted)
    add(reopened(folder), [0])
    monkeypatch.undo()
    assert reopened(folder).missing(KEYS[:1]) == KEYS[:1]


def test_processes_that_write_read_and_evict_at_once_do_not_harm_each_other(folder: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, folder, what],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for what in ("write", "write", "evict")
    ]
    for child in children:
        out, err = child.communicate(timeout=60)
        assert child.returncode == 0, err
        assert int(out) >= 3
    assert temporaries(folder) == []
    space = reopened(folder)
    keys = [key(number) for number in range(40)]
    there = [each for each in keys if each not in set(space.missing(keys))]
    assert all((got == each[0]).all() for each, got in zip(there, space.read(there), strict=True))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_by_what_is_written_or_read(folder: Path) -> None:
    code = """
import re, sys
from pathlib import Path
import numpy as np
from msft_core.features.store import FeatureStore
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1e3
keys = [number.to_bytes(16, "little") for number in range(2000)]
before = peak()
space = FeatureStore(Path(sys.argv[1]), 10**12).open({"a": 1})
with space.writer() as writer:
    for i in range(0, 2000, 20):
        writer.add(keys[i : i + 20], np.full((20, 25_000), i, np.float32))
written = peak()
space = FeatureStore(Path(sys.argv[1]), 10**12).open({"a": 1})
assert space.missing(keys) == []
for i in range(0, 2000, 20):
    assert (space.read(keys[i : i + 20]) == i).all()
print(written - before, peak() - before)
"""
    command = [sys.executable, "-c", code, str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert total(folder) > 200_000_000
    writing, reading = map(float, result.stdout.split())
    assert writing < 30
    assert reading < 30


def test_mindspore_is_not_imported() -> None:
    code = "import sys, msft_core.features.store; sys.exit('mindspore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

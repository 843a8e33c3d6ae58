from __future__ import annotations

import io
import pickle
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import msft_plugins.sample
from msft_core import Context, DatasetSplits, ImageTable
from msft_core.testing import RecordingReporter
from msft_plugins.sample import SampleSettings


def build(
    cache_dir: Path, reporter: RecordingReporter | None = None, **chosen: int
) -> DatasetSplits:
    context = Context(seed=0, cache_dir=cache_dir, reporter=reporter or RecordingReporter())
    splits = msft_plugins.sample.build_dataset("sample", SampleSettings(**chosen), context)
    assert splits is not None
    return splits


def blobs(table: ImageTable) -> list[bytes]:
    return [table.read(index) for index in range(len(table.ids))]


def decode(blob: bytes) -> Image.Image:
    with Image.open(io.BytesIO(blob)) as picture:
        picture.load()
        return picture


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drawn")


@pytest.fixture(scope="module")
def default(cache_dir: Path) -> DatasetSplits:
    return build(cache_dir)


def test_the_default_has_as_many_pictures_of_dogs_as_of_wolves(default: DatasetSplits) -> None:
    assert default.classes == ("dogs", "wolves")
    assert Counter(default.train.labels) == {0: 80, 1: 80}
    assert Counter(default.val.labels) == {0: 24, 1: 24}


def test_ids_name_split_and_class_in_the_order_of_the_labels(default: DatasetSplits) -> None:
    assert default.train.ids[0] == "train/dogs/000.jpg"
    assert default.val.ids[-1] == "val/wolves/023.jpg"
    for table in (default.train, default.val):
        named = [default.classes.index(image_id.split("/")[1]) for image_id in table.ids]
        assert named == list(table.labels)


def test_every_picture_is_an_rgb_jpeg_large_enough_to_crop_from(default: DatasetSplits) -> None:
    pictures = [decode(blob) for table in (default.train, default.val) for blob in blobs(table)]

    assert {(picture.format, picture.mode) for picture in pictures} == {("JPEG", "RGB")}
    assert all(256 <= side <= 320 for picture in pictures for side in picture.size)
    assert len({picture.size for picture in pictures}) > 3


def test_no_picture_is_there_twice(default: DatasetSplits) -> None:
    thumbnails = {
        decode(blob).convert("L").resize((8, 8)).tobytes()
        for table in (default.train, default.val)
        for blob in blobs(table)
    }
    assert len(thumbnails) == len(default.train.ids) + len(default.val.ids)


def test_the_user_is_told_that_the_pictures_are_drawn(default: DatasetSplits) -> None:
    assert "drawn" in default.description
    assert "not photographed" in default.description
    assert "nothing about real photographs" in default.description


def test_tables_are_picklable(default: DatasetSplits) -> None:
    copy = pickle.loads(pickle.dumps(default.val))
    assert (copy.ids, blobs(copy)) == (default.val.ids, blobs(default.val))


def rgb_cube(picture: Image.Image) -> np.ndarray:
    bins = np.asarray(picture).reshape(-1, 3) // 32
    counts = np.bincount(bins @ np.array([64, 8, 1]), minlength=512)
    return counts / len(bins)


def hsv_cube(picture: Image.Image) -> np.ndarray:
    return rgb_cube(picture.convert("HSV"))


def channels(picture: Image.Image) -> np.ndarray:
    bins = np.asarray(picture).reshape(-1, 3) // 8
    return np.concatenate([np.bincount(bins[:, c], minlength=32) for c in range(3)]) / len(bins)


@pytest.mark.parametrize("histogram", [rgb_cube, hsv_cube, channels])
def test_colours_alone_do_not_tell_dogs_from_wolves(
    default: DatasetSplits, histogram: Callable[[Image.Image], np.ndarray]
) -> None:
    def features(table: ImageTable) -> np.ndarray:
        return np.stack([histogram(decode(blob)) for blob in blobs(table)])

    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        {"logisticregression__C": [1e-4, 1e-3, 1e-2, 1e-1, 1.0]},
        cv=5,
    )
    search.fit(features(default.train), default.train.labels)

    assert search.score(features(default.val), default.val.labels) < 0.8


def test_drawing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    first = build(tmp_path / "a", train_per_class=2, val_per_class=1)
    second = build(tmp_path / "b", train_per_class=2, val_per_class=1)

    assert blobs(first.train) == blobs(second.train)
    assert blobs(first.val) == blobs(second.val)


def test_another_process_draws_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "import hashlib, io\n"
        "from msft_plugins.sample.tables import encode\n"
        "for name in ('train/dogs/000.jpg', 'val/wolves/000.jpg'):\n"
        "    print(hashlib.sha256(encode(name, seed=0)).hexdigest())\n"
    )

    def run(hash_seed: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert run("1") == run("2")
    assert len(set(run("1").split())) == 2


def test_a_picture_depends_on_seed_and_id_but_not_on_how_many_there_are(
    default: DatasetSplits, tmp_path: Path
) -> None:
    few = build(tmp_path, train_per_class=2, val_per_class=1)
    assert blobs(few.train)[:2] == blobs(default.train)[:2]
    assert few.val.read(1) == default.val.read(24)


def test_another_seed_draws_other_pictures(default: DatasetSplits, tmp_path: Path) -> None:
    other = build(tmp_path, seed=1, train_per_class=1, val_per_class=1)
    drawn = {*blobs(default.train), *blobs(default.val)}
    assert drawn.isdisjoint([*blobs(other.train), *blobs(other.val)])


@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(train=st.integers(1, 3), val=st.integers(1, 3), seed=st.integers())
def test_any_counts_and_any_seed_work(tmp_path: Path, train: int, val: int, seed: int) -> None:
    splits = build(tmp_path, seed=seed, train_per_class=train, val_per_class=val)

    assert Counter(splits.train.labels) == {0: train, 1: train}
    assert Counter(splits.val.labels) == {0: val, 1: val}
    assert not set(splits.train.ids) & set(splits.val.ids)


@pytest.mark.parametrize("wrong", [{"train_per_class": 0}, {"val_per_class": -1}, {"colour": 1}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        SampleSettings(**wrong)


def test_progress_counts_every_picture(tmp_path: Path) -> None:
    reporter = RecordingReporter()
    build(tmp_path, reporter, train_per_class=2, val_per_class=1)
    assert reporter.done == 6
    assert reporter.warnings == []


def test_a_second_run_draws_nothing_and_reads_the_same(tmp_path: Path) -> None:
    first = build(tmp_path, train_per_class=1, val_per_class=1)
    reporter = RecordingReporter()
    second = build(tmp_path, reporter, train_per_class=1, val_per_class=1)

    assert reporter.done == 0
    assert (blobs(second.train), blobs(second.val)) == (blobs(first.train), blobs(first.val))
    assert len(list((tmp_path / "sample").iterdir())) == 1


def test_what_is_kept_can_be_opened_and_looked_at(tmp_path: Path) -> None:
    splits = build(tmp_path, train_per_class=1, val_per_class=1)
    (kept,) = (tmp_path / "sample").iterdir()
    with zipfile.ZipFile(kept) as archive:
        assert archive.namelist() == [*splits.train.ids, *splits.val.ids]
        assert archive.read("val/wolves/000.jpg") == splits.val.read(1)


def cut(blob: bytes) -> bytes:
    return blob[: len(blob) // 2]


def flip(blob: bytes) -> bytes:
    middle = len(blob) // 2
    return blob[:middle] + bytes([blob[middle] ^ 1]) + blob[middle + 1 :]


def claim_encryption(blob: bytes) -> bytes:
    flags = blob.rindex(b"PK\1\2") + 8
    return blob[:flags] + b"\1" + blob[flags + 1 :]


def empty(_: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [cut, flip, claim_encryption, empty])
def test_a_damaged_archive_is_drawn_again(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    first = build(tmp_path, train_per_class=1, val_per_class=1)
    (kept,) = (tmp_path / "sample").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    reporter = RecordingReporter()

    again = build(tmp_path, reporter, train_per_class=1, val_per_class=1)

    assert reporter.done == 4
    assert blobs(again.train) == blobs(first.train)
    assert kept.read_bytes() == whole


def test_a_cache_folder_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "sample").write_text("a file where the folder should be")
    reporter = RecordingReporter()

    splits = build(tmp_path, reporter, train_per_class=1, val_per_class=1)

    assert len(splits.train.ids) == 2
    assert len(reporter.warnings) == 1


def test_another_dataset_is_not_this_plugins() -> None:
    context = Context(seed=0, cache_dir=Path("unused"), reporter=RecordingReporter())
    assert msft_plugins.sample.build_dataset("folder", SampleSettings(), context) is None


def test_importing_the_plugin_imports_nothing_heavy() -> None:
    code = (
        "import sys, msft_plugins.sample\n"
        "list(msft_plugins.sample.list_components())\n"
        "print(sorted({'numpy', 'PIL', 'mindspore'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import msft_plugins.sample
from msft_core import Context, DatasetSplits, ImageTable
from msft_core.images import FileTable
from msft_core.testing import RecordingReporter
from msft_plugins.sample import SampleSettings

PICTURES = Path(msft_plugins.sample.__file__).parent / "pictures"


def build(**chosen: int) -> DatasetSplits:
    context = Context(seed=0, cache_dir=Path("unused"), reporter=RecordingReporter())
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
def default() -> DatasetSplits:
    return build()


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


def test_every_shipped_picture_is_used_and_found_by_its_id(default: DatasetSplits) -> None:
    shipped = {path.relative_to(PICTURES).as_posix() for path in PICTURES.rglob("*.jpg")}

    assert shipped == {*default.train.ids, *default.val.ids}
    for table in (default.train, default.val):
        assert isinstance(table, FileTable)
        assert table.paths == tuple(str(PICTURES / image_id) for image_id in table.ids)


@pytest.mark.parametrize(("train", "val"), [(1, 1), (2, 3), (80, 24)])
def test_smaller_counts_take_the_first_pictures_of_each_class(
    default: DatasetSplits, train: int, val: int
) -> None:
    few = build(train_per_class=train, val_per_class=val)

    for table, whole, count in ((few.train, default.train, train), (few.val, default.val, val)):
        each = len(whole.ids) // 2
        assert table.ids == (*whole.ids[:count], *whole.ids[each : each + count])
        assert Counter(table.labels) == {0: count, 1: count}


def test_nothing_is_written_to_the_cache_folder(tmp_path: Path) -> None:
    context = Context(seed=0, cache_dir=tmp_path, reporter=RecordingReporter())
    msft_plugins.sample.build_dataset("sample", SampleSettings(), context)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"train_per_class": 0},
        {"train_per_class": 81},
        {"val_per_class": -1},
        {"val_per_class": 25},
        {"colour": 1},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        SampleSettings(**wrong)


def test_the_seed_that_older_runs_recorded_is_accepted_and_any_other_is_refused() -> None:
    assert SampleSettings(seed=0) == SampleSettings()
    with pytest.raises(ValidationError, match=r"seed must be 0; tools/painter .* draws others"):
        SampleSettings(seed=1)


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

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import tarfile
import zipfile
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


# The painter in tools/. It needs the source tree, so each test starts it there.

ROOT = Path(__file__).parents[1]
COVERING = (
    "train/wolves/037.jpg",
    "train/dogs/010.jpg",
    "train/dogs/025.jpg",
    "val/wolves/017.jpg",
    "train/dogs/041.jpg",
    "train/dogs/077.jpg",
    "train/dogs/005.jpg",
    "train/dogs/045.jpg",
    "train/dogs/059.jpg",
)
"""Drawing these runs 94% of the painter's lines that all 208 pictures run."""


def paint(out: Path, *arguments: str) -> list[str]:
    """Run the painter; returns the sorted ids of what it drew."""
    subprocess.run(
        [sys.executable, "-m", "tools.painter", str(out), *arguments], cwd=ROOT, check=True
    )
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*"))


def difference(drawn: Path, shipped: Path) -> float:
    """Mean difference of two pictures in grey levels, 0 to 255; infinite for other sizes."""
    if drawn.read_bytes() == shipped.read_bytes():
        return 0.0
    a, b = (np.asarray(decode(path.read_bytes()), float) for path in (drawn, shipped))
    return float(np.abs(a - b).mean()) if a.shape == b.shape else float("inf")


# Pillow 11.3 to 13.0 draw the same bytes. Pillow 10.3 places a few single hairs differently, which
# is 0.06 at most. Raising the contrast of a head's fur from 0.09 to 0.10 is more than 0.1.
TOLERANCE = 0.1


def test_the_painter_still_draws_the_shipped_pictures(tmp_path: Path) -> None:
    assert paint(tmp_path, *COVERING) == sorted(COVERING)
    found = {name: difference(tmp_path / name, PICTURES / name) for name in COVERING}
    assert max(found.values()) <= TOLERANCE, found


@pytest.mark.slow
def test_the_painter_draws_all_shipped_pictures_by_default(
    tmp_path: Path, default: DatasetSplits
) -> None:
    ids = paint(tmp_path)
    assert ids == sorted([*default.train.ids, *default.val.ids])
    found = {name: difference(tmp_path / name, PICTURES / name) for name in ids}
    assert max(found.values()) <= TOLERANCE, found


def test_another_seed_draws_other_pictures(tmp_path: Path) -> None:
    ids = paint(tmp_path, "--seed", "1", "--train-per-class", "2", "--val-per-class", "1")
    assert ids == [
        "train/dogs/000.jpg",
        "train/dogs/001.jpg",
        "train/wolves/000.jpg",
        "train/wolves/001.jpg",
        "val/dogs/000.jpg",
        "val/wolves/000.jpg",
    ]
    assert min(difference(tmp_path / name, PICTURES / name) for name in ids) > 10


@pytest.mark.parametrize("name", ["../000.jpg", "train/cats/000.jpg", "train/dogs/0.jpg"])
def test_the_painter_refuses_names_it_cannot_draw(tmp_path: Path, name: str) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        paint(tmp_path / "out", name)
    assert not (tmp_path / "out").exists()


# The packages that are built


def build_package(target: str, out: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(out)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (package,) = out.iterdir()
    return package


def test_the_wheel_has_every_picture_and_no_tools(tmp_path: Path, default: DatasetSplits) -> None:
    with zipfile.ZipFile(build_package("wheel", tmp_path)) as wheel:
        names = set(wheel.namelist())
        for image_id in (*default.train.ids, *default.val.ids):
            inside = f"msft_plugins/sample/pictures/{image_id}"
            assert wheel.read(inside) == (PICTURES / image_id).read_bytes()
    assert not [name for name in names if name.startswith("tools") or "painter" in name]


def test_the_source_package_has_every_picture_and_the_painter(
    tmp_path: Path, default: DatasetSplits
) -> None:
    with tarfile.open(build_package("sdist", tmp_path)) as package:
        names = {name.split("/", 1)[-1] for name in package.getnames()}
    pictures = {f"plugins/msft_plugins/sample/pictures/{i}" for i in default.train.ids}
    pictures |= {f"plugins/msft_plugins/sample/pictures/{i}" for i in default.val.ids}
    assert pictures <= names
    assert "tools/painter/__main__.py" in names

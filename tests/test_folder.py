from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from image_kit import write_classes
from pydantic import ValidationError

import msft_plugins.folder
from msft_core import Context, DataError, DatasetSplits, MsftError, UsageError
from msft_core.folders import scan_class_folders
from msft_core.testing import RecordingReporter
from msft_plugins.folder import FolderSettings


def build(data_dir: Path | None, **settings: float) -> DatasetSplits:
    context = Context(seed=0, cache_dir=Path("unused"), reporter=RecordingReporter())
    chosen = FolderSettings(data_dir=data_dir, **settings)
    splits = msft_plugins.folder.build_dataset("folder", chosen, context)
    assert splits is not None
    return splits


def refusal(data_dir: Path | None) -> str:
    with pytest.raises(MsftError) as caught:
        build(data_dir)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    write_classes(tmp_path / "train", {"dogs": 10, "wolves": 15})
    write_classes(tmp_path / "val", {"dogs": 2, "wolves": 3})
    return tmp_path


def test_train_and_val_folders_become_the_splits(photographs: Path) -> None:
    splits = build(photographs)

    assert splits.classes == ("dogs", "wolves")
    assert splits.train.labels == (0,) * 10 + (1,) * 15
    assert splits.val.ids == tuple(
        f"val/{name}.jpg"
        for name in ("dogs/000", "dogs/001", "wolves/000", "wolves/001", "wolves/002")
    )
    assert splits.val.read(4) == (photographs / "val/wolves/002.jpg").read_bytes()
    assert splits.notes == ()


def test_ids_do_not_depend_on_where_the_folder_is(
    photographs: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(photographs, elsewhere)
    monkeypatch.chdir(elsewhere)

    assert build(Path()).train.ids == build(elsewhere).train.ids == build(photographs).train.ids


@pytest.mark.parametrize("name", ["valid", "validation", "Val"])
def test_other_names_of_the_val_folder_are_taken_and_said(photographs: Path, name: str) -> None:
    (photographs / "val").rename(photographs / name)

    splits = build(photographs)

    assert splits.val.ids[0] == f"{name}/dogs/000.jpg"
    assert splits.notes == (f"the validation images are in {name}/",)


def test_two_val_folders_are_refused(photographs: Path) -> None:
    write_classes(photographs / "valid", {"dogs": 1})

    assert refusal(photographs) == f"{photographs} has val/ and valid/: keep only one of them"


def test_the_test_folder_is_never_validated_on(photographs: Path) -> None:
    (photographs / "val").rename(photographs / "test")

    splits = build(photographs)

    assert all(name.startswith("train/") for name in (*splits.train.ids, *splits.val.ids))
    assert splits.notes == (
        "no val folder: 5 of the 25 images are held out for validation",
        "test/ is left alone: no run uses its images",
    )


def test_a_test_folder_beside_train_and_val_is_named(photographs: Path) -> None:
    shutil.copytree(photographs / "val", photographs / "test")
    assert build(photographs).notes == ("test/ is left alone: no run uses its images",)


def test_one_image_a_class_is_told_as_such(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 1, "b": 1})
    with pytest.raises(DataError, match="has a single image, so none can be held out"):
        build(tmp_path)


def test_without_a_val_folder_a_part_of_each_class_is_set_apart(photographs: Path) -> None:
    everything = set(build(photographs).train.ids)
    shutil.rmtree(photographs / "val")

    splits = build(photographs)

    assert sorted(splits.val.labels) == [0] * 2 + [1] * 3
    assert set(splits.train.ids) | set(splits.val.ids) == everything
    assert not set(splits.train.ids) & set(splits.val.ids)


def test_the_part_set_apart_depends_on_split_seed_alone(photographs: Path) -> None:
    shutil.rmtree(photographs / "val")

    assert build(photographs).val.ids == build(photographs).val.ids
    assert build(photographs).val.ids != build(photographs, split_seed=1).val.ids


def test_adding_an_image_moves_few_of_the_others(photographs: Path) -> None:
    shutil.rmtree(photographs / "val")
    before = set(build(photographs).val.ids)
    shutil.copy(photographs / "train/wolves/000.jpg", photographs / "train/wolves/zzz.jpg")

    after = set(build(photographs).val.ids)

    assert len(before - after) <= 1


def test_each_class_has_a_validation_image_however_small_the_part(photographs: Path) -> None:
    shutil.rmtree(photographs / "val")

    assert set(build(photographs, val_fraction=0.001).val.labels) == {0, 1}


def test_a_class_of_one_image_trains_on_it_and_is_named(photographs: Path) -> None:
    shutil.rmtree(photographs / "val")
    write_classes(photographs / "train", {"foxes": 1})

    splits = build(photographs)

    assert "train/foxes/000.jpg" in splits.train.ids
    assert splits.notes[-1] == (
        "validation has no image of class 'foxes': "
        "a class with a single image keeps it for training"
    )


def test_bare_class_folders_are_taken_for_train_and_that_is_said(photographs: Path) -> None:
    splits = build(photographs / "train")

    assert splits.classes == ("dogs", "wolves")
    assert len(splits.val.ids) == 5
    assert splits.notes[0] == (
        f"no train folder in {photographs / 'train'}: each folder in it is taken as a class"
    )
    assert splits.notes[1] == f"to validate on the val folder beside it, point at {photographs}"


def test_train_may_be_the_name_of_a_class(tmp_path: Path) -> None:
    write_classes(tmp_path, {"bus": 3, "train": 3, "ship/train": 3})

    assert build(tmp_path).classes == ("bus", "ship", "train")


def test_images_straight_in_train_are_explained(tmp_path: Path) -> None:
    write_classes(tmp_path, {"train": 3, "val": 2})

    train = tmp_path / "train"
    assert refusal(tmp_path) == f"no class folders in {train}: put images in {train}/CLASS/"


@pytest.mark.parametrize("name", ["val", "Test", "valid"])
def test_a_val_or_test_folder_is_never_taken_for_a_class(photographs: Path, name: str) -> None:
    shutil.rmtree(photographs / "val")
    (photographs / "train").rename(photographs / "dogs")
    write_classes(photographs / name, {"dogs": 1})

    assert refusal(photographs) == (
        f"{photographs} has {name}/ but no train/: put training images in train/CLASS/"
    )


def test_a_folder_above_the_right_one_gets_a_suggestion(photographs: Path) -> None:
    nested = photographs / "data" / "Canidae"
    nested.mkdir(parents=True)
    for name in ("train", "val"):
        (photographs / name).rename(nested / name)

    assert refusal(photographs) == f"no train folder in {photographs}: did you mean {nested}?"


def test_a_class_only_in_val_is_an_error_that_names_it(photographs: Path) -> None:
    write_classes(photographs / "val", {"foxes": 1})

    assert refusal(photographs) == (
        f"class 'foxes' in {photographs / 'val'} but not in {photographs / 'train'}, "
        "which has dogs, wolves"
    )


def test_a_class_missing_from_val_shifts_no_label(photographs: Path) -> None:
    shutil.rmtree(photographs / "val/dogs")

    splits = build(photographs)

    assert set(splits.val.labels) == {1}
    assert splits.notes == ("val/ has no image of class 'dogs'",)


def test_an_empty_class_is_an_error_that_names_it(photographs: Path) -> None:
    (photographs / "train/foxes").mkdir()

    assert refusal(photographs) == (
        f"class 'foxes' has no images: {photographs / 'train/foxes'} is empty"
    )


def test_one_class_is_not_enough(photographs: Path) -> None:
    shutil.rmtree(photographs / "train/dogs")

    assert "only one class, 'wolves'" in refusal(photographs)


def test_a_folder_without_folders_is_explained(tmp_path: Path) -> None:
    assert refusal(tmp_path) == (f"no class folders in {tmp_path}: put images in {tmp_path}/CLASS/")


def test_an_empty_val_folder_is_an_error(photographs: Path) -> None:
    shutil.rmtree(photographs / "val")
    (photographs / "val").mkdir()

    val = photographs / "val"
    assert refusal(photographs) == f"no images in {val}: put images in {val}/CLASS/"


def test_without_data_dir_the_option_is_named() -> None:
    with pytest.raises(
        UsageError, match=r"^dataset folder needs your images: give --data-dir DIR$"
    ):
        build(None)


def test_a_misspelt_folder_gets_a_suggestion(photographs: Path) -> None:
    wrong = photographs / "trian" / "deeper"

    assert refusal(wrong) == f"there is no folder {wrong}: did you mean {photographs / 'train'}?"


def test_a_file_is_not_a_folder(photographs: Path) -> None:
    path = photographs / "train/dogs/000.jpg"

    assert refusal(path) == f"{path} is a file, not a folder of images"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_folder_that_may_not_be_read_is_named(photographs: Path) -> None:
    (photographs / "train/dogs").chmod(0)
    try:
        assert "Permission denied" in refusal(photographs)
    finally:
        (photographs / "train/dogs").chmod(0o700)


@pytest.mark.parametrize("value", [0, 1, -0.5])
def test_a_part_that_is_all_or_nothing_is_refused(value: float) -> None:
    with pytest.raises(ValidationError):
        FolderSettings(val_fraction=value)


def test_scanning_goes_deep_and_leaves_out_litter(tmp_path: Path) -> None:
    write_classes(tmp_path, {"b/deep/er": 1, "b": 1, "a": 1, ".hidden": 1, "__MACOSX": 1})
    for name in ("b/.DS_Store", "b/._000.jpg", "b/Thumbs.db", "b/desktop.ini", "loose.jpg"):
        (tmp_path / name).write_bytes(b"litter")

    found = scan_class_folders(tmp_path)

    assert {
        name: [path.relative_to(tmp_path).as_posix() for path in paths]
        for name, paths in found.items()
    } == {"a": ["a/000.jpg"], "b": ["b/000.jpg", "b/deep/er/000.jpg"]}


def test_links_are_followed_but_not_round_and_round(tmp_path: Path) -> None:
    write_classes(tmp_path, {"data/a": 1, "outside": 2})
    (tmp_path / "data/b").symlink_to(tmp_path / "outside")
    (tmp_path / "outside/again").symlink_to(tmp_path / "outside")
    (tmp_path / "data/a/broken.jpg").symlink_to(tmp_path / "nowhere.jpg")

    found = scan_class_folders(tmp_path / "data")

    assert [path.name for path in found["a"]] == ["000.jpg", "broken.jpg"]
    assert [path.name for path in found["b"]] == ["000.jpg", "001.jpg"]


def test_another_name_is_left_to_other_plugins() -> None:
    context = Context(seed=0, cache_dir=Path("unused"), reporter=RecordingReporter())

    assert msft_plugins.folder.build_dataset("canidae", FolderSettings(), context) is None


@pytest.mark.parametrize("plugin", ["msft_plugins.folder", "msft_plugins.canidae"])
def test_listing_what_a_plugin_offers_imports_nothing_heavy(plugin: str) -> None:
    code = (
        f"import sys, {plugin}; list({plugin}.list_components()); "
        "print([name for name in ('numpy', 'PIL', 'mindspore') if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"

from __future__ import annotations

import io
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
from msft_core import DatasetSplits, UsageError
from msft_core.testing import CommandLine, MsftRun, assert_dataset
from PIL import Image
from sklearn.datasets import load_digits

from msft_digits import MARGIN, DigitsSettings, build_dataset


def splits(**settings: Any) -> DatasetSplits:
    built = build_dataset("digits", DigitsSettings(**settings))
    assert built is not None
    return built


def test_it_honours_the_contract() -> None:
    assert_dataset("digits", settings={"per_class": 6})


def test_all_1797_digits_are_there_once() -> None:
    built = splits()
    assert len(set(built.train.ids) | set(built.val.ids)) == 1797
    assert len(built.train.ids) + len(built.val.ids) == 1797


def test_a_picture_is_scikit_learns_within_its_margin() -> None:
    built, digits = splits(), load_digits()
    for index, image_id in enumerate(built.val.ids):
        row = int(image_id.removeprefix("digit-"))
        pixels = np.asarray(Image.open(io.BytesIO(built.val.read(index))))
        inner = pixels[MARGIN:-MARGIN, MARGIN:-MARGIN]
        assert inner.shape == (8, 8)
        assert np.array_equal(np.rint(inner * (16 / 255)), digits.images[row])
        assert pixels.sum() == inner.sum()
        assert built.classes[built.val.labels[index]] == str(digits.target[row])


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_each_digit_is_divided_alike(fraction: float) -> None:
    built = splits(val_fraction=fraction)
    train, val = Counter(built.train.labels), Counter(built.val.labels)
    for label in range(10):
        assert val[label] == round(fraction * (train[label] + val[label]))


def test_the_seed_decides_which_are_set_apart() -> None:
    assert splits().val.ids == splits().val.ids
    assert set(splits().val.ids) != set(splits(split_seed=1).val.ids)


def test_few_classes_and_few_images_of_each() -> None:
    built = splits(classes=[7, 2], per_class=5)
    assert built.classes == ("2", "7")
    assert Counter(built.train.labels) == {0: 4, 1: 4}
    assert Counter(built.val.labels) == {0: 1, 1: 1}


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_neither_split_is_ever_empty(fraction: float) -> None:
    built = splits(val_fraction=fraction, per_class=2)
    assert set(built.train.labels) == set(built.val.labels) == set(range(10))


@pytest.mark.parametrize(
    "settings", [{"classes": [3]}, {"classes": [3, 10]}, {"per_class": 1}, {"val_fraction": 1}]
)
def test_a_senseless_setting_is_refused_before_anything_runs(
    msft_run: MsftRun, settings: dict[str, Any]
) -> None:
    (key,) = settings
    with pytest.raises(UsageError, match=f"dataset.{key}"):
        msft_run(dataset={"name": "digits", **settings})


def test_a_small_network_learns_to_tell_zero_from_one(msft_run: MsftRun) -> None:
    report = msft_run(
        dataset={"name": "digits", "classes": [0, 1]},
        backbone={"name": "tiny", "width": 16},
        strategy={"name": "finetune", "optimizer": "adam", "learning_rate": 0.03, "stage_decay": 1},
        data={"flip": 0},
        training={"epochs": 5},
    )
    assert report.best is not None
    assert report.best.value > 0.9


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, msft_digits; print(*{'numpy', 'sklearn', 'mindspore'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_command_line_trains_on_it(msft_cli: CommandLine) -> None:
    done = msft_cli(
        *("run", "--plugin", "msft_core.testing.tiny", "--backbone", "tiny"),
        *("--dataset", "digits", "--set", "dataset.per_class=10", "--set", "data.flip=0"),
        *("--strategy", "finetune", "--epochs", "1"),
    )
    assert done.returncode == 0, done.stderr
    assert "digits of scikit-learn" in done.stdout

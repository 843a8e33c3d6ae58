"""``msft evaluate``: which images are measured, what is said of them, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Msft
from disk_kit import disk_that_takes

import msft_core
from msft_core import (
    Component,
    Context,
    DataError,
    DatasetSplits,
    MsftError,
    Predictions,
    Settings,
    TrainingError,
    UsageError,
    hookimpl,
)
from msft_core.cli.evaluate import print_evaluation
from msft_core.engine.evaluate import Evaluation
from msft_core.engine.evaluate import evaluate as evaluate_run
from msft_core.images import MemoryTable
from msft_core.runs.predictions_file import read_predictions
from msft_core.testing import RecordingReporter, tiny

CLASSES = tiny.CLASSES
TINY = ("--plugin", "msft_core.testing.tiny")


def write_folder(root: Path, counts: Mapping[str, int], start: int = 0) -> Path:
    """Class folders of blue and red pictures; ``green`` is blue under another name."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(start, start + count):
            content = tiny.picture(int(name == "red"), number)
            (root / name / f"{number:03}.jpg").write_bytes(content)
    return root


def train(out: Path, *plugins: object, **sections: Any) -> Path:
    quick = {
        "dataset": "tiny",
        "backbone": "tiny",
        "strategy": {"name": "finetune", "learning_rate": 0.05},
        "training": {"epochs": 1, "batch_size": 8},
        "without": ["figures", "report"],
    }
    return msft_core.run(
        quick | sections,
        plugins=[tiny, *plugins],
        out=out,
        reporter=RecordingReporter(),
    ).folder


def evaluate(run: Path, *plugins: object, **options: Any) -> Evaluation:
    options.setdefault("reporter", RecordingReporter())
    return evaluate_run(run, objects=[tiny, *plugins], **options)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield tmp_path_factory.mktemp("evaluate")


@pytest.fixture(scope="module")
def finished(scratch: Path) -> Path:
    """A run on the tiny dataset."""
    return train(scratch / "tiny")


@pytest.fixture(scope="module")
def photographs(scratch: Path) -> Path:
    """Class folders alone, of which a run holds out a part."""
    return write_folder(scratch / "photographs", {"blue": 12, "red": 12})


@pytest.fixture(scope="module")
def of_folder(scratch: Path, photographs: Path) -> Path:
    """A run on ``photographs``."""
    return train(
        scratch / "folder",
        dataset={"name": "folder", "data_dir": str(photographs), "val_fraction": 0.3},
    )


@pytest.fixture(scope="module")
def splits(scratch: Path) -> Path:
    """Folders train, val and test, with an image that does not decode in two of them."""
    root = scratch / "splits"
    for start, (name, blue, red) in enumerate((("train", 8, 8), ("val", 2, 2), ("test", 3, 2))):
        write_folder(root / name, {"blue": blue, "red": red}, start=100 * start)
    for name in ("train", "val"):
        (root / name / "red/broken.jpg").write_text("no image")
    return root


@pytest.fixture(scope="module")
def of_splits(scratch: Path, splits: Path) -> Path:
    """A run on ``splits``."""
    return train(scratch / "run", dataset={"name": "folder", "data_dir": str(splits)})


# Its own images


def test_the_runs_own_val_has_the_probabilities_of_predictions_csv_to_the_bit(
    finished: Path,
) -> None:
    found = evaluate(finished).measures.predictions
    of_run = read_predictions(finished / "predictions.csv")

    assert found.ids == of_run.ids
    assert np.array_equal(found.probabilities, of_run.probabilities)
    assert np.array_equal(found.labels, of_run.labels)


def test_a_single_image_goes_through_a_padded_batch_as_in_the_run(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from msft_core.runs.classifier import Classifier

    # The quick way for one image gives other last digits, though not with this small network.
    monkeypatch.delattr(Classifier, "_alone")
    folder = write_folder(tmp_path / "bare", {"blue": 1}, start=500)
    assert len(evaluate(finished, data_dir=folder).measures.predictions.ids) == 1


def test_the_accuracy_is_the_runs(finished: Path) -> None:
    found = evaluate(finished)
    line = json.loads((finished / "metrics.jsonl").read_text())
    assert found.figures["accuracy"].value == line["val"]["accuracy"]
    assert found.figures["loss"].value == pytest.approx(line["val"]["loss"], abs=1e-6)
    assert found.metrics == {}  # the metric accuracy says the same
    assert found.trained_on == ()
    assert found.warnings == ()


def test_held_out_images_are_the_ones_that_the_run_held_out(
    of_folder: Path, photographs: Path
) -> None:
    of_run = read_predictions(of_folder / "predictions.csv")
    assert len(of_run.ids) == 8
    assert evaluate(of_folder).measures.predictions.ids == of_run.ids


@pytest.mark.parametrize("spelling", ["{}", "{}/", "{}/../photographs", "link"])
def test_the_folder_that_the_run_was_trained_on_is_never_evaluated_as_a_whole(
    of_folder: Path, photographs: Path, tmp_path: Path, spelling: str
) -> None:
    given = spelling.format(photographs)
    if spelling == "link":
        (tmp_path / "link").symlink_to(photographs)
        given = str(tmp_path / "link")
    found = evaluate(of_folder, data_dir=given)

    assert found.measures.predictions.ids == read_predictions(of_folder / "predictions.csv").ids
    assert any("trained on" in note for note in found.notes)


def test_a_copy_of_the_training_folder_is_evaluated_with_a_warning(
    of_folder: Path, photographs: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(photographs, tmp_path / "copy")
    found = evaluate(of_folder, data_dir=copy)

    assert len(found.measures.predictions.ids) == 24
    assert found.trained_on is not None
    assert len(found.trained_on) == 16
    assert "16 of the 24 images are training images" in found.warnings[0]


def test_train_is_evaluated_when_asked_for_and_said_to_be(finished: Path) -> None:
    found = evaluate(finished, split="train")
    assert len(found.measures.predictions.ids) == 16
    assert "training images" in found.warnings[0]


def test_images_that_came_after_the_run_are_said_to_be_new(
    of_folder: Path, photographs: Path
) -> None:
    assert evaluate(of_folder).warnings == ()

    write_folder(photographs, {"blue": 30, "red": 30}, start=100)
    try:
        warning = evaluate(of_folder).warnings[0]
    finally:
        for path in photographs.glob("*/1*.jpg"):
            path.unlink()
        write_folder(photographs, {"blue": 12, "red": 12})
    assert "the images have changed since the run" in warning
    assert "validation images are new" in warning


def test_images_of_another_content_than_in_the_run_are_named(
    of_folder: Path, photographs: Path
) -> None:
    name = read_predictions(of_folder / "predictions.csv").ids[0]
    path = photographs / name
    before = path.read_bytes()
    other = "red" if path.parent.name == "blue" else "blue"
    path.write_bytes(tiny.picture(("blue", "red").index(other), 7777))
    try:
        warnings = evaluate(of_folder).warnings
    finally:
        path.write_bytes(before)
    assert any(f"the first is {name}: were they changed after the run?" in w for w in warnings)


def test_a_run_that_validated_on_augmented_images_is_told_that_these_figures_differ(
    finished: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    config = (run / "config.toml").read_text()
    assert "augment_validation = false" in config
    (run / "config.toml").write_text(
        config.replace("augment_validation = false", "augment_validation = true")
    )
    assert "augment_validation" in evaluate(run).warnings[0]


# Other folders


def test_a_folder_with_val_is_evaluated_on_val(finished: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "d/train", {"blue": 3, "red": 3}, start=500)
    write_folder(tmp_path / "d/val", {"blue": 1, "red": 2}, start=600)
    found = evaluate(finished, data_dir=tmp_path / "d")

    assert found.measures.predictions.ids == (
        "val/blue/600.jpg",
        "val/red/600.jpg",
        "val/red/601.jpg",
    )
    assert len(evaluate(finished, data_dir=tmp_path / "d", split="train").measures.hits) <= 6


def test_of_bare_class_folders_all_images_are_evaluated_and_a_note_says_so(
    finished: Path, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "bare", {"blue": 3, "red": 3}, start=500)
    found = evaluate(finished, data_dir=folder)
    assert len(found.measures.predictions.ids) == 6
    assert any("all images" in note for note in found.notes)


def test_fewer_classes_are_mapped_by_name(finished: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "red only", {"red": 4}, start=500)
    found = evaluate(finished, data_dir=folder)

    assert found.measures.predictions.labels.tolist() == [1] * 4
    assert found.measures.predictions.classes == CLASSES
    assert found.figures["auroc"].value is None
    assert any("no image of class 'blue'" in note for note in found.notes)


def test_a_class_that_the_run_does_not_know_is_refused_with_both_lists(
    finished: Path, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "more", {"blue": 1, "green": 1}, start=500)
    with pytest.raises(DataError) as caught:
        evaluate(finished, data_dir=folder)
    message = str(caught.value)
    assert "\n" not in message
    assert "'green'" in message
    assert "the folder has blue, green; the classifier has blue, red" in message


def test_test_is_read_only_when_asked_for(of_splits: Path, splits: Path) -> None:
    assert len(evaluate(of_splits).measures.predictions.ids) == 4
    found = evaluate(of_splits, split="test")
    assert len(found.measures.predictions.ids) == 5
    assert all(name.startswith("test/") for name in found.measures.predictions.ids)
    assert found.warnings == ()

    copy = splits / "test/blue/copy.jpg"
    shutil.copy(splits / "train/blue/000.jpg", copy)
    warning = evaluate(of_splits, split="test").warnings[0]
    copy.unlink()
    assert "1 of the 6 images are training images" in warning


@pytest.mark.parametrize(
    ("arrange", "options", "said"),
    [
        (lambda d: None, {"split": "tests"}, "use train, val, test"),
        (lambda d: None, {"split": "test"}, "no test split"),
        (lambda d: None, {"data_dir": "there is none"}, "there is no folder"),
        (lambda d: (d / "empty").mkdir(), {"data_dir": "empty"}, "no images in"),
        (
            lambda d: write_folder(d / "x/train", {"blue": 1}),
            {"data_dir": "x"},
            "no val folder; it has train/ (--split train)",
        ),
        (lambda d: None, {"settings": {"a": 1}}, "--dataset NAME"),
        (lambda d: None, {"dataset": "tiny", "split": "test"}, "no test split"),
        (lambda d: None, {"dataset": "tini"}, "Did you mean 'tiny'"),
        (lambda d: None, {"dataset": "tiny", "settings": {"colour": 1}}, "unknown setting"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_a_line(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arrange: Callable[[Path], object],
    options: dict[str, Any],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    arrange(tmp_path)
    with pytest.raises(MsftError) as caught:
        evaluate(finished, **options)
    assert said in str(caught.value)


def test_the_training_folder_without_a_test_folder_is_not_taken_for_one(
    of_folder: Path, photographs: Path
) -> None:
    for options in ({}, {"data_dir": photographs}):
        with pytest.raises(DataError, match="no test folder"):
            evaluate(of_folder, split="test", **options)


# Broken images


def test_images_that_do_not_decode_are_named_and_left_out(finished: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "bare", {"blue": 3, "red": 3}, start=500)
    (folder / "red/notes.txt").write_text("no image")
    reporter = RecordingReporter()
    found = evaluate(finished, data_dir=folder, reporter=reporter)

    assert len(found.measures.predictions.ids) == 6
    assert [one.id for one in found.skipped] == ["red/notes.txt"]
    assert any("red/notes.txt" in line for line in reporter.warnings)
    assert found.to_mapping()["skipped"][0]["file"] == "red/notes.txt"


def test_broken_images_of_the_runs_own_dataset_are_named_too(of_splits: Path) -> None:
    assert [one.id for one in evaluate(of_splits).skipped] == ["val/red/broken.jpg"]


def test_a_folder_of_which_no_image_decodes_is_refused(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "d/red").mkdir(parents=True)
    (tmp_path / "d/red/a.jpg").write_text("no image")
    with pytest.raises(DataError, match="none of the 1 images"):
        evaluate(finished, data_dir=tmp_path / "d")


# Other datasets, and a checkpoint alone


class Other:
    """A dataset with the tiny classes in another order, and one that the run does not know."""

    known = True

    @hookimpl
    def list_components(self) -> list[Component]:
        return [Component("dataset", "other", "red and blue")]

    @hookimpl
    def build_dataset(
        self, name: str, settings: Settings, context: Context
    ) -> DatasetSplits | None:
        if name != "other":
            return None
        rows = [(0, 1), (0, 2), (1, 1)]  # red, red, blue
        pictures = tuple(tiny.picture(1 - label, 700 + number) for label, number in rows)
        table = MemoryTable(("a", "b", "c"), tuple(label for label, _ in rows), pictures)
        return DatasetSplits(("red", "blue" if self.known else "green"), table, table)


class Stranger(Other):
    known = False


def test_another_datasets_classes_are_mapped_by_name(finished: Path) -> None:
    found = evaluate(finished, Other(), dataset="other")
    assert found.measures.predictions.labels.tolist() == [1, 1, 0]
    assert found.measures.predictions.classes == CLASSES


def test_another_dataset_with_an_unknown_class_is_refused(finished: Path) -> None:
    with pytest.raises(DataError, match=r"'green'.* has red, green; .* has blue, red"):
        evaluate(finished, Stranger(), dataset="other")


def test_the_runs_own_dataset_keeps_the_runs_settings_unless_they_are_changed(
    of_folder: Path,
) -> None:
    own = read_predictions(of_folder / "predictions.csv").ids
    assert evaluate(of_folder, dataset="folder").measures.predictions.ids == own
    other = evaluate(of_folder, dataset="folder", settings={"split_seed": 1})
    assert other.measures.predictions.ids != own
    assert "training images" in other.warnings[0]


def test_a_checkpoint_alone_is_evaluated_on_images_that_are_given(
    finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    alone = tmp_path / "empty/copy.ckpt"
    shutil.copy(finished / "best.ckpt", alone)
    with pytest.raises(UsageError, match=r"a checkpoint alone.*--data-dir DIR"):
        evaluate(alone)

    folder = write_folder(tmp_path / "bare", {"blue": 3, "red": 3}, start=500)
    found = evaluate(alone, data_dir=folder)
    whole = evaluate(finished, data_dir=folder)
    assert np.array_equal(
        found.measures.predictions.probabilities, whole.measures.predictions.probabilities
    )
    assert found.trained_on is None
    assert any("is not known" in note for note in found.notes)


def test_a_run_whose_dataset_is_gone_is_evaluated_on_other_images(
    of_splits: Path, splits: Path, tmp_path: Path
) -> None:
    other = write_folder(tmp_path / "bare", {"blue": 3, "red": 3}, start=500)
    elsewhere = splits.rename(splits.with_name("elsewhere"))
    try:
        with pytest.raises(MsftError, match="there is no folder"):
            evaluate(of_splits)
        found = evaluate(of_splits, data_dir=other)
    finally:
        elsewhere.rename(splits)
    assert len(found.measures.predictions.ids) == 6
    assert any("is not known" in note for note in found.notes)


# Metrics, networks that are broken


class Metric:
    """A metric of a plugin, and one that has the name of a figure of msft's."""

    @hookimpl
    def compute_metrics(self, predictions: Predictions) -> dict[str, float]:
        return {"share of red": float((predictions.predicted == 1).mean()), "f1": 0.5}


def test_metrics_of_plugins_have_intervals_too_and_hide_none_of_msfts(finished: Path) -> None:
    found = evaluate(finished, Metric())
    share = found.metrics["share of red"]
    assert share.resamples == 2000
    assert share.low is not None
    assert share.high is not None
    assert share.value is not None
    assert share.low <= share.value <= share.high
    assert found.metrics["f1"].value == 0.5
    assert found.figures["f1"].value == found.measures.f1


def test_outputs_that_are_not_finite_are_refused_by_name(finished: Path, tmp_path: Path) -> None:
    import mindspore as ms

    from msft_core.weights import read_checkpoint

    saved = read_checkpoint(finished / "best.ckpt")
    values = [
        {"name": name, "data": ms.Tensor(np.full_like(value, 3e38) if "head" in name else value)}
        for name, value in saved.arrays.items()
    ]
    assert any("head" in one["name"] for one in values)
    broken = tmp_path / "broken.ckpt"
    ms.save_checkpoint(values, str(broken), append_dict=dict(saved.metadata))
    folder = write_folder(tmp_path / "bare", {"blue": 3, "red": 3}, start=500)
    with pytest.raises(TrainingError, match=r"not finite for [1-6] of 6 images"):
        evaluate(broken, data_dir=folder)


def test_without_mistakes_the_accuracy_has_the_exact_interval_and_a_note_says_so(
    finished: Path, tmp_path: Path
) -> None:
    probable = evaluate(finished, split="train").measures.predictions
    right = int(np.flatnonzero(probable.predicted == probable.labels)[0])
    name = CLASSES[probable.labels[right]]
    (tmp_path / "d" / name).mkdir(parents=True)
    label, number = divmod(right, 8)
    (tmp_path / "d" / name / "one.jpg").write_bytes(tiny.picture(label, number))

    found = evaluate(finished, data_dir=tmp_path / "d")
    accuracy = found.figures["accuracy"]
    # One of one: from 2.5 % up, by Clopper and Pearson.
    assert (accuracy.value, accuracy.low, accuracy.high) == (1, pytest.approx(0.025), 1)
    assert "Clopper and Pearson" in found.notes[-1]


# The command line


def test_the_command_prints_tables_on_standard_output_and_says_the_rest_on_the_other(
    msft: Msft, finished: Path
) -> None:
    done = msft("evaluate", finished, *TINY, env={"COLUMNS": "60"})

    assert done.returncode == 0, done.stderr
    assert "95 % interval" in done.stdout
    assert "calibration error" in done.stdout
    assert "Confusion matrix" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 60
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout


def test_json_is_all_that_standard_output_holds_and_csv_is_like_predictions_csv(
    msft: Msft, finished: Path, tmp_path: Path
) -> None:
    csv = tmp_path / "found.csv"
    done = msft("evaluate", finished, *TINY, "--json", "--csv", csv)

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["images"] == 8
    assert found["classes"] == list(CLASSES)
    assert set(found["figures"]["accuracy"]) == {"value", "low", "high", "resamples", "undefined"}
    assert np.sum(found["confusion_matrix"]) == 8
    assert csv.read_bytes() == (finished / "predictions.csv").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--csv", "nowhere/x.csv"], "there is no folder nowhere"),
        (["--set", "training.epochs=3"], "only settings of the dataset"),
        (["--data-dir", "nowhere"], "there is no folder nowhere"),
    ],
)
def test_the_command_refuses_in_one_line_with_status_2(
    msft: Msft, finished: Path, arguments: list[str], said: str
) -> None:
    done = msft("evaluate", finished, *TINY, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def printed(found: Evaluation, monkeypatch: pytest.MonkeyPatch, capsys: Any, width: int) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    print_evaluation(found)
    out: str = capsys.readouterr().out
    return out


def test_long_names_and_many_classes_fit_into_sixty_columns(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    from msft_core.runs.intervals import intervals
    from msft_core.runs.measures import measure

    one = evaluate(finished)
    random = np.random.default_rng(0)
    for classes in (10, 40):
        values = random.dirichlet(np.ones(classes), 300).astype(np.float32)
        names = tuple(f"a class with a rather long name {n}" for n in range(classes))
        ids = tuple(f"val/{'deep folder/' * 5}\udcff{n}.jpg" for n in range(300))
        predictions = Predictions(ids, random.integers(0, classes, 300), values, names)
        many = replace(one, measures=measure(predictions), figures=intervals(predictions, 50))
        text = printed(many, monkeypatch, capsys, 60)
        assert max(map(len, text.splitlines())) <= 60
        assert ("Confusion matrix" in text) == (classes == 10)
        assert "the 10 surest" in text
        assert ("the 30 of 40 with the lowest F1" in text) == (classes == 40)
        assert "…" not in text  # no number is cut


def test_a_csv_that_does_not_fit_on_the_disk_is_a_line_and_leaves_nothing(
    finished: Path, tmp_path: Path
) -> None:
    found = evaluate(finished)
    with disk_that_takes(100), pytest.raises(MsftError, match=r"x\.csv cannot be written"):
        found.write_csv(tmp_path / "x.csv")
    assert list(tmp_path.iterdir()) == []

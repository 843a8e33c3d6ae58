"""A finished run as a classifier: msft_core.load, from the folder or from a checkpoint alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import msft_core
from msft_core import (
    Backbone,
    Classifier,
    DataError,
    MsftError,
    Prediction,
    UsageError,
    WeightsError,
    hookimpl,
)
from msft_core.engine.load import open_run
from msft_core.images import decode
from msft_core.runs.predictions_file import read_predictions, write_predictions
from msft_core.testing import RecordingReporter, tiny
from msft_core.weights import read_checkpoint

_VAL = tiny.table(4, start=1000)
BLOBS = dict(zip(_VAL.ids, _VAL.blobs, strict=True))
"""The validation images of the tiny dataset, by id."""


def train(folder: Path, strategy: str, **sections: Any) -> Path:
    return msft_core.run(
        {
            "dataset": "tiny",
            "backbone": "tiny",
            "strategy": strategy,
            "training": {"epochs": 2, "batch_size": 8},
            "callback": {"figures": {"enabled": False}, "report": {"enabled": False}},
            **sections,
        },
        plugins=[tiny],
        out=folder,
        reporter=RecordingReporter(),
    ).folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    parent = tmp_path_factory.mktemp("runs")
    before = os.environ.get("MSFT_CACHE")
    os.environ["MSFT_CACHE"] = str(parent / "cache")
    try:
        yield {name: train(parent / name, name) for name in ("freeze", "finetune")}
    finally:
        os.environ.pop("MSFT_CACHE")
        if before is not None:
            os.environ["MSFT_CACHE"] = before


@pytest.fixture(scope="module")
def classifier(runs: dict[str, Path]) -> Classifier:
    return msft_core.load(runs["freeze"], plugins=[tiny])


def in_order(predictions: list[Prediction]) -> np.ndarray[Any, Any]:
    return np.array([list(one.probabilities.values()) for one in predictions], np.float32)


@pytest.mark.parametrize("strategy", ["freeze", "finetune"])
def test_many_images_get_the_same_probabilities_to_the_bit_as_in_the_runs_evaluation(
    runs: dict[str, Path], strategy: str
) -> None:
    saved = read_predictions(runs[strategy] / "predictions.csv")
    assert set(saved.ids) == set(BLOBS)
    opened = msft_core.load(runs[strategy], plugins=[tiny])
    predicted = opened.predict([BLOBS[name] for name in saved.ids])
    assert np.array_equal(in_order(predicted), saved.probabilities)
    # Neither the other images nor the place in a batch changes one.
    some = opened.predict([BLOBS[saved.ids[5]], BLOBS[saved.ids[0]]])
    assert np.array_equal(in_order(some), saved.probabilities[[5, 0]])


@pytest.mark.parametrize("strategy", ["freeze", "finetune"])
def test_one_image_alone_has_nearly_the_same_probabilities(
    runs: dict[str, Path], strategy: str
) -> None:
    saved = read_predictions(runs[strategy] / "predictions.csv")
    opened = msft_core.load(runs[strategy], plugins=[tiny])
    for name, values in zip(saved.ids, saved.probabilities, strict=True):
        one = opened.predict(BLOBS[name])
        assert list(one.probabilities.values()) == pytest.approx(values.tolist(), abs=1e-5)
        assert one.class_name == opened.classes[int(values.argmax())]
        assert one.probability == max(one.probabilities.values())


def test_paths_bytes_pil_images_and_arrays_are_the_same_image(
    classifier: Classifier, tmp_path: Path
) -> None:
    data = BLOBS["red/1000.jpg"]
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    picture = decode(data)
    forms = [path, str(path), data, bytearray(data), picture, Image.open(path), np.asarray(picture)]
    values = in_order(classifier.predict(forms))
    assert (values == values[0]).all()
    array = np.stack([np.asarray(picture)] * 2)
    assert np.array_equal(in_order(classifier.predict(array)), values[:2])
    assert classifier.predict(iter([path]))[0].class_name == classifier.predict(path).class_name
    assert classifier.predict([]) == []


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("nowhere.jpg", "nowhere.jpg cannot be used: it cannot be read"),
        (b"not an image", "number 1 cannot be used: not an image"),
        (np.zeros((4, 4, 3)), "float64: give uint8"),
        (np.zeros((4, 4, 2), np.uint8), r"shape \(4, 4, 2\)"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
    ],
)
def test_what_is_no_image_is_named(classifier: Classifier, image: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        classifier.predict(image)


def test_a_wrong_image_among_many_is_named_by_its_place(classifier: Classifier) -> None:
    with pytest.raises(DataError, match=r"image number 2 cannot be used: a int is not an image"):
        classifier.predict([BLOBS["red/1000.jpg"], 7])
    with pytest.raises(DataError, match="it is a folder: give the images in it"):
        classifier.predict(".")


def test_it_says_what_it_is(classifier: Classifier, runs: dict[str, Path]) -> None:
    assert classifier.classes == tiny.CLASSES
    assert classifier.preprocessing.size == 16
    assert classifier.backbone.name == "tiny"
    assert classifier.info.strategy == "freeze"
    assert classifier.info.origins["strategy"].startswith("msft ")
    assert classifier.info.versions["mindspore"]
    assert classifier.path == runs["freeze"] / "best.ckpt"


def test_heat_maps_show_where_a_class_is_seen(classifier: Classifier) -> None:
    maps = classifier.explain(list(BLOBS.values())[:3])
    assert maps.shape == (3, 16, 16)
    assert maps.dtype == np.float32
    assert 0 <= maps.min() <= maps.max() <= 1
    one = classifier.explain(BLOBS["red/1000.jpg"], "red")
    assert one.shape == (16, 16)
    with pytest.raises(DataError, match="no class 'green': blue, red"):
        classifier.explain(BLOBS["red/1000.jpg"], "green")


def test_several_threads_may_use_it_beside_a_training_run(
    classifier: Classifier, tmp_path: Path
) -> None:
    images = list(BLOBS.values())
    expected = in_order(classifier.predict(images))
    alone = train(tmp_path / "alone", "finetune")
    found: list[bool] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            found.append(np.array_equal(in_order(classifier.predict(images)), expected))
            found.append(classifier.predict(images[0]).class_name in tiny.CLASSES)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    beside = train(tmp_path / "beside", "finetune")
    ended.set()
    for thread in threads:
        thread.join()
    assert len(found) >= 4
    assert all(found)
    ours, theirs = (read_checkpoint(run / "best.ckpt").arrays for run in (beside, alone))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_a_checkpoint_alone_is_enough_wherever_it_is(runs: dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(runs["freeze"] / "best.ckpt", tmp_path / "mine.ckpt")
    expected = msft_core.load(runs["freeze"], plugins=[tiny]).predict(BLOBS["red/1000.jpg"])
    assert msft_core.load(tmp_path / "mine.ckpt", plugins=[tiny]).predict(
        BLOBS["red/1000.jpg"]
    ) == pytest.approx(expected)


def test_a_notebook_may_keep_a_classifier_until_the_end(runs: dict[str, Path]) -> None:
    code = (
        "import msft_core\n"
        "from msft_core.testing import tiny\n"
        f"c = msft_core.load({str(runs['freeze'])!r}, plugins=[tiny])\n"
        f"d = msft_core.load({str(runs['finetune'])!r}, plugins=[tiny])\n"
        "print(c.predict(tiny.picture(1, 5)).class_name, d.predict(tiny.picture(0, 5)).class_name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert len(done.stdout.split()) == 2


# What cannot be opened


def test_a_path_that_leads_to_no_run_is_one_line(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run folder or checkpoint"):
        msft_core.load(tmp_path / "nothing")
    with pytest.raises(UsageError, match=r"is no run folder: did you mean .*freeze"):
        msft_core.load(runs["freeze"].parent)
    with pytest.raises(UsageError, match="Did you mean 'freeze'"):
        msft_core.load(runs["freeze"].with_name("freez"))
    copy = tmp_path / "copy"
    shutil.copytree(runs["freeze"], copy)
    for file in copy.glob("*.ckpt"):
        file.unlink()
    with pytest.raises(UsageError, match="has no checkpoint"):
        msft_core.load(copy)


def test_a_checkpoint_cut_short_or_of_another_program_is_one_line(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    whole = (runs["freeze"] / "best.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.ckpt").write_text("hello")
    for name in ("cut.ckpt", "text.ckpt"):
        with pytest.raises(WeightsError, match=name) as caught:
            msft_core.load(tmp_path / name, plugins=[tiny])
        assert "\n" not in str(caught.value)


def test_a_missing_plugin_is_named_with_the_package_to_install(runs: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match=r"backbone 'tiny' is not installed.*object in a Python"):
        msft_core.load(runs["freeze"])
    info = msft_core.load(runs["freeze"], plugins=[tiny]).info
    from dataclasses import replace

    from msft_core.plugins.loading import load_plugins
    from msft_core.runs import opening

    for origin, way in {
        "msft-birds 1.2.0": "came from msft-birds 1.2.0: pip install msft-birds",
        "--plugin net.py": "came from net.py: give it again, --plugin FILE",
    }.items():
        gone = replace(info, backbone="gone", origins={"backbone": origin})
        with pytest.raises(UsageError, match=way):
            opening.require(load_plugins(), "backbone", "gone", gone, Path("best.ckpt"))


class OtherWidth:
    """A later release of the plugin, whose network is another."""

    @hookimpl
    def build_backbone(self, name: str, num_classes: int) -> Backbone | None:
        return tiny.build_backbone(name, num_classes, tiny.TinyBackboneSettings(width=6))


def test_a_network_that_is_another_now_is_refused_with_both_releases(
    runs: dict[str, Path],
) -> None:
    with pytest.raises(WeightsError, match=r"shapes do not fit.*The run used run\(.*here is run\("):
        msft_core.load(runs["freeze"], plugins=[tiny, OtherWidth])


def test_opening_a_run_runs_no_code_that_its_files_name(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(runs["freeze"], copy)
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    config = copy / "config.toml"
    config.write_text(f'plugins = ["{evil}"]\n' + config.read_text())
    run = open_run(copy, objects=[tiny], reporter=RecordingReporter())
    assert run.config.backbone.name == "tiny"
    assert run.classifier.predict(BLOBS["red/1000.jpg"])
    assert len(run.splits.val.ids) == 8
    assert not (tmp_path / "ran").exists()


# A finished run as callbacks see it


def test_a_finished_run_has_what_the_live_one_had(runs: dict[str, Path]) -> None:
    run = open_run(runs["freeze"], objects=[tiny], reporter=RecordingReporter())
    lines = [json.loads(x) for x in (runs["freeze"] / "metrics.jsonl").read_text().splitlines()]
    assert [record.epoch for record in run.history] == [1, 2]
    assert run.best is not None
    at_best = lines[run.best.epoch - 1]["val"]
    assert run.best.value == at_best["accuracy"]
    figures = run.evaluate("val")
    assert figures["accuracy"] == at_best["accuracy"]
    assert figures["loss"] == pytest.approx(at_best["loss"], abs=1e-5)
    assert run.config.training.epochs == 2
    assert run.images("val", 4).pixels.shape == (4, 16, 16, 3)
    assert run.images("train", 5).pixels.shape == (5, 16, 16, 3)
    assert run.explain("val", run.splits.val.ids[:2]).shape == (2, 16, 16)
    assert run.evaluate("train")["accuracy"] >= 0
    with pytest.raises(UsageError, match="has ended"):
        run.stop("too late")


def test_last_ckpt_is_opened_as_itself_and_not_with_the_bests_predictions(
    runs: dict[str, Path],
) -> None:
    run = open_run(runs["freeze"] / "last.ckpt", objects=[tiny], reporter=RecordingReporter())
    assert run.best is None
    assert run.info.epoch == 2
    computed = run.classifier.predict_table(run.splits.val)
    assert np.array_equal(run.predictions("val").probabilities, computed.probabilities)


def test_predictions_csv_gives_every_bit_back(tmp_path: Path) -> None:
    values = np.random.default_rng(0).dirichlet([1, 1], 20).astype(np.float32)
    names = tuple(f'a "b", {i}\udc80.jpg' for i in range(20))
    predictions = msft_core.Predictions(names, np.arange(20) % 2, values, ("狗, 'x'", "p(q)"))
    again = read_predictions(write_predictions(tmp_path / "p.csv", predictions))
    assert again.ids == names
    assert again.classes == predictions.classes
    assert np.array_equal(again.labels, predictions.labels)
    assert np.array_equal(again.probabilities, values)


_NAMES = st.binary(max_size=6).map(os.fsdecode).filter(lambda name: "\0" not in name)
_ODD_NAMES = st.one_of(_NAMES, st.text("a\r\n\",;' \u2028\udc80", max_size=4))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(_ODD_NAMES, min_size=1, max_size=5),
    st.lists(_ODD_NAMES, min_size=2, max_size=4, unique=True),
)
def test_predictions_csv_gives_every_name_back(names: list[str], classes: list[str]) -> None:
    values = np.full((len(names), len(classes)), 1 / len(classes), np.float32)
    written = msft_core.Predictions(
        tuple(names), np.arange(len(names)) % len(classes), values, tuple(classes)
    )
    with tempfile.TemporaryDirectory() as folder:
        again = read_predictions(write_predictions(Path(folder, "p.csv"), written))
    assert again.ids == written.ids
    assert again.classes == written.classes
    assert np.array_equal(again.labels, written.labels)
    assert np.array_equal(again.probabilities, values)


@pytest.mark.parametrize("text", ["", "file,class\n", "file,class,predicted,probability,p(a)\n1,b"])
def test_a_damaged_predictions_csv_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(MsftError, match=r"p\.csv is damaged"):
        read_predictions(tmp_path / "p.csv")

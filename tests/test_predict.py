"""``msft predict``: what it takes, what it prints, and what it does with images that are broken."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import Msft
from PIL import Image

import msft_core
from msft_core import UsageError
from msft_core.engine.predict import find_images
from msft_core.runs.predictions_file import read_predictions
from msft_core.testing import RecordingReporter, tiny

PLUGIN = ("--plugin", "msft_core.testing.tiny")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    parent = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSFT_CACHE", str(parent / "cache"))
        yield msft_core.run(
            {
                "dataset": "tiny",
                "backbone": "tiny",
                "strategy": "freeze",
                "training": {"epochs": 1, "batch_size": 8},
                "callback": {"figures": {"enabled": False}, "report": {"enabled": False}},
            },
            plugins=[tiny],
            out=parent / "run",
            reporter=RecordingReporter(),
        ).folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """The validation images of the tiny dataset, as files."""
    folder = tmp_path / "photos"
    table = tiny.table(4, start=1000)
    for name, blob in zip(table.ids, table.blobs, strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(blob)
    return folder


def test_a_folder_as_json_has_the_probabilities_of_the_runs_evaluation(
    msft: Msft, run: Path, photos: Path
) -> None:
    done = msft("predict", run, photos, "--json", "--quiet", *PLUGIN)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    saved = read_predictions(run / "predictions.csv")
    assert [Path(line["file"]).relative_to(photos).as_posix() for line in lines] == list(saved.ids)
    for line, values in zip(lines, saved.probabilities, strict=True):
        assert set(line) == {"file", "class", "probability", "probabilities"}
        got = np.array([line["probabilities"][name] for name in saved.classes], np.float32)
        assert np.array_equal(got, values)
        assert line["probability"] == max(line["probabilities"].values())
        assert line["probabilities"][line["class"]] == line["probability"]


def test_a_checkpoint_with_one_flipped_bit_is_refused(
    msft: Msft, run: Path, photos: Path, tmp_path: Path
) -> None:
    content = bytearray((run / "best.ckpt").read_bytes())
    content[len(content) // 3] ^= 1
    damaged = tmp_path / "best.ckpt"
    damaged.write_bytes(content)
    done = msft("predict", damaged, photos, *PLUGIN)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {damaged}: the file is damaged (wrong checksum); download or copy it again\n"
    )


def test_one_image_is_a_table_with_a_bar_for_each_class(
    msft: Msft, run: Path, photos: Path
) -> None:
    done = msft("predict", run / "best.ckpt", photos / "red" / "1000.jpg", *PLUGIN)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line for line in done.stdout.splitlines() if "%" in line]
    assert [any(name in row for row in rows) for name in tiny.CLASSES] == [True, True]
    assert len(rows) == 2
    assert "█" in done.stdout
    assert "red" + os.sep + "1000.jpg" in done.stdout


def test_names_come_from_patterns_and_from_standard_input_each_once(
    run: Path, photos: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "msft_core", "predict", str(run), "-", "photos/**/1000.jpg"]
    done = subprocess.run(
        [*command, "--json", *PLUGIN],
        input="photos/red/1001.jpg\n\nphotos/red/1000.jpg\n",
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    files = [json.loads(line)["file"] for line in done.stdout.splitlines()]
    assert files == ["photos/red/1001.jpg", "photos/red/1000.jpg", "photos/blue/1000.jpg"]


def test_images_that_cannot_be_used_are_named_and_the_others_are_done(
    msft: Msft, run: Path, photos: Path
) -> None:
    (photos / "red" / "text.jpg").write_text("no picture")
    (photos / "notes.txt").write_text("no picture, and by its name none that is to be classified")
    (photos / "blue" / "cut.jpg").write_bytes((photos / "blue" / "1000.jpg").read_bytes()[:300])
    missing = photos / "missing.jpg"
    done = msft("predict", run, photos, missing, "--json", "--quiet", *PLUGIN)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 8
    told = done.stderr.splitlines()
    assert len(told) == 3
    assert any("text.jpg cannot be used: not an image (text)" in line for line in told)
    assert any("cut.jpg cannot be used: truncated" in line for line in told)
    assert any("missing.jpg cannot be used: it cannot be read" in line for line in told)


def test_files_in_a_folder_that_are_no_images_by_their_names_are_left_out(photos: Path) -> None:
    for name in ("notes.txt", "red/a.xlsx", "red/labels.CSV"):
        (photos / name).write_text("no picture")
    (photos / "red" / "upper.JPG").write_bytes(b"")
    (photos / "red" / "scan").write_bytes(b"")
    files, others = find_images([str(photos)])
    assert len(files) == 8 + 2
    assert [Path(one).name for one in others] == ["notes.txt", "a.xlsx", "labels.CSV"]
    named = str(photos / "notes.txt")
    files, others = find_images([named, str(photos)])
    assert files[0] == named
    assert [Path(one).name for one in others] == ["a.xlsx", "labels.CSV"]
    (photos / "empty").mkdir()
    (photos / "empty" / "a.txt").write_text("")
    with pytest.raises(UsageError, match="has no images among its 1 files"):
        find_images([str(photos / "empty")])


def test_a_stray_text_file_does_not_change_the_status_of_predict(
    msft: Msft, run: Path, photos: Path
) -> None:
    (photos / "notes.txt").write_text("no picture")
    done = msft("predict", run, photos, "--json", *PLUGIN)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 8
    assert "1 files are no images by their names, such as" in done.stderr


def test_csv_and_picture_are_written_and_nothing_else(
    msft: Msft, run: Path, photos: Path, tmp_path: Path
) -> None:
    table, picture = tmp_path / "p.csv", tmp_path / "p.png"
    done = msft(
        *("predict", run, photos, "--csv", table, "--picture", picture, "--explain"),
        *("--top", 2, *PLUGIN),
    )
    assert done.returncode == 0, done.stderr
    assert sum("%" in line for line in done.stdout.splitlines()) == 16
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert list(rows[0]) == ["file", "predicted", "probability", "p(blue)", "p(red)"]
    with Image.open(picture) as drawn:
        pixels = np.asarray(drawn.convert("RGB")).astype(int)
    # On the grey images, the heat maps are the only colour.
    assert (pixels[..., 0] - pixels[..., 1]).max() > 40
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "work", "p.csv", "p.png"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("RUN", "none/*.jpg"), "no file matches none/*.jpg"),
        (("RUN", "EMPTY"), "has no files"),
        (("NOWHERE", "PHOTOS"), "no run folder or checkpoint"),
        (("PHOTOS", "PHOTOS"), "is no run folder"),
        (("RUN", "PHOTOS", "--explain"), "give --picture FILE too"),
        (("RUN", "PHOTOS", "--picture", "photo.jpg"), "give a name that ends in .png"),
        (("RUN", "PHOTOS", "--csv", "no/such/folder.csv"), "there is no folder no/such"),
        (("RUN", "PHOTOS", "--csv", "OWN"), "is a file of the run"),
        (("RUN", "PHOTOS", "--device", "abacus"), "runtime.device = 'abacus'"),
    ],
)
def test_what_is_refused_is_one_line(
    msft: Msft, run: Path, photos: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"RUN": run, "EMPTY": tmp_path / "empty", "PHOTOS": photos, "NOWHERE": tmp_path / "x"}
    places["OWN"] = run / "predictions.csv"
    done = msft("predict", *(places.get(one, one) for one in arguments), *PLUGIN)
    assert done.returncode == 2, done.stdout
    assert done.stdout == ""
    assert message in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_without_its_plugin_a_run_is_refused_with_what_to_give(
    msft: Msft, run: Path, photos: Path
) -> None:
    done = msft("predict", run, photos)
    assert done.returncode == 2
    assert "the backbone 'tiny' is not installed" in done.stderr


def test_ctrl_c_between_images_ends_with_130(run: Path, photos: Path, tmp_path: Path) -> None:
    blob = (photos / "red" / "1000.jpg").read_bytes()
    for number in range(3000):
        (photos / "red" / f"copy{number}.jpg").write_bytes(blob)
    command = [sys.executable, "-m", "msft_core", "predict", str(run), str(photos), "--json"]
    process = subprocess.Popen(
        [*command, "--quiet", *PLUGIN],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "interrupted.\n")

"""report.html: what it says, that names do no harm, and what it does where parts are missing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, Msft
from disk_kit import TOO_LARGE, disk_that_takes
from report_kit import HOSTILE, SCRIPT, StandIn

import msft_core
import msft_plugins.report
from msft_core import UsageError, hookimpl
from msft_core.engine.load import open_run
from msft_core.engine.report import write_report
from msft_core.files import sha256_of
from msft_core.pages import charts
from msft_core.pages.texts import duration, percent, short
from msft_core.runs.intervals import intervals
from msft_core.testing import MsftRun, RecordingReporter, tiny

PAGES = Path(msft_core.__file__).parent / "pages"


def written(folder: Path, facts: Mapping[str, Any] | None = None, **run: Any) -> str:
    """The report of a stand-in, as text."""
    stand_in = StandIn(folder, **run).write_folder(**(facts or {}))
    return stand_in.pages.report(folder / "report.html").read_text(encoding="utf-8")


def plain(page: str) -> str:
    """What a reader reads: no markup, one space between words."""
    page = re.sub(r"<(style|svg).*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).replace("\u00a0", " ").split())


# Of real runs


WITH_REPORT = {"report": {"enabled": True}, "figures": {"enabled": False}}
"""The fixture ``msft_run`` leaves both out."""


def test_a_run_leaves_its_report_and_one_written_late_has_the_same_bytes(msft_run: MsftRun) -> None:
    folder = msft_run(callback=WITH_REPORT).folder
    first = (folder / "report.html").read_bytes()
    page = first.decode("utf-8")
    text = plain(page)
    assert re.search(r"classifies \d of 8 validation images correctly", text)
    assert "95 % interval" in text
    assert "chosen on these same images" in text
    assert "16 training images and 8 validation images in 2 classes" in text
    assert f"msft run --config {folder.resolve()}/config.toml" in text
    # Grad-CAM beside each picture, and the training images.
    assert page.count("Grad-CAM of the same picture") >= 6
    assert page.count('alt="Training image') == 14
    assert len(page) < 1_000_000

    (folder / "report.html").unlink()
    run = open_run(folder, modules=["msft_core.testing.tiny"], reporter=RecordingReporter())
    assert write_report(run) == folder / "report.html"
    assert (folder / "report.html").read_bytes() == first
    # A full disk is a line, and the report of before stays.
    with disk_that_takes(1000), pytest.raises(msft_core.MsftError) as caught:
        write_report(run)
    assert TOO_LARGE in str(caught.value)
    assert "report.html cannot be written" in str(caught.value)
    assert "the file of before is intact" in str(caught.value)
    assert (folder / "report.html").read_bytes() == first
    assert not [path for path in folder.iterdir() if path.name.startswith(".report")]


def test_two_runs_with_one_seed_differ_in_times_and_paths_only(msft_run: MsftRun) -> None:
    pages = []
    for _ in range(2):
        folder = msft_run(callback=WITH_REPORT, strategy="freeze").folder
        page = (folder / "report.html").read_text(encoding="utf-8")
        main = page[page.index("Mistakes and doubts</h2>") : page.index('<section id="again">')]
        pages.append(main)
    assert pages[0] == pages[1]


def test_environment_json_says_how_the_run_ended_and_what_trained(msft_run: MsftRun) -> None:
    class Warns:
        @hookimpl
        def on_epoch_end(self, epoch: int, run: Any) -> None:
            if epoch == 2:
                run.reporter.warning("the lamp is on")
                run.stop("enough")

    report = msft_run(
        [Warns()],
        callback=WITH_REPORT,
        strategy={"name": "gradual", "at": [2]},
        training={"epochs": 3},
    )
    facts = json.loads((report.folder / "environment.json").read_text())
    assert facts["status"] == "stopped"
    assert facts["reason"] == "enough"
    assert facts["seconds"] > 0
    assert facts["best"] == {
        "epoch": report.best.epoch,
        "metric": "accuracy",
        "value": report.best.value,
        "file": "best.ckpt",
        "sha256": sha256_of(report.best.path),
    }  # type: ignore[union-attr]
    assert facts["dataset"]["counts"] == {"train": [8, 8], "val": [4, 4]}
    assert facts["dataset"]["twins"] == []
    assert "the lamp is on" in facts["warnings"]
    assert {s["name"]: s["from_epoch"] for s in facts["stages"]} == {
        "first": None,
        "second": 2,
        "pool": None,
        "head": 1,
    }
    assert all(s["trained"] in (0, s["parameters"]) for s in facts["stages"])
    text = plain((report.folder / "report.html").read_text(encoding="utf-8"))
    assert "The run stopped early: enough." in text
    assert "the lamp is on" in text
    assert "trained from epoch 2" in text
    # They are no part of config.toml, so the command alone does not repeat the run.
    assert "started from Python with plugins that no file names: " in text


def test_an_interrupted_run_with_a_best_checkpoint_gets_a_report(msft_run: MsftRun) -> None:
    class Interrupts:
        @hookimpl(trylast=True)
        def on_epoch_end(self, epoch: int) -> None:
            if epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        msft_run([Interrupts()], callback=WITH_REPORT, training={"epochs": 3})
    text = plain((caught.value.args[0].folder / "report.html").read_text(encoding="utf-8"))
    assert "The run was interrupted." in text
    assert "classifies" in text


def test_a_failed_run_without_a_best_checkpoint_is_reported_without_predictions(
    msft_run: MsftRun,
) -> None:
    class Fails:
        @hookimpl(trylast=True)
        def on_epoch_end(self, epoch: int) -> None:
            raise UsageError("the dog ate it")

    with pytest.raises(msft_core.MsftError) as caught:
        msft_run([Fails()], callback=WITH_REPORT, without=["best_checkpoint"])
    report = caught.value.report
    assert report is not None
    text = plain((report.folder / "report.html").read_text(encoding="utf-8"))
    assert "This report has no predictions" in text
    assert "The run failed the dog ate it" in text


def test_a_report_that_fails_is_a_warning_and_keeps_the_old_one(
    msft_run: MsftRun, msft_reporter: RecordingReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(run: Any, path: Path) -> Path:
        raise OSError("no ink")

    monkeypatch.setattr("msft_core.pages.report.write_report", fails)
    report = msft_run(callback=WITH_REPORT)
    assert report.status == "completed"
    assert any("report.html was not written: OSError: no ink" in w for w in msft_reporter.warnings)
    assert not (report.folder / "report.html").exists()


def test_msft_report_on_the_command_line(msft: Msft) -> None:
    options = ("--without", "figures", "--epochs", "1", "--out", "out")
    assert msft("run", *TINY[:-2], *options).returncode == 0  # TINY leaves the report out
    given = ("--plugin", "msft_core.testing.tiny")
    done = msft("report", "out", *given, "--out", "runs.html")
    assert done.returncode == 0, done.stderr
    assert "Report runs.html" in done.stdout
    assert (msft.cwd / "runs.html").read_bytes() == (msft.cwd / "out/report.html").read_bytes()
    (msft.cwd / "runs.html").unlink()
    # Without the plugin of the dataset there are no pictures, but everything else. Such a report
    # does not replace one that has them.
    rich = (msft.cwd / "out/report.html").read_bytes()
    poorer = msft("report", "out")
    assert poorer.returncode == 2
    assert "only 0 can be had now. It is not replaced" in poorer.stderr
    assert (msft.cwd / "out/report.html").read_bytes() == rich
    assert msft("report", "out", "--out", "poor.html").returncode == 0
    text = plain((msft.cwd / "poor.html").read_text(encoding="utf-8"))
    (msft.cwd / "poor.html").unlink()
    assert "The pictures cannot be shown: " in text
    assert "classifies" in text
    refused = msft("report", "out", "--out", "no/such/folder.html")
    assert refused.returncode == 2
    assert (
        refused.stderr
        == "error: no/such/folder.html cannot be written: there is no folder no/such.\n"
    )


def test_a_late_report_shows_the_images_that_are_there_and_unchanged(
    tmp_path: Path, msft_run: MsftRun
) -> None:
    data = tmp_path / "data"
    for split, count in (("train", 6), ("val", 4)):
        table = tiny.table(count, start=0 if split == "train" else 1000)
        for name, blob in zip(table.ids, table.blobs, strict=True):
            path = data / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(blob)
    folder = msft_run(
        dataset={"name": "folder", "data_dir": str(data)},
        strategy={"name": "finetune", "learning_rate": 0.05},
    ).folder
    (data / "val" / "red" / "1000.jpg").unlink()
    (data / "val" / "blue" / "1001.jpg").write_bytes(tiny.picture(1, 5))
    run = open_run(folder, modules=["msft_core.testing.tiny"], reporter=RecordingReporter())
    page = write_report(run).read_text(encoding="utf-8")
    text = plain(page)
    assert page.count('alt="Validation image') == 6
    assert "Not shown: val/red/1000.jpg (val/red/1000.jpg: " in text
    assert "Not shown, because their content has changed since: val/blue/1001.jpg." in text


def test_a_run_that_has_no_report_is_refused_with_a_line(msft_run: MsftRun) -> None:
    folder = msft_run().folder
    opened: dict[str, Any] = {
        "modules": ["msft_core.testing.tiny"],
        "reporter": RecordingReporter(),
    }
    with pytest.raises(UsageError, match="it is a folder"):
        write_report(open_run(folder, **opened), folder)
    alone = folder.parent / "alone.ckpt"
    shutil.copy(folder / "best.ckpt", alone)
    with pytest.raises(UsageError, match="a report needs the run folder"):
        write_report(open_run(alone, **opened))
    (folder / "metrics.jsonl").write_text("")
    with pytest.raises(UsageError, match="nothing to report"):
        write_report(open_run(folder, **opened))


# What it says


def test_it_says_what_was_trained_and_since_when(tmp_path: Path) -> None:
    text = plain(written(tmp_path))
    assert "trained 74 of 180 parameters (41.1 %)" in text
    assert "stem 100 0 frozen late 50 50 trained from epoch 3 part 10 4 trained in part" in text
    assert "pool 0 0 no parameters head 20 20 trained" in text


def test_the_matrix_has_every_count(tmp_path: Path) -> None:
    page = written(tmp_path)
    table = page[page.index('<table class="matrix') :]
    cells = re.findall(
        r"<td class=\"\w+\" style=\"--s:[\d.]+\">(\d+)", table[: table.index("</table>")]
    )
    run = StandIn(tmp_path)
    expected = np.zeros((2, 2), int)
    np.add.at(expected, (run.answers.labels, run.answers.predicted), 1)
    assert [int(cell) for cell in cells] == expected.ravel().tolist()


def test_skipped_files_and_twins_are_listed_with_reasons(tmp_path: Path) -> None:
    skipped = [
        {"split": "val", "id": f"cats/{n}.jpg", "reason": "not an image"} for n in range(120)
    ]
    dataset = StandIn(tmp_path).write_folder().facts()["dataset"]
    near = [["dogs/1.jpg", f"dogs/{n}.jpg"] for n in range(200, 320)]
    twins = [["cats/1.jpg", "cats/2.jpg"]]
    facts = {"dataset": {**dataset, "twins": twins, "near_duplicates": near}}
    text = plain(written(tmp_path, facts, skipped=skipped))
    assert "cats/0.jpg val not an image" in text
    assert "And 20 more; skipped.jsonl lists all." in text
    assert "1 validation image is also a training image, so the accuracy looks better" in text
    assert "cats/2.jpg cats/1.jpg" in text
    assert "120 validation images look like a training image" in text
    assert "dogs/200.jpg dogs/1.jpg" in text
    assert "And 20 more; environment.json lists all." in text


def test_an_accuracy_without_mistakes_still_has_an_interval(tmp_path: Path) -> None:
    """A bootstrap of images that are all right would say that the accuracy is surely 100 %."""
    text = plain(written(tmp_path, mistakes=0.0, images_count=48))
    assert "100 %, with a 95 % interval from 92.6 % to 100 %" in text
    assert "There are no mistakes." in text


def test_the_interval_is_that_of_msft_evaluate(tmp_path: Path) -> None:
    run = StandIn(tmp_path).write_folder()
    found = intervals(run.answers)["accuracy"]
    text = plain(run.pages.report(tmp_path / "report.html").read_text(encoding="utf-8"))
    assert (
        f"interval from {percent(found.low)} to {percent(found.high)}".replace("\xa0", " ") in text
    )


def test_one_image_and_one_epoch_are_enough(tmp_path: Path) -> None:
    text = plain(written(tmp_path, images_count=1, epochs=1))
    assert "1 of 1 validation image" in text


def test_an_epoch_without_a_finite_value_is_a_gap(tmp_path: Path) -> None:
    run = StandIn(tmp_path).write_folder()
    odd = replace(run.history[1], val={"loss": float("nan"), "accuracy": 0.5, "f2": 3.0})
    run.history = (run.history[0], odd, replace(run.history[2], val={}))
    page = run.pages.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "nan" not in plain(page).lower()
    assert "<h3><bdi>f2</bdi></h3>" in page


# What is missing


@pytest.mark.parametrize("broken", [("images",), ("explain",), ("predictions", "images")])
def test_what_cannot_be_had_is_left_out_and_the_page_says_so(
    tmp_path: Path, broken: tuple[str, ...]
) -> None:
    text = plain(written(tmp_path, broken=broken))
    for what in broken:
        assert f"no {what} here." in text
    assert "Training curves" in text
    assert ("Confusion matrix" in text) == ("predictions" not in broken)
    if broken == ("images",):
        # The mistakes can be found all the same.
        assert re.search(r"(cats|dogs)/\d+\.jpg (cats|dogs) \d+\.\d % (cats|dogs)", text)


def test_a_run_folder_of_an_older_msft_is_reported(tmp_path: Path) -> None:
    run = StandIn(tmp_path).write_folder()
    (tmp_path / "environment.json").write_text('{"device": "cpu"}')
    (tmp_path / "skipped.jsonl").unlink()
    (tmp_path / "config.toml").unlink()
    text = plain(run.pages.report(tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "The run folder does not say more." in text
    assert "msft run --config" not in text
    (tmp_path / "environment.json").write_text("[1,")
    assert run.pages.report(tmp_path / "report.html").is_file()


# Names and safety


def test_hostile_names_do_no_harm_and_stay_readable(tmp_path: Path) -> None:
    skipped = [{"split": "train", "id": f"a/{SCRIPT}\udce9\x00.jpg", "reason": SCRIPT}]
    facts = {"warnings": [SCRIPT], "status": "failed", "reason": SCRIPT, "features": SCRIPT}
    page = written(tmp_path, facts, classes=HOSTILE, images_count=70, skipped=skipped)
    assert not re.search(
        r"<script|<img src=x|onerror='", page.replace(HOSTILE[1], ""), re.IGNORECASE
    )
    assert page.count("</style>") == 1
    text = plain(page)
    for name in HOSTILE[:5]:
        assert short(name, 60) in text
    assert "caf\\udce9" in text
    assert "{{ 7 * 7 }} &amp; </style>" in text
    page.encode("utf-8")


def test_the_page_fetches_nothing_and_runs_nothing(tmp_path: Path) -> None:
    page = written(tmp_path)
    assert "<script" not in page
    assert "default-src 'none'" in page
    found = re.findall(r"(?:src|href|action|data|url)\s*[=(]\s*[\"']?([^\"')> ]+)", page)
    assert found
    assert {
        address for address in found if not address.startswith(("data:image/webp", "#"))
    } == set()
    assert "@import" not in page
    assert "http" not in re.sub(r"http-equiv", "", page)
    identifiers = re.findall(r"\sid=\"([^\"]*)\"", page)
    assert len(identifiers) == len(set(identifiers))


def test_the_page_without_pictures_is_small(tmp_path: Path) -> None:
    page = written(
        tmp_path, classes=[f"class {n}" for n in range(40)], epochs=100, images_count=400
    )
    without = re.sub(r"data:image/webp;base64,[A-Za-z0-9+/=]*", "", page)
    assert len(without) < 500_000


# Colours


def scheme(css: str, selector: str) -> dict[str, str]:
    """The variables of the first rule with this selector."""
    block = css[css.index(selector) :]
    block = block[block.index("{", block.index(":root")) : block.index("}")]
    return dict(re.findall(r"--([\w-]+):\s*([^;]+);", block))


def luminance(rgb: np.ndarray[Any, Any]) -> float:
    """Relative luminance (WCAG 2.1)."""
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("selector", [":root", "prefers-color-scheme: dark", "@media print"])
def test_every_pair_of_colours_has_contrast_enough(selector: str) -> None:
    """Also those that axe does not see: texts of charts, and values that show on hovering."""
    found = scheme((PAGES / "page.css").read_text(), selector)

    def rgb(name: str) -> np.ndarray[Any, Any]:
        value = found[name].lstrip("#")
        value = "".join(2 * one for one in value) if len(value) == 3 else value
        return np.array([int(value[i : i + 2], 16) for i in (0, 2, 4)])

    for paper in ("paper", "surface"):
        for ink in ("ink", "muted", "right", "wrong"):
            assert contrast(rgb(ink), rgb(paper)) >= 4.5, (ink, paper)
    assert contrast(rgb("ink"), rgb("warn")) >= 4.5
    for colour in (*charts.COLOURS, "focus" if "focus" in found else "ink"):
        assert contrast(rgb(colour), rgb("paper")) >= 3, colour
    for cell in ("right-cell", "wrong-cell"):
        share = float(found["cell"])
        deepest = share * np.array(list(map(int, found[cell].split()))) + (1 - share) * rgb("paper")
        assert contrast(rgb("ink"), deepest) >= 4.5, cell


# Texts


def test_percentages_never_round_to_all_or_nothing() -> None:
    shown = [percent(share).replace("\u00a0", " ") for share in (0, 0.0001, 0.5, 0.99999, 1)]
    assert shown == ["0 %", "under 0.1 %", "50.0 %", "over 99.9 %", "100 %"]


def test_durations_are_in_the_unit_that_fits() -> None:
    shown = [duration(s).replace("\u00a0", " ") for s in (0.05, 12.34, 59.99, 125, 7384)]
    assert shown == ["0.05 s", "12.3 s", "1 min 00 s", "2 min 05 s", "2 h 03 min"]


def test_a_long_name_keeps_both_ends() -> None:
    assert short("dogs", 10) == "dogs"
    assert short("soft-coated_wheaten_terrier_7", 16) == "soft-coat…rier_7"
    assert short("边境牧羊犬（黑白花色）", 12) == "边境牧…色）"


def test_showing_a_command_imports_nothing_heavy() -> None:
    script = (
        "import sys, msft_plugins.report, msft_core.cli.report, msft_core.pages\n"
        "assert not {'numpy', 'matplotlib', 'mindspore', 'jinja2', 'sklearn'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_plugin_is_a_callback_that_is_on_by_default() -> None:
    (component,) = msft_plugins.report.list_components()
    assert (component.kind, component.name) == ("callback", "report")
    assert component.settings().enabled

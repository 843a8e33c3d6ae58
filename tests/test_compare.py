"""``msft compare`` and ``msft run --strategy a,b``."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tomlkit
import typer
from conftest import COMPILED, TINY, Msft
from disk_kit import disk_that_takes
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from typer.testing import CliRunner

import msft_core
from msft_core import MsftError, Predictions, Run, UsageError, hookimpl
from msft_core import config as configuration
from msft_core.cli import app
from msft_core.engine import run as engine
from msft_core.engine.compare import write_page
from msft_core.runs.comparison import compare_hits, mcnemar
from msft_core.runs.predictions_file import write_predictions
from msft_core.system.interrupts import Interrupts
from msft_core.testing import RecordingReporter, tiny

CLASSES = ("cat", "dog")


def write_run(
    folder: Path,
    right: Sequence[bool] | None = (True, True, True, False),
    *,
    classes: Sequence[str] = CLASSES,
    ids: Sequence[str] | None = None,
    labels: Sequence[int] | None = None,
    epochs: int = 2,
    asked: int = 2,
    status: str = "completed",
    **sections: Any,
) -> Path:
    """A run folder as msft leaves it, without a network."""
    folder.mkdir(parents=True)
    config: dict[str, Any] = {
        "dataset": {"name": "folder", "data_dir": "/photos"},
        "strategy": {"name": folder.name, "learning_rate": 0.1},
        "training": {"epochs": asked},
        "callback": {"best_checkpoint": {"enabled": True, "metric": "accuracy"}},
    }
    for name, section in sections.items():
        config[name] = {**config.get(name, {}), **section}
    accuracy = float(np.mean(right)) if right is not None and len(right) else 0.5
    lines = [
        {
            "epoch": epoch,
            "train": {"loss": 1 / epoch},
            "val": {"loss": 1 / epoch, "accuracy": accuracy},
            "learning_rate": 0.1,
            "seconds": 2.0,
            "step_ms": 1.0,
        }
        for epoch in range(1, epochs + 1)
    ]
    text = tomlkit.dumps(config).encode("utf-8", "surrogateescape")
    (folder / "config.toml").write_bytes(text)
    (folder / "classes.json").write_text(json.dumps(classes))
    facts: dict[str, Any] = {"device": "cpu"}
    if status:
        best = {"epoch": epochs, "metric": "accuracy", "value": accuracy}
        facts |= {"status": status, "reason": "because", "best": best if epochs else None}
    (folder / "environment.json").write_text(json.dumps(facts))
    if epochs:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "best.ckpt").touch()
    if right is not None:
        write_predictions(folder / "predictions.csv", predictions(right, classes, ids, labels))
    return folder


def predictions(
    right: Sequence[bool],
    classes: Sequence[str] = CLASSES,
    ids: Sequence[str] | None = None,
    labels: Sequence[int] | None = None,
) -> Predictions:
    truth = np.asarray([0] * len(right) if labels is None else labels, np.int64)
    chosen = np.where(right, truth, (truth + 1) % len(classes))
    probabilities = np.full((len(right), len(classes)), 0.1, np.float32)
    probabilities[np.arange(len(right)), chosen] = 0.9
    names = ids or [f"{number}.jpg" for number in range(len(right))]
    return Predictions(tuple(names), truth, probabilities, tuple(classes))


def two(tmp_path: Path, a: Sequence[bool], b: Sequence[bool]) -> list[Path]:
    return [write_run(tmp_path / "freeze", a), write_run(tmp_path / "finetune", b)]


def hits(both: int, only_a: int, only_b: int, neither: int) -> tuple[list[bool], list[bool]]:
    a = [True] * both + [True] * only_a + [False] * only_b + [False] * neither
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return a, b


# Statistics


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_binomial_test_on_the_pictures_that_one_run_has_right(
    first: int, second: int
) -> None:
    if first + second:
        assert mcnemar(first, second) == pytest.approx(binomtest(first, first + second).pvalue)
    else:
        assert mcnemar(first, second) == 1


def test_mcnemar_counts_the_tosses_that_are_as_uneven() -> None:
    tosses = list(itertools.product((0, 1), repeat=7))
    as_uneven = [one for one in tosses if abs(sum(one) - 3.5) >= 2.5]
    assert mcnemar(1, 6) == pytest.approx(len(as_uneven) / len(tosses))


@pytest.mark.parametrize("counts", [(2, 2, 1, 0), (1, 1, 0, 3), (0, 1, 2, 2), (3, 0, 3, 0)])
def test_the_intervals_are_those_of_all_resamples(counts: tuple[int, int, int, int]) -> None:
    """All N**N resamples of a few pictures, instead of 10,000 drawn ones. Without mistakes the
    interval of the accuracy is another, but the one of the difference is not."""
    a, b = (np.asarray(one) for one in hits(*counts))
    (pair,) = compare_hits({"a": a, "b": b})[1]
    every = np.asarray(list(itertools.product(range(len(a)), repeat=len(a))))
    of_a, of_b = a[every].mean(axis=1), b[every].mean(axis=1)
    scores = compare_hits({"a": a, "b": b})[0]
    assert pair.interval is not None
    of_scores = [
        (scores[name].interval, values)
        for name, values in (("a", of_a), ("b", of_b))
        if 0 < scores[name].accuracy < 1
    ]
    for found, values in [(pair.interval, of_a - of_b), *of_scores]:
        for end, share in zip(found, (0.025, 0.975), strict=True):
            # 10,000 draws hit a share within 0.005, which is over three standard errors.
            assert (values < end - 1e-9).mean() <= share + 0.005
            assert (values <= end + 1e-9).mean() >= share - 0.005


_HITS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30)


@settings(max_examples=30, deadline=None)
@given(_HITS)
def test_two_runs_compare_the_same_in_either_order(both: list[tuple[bool, bool]]) -> None:
    a, b = (np.asarray(one) for one in zip(*both, strict=True))
    scores, (pair,) = compare_hits({"a": a, "b": b})
    mirrored_scores, (mirrored,) = compare_hits({"b": b, "a": a})
    assert scores == mirrored_scores
    assert (pair.only_first, pair.only_second) == (mirrored.only_second, mirrored.only_first)
    assert pair.p_value == mirrored.p_value
    assert pair.difference == -mirrored.difference
    assert pair.difference == pytest.approx(scores["a"].accuracy - scores["b"].accuracy)
    if pair.interval and mirrored.interval:
        assert pair.interval == pytest.approx([-end for end in mirrored.interval[::-1]])
        assert pair.interval[0] <= pair.difference <= pair.interval[1]
    assert 0 < pair.p_value <= 1


# Which pictures count


def test_pictures_are_matched_by_their_file_in_any_order(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", [True, False, True], ids=["x", "y", "z"])
    b = write_run(tmp_path / "b", [True, True, False], ids=["z", "y", "x"])
    (pair,) = msft_core.compare([a, b]).pairs
    assert (pair.both, pair.only_first, pair.only_second, pair.neither) == (1, 1, 1, 0)


def test_only_common_pictures_count_and_the_output_says_how_many_were_left_out(
    tmp_path: Path,
) -> None:
    a = write_run(tmp_path / "a", [True, False, False], ids=["x", "y", "only-a"])
    b = write_run(tmp_path / "b", [True, True, True, True], ids=["p", "q", "x", "y"])
    found = msft_core.compare([a, b])
    assert {name: (one.right, one.pictures) for name, one in found.scores.items()} == {
        "a": (1, 2),
        "b": (2, 2),
    }
    assert any("Only the 2 pictures" in note and "1 of a, 2 of b" in note for note in found.notes)


def test_a_class_is_matched_by_its_name(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", [True, False], labels=[0, 1])
    b = write_run(tmp_path / "b", [True, True], labels=[1, 0], classes=CLASSES[::-1])
    (pair,) = msft_core.compare([a, b]).pairs
    assert (pair.only_first, pair.only_second) == (0, 1)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"classes": ("cat", "wolf")}, "other classes: cat, dog; cat, wolf"),
        ({"ids": ["p", "q", "r", "s"]}, "no validation picture in common.*0.jpg.*has p"),
        ({"labels": [0, 0, 1, 0]}, "the picture 2.jpg is cat in a and dog in b"),
    ],
)
def test_runs_on_other_data_are_refused(
    tmp_path: Path, other: dict[str, Any], message: str
) -> None:
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", **other)]
    with pytest.raises(UsageError, match=message) as caught:
        msft_core.compare(runs)
    assert len(str(caught.value).splitlines()) == 1


def test_an_other_folder_of_pictures_is_noted(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a")
    b = write_run(tmp_path / "b", dataset={"data_dir": "/other"})
    found = msft_core.compare([a, b])
    assert any("matched by file name" in note for note in found.notes)
    assert found.differences["dataset.data_dir"] == ("/photos", "/other")


# What is said


def test_a_small_difference_is_no_evidence(tmp_path: Path) -> None:
    found = msft_core.compare(two(tmp_path, *hits(43, 4, 3, 0)))
    assert found.outcome == (
        "freeze is right on 47 of 50 pictures, finetune on 46. Such a difference may well be due "
        "to chance (p = 1.00), so it is no evidence that either is better."
    )


def test_a_clear_difference_names_the_better_run(tmp_path: Path) -> None:
    found = msft_core.compare(two(tmp_path, *hits(30, 1, 19, 0)))
    assert "as trained here, and on pictures like these, finetune is better" in found.outcome
    assert "p < 0.001" in found.outcome


def test_runs_that_are_right_on_the_same_pictures_get_no_interval(tmp_path: Path) -> None:
    found = msft_core.compare(two(tmp_path, *hits(50, 0, 0, 0)))
    (pair,) = found.pairs
    assert pair.interval is None
    assert pair.p_value == 1
    assert "do not tell which is better" in found.outcome


def test_with_several_pairs_a_p_below_5_percent_alone_is_no_evidence(tmp_path: Path) -> None:
    a, b = hits(40, 1, 8, 1)
    assert 0.05 / 3 < mcnemar(1, 8) < 0.05
    runs = [*two(tmp_path, a, b), write_run(tmp_path / "partial", b)]
    found = msft_core.compare(runs)
    assert len(found.pairs) == 3
    assert "None of the 3 differences is evidence" in found.outcome
    assert any("0.0167 counts as evidence" in note for note in found.notes)


def test_of_more_than_four_runs_the_first_is_compared_with_each(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name) for name in "abcde"]
    assert [(pair.first, pair.second) for pair in msft_core.compare(runs[:4]).pairs] == list(
        itertools.combinations("abcd", 2)
    )
    assert [(pair.first, pair.second) for pair in msft_core.compare(runs).pairs] == [
        ("a", name) for name in "bcde"
    ]


def test_the_reader_is_told_that_the_best_epoch_was_chosen_on_these_pictures(
    tmp_path: Path,
) -> None:
    notes = msft_core.compare(two(tmp_path, *hits(3, 1, 0, 0))).notes
    assert any("chosen on these same pictures" in note for note in notes)


def test_only_what_differs_is_listed(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", training={"seed": 1, "views": 4})
    b = write_run(tmp_path / "b", training={"seed": 2, "views": 4}, strategy={"from": "layer4"})
    facts = {"device": "ascend", "started": "later", "dataset": {"counts": [1]}}
    (b / "environment.json").write_text(json.dumps(facts))
    assert msft_core.compare([a, b]).differences == {
        "strategy.name": ("a", "b"),
        "strategy.from": (None, "layer4"),
        "training.seed": (1, 2),
        "environment.device": ("cpu", "ascend"),
    }


@pytest.mark.parametrize(
    ("run", "note"),
    [
        (
            {"right": None, "epochs": 0, "status": ""},
            "0 of 2 epochs: it is still running",
        ),
        ({"right": None, "epochs": 1, "status": "failed"}, "failed after 1 of 2 epochs (because)"),
        ({"right": None}, "no predictions.csv"),
        ({"epochs": 1, "status": "interrupted"}, "b was interrupted after 1 of 2 epochs."),
        ({"epochs": 1, "status": "stopped"}, "b stopped after 1 of 2 epochs (because)."),
        ({"data": {"augment_validation": True}}, "randomly augmented pictures"),
    ],
)
def test_a_run_that_is_not_whole_is_compared_as_far_as_it_goes(
    tmp_path: Path, run: dict[str, Any], note: str
) -> None:
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", **run)]
    found = msft_core.compare(runs)
    assert any(note in one for one in found.notes), found.notes
    assert len(found.pairs) == (run.get("right", 1) is not None)


def test_an_epoch_that_an_interrupt_kept_from_metrics_counts(tmp_path: Path) -> None:
    """Its best.ckpt was written before the line of the epoch was."""
    runs = [
        write_run(tmp_path / "a"),
        write_run(tmp_path / "b", epochs=2, asked=3, status="interrupted"),
    ]
    lines = (runs[1] / "metrics.jsonl").read_text().splitlines(keepends=True)
    (runs[1] / "metrics.jsonl").write_text(lines[0])
    found = msft_core.compare(runs)
    assert "b was interrupted after 2 of 3 epochs." in found.notes


def test_runs_without_predictions_have_no_accuracies(tmp_path: Path) -> None:
    found = msft_core.compare([write_run(tmp_path / name, None) for name in "ab"])
    assert found.outcome == "No run has predictions, so there are no accuracies to compare."
    assert not found.pairs


def test_predictions_of_another_epoch_are_noted(tmp_path: Path) -> None:
    runs = two(tmp_path, *hits(2, 1, 0, 1))
    write_predictions(runs[0] / "predictions.csv", predictions([True] * 4))
    notes = msft_core.compare(runs).notes
    assert "0.7500 in environment.json (epoch 2) but 1.0000 in predictions.csv" in notes[0]


def test_runs_are_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    def names(*folders: str) -> list[str]:
        runs = [tmp_path / folder for folder in folders]
        for run in runs:
            if not run.exists():
                write_run(run)
        return [run.name for run in msft_core.compare(runs).runs]

    first, day = "20260102-030405-s-freeze", "20260103-030405-s-freeze"
    assert names(first, "20260102-030506-s-partial") == ["s-freeze", "s-partial"]
    assert names(first, day) == [first, day]
    assert names("x/run", "y/run") == ["x/run", "y/run"]


# The command


def msft_compare(*arguments: object, columns: int = 80, **env: str) -> Any:
    environment = {"COLUMNS": str(columns), **env}
    return CliRunner().invoke(app, ["compare", *map(str, arguments)], env=environment)


def test_the_terminal_shows_all_in_60_columns_without_colour(tmp_path: Path) -> None:
    runs = two(tmp_path, *hits(43, 4, 3, 0))
    result = msft_compare(*runs, columns=60, NO_COLOR="1")
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 60
    assert "\x1b" not in result.stdout
    for part in ("47/50", "94.0 %", "finetune", "-8.0 to +12.0", "1.00", "strategy.name", "▁"):
        assert part in result.stdout, part


def test_json_is_all_that_is_printed(tmp_path: Path) -> None:
    result = msft_compare(*two(tmp_path, *hits(43, 4, 3, 0)), "--json")
    found = json.loads(result.stdout)
    assert [run["score"]["right"] for run in found["runs"]] == [47, 46]
    assert [run["history"][0]["val"]["loss"] for run in found["runs"]] == [1.0, 1.0]
    (pair,) = found["pairs"]
    assert (pair["only_first"], pair["only_second"], pair["p_value"]) == (4, 3, 1.0)
    assert found["differences"]["strategy.name"] == {"freeze": "freeze", "finetune": "finetune"}


def refused(*arguments: object) -> str:
    result = msft_compare(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert not result.stdout
    (line,) = result.stderr.splitlines()
    return line


def test_what_is_no_run_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    a, b = two(tmp_path / "runs", *hits(3, 1, 0, 0))
    (tmp_path / "empty").mkdir()
    assert "two or more" in refused(a)
    assert f"there is no run folder {tmp_path / 'nowhere'}" in refused(a, tmp_path / "nowhere")
    assert f"is a checkpoint, not a run folder: give {b}" in refused(a, b / "best.ckpt")
    assert "has no config.toml" in refused(a, tmp_path / "empty")
    assert f"holds run folders: give {b} {a}" in refused(a, tmp_path / "runs")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    assert "round" in refused(a, tmp_path / "round")
    (tmp_path / "link").symlink_to(a)
    assert "one run is given twice" in refused(a, tmp_path / "link")
    assert "one run is given twice" in refused(a, f"{a}/")


TWICE = "file,class,predicted,probability,p(cat),p(dog)\n" + 2 * "x,cat,cat,1,1,0\n"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("predictions.csv", "file,class\n"),
        ("predictions.csv", TWICE),
        ("metrics.jsonl", '{"epoch": 1, "train"'),
        ("metrics.jsonl", "[]\n"),
        ("config.toml", "strategy = ["),
        ("classes.json", "{}"),
        ("classes.json", "["),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, file: str, content: str) -> None:
    a, b = two(tmp_path, *hits(3, 1, 0, 0))
    (a / file).write_text(content)
    assert str(a / file) in refused(a, b)


def test_predictions_of_other_classes_than_the_runs_are_refused(tmp_path: Path) -> None:
    a, b = two(tmp_path, *hits(3, 1, 0, 0))
    write_predictions(a / "predictions.csv", predictions([True] * 4, ("x", "y")))
    assert "One of the files is of another run" in refused(a, b)


def test_comparing_imports_nothing_slow(tmp_path: Path) -> None:
    runs = two(tmp_path, *hits(3, 1, 0, 0))
    code = (
        "import sys, msft_core; msft_core.compare(sys.argv[1:]);"
        "print([m for m in ('mindspore', 'matplotlib', 'sklearn', 'scipy.stats', 'rich', 'jinja2')"
        " if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, *map(str, runs)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_output_without_unicode_works(tmp_path: Path, msft_process: Msft) -> None:
    result = msft_process(
        "compare", *two(tmp_path, *hits(3, 1, 0, 0)), env={"PYTHONIOENCODING": "ascii"}
    )
    assert result.returncode == 0, result.stderr
    assert "2 epochs" in result.stdout


# The page


def test_the_page_needs_no_other_file_and_escapes_every_name(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>".replace("/", "&")
    runs = [write_run(tmp_path / name), write_run(tmp_path / "b", [False, True, True, False])]
    result = msft_compare(*runs, "--out", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "://" not in page.replace("http://www.w3.org", "")
    for part in ("no evidence", "Validation accuracy", "McNemar", "strategy.name"):
        assert part in page


def test_the_page_links_to_the_reports_that_there_are(tmp_path: Path) -> None:
    a, b = two(tmp_path / "of runs", *hits(3, 1, 0, 0))
    (a / "report.html").touch()
    page = write_page(msft_core.compare([a, b]), tmp_path / "page.html").read_text()
    assert 'href="of%20runs/freeze/report.html"' in page
    assert "finetune/report.html" not in page


def test_a_page_takes_the_place_of_a_page_but_of_no_other_file(tmp_path: Path) -> None:
    runs = two(tmp_path, *hits(3, 1, 0, 0))
    page, other = tmp_path / "page.html", tmp_path / "mine.html"
    other.write_text("<title>my own work</title>")
    for _ in range(2):
        assert msft_compare(*runs, "--out", page).exit_code == 0
    assert "choose another file" in refused(*runs, "--out", other)
    assert "choose another file" in refused(*runs, "--out", tmp_path)
    assert other.read_text() == "<title>my own work</title>"
    assert "cannot be written" in refused(*runs, "--out", tmp_path / "nowhere" / "page.html")


def test_a_full_disk_leaves_the_page_of_before(tmp_path: Path) -> None:
    found = msft_core.compare(two(tmp_path, *hits(3, 1, 0, 0)))
    page = write_page(found, tmp_path / "page.html")
    before = page.read_bytes()
    with disk_that_takes(1000), pytest.raises(MsftError, match="cannot be written"):
        write_page(found, page)
    assert page.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"freeze", "finetune", "page.html"}


def test_runs_without_epochs_have_a_page_without_curves(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, None, epochs=0) for name in "ab"]
    page = write_page(msft_core.compare(runs), tmp_path / "page.html").read_text()
    assert "No run has predictions" in page


# Several strategies in one command


def test_a_list_of_strategies_is_checked() -> None:
    def listed(name: str) -> list[str]:
        return configuration.listed_strategies({"strategy": name})

    assert listed("freeze") == []
    assert listed("freeze, finetune") == ["freeze", "finetune"]
    with pytest.raises(UsageError, match="freeze is listed twice"):
        listed("freeze,finetune,freeze")
    with pytest.raises(UsageError, match="a name is missing"):
        listed("freeze,")


def test_settings_of_a_file_that_names_its_strategy_are_not_those_of_the_others() -> None:
    file = {"strategy": {"name": "freeze", "learning_rate": 0.5}, "training": {"epochs": 3}}
    given = {"strategy": {"name": "freeze,finetune", "momentum": 0.8}}
    configs, note = configuration.for_each_strategy(["freeze", "finetune"], file, given)
    assert configs == {
        "freeze": {
            "strategy": {"name": "freeze", "learning_rate": 0.5, "momentum": 0.8},
            "training": {"epochs": 3},
        },
        "finetune": {"strategy": {"name": "finetune", "momentum": 0.8}, "training": {"epochs": 3}},
    }
    assert "apply to freeze only: finetune starts from the defaults" in note
    _, note = configuration.for_each_strategy(["partial", "finetune"], file, given)
    assert "are not used: partial and finetune start from the defaults" in note


def test_a_single_strategy_other_than_the_files_starts_from_its_defaults_too() -> None:
    file = {"strategy": {"name": "freeze", "learning_rate": 0.5}, "training": {"epochs": 3}}
    raw, note = configuration.with_strategy(file, {"strategy": {"name": "finetune"}})
    assert raw == {"strategy": {"name": "finetune"}, "training": {"epochs": 3}}
    assert note == (
        "The settings of strategy freeze in the configuration file are not used: finetune starts "
        "from the defaults."
    )
    assert configuration.with_strategy(file, {}) == (file, "")
    assert configuration.with_strategy(file, {"strategy": "freeze"}) == (file, "")
    unnamed = {"strategy": {"learning_rate": 0.5}}
    raw, note = configuration.with_strategy(unnamed, {"strategy": {"name": "finetune"}})
    assert (raw["strategy"], note) == ({"name": "finetune", "learning_rate": 0.5}, "")


@pytest.mark.parametrize("name", [{}, {"name": "freeze,finetune"}])
def test_settings_of_a_file_that_names_no_single_strategy_apply_to_each(
    name: dict[str, str],
) -> None:
    file = {"strategy": {**name, "learning_rate": 0.5}}
    configs, note = configuration.for_each_strategy(["freeze", "finetune"], file, {})
    assert [one["strategy"]["learning_rate"] for one in configs.values()] == [0.5, 0.5]
    assert not note


def config(strategy: str, **sections: Any) -> dict[str, Any]:
    return {
        "dataset": "tiny",
        "backbone": "tiny",
        "strategy": {"name": strategy, "learning_rate": 0.05},
        "training": {"epochs": 2, "batch_size": 8},
        "callback": {"figures": {"enabled": False}, "report": {"enabled": False}},
        **sections,
    }


def run_each(out: Path, *plugins: object, **configs: Any) -> msft_core.EachReport:
    configs = configs or {name: config(name) for name in ("freeze", "finetune")}
    reporter = RecordingReporter()
    return msft_core.run_each(configs, plugins=[tiny, *plugins], out=out, reporter=reporter)


def contents(folder: Path) -> dict[str, Any]:
    """What a run leaves, but for times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timeless = [
        {k: v for k, v in line.items() if k not in ("seconds", "step_ms")} for line in lines
    ]
    names = ("best.ckpt", "last.ckpt", "predictions.csv", "config.toml")
    return {"metrics": timeless, **{name: (folder / name).read_bytes() for name in names}}


@pytest.mark.slow
def test_each_run_is_bit_identical_to_the_run_alone(tmp_path: Path, msft_process: Msft) -> None:
    msft = msft_process
    common = (*COMPILED, "--epochs", 2, "--set", "callback.figures.enabled=false", "--lr", 0.05)
    result = msft("run", *common, "--strategy", "finetune,freeze", "--out", "out/both")
    assert result.returncode == 0, result.stderr
    both = msft.cwd / "out" / "both"
    assert {path.name for path in both.iterdir()} == {"finetune", "freeze", "compare.html"}
    assert "Run 2 of 2: freeze" in result.stdout
    assert "finetune is right on" in result.stdout
    # The second one alone, in a process and with a cache of its own.
    alone = msft(
        "run", *common, "--strategy", "freeze", "--out", "out/alone",
        env={"MSFT_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    assert contents(msft.cwd / "out" / "alone") == contents(both / "freeze")


def test_a_mistake_in_any_strategy_costs_no_training(msft: Msft) -> None:
    def line(*arguments: object) -> str:
        result = msft("run", *TINY, *arguments, "--out", "out/both")
        assert result.returncode == 2, result.stderr
        assert not (msft.cwd / "out").exists()
        return result.stderr

    assert "no strategy 'nonsense'" in line("--strategy", "freeze,nonsense")
    assert "unknown setting strategy.from (of finetune)" in line(
        "--strategy", "partial,finetune", "--set", "strategy.from=second"
    )


def test_an_unknown_stage_of_a_later_strategy_costs_no_training(tmp_path: Path) -> None:
    bad = config("partial")
    bad["strategy"]["from"] = "nowhere"
    with pytest.raises(UsageError, match="has no such stage") as caught:
        run_each(tmp_path / "out", freeze=config("freeze"), partial=bad)
    assert caught.value.report is None
    assert not (tmp_path / "out").exists()


def test_a_run_that_fails_leaves_the_others_and_their_comparison(tmp_path: Path) -> None:
    class Fails:
        @hookimpl
        def on_epoch_end(self, epoch: int, run: Run) -> None:
            if run.folder.name == "partial" and epoch == 2:
                raise RuntimeError("broken")

    names = ("freeze", "partial", "finetune")
    each = run_each(tmp_path / "out", Fails, **{name: config(name) for name in names})
    assert list(each.reports) == ["freeze", "finetune"]
    assert "broken" in str(each.failures["partial"])
    assert each.failures["partial"].report is not None
    assert each.comparison is not None
    assert [run.name for run in each.comparison.runs] == ["freeze", "finetune"]
    assert each.page == tmp_path / "out" / "compare.html"
    assert each.page.is_file()


FAILS_LATER = """
from msft_core import hookimpl

@hookimpl
def on_run_start(run):
    if run.folder.name == "finetune":
        raise RuntimeError("broken")
"""


def test_the_command_exits_with_1_if_a_run_failed(msft: Msft, tmp_path: Path) -> None:
    plugin = tmp_path / "fails.py"
    plugin.write_text(FAILS_LATER)
    result = msft(
        "run", *TINY, "--plugin", plugin, "--epochs", 1, "--strategy", "freeze,finetune",
        "--out", "out",
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    assert "error: the run finetune failed: " in result.stderr
    assert (msft.cwd / "out" / "freeze" / "best.ckpt").is_file()
    assert not (msft.cwd / "out" / "compare.html").exists()


def test_a_refused_first_run_leaves_nothing(tmp_path: Path) -> None:
    class NoPictures:
        @hookimpl
        def build_dataset(self) -> Any:
            raise msft_core.DataError("the disk is gone")

    with pytest.raises(MsftError, match="the disk is gone"):
        run_each(tmp_path / "deep" / "out", NoPictures)
    assert not list(tmp_path.iterdir())


def test_an_output_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(UsageError, match="already exists"):
        run_each(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_without_out_the_folder_is_named_by_all_strategies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from msft_core.runs.folder import group_folder

    monkeypatch.chdir(tmp_path)
    for expected in ("x", "x-2"):
        with group_folder(Path("runs", "x"), numbered=True) as folder:
            (folder / "run").mkdir()
        assert folder == tmp_path / "runs" / expected
    with group_folder(Path("runs", "x"), numbered=True) as folder:
        pass
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"x", "x-2"}


def test_groups_that_start_in_the_same_second_have_a_folder_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process takes the name after this one has looked whether it is free."""
    from msft_core.runs.folder import group_folder

    taken, mkdir = tmp_path / "runs" / "x", Path.mkdir

    def late(path: Path, *arguments: Any, **options: Any) -> None:
        if path == taken:
            mkdir(taken, parents=True, exist_ok=True)
        mkdir(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", late)
    with group_folder(taken, numbered=True) as folder:
        assert folder == tmp_path / "runs" / "x-2"
    assert taken.is_dir()


def test_a_name_that_no_folder_can_have_is_refused(tmp_path: Path) -> None:
    for name in ("", "..", "a/b", ".hidden"):
        with pytest.raises(UsageError, match="cannot be the name"):
            run_each(tmp_path / "out", **{name: config("freeze")})


def test_ctrl_c_ends_all_and_tells_what_is_kept(tmp_path: Path) -> None:
    class Stops:
        @hookimpl(trylast=True)
        def on_epoch_end(self, epoch: int, run: Run) -> None:
            if run.folder.name == "partial":
                raise KeyboardInterrupt

    names, reporter = ("freeze", "partial", "finetune"), RecordingReporter()
    with pytest.raises(KeyboardInterrupt) as caught:
        msft_core.run_each(
            {name: config(name) for name in names},
            plugins=[tiny, Stops],
            out=tmp_path / "out",
            reporter=reporter,
        )
    assert [(one.folder.name, one.status) for one in caught.value.args] == [
        ("partial", "interrupted"),
        ("freeze", "completed"),
    ]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"freeze", "partial"}
    log = (tmp_path / "out" / "partial" / "log.txt").read_text()
    assert "interrupted before the runs of" not in log  # that run has ended
    assert reporter.warnings[-1] == "interrupted before the runs of: finetune."


def test_the_last_lines_say_which_runs_are_complete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from msft_core.cli.errors import reported

    best = msft_core.Best(tmp_path / "freeze" / "best.ckpt", 2, 0.9, "accuracy")
    whole = msft_core.RunReport("completed", tmp_path / "freeze", best, ())
    cut = msft_core.RunReport("interrupted", tmp_path / "finetune", None, ())
    with pytest.raises(typer.Exit) as ended, reported():
        raise KeyboardInterrupt(cut, whole)
    assert ended.value.exit_code == 130
    assert capsys.readouterr().err.splitlines() == [
        "interrupted.",
        f"The run in {tmp_path / 'finetune'} ended early; no epoch was finished.",
        f"The run in {tmp_path / 'freeze'} is complete; the best checkpoint is {best.path} "
        "(epoch 2).",
    ]


def test_ctrl_c_at_the_very_end_of_a_run_starts_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that has ended ignores signals: what is left of it is to clean up."""
    conclude = engine.conclude

    def conclude_and_be_interrupted(*arguments: Any) -> None:
        conclude(*arguments)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(engine, "conclude", conclude_and_be_interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        run_each(tmp_path / "out")
    assert [one.folder.name for one in caught.value.args] == ["freeze"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_signals_are_heeded_again_after_the_end_of_a_run() -> None:
    interrupts = Interrupts()
    with interrupts.caught():
        interrupts.note()
        interrupts.resume()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_completion_completes_the_last_name_of_a_list() -> None:
    from msft_core.cli import completion

    complete = completion.listed_components("strategy")
    context: Any = SimpleNamespace(params={}, parent=None)
    names = [name for name, _ in complete(context, "freeze,f")]
    assert "freeze,finetune" in names
    assert "freeze,freeze" not in names

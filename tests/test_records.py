"""Records of a run belong to its checkpoint, whatever interrupts, replaces or renames it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_checkpoints import of_0_3_0

import msft_core
from msft_core import MsftError, Run, UsageError, WeightsError, hookimpl
from msft_core.engine.load import open_run
from msft_core.runs import checkpoints, live
from msft_core.runs.predictions_file import read_predictions
from msft_core.system.console import printable
from msft_core.testing import MsftRun, RecordingReporter, tiny
from msft_core.weights import Checkpoint


def agree(folder: Path) -> bool:
    """Whether predictions.csv is what the best checkpoint computes."""
    run = open_run(folder, objects=[tiny], reporter=RecordingReporter())
    computed = run.classifier.predict_table(run.splits.val)
    saved = read_predictions(folder / "predictions.csv")
    told = json.loads((folder / "environment.json").read_text())["best"]
    assert told["epoch"] == run.info.epoch
    assert told["file"] == run.checkpoint.name
    return np.array_equal(computed.probabilities, saved.probabilities)


def twice() -> None:
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_twice_while_the_best_is_loaded_again_loads_all_of_it(
    msft_run: MsftRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = live.load_parameters

    def interrupted(path: Path, state: Any) -> None:
        twice()
        load(path, state)

    monkeypatch.setattr(live, "load_parameters", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        msft_run(out=tmp_path / "run", callback={"best_checkpoint": {"direction": "min"}})
    assert caught.value.args[0].status == "interrupted"
    assert agree(tmp_path / "run")


def test_ctrl_c_while_the_best_is_saved_waits_until_it_is_set(
    msft_run: MsftRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, saved = live.save_checkpoint, []

    def interrupted(*arguments: Any) -> Path:
        path = save(*arguments)
        saved.append(path)
        if len(saved) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return path

    monkeypatch.setattr(live, "save_checkpoint", interrupted)
    with pytest.raises(KeyboardInterrupt):
        msft_run(
            out=tmp_path / "run",
            training={"epochs": 3, "batch_size": 8},
            callback={"best_checkpoint": {"metric": "loss", "direction": "max"}},
            strategy={"name": "finetune", "learning_rate": 1.0},
        )
    assert agree(tmp_path / "run")


class Average:
    """Keeps its own file as the best one."""

    @hookimpl(trylast=True)
    def on_epoch_end(self, epoch: int, run: Run) -> None:
        if epoch == 1:
            run.evaluate("val")
            run.set_best(run.save_checkpoint(run.folder / "average.ckpt"), epoch, 2.0, "mine")


def test_a_best_checkpoint_of_another_name_is_the_one_that_is_opened(
    msft_run: MsftRun, tmp_path: Path
) -> None:
    msft_run([Average], out=tmp_path / "run", callback={"best_checkpoint": {"first_epoch": 9}})
    run = open_run(tmp_path / "run", objects=[tiny], reporter=RecordingReporter())
    assert run.checkpoint.name == "average.ckpt"
    assert run.best is not None
    assert (run.best.metric, run.best.value) == ("mine", 2.0)
    assert agree(tmp_path / "run")


def test_a_replaced_checkpoint_gets_predictions_of_its_own(
    msft_run: MsftRun, tmp_path: Path
) -> None:
    msft_run(out=tmp_path / "one")
    msft_run(out=tmp_path / "two", training={"seed": 5, "epochs": 1, "batch_size": 8})
    shutil.copy(tmp_path / "two" / "best.ckpt", tmp_path / "one")
    reporter = RecordingReporter()
    run = open_run(tmp_path / "one", objects=[tiny], reporter=reporter)
    expected = read_predictions(tmp_path / "two" / "predictions.csv").probabilities
    assert np.array_equal(run.predictions("val").probabilities, expected)
    assert any("predicts the images again" in line for line in reporter.warnings)
    with pytest.raises(UsageError, match="was replaced after the run"):
        msft_core.compare([tmp_path / "one", tmp_path / "two"])


def test_a_run_without_a_best_checkpoint_says_that_the_last_one_is_used(
    msft_run: MsftRun, tmp_path: Path
) -> None:
    msft_run(out=tmp_path / "run", callback={"best_checkpoint": {"enabled": False}})
    reporter = RecordingReporter()
    assert open_run(tmp_path / "run", objects=[tiny], reporter=reporter).best is None
    assert reporter.warnings == [f"{tmp_path / 'run'} has no best checkpoint: msft uses last.ckpt."]


def test_images_that_a_run_augmented_to_judge_them_are_not_shown_plain(
    msft_run: MsftRun, tmp_path: Path
) -> None:
    msft_run(out=tmp_path / "run", data={"augment_validation": True})
    run = open_run(tmp_path / "run", objects=[tiny], reporter=RecordingReporter())
    with pytest.raises(UsageError, match="judged augmented validation images"):
        run.read_images("val", run.splits.val.ids[:1])


def test_opening_a_run_waits_for_a_step_that_computes_in_graph_mode(
    msft_run: MsftRun, tmp_path: Path
) -> None:
    import mindspore as ms

    from msft_core.training.compilation import MINDSPORE

    folder = msft_run(out=tmp_path / "run").folder
    opening = threading.Thread(target=lambda: msft_core.load(folder, plugins=[tiny]))
    with MINDSPORE:
        ms.set_context(mode=ms.GRAPH_MODE)
        opening.start()
        opening.join(2.0)
        mode = ms.get_context("mode")
        ms.set_context(mode=ms.PYNATIVE_MODE)
    opening.join()
    assert mode == ms.GRAPH_MODE


@pytest.mark.parametrize(
    "changes",
    [
        {"origins": "[]"},
        {"evaluation": '{"batch_size": 1000000000}'},
        {"evaluation": '{"extractors": []}'},
        {"evaluation": "[]"},
        {"epoch": "x"},
        {"settings": "7"},
    ],
)
def test_metadata_of_a_stranger_is_checked_field_by_field(changes: dict[str, str]) -> None:
    checkpoint: Checkpoint = of_0_3_0(**changes)
    with pytest.raises(WeightsError, match="its metadata is damaged") as caught:
        checkpoints.describe_checkpoint(checkpoint, RecordingReporter())
    assert "\n" not in str(caught.value)


def test_names_cannot_command_the_terminal() -> None:
    assert printable("a\x1b[31mb\x07\u009b") == "a\\x1b[31mb\\x07\\x9b"
    assert printable("a\tb\n狗") == "a\tb\n狗"


def test_no_images_have_no_heat_maps(msft_run: MsftRun, tmp_path: Path) -> None:
    classifier = msft_core.load(msft_run(out=tmp_path / "run").folder, plugins=[tiny])
    assert classifier.explain([]).shape == (0, 16, 16)
    with pytest.raises(MsftError):
        classifier.explain(b"")

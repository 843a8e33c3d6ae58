from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msft_core import MsftError, Run, hookimpl
from msft_core.testing import CommandLine, MsftRun, assert_callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

import msft_tensorboard


def read_back(folder: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard itself reads: the value of each step of each tag."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: {event.step: float(make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)}
        for tag in events.Tags()["tensors"]
    }


def expected(folder: Path) -> dict[str, dict[int, float]]:
    """What the run's own metrics.jsonl says, as TensorBoard keeps it: in float32."""
    tags: dict[str, dict[int, float]] = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        for part in ("train", "val"):
            for name, value in record[part].items():
                tags.setdefault(f"{part}/{name}", {})[record["epoch"]] = value
        for name in ("learning_rate", "step_ms"):
            tags.setdefault(name, {})[record["epoch"]] = record[name]
    return {
        tag: {step: float(np.float32(value)) for step, value in steps.items()}
        for tag, steps in tags.items()
    }


def assert_tensorboard_has_what_metrics_jsonl_has(folder: Path) -> None:
    found, wanted = read_back(folder), expected(folder)
    # A line of metrics.jsonl has this one rounded.
    assert found.pop("step_ms") == pytest.approx(wanted.pop("step_ms"), abs=1e-3)
    assert found == wanted


def event_files(folder: Path) -> list[Path]:
    return list(folder.glob("events.out.tfevents.*"))


class InEpochTwo:
    """A callback that does something bad in its second epoch."""

    def __init__(self, what: Any) -> None:
        self.what = what
        self.folder: Path | None = None

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        self.folder = run.folder

    @hookimpl
    def on_epoch_end(self, epoch: int, run: Run) -> None:
        if epoch == 2:
            self.what()


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Any:
    before = threading.active_count()
    yield
    assert msft_tensorboard._writers == {}
    assert threading.active_count() <= before


def test_it_keeps_the_contract() -> None:
    assert_callback("tensorboard")


def test_tensorboard_reads_what_metrics_jsonl_has(msft_run: MsftRun) -> None:
    report = msft_run(training={"epochs": 3})
    found = read_back(report.folder)
    assert {"train/loss", "val/loss", "val/accuracy", "learning_rate", "step_ms"} <= set(found)
    assert list(found["val/accuracy"]) == [1, 2, 3]
    assert_tensorboard_has_what_metrics_jsonl_has(report.folder)


def test_an_epoch_is_on_disk_when_it_ends(msft_run: MsftRun) -> None:
    seen = {}

    class Reader:
        @hookimpl
        def on_epoch_end(self, epoch: int, run: Run) -> None:
            seen[epoch] = read_back(run.folder)

    msft_run(plugins=[Reader()], training={"epochs": 2})
    # A callback that is not marked trylast comes before the tracker, so it sees the epoch before.
    assert list(seen[2]["train/loss"]) == [1]


def test_two_runs_in_one_process_have_a_file_each(msft_run: MsftRun, tmp_path: Path) -> None:
    first = msft_run(out=tmp_path / "first", training={"epochs": 1})
    second = msft_run(out=tmp_path / "second", training={"epochs": 2})
    for report in (first, second):
        assert len(event_files(report.folder)) == 1
        assert_tensorboard_has_what_metrics_jsonl_has(report.folder)


def test_a_run_that_fails_in_epoch_two_leaves_the_events_of_epoch_one(msft_run: MsftRun) -> None:
    def fail() -> None:
        raise RuntimeError("no reason")

    plugin = InEpochTwo(fail)
    with pytest.raises(MsftError, match="no reason"):
        msft_run(plugins=[plugin], training={"epochs": 3})
    assert plugin.folder is not None
    found = read_back(plugin.folder)
    assert list(found["train/loss"]) == [1]
    assert found["train/loss"][1] > 0


def test_ctrl_c_closes_the_file_too(msft_run: MsftRun) -> None:
    plugin = InEpochTwo(lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        msft_run(plugins=[plugin], training={"epochs": 3})
    assert plugin.folder is not None
    assert 1 in read_back(plugin.folder)["train/loss"]


def test_each_epoch_has_val_figures_even_where_nobody_else_evaluates(msft_run: MsftRun) -> None:
    report = msft_run(training={"epochs": 2}, callback={"best_checkpoint": {"enabled": False}})
    found = read_back(report.folder)
    assert list(found["val/accuracy"]) == [1, 2]
    assert_tensorboard_has_what_metrics_jsonl_has(report.folder)


def test_switched_off_it_writes_nothing(msft_run: MsftRun) -> None:
    report = msft_run(training={"epochs": 1}, callback={"tensorboard": {"enabled": False}})
    assert event_files(report.folder) == []


def test_the_command_line_writes_events(msft_cli: CommandLine) -> None:
    done = msft_cli(
        *("run", "--plugin", "msft_core.testing.tiny", "--dataset", "tiny", "--backbone", "tiny"),
        *("--strategy", "finetune", "--epochs", "1", "--out", "runs/one"),
    )
    assert done.returncode == 0, done.stderr
    assert read_back(msft_cli.cwd / "runs" / "one")["val/accuracy"].keys() == {1}

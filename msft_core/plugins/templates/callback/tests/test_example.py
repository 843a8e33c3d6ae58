"""The callback writes the right lines at the right time, and msft finds it."""

from __future__ import annotations

import csv
import json

import pytest
from msft_core import UsageError
from msft_core.testing import CommandLine, HookRecorder, MsftRun, assert_callback


def test_it_keeps_the_contract() -> None:
    assert_callback("example", settings={"file": "log.csv"})


def test_each_epoch_is_a_line(msft_run: MsftRun, msft_recorder: HookRecorder) -> None:
    report = msft_run(callback={"example": {"file": "log.csv", "digits": 17}})
    with (report.folder / "log.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row, record in zip(rows, report.history, strict=True):
        assert float(row["train_loss"]) == record.train["loss"]
        assert float(row["val_accuracy"]) == record.val["accuracy"]
    assert len(msft_recorder.of("on_epoch_end", "example")) == 2


def test_switched_off_it_writes_nothing(msft_run: MsftRun, msft_recorder: HookRecorder) -> None:
    report = msft_run(callback={"example": {"enabled": False}})
    assert not (report.folder / "epochs.csv").exists()
    assert msft_recorder.of("on_epoch_end", "example") == []


def test_a_setting_out_of_bounds_is_refused(msft_run: MsftRun) -> None:
    with pytest.raises(UsageError, match=r"callback\.example\.digits = 0"):
        msft_run(callback={"example": {"digits": 0}})


def test_msft_lists_it_once_it_is_installed(msft_cli: CommandLine) -> None:
    result = msft_cli("plugins", "show", "example", "--json")
    assert result.returncode == 0, result.stderr
    shown = json.loads(result.stdout)
    assert (shown["status"], shown["warnings"]) == ("ok", [])
    (component,) = shown["components"]
    assert (component["kind"], component["name"]) == ("callback", "example")

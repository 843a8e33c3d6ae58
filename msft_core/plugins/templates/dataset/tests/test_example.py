"""The dataset returns the right images, and msft finds it."""

from __future__ import annotations

import json

import pytest
from msft_core import UsageError
from msft_core.testing import CommandLine, HookRecorder, MsftRun, assert_dataset


def test_it_keeps_the_contract() -> None:
    assert_dataset("example", settings={"train_per_class": 4, "val_per_class": 2})


def test_a_run_trains_on_it(msft_run: MsftRun, msft_recorder: HookRecorder) -> None:
    settings = {"train_per_class": 6, "val_per_class": 3}
    report = msft_run(dataset={"name": "example", **settings})
    assert report.status == "completed"
    (call,) = msft_recorder.of("build_dataset", "example")
    assert len(call.result.train.ids) == 12
    assert len(call.result.val.ids) == 6


def test_a_setting_out_of_bounds_is_refused(msft_run: MsftRun) -> None:
    with pytest.raises(UsageError, match=r"dataset\.train_per_class = 0"):
        msft_run(dataset={"name": "example", "train_per_class": 0})


def test_msft_lists_it_once_it_is_installed(msft_cli: CommandLine) -> None:
    result = msft_cli("plugins", "show", "example", "--json")
    assert result.returncode == 0, result.stderr
    shown = json.loads(result.stdout)
    assert (shown["status"], shown["warnings"]) == ("ok", [])
    (component,) = shown["components"]
    assert (component["kind"], component["name"]) == ("dataset", "example")

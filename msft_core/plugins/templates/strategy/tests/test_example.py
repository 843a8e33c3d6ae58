"""The strategy trains the right parameters, and msft finds it."""

from __future__ import annotations

import json

import pytest
from msft_core import UsageError
from msft_core.stages import learned_names
from msft_core.testing import CommandLine, HookRecorder, MsftRun, assert_strategy


def test_it_keeps_the_contract() -> None:
    assert_strategy("example")


@pytest.mark.parametrize(
    ("stages", "training"),
    [(0, {"head"}), (1, {"second", "head"}), (2, {"first", "second", "head"})],
)
def test_the_head_and_the_last_stages_train(
    msft_run: MsftRun, msft_recorder: HookRecorder, stages: int, training: set[str]
) -> None:
    report = msft_run(strategy={"name": "example", "stages": stages})
    assert report.status == "completed"
    for call in msft_recorder.of("select_trainable", "example"):
        # By the stages, since a backbone may name its parameters as it likes.
        parts = call.arguments["backbone"].stages
        stage_of = {name: part.name for part in parts for name in learned_names(part.cell)}
        assert {stage_of.get(name, "head") for name in call.result.names} == training


def test_more_stages_than_there_are_is_refused(msft_run: MsftRun) -> None:
    with pytest.raises(UsageError, match=r"strategy\.stages = 9: tiny has 2 stages"):
        msft_run(strategy={"name": "example", "stages": 9})


def test_msft_lists_it_once_it_is_installed(msft_cli: CommandLine) -> None:
    result = msft_cli("plugins", "show", "example", "--json")
    assert result.returncode == 0, result.stderr
    shown = json.loads(result.stdout)
    assert (shown["status"], shown["warnings"]) == ("ok", [])
    (component,) = shown["components"]
    assert (component["kind"], component["name"]) == ("strategy", "example")

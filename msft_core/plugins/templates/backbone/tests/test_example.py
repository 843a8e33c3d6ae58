"""The backbone keeps the contract and trains, and msft finds it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msft_core import UsageError
from msft_core.testing import CommandLine, MsftRun, assert_backbone


@pytest.mark.parametrize("settings", [{}, {"width": 3, "image_size": 17, "dropout": 0.5}])
def test_it_keeps_the_contract(settings: dict[str, Any]) -> None:
    assert_backbone("example", settings=settings)


@pytest.mark.parametrize("strategy", ["finetune", "freeze"])
def test_a_run_trains_it(msft_run: MsftRun, strategy: str) -> None:
    report = msft_run(backbone={"name": "example", "image_size": 32}, strategy=strategy)
    assert report.status == "completed"
    assert len(report.history) == 2


def test_a_setting_out_of_bounds_is_refused(msft_run: MsftRun) -> None:
    with pytest.raises(UsageError, match=r"backbone\.width = 0"):
        msft_run(backbone={"name": "example", "width": 0})


def test_msft_lists_it_once_it_is_installed(msft_cli: CommandLine) -> None:
    result = msft_cli("plugins", "show", "example", "--json")
    assert result.returncode == 0, result.stderr
    shown = json.loads(result.stdout)
    assert (shown["status"], shown["warnings"]) == ("ok", [])
    (component,) = shown["components"]
    assert (component["kind"], component["name"]) == ("backbone", "example")

"""The archive computes what the network computes, and msft finds the exporter."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from msft_core.testing import CommandLine, MsftRun, assert_exporter


def test_it_keeps_the_contract() -> None:
    assert_exporter("example")


def test_it_exports_a_run(msft_run: MsftRun, msft_cli: CommandLine) -> None:
    run = msft_run(training={"epochs": 1}).folder
    tiny = ("--plugin", "msft_core.testing.tiny")
    chosen = ("--set", "exporter.labels=names.txt")
    result = msft_cli("export", run, "--format", "example", *chosen, *tiny)
    assert result.returncode == 0, result.stderr
    with zipfile.ZipFile(Path(run, "model.example")) as archive:
        assert archive.namelist() == ["network.mindir", "names.txt"]
        assert archive.read("names.txt").decode() == "blue\nred"


def test_msft_lists_it_once_it_is_installed(msft_cli: CommandLine) -> None:
    result = msft_cli("plugins", "show", "example", "--json")
    assert result.returncode == 0, result.stderr
    shown = json.loads(result.stdout)
    assert (shown["status"], shown["warnings"]) == ("ok", [])
    (component,) = shown["components"]
    assert (component["kind"], component["name"]) == ("exporter", "example")

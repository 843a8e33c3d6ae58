"""The contract over time: what a plugin may require, old names, and a plugin of today for later."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import pytest

from msft_core import API_VERSION, PluginError, Run, hookimpl
from msft_core.plugins import compat
from msft_core.plugins.loading import load_plugins
from msft_core.testing import MsftRun, RecordingReporter

FROZEN = Path(__file__).parent / "frozen" / "contract_0_3.py"
DIGEST = "b0412ca42166aad0d26945ae6e63c14bf4772b0c64f3b325b6d0bbff1756b2a5"


def test_the_contract_has_the_number_of_the_release() -> None:
    assert version("msft").startswith(f"{API_VERSION}.")


@pytest.mark.parametrize("required", [compat.OLDEST_API_VERSION, API_VERSION])
def test_a_plugin_may_require_a_contract_that_this_msft_has(required: str) -> None:
    class Plugin:
        msft_api = required

        @hookimpl
        def on_run_start(self) -> None:
            """Do nothing."""

    assert load_plugins(objects=[Plugin]).infos[-1].status == "ok"


@pytest.mark.parametrize(
    ("required", "says"),
    [
        ("0.99", r"needs plugin API 0\.99, but this msft has .*: pip install --upgrade msft"),
        ("1.0", "needs plugin API 1.0"),
        ("0.0", "was written for plugin API 0.0, .* look for a newer release of the plugin"),
        ("new", "msft_api = 'new' is not a version such as"),
        (0.3, "msft_api = 0.3 is not a version such as"),
    ],
)
def test_another_contract_is_refused_with_what_to_do(required: object, says: str) -> None:
    class Plugin:
        msft_api = required

        @hookimpl
        def on_run_start(self) -> None:
            """Do nothing."""

    with pytest.raises(PluginError, match=says):
        load_plugins(objects=[Plugin])


def test_a_renamed_hook_and_argument_still_work_and_are_told_once_a_run(
    msft_run: MsftRun, msft_reporter: RecordingReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(compat.RENAMED_HOOKS, "after_epoch", compat.Renamed("on_epoch_end", "0.9"))
    monkeypatch.setitem(
        compat.RENAMED_ARGUMENTS, "on_epoch_end", {"number": compat.Renamed("epoch", "0.9")}
    )
    seen: list[tuple[int, int]] = []

    class Old:
        @hookimpl(trylast=True)
        def after_epoch(self, run: Run, number: int) -> None:
            seen.append((number, run.history[-1].epoch))

    msft_run([Old])
    assert seen == [(1, 1), (2, 2)]
    told = [line for line in msft_reporter.warnings if "'Old'" in line]
    assert told == [
        "plugin 'Old' (run(plugins=[...])): hook after_epoch is now on_epoch_end; "
        "the old name works until msft 0.9.",
        "plugin 'Old' (run(plugins=[...])): argument number of on_epoch_end is now epoch; "
        "the old name works until msft 0.9.",
    ]


def test_a_hook_under_both_names_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(compat.RENAMED_HOOKS, "after_epoch", compat.Renamed("on_epoch_end", "0.9"))

    class Both:
        @hookimpl
        def after_epoch(self) -> None:
            """Do nothing."""

        @hookimpl
        def on_epoch_end(self) -> None:
            """Do nothing."""

    with pytest.raises(PluginError, match="two of its functions implement on_epoch_end"):
        load_plugins(objects=[Both])


def test_every_rename_in_force_ends_after_this_release() -> None:
    for renamed in (
        *compat.RENAMED_HOOKS.values(),
        *(r for names in compat.RENAMED_ARGUMENTS.values() for r in names.values()),
    ):
        assert tuple(map(int, renamed.until.split("."))) > tuple(map(int, API_VERSION.split(".")))


def test_the_plugin_of_the_contract_as_it_was_is_unchanged() -> None:
    assert hashlib.sha256(FROZEN.read_bytes()).hexdigest() == DIGEST, (
        "this file stands for plugins of strangers; a new contract gets a new file beside it"
    )


@pytest.mark.parametrize("extractor", [False, True])
def test_a_plugin_of_the_contract_as_it_was_keeps_running(
    msft_run: MsftRun, msft_reporter: RecordingReporter, tmp_path: Path, extractor: bool
) -> None:
    report = msft_run(
        [FROZEN],
        out=tmp_path / "run",
        dataset={"name": "frozen", "per_class": 4},
        backbone="frozen",
        strategy="frozen",
        training={"epochs": 3, "batch_size": 4},
        extractor={"frozen": {"enabled": extractor}},
    )
    assert report.status == "stopped"
    assert (report.folder / "frozen.log").read_text().splitlines() == [
        "start 8 frozen",
        "epoch 1 1 True",
        "epoch 2 2 True",
        "end stopped enough None",
    ]
    line = json.loads((report.folder / "metrics.jsonl").read_text().splitlines()[0])
    assert line["val"]["error_rate"] == pytest.approx(1 - line["val"]["accuracy"])
    assert line["twice"] == 2 * line["val"]["accuracy"]
    assert (report.folder / "mine.ckpt").is_file()
    assert not [line for line in msft_reporter.warnings if "contract" in line]

"""A terminal that is closed in mid-training, and a disk of its own that fills up."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY
from fault_kit import hidden, unloadable
from terminal_kit import Terminal

from msft_core import OutputError, hookimpl, resume
from msft_core.runs.state import StateFolder
from msft_core.testing import MsftRun, RecordingReporter
from msft_core.testing.resuming import differences

EPOCHS = 20
RUN = ("run", *TINY, "--without", "figures", "--epochs", str(EPOCHS))

# Said in both: the tests may have been started under nohup.
HEEDS = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL);"
HEEDS += "os.execv(sys.executable, [sys.executable, '-m', 'msft_core', *sys.argv[1:]])"
IGNORES = HEEDS.replace("SIG_DFL", "SIG_IGN")


def config(epochs: int, **sections: Any) -> dict[str, Any]:
    """What RUN asks for."""
    training = {"epochs": epochs, "batch_size": 8}
    return {"training": training, "runtime": {"mode": "pynative"}, **sections}


def test_a_run_whose_terminal_is_closed_ends_in_order_or_trains_on_if_it_is_to_ignore_that(
    tmp_path: Path,
) -> None:
    """SIGHUP comes, unless `nohup` is there; and whatever is printed from then on is an error."""
    ends, stays = tmp_path / "ends", tmp_path / "stays"
    terminals = [
        Terminal("-c", HEEDS, *RUN, "--out", ends, cwd=tmp_path),
        Terminal("-c", IGNORES, *RUN, "--out", stays, cwd=tmp_path),
    ]
    for terminal in terminals:
        terminal.until(f"Epoch 2/{EPOCHS}")
        terminal.close()
    assert [one.process.wait(120) for one in terminals] == [130, 0]

    assert hidden(tmp_path) == []
    assert (ends / "log.txt").read_text().endswith("\ninterrupted.\n")
    assert "interrupted" not in (stays / "log.txt").read_text()
    assert not unloadable(ends)
    assert StateFolder(ends).read().epoch < EPOCHS
    assert resume(ends, reporter=RecordingReporter()).status == "completed"
    assert differences(stays, ends) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB in memory, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    how = [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if mount is None or subprocess.run(how, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


class Fills:
    """Leaves no room after an epoch, as somebody else may."""

    def __init__(self, file: Path, epoch: int) -> None:
        self._file, self._epoch = file, epoch

    @hookimpl
    def on_epoch_end(self, epoch: int) -> None:
        if epoch == self._epoch:
            with pytest.raises(OSError, match="No space left"):
                self._file.write_bytes(bytes(2_000_000))


def test_a_run_on_a_disk_that_fills_up_says_so_loses_nothing_and_goes_on_with_room(
    small_disk: Path, tmp_path: Path, msft_run: MsftRun
) -> None:
    run, filler = small_disk / "run", small_disk / "filler"
    with pytest.raises(OutputError, match="cannot be written: No space left on device"):
        msft_run([Fills(filler, 2)], out=run, **config(4))
    assert shutil.disk_usage(small_disk).free < 8192
    assert hidden(small_disk) == []
    assert not unloadable(run)
    assert StateFolder(run).read().epoch == 2

    filler.unlink()
    assert msft_run.resume(run).status == "completed"
    whole = msft_run(out=tmp_path / "whole", **config(4)).folder
    assert differences(whole, run) == []


def test_features_for_which_the_disk_is_too_small_are_not_stored_and_the_run_goes_on(
    small_disk: Path, msft_run: MsftRun, msft_reporter: RecordingReporter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("MSFT_CACHE", str(small_disk))
    # 8 kB are left: enough for one view of each image (6.6 kB), but not for their keys as well.
    (small_disk / "others").write_bytes(bytes(1_040_000))
    dataset = {"name": "tiny", "train_per_class": 100, "val_per_class": 4}
    report = msft_run(**config(2, strategy="freeze", dataset=dataset))
    assert report.status == "completed"
    (told,) = (line for line in msft_reporter.warnings if "features are not stored" in line)
    assert "cannot be written: No space left on device" in told
    assert hidden(small_disk) == []

"""``log.txt``: what a run said, in its folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TINY
from disk_kit import TOO_LARGE, disk_that_takes

from msft_core import MsftError, Run, hookimpl
from msft_core.system.console import PlainReporter
from msft_core.system.log_file import LogFile
from msft_core.testing import MsftRun, RecordingReporter


def lines_of(folder: Path) -> list[str]:
    return (folder / "log.txt").read_text(encoding="utf-8").splitlines()


def test_the_log_has_every_line_and_warning_in_order(
    msft_run: MsftRun, msft_reporter: RecordingReporter
) -> None:
    class Speaks:
        @hookimpl
        def on_run_start(self, run: Run) -> None:
            run.reporter.info("a line")
            run.reporter.warning("a warning")

    report = msft_run([Speaks])
    lines = lines_of(report.folder)
    said = [
        part
        for line in msft_reporter.lines
        for part in (f"warning: {line}" if line in msft_reporter.warnings else line).splitlines()
    ]
    assert lines == said
    assert "warning: a warning" in lines
    assert "Epoch 2/2" in lines
    assert lines[-1] == f"Best checkpoint: {report.folder / 'best.ckpt'}"


def test_the_log_of_a_run_in_progress_has_the_lines_so_far(msft_run: MsftRun) -> None:
    """So it does if the run is killed here: nothing waits in a buffer of the process."""
    seen = []

    class Looks:
        @hookimpl
        def on_epoch_end(self, run: Run) -> None:
            run.reporter.info("just now")
            seen.append(lines_of(run.folder))

    msft_run([Looks])
    assert seen[0][-1] == "just now"
    assert "Epoch 1/2" not in seen[0]
    assert "Epoch 1/2" in seen[1]
    assert any(line.startswith("Backbone tiny") for line in seen[0]), "said before the folder"


def test_the_log_says_why_a_run_failed_with_the_traceback(msft_run: MsftRun) -> None:
    class Fails:
        @hookimpl
        def on_epoch_end(self, epoch: int) -> None:
            raise RuntimeError("the sky fell")

    with pytest.raises(MsftError) as caught:
        msft_run([Fails])
    assert caught.value.report is not None
    lines = lines_of(caught.value.report.folder)
    assert lines[-1] == f"error: {caught.value}"
    assert any(line.startswith("Traceback") for line in lines)


def test_the_log_says_that_a_run_was_interrupted(msft_run: MsftRun) -> None:
    class Interrupts:
        @hookimpl
        def on_epoch_end(self, epoch: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        msft_run([Interrupts])
    assert lines_of(caught.value.args[0].folder)[-1] == "interrupted."


def test_a_plugin_finds_what_the_users_own_reporter_has(
    msft_run: MsftRun, msft_reporter: RecordingReporter
) -> None:
    found = []

    class Looks:
        @hookimpl
        def on_run_start(self, run: Run) -> None:
            found.append(run.reporter.infos)

    msft_run([Looks])
    assert found == [msft_reporter.infos]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogFile]:
    log = LogFile(RecordingReporter())
    log.open(tmp_path / "log.txt")
    yield log
    log.close()


def test_a_full_disk_is_one_warning_and_every_line_still_reaches_the_user(
    log: LogFile, tmp_path: Path
) -> None:
    with disk_that_takes(20):
        for number in range(5):
            log.info(f"line number {number}")
    expected = f"log.txt cannot be written: {TOO_LARGE}. The run continues without it."
    assert log.warnings == [expected]
    assert log.infos == [f"line number {number}" for number in range(5)]
    assert (tmp_path / "log.txt").read_text() == "line number 0\nline n"


def test_a_log_that_cannot_be_created_is_one_warning(tmp_path: Path) -> None:
    log = LogFile(RecordingReporter())
    log.info("early")
    log.open(tmp_path / "nowhere" / "log.txt")
    log.info("late")
    (warning,) = log.warnings
    assert warning.startswith("log.txt cannot be written: No such file or directory")
    assert log.infos == ["early", "late"]


def test_a_name_that_is_not_utf_8_leaves_the_log_readable(log: LogFile, tmp_path: Path) -> None:
    log.info(os.fsdecode(b"odd\xfe.jpg"))
    assert (tmp_path / "log.txt").read_text(encoding="utf-8") == "odd\\udcfe.jpg\n"


def test_after_its_end_a_log_only_passes_on(log: LogFile, tmp_path: Path) -> None:
    log.close()
    log.info("too late")
    assert log.infos == ["too late"]
    assert (tmp_path / "log.txt").read_text() == ""


def test_a_closed_standard_output_does_not_end_a_run(tmp_path: Path) -> None:
    """`msft run | head`: the output is lost, the log is not, and the status is that of the run."""
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        [sys.executable, "-m", "msft_core", "run", *TINY, "--out", str(tmp_path / "run")],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
        check=False,
    )
    os.close(writer)
    assert (result.returncode, result.stderr) == (0, "")
    assert lines_of(tmp_path / "run")[-1].startswith("Best checkpoint: ")


def test_a_reporter_goes_on_when_its_reader_has_gone() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as out:
        reporter = PlainReporter(out=out, err=out)
        reporter.info("read by nobody yet")
        os.close(reader)
        reporter.info("the reader has gone")
        reporter.warning("it still has")
        out.flush()

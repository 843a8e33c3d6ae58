"""What a user sees of a run: on a terminal, in a notebook, in a pipe."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY
from rich.console import Console, Group
from terminal_kit import Terminal

from msft_core.system.console import (
    PlainReporter,
    TerminalReporter,
    console_reporter,
    training_view,
)
from msft_core.system.display import PlainView, SafeView
from msft_core.system.live_view import LiveView, _Above, suits
from msft_core.system.log_file import LogFile
from msft_core.testing import RecordingReporter
from msft_core.types import Best, EpochRecord

RUN = ("-m", "msft_core", "run", *TINY, "--without", "figures", "--without", "report")
RUN += ("--set", "runtime.mode=pynative")  # compiles nothing
OF_THE_VIEW = re.compile("[━─▁▂▃▄▅▆▇█]|images/s| left$|finishing|preparing|starting")
COLOUR = re.compile(r"\x1b\[[0-9;]*3\d")

TALKS = """
import sys, time, warnings
from msft_core import hookimpl

@hookimpl
def on_epoch_end(epoch, run):
    print(f"printed by a plugin after epoch {epoch}")
    print("half a line, ", end="", flush=True)
    print("and the rest")
    print("to standard error", file=sys.stderr)
    sys.stdout.write("0 %\\r50 %\\r100 %\\n")
    run.reporter.info("an info with a path " + "/long" * 30 + "/name")
    run.reporter.warning(f"a warning after epoch {epoch}")
    with run.reporter.progress("counting sheep", 3, "sheep") as advance:
        advance(1)
        time.sleep(0.5)
        advance(2)
"""


def test_on_a_terminal_one_view_stays_in_place_and_all_else_scrolls_above(tmp_path: Path) -> None:
    plugin = tmp_path / "talks.py"
    plugin.write_text(TALKS)
    out = tmp_path / "out"
    terminal = Terminal(
        *RUN, "--epochs", 3, "--plugin", plugin, "--out", out, cwd=tmp_path, columns=80
    )
    terminal.until("counting sheep")
    (shown,) = (line for line in terminal.lines if "counting sheep" in line)
    assert shown.startswith("Epoch 1/3   counting sheep   ━")
    assert terminal.wait() == 0, terminal.raw

    lines = terminal.lines
    assert not [line for line in lines if OF_THE_VIEW.search(line)], "\n".join(lines)
    assert terminal.shows_cursor
    for epoch in (1, 2, 3):
        assert lines.count(f"printed by a plugin after epoch {epoch}") == 1
        assert lines.count(f"warning: a warning after epoch {epoch}") == 1
        assert len([line for line in lines if line.startswith(f"Epoch {epoch}/3  loss 0.")]) == 1
    for text in ("half a line, and the rest", "to standard error", "100 %"):
        assert lines.count(text) == 3
    assert "/long" * 30 + "/name" in "".join(lines), "a path is whole across the lines it takes"
    assert not [line for line in lines if line.startswith("train Loss: ")]

    # The summary.
    assert "Training is done." in lines
    assert any(re.match(r"  best accuracy +\d\.\d{6} in epoch \d of 3$", line) for line in lines)
    assert any(line.endswith("16 training, 8 validation, in 2 classes") for line in lines)
    assert f"  {'log':17}out/log.txt (3 warnings)" in lines
    assert f"  {'next':17}msft predict out IMAGE" in lines
    assert out.as_uri() in terminal.links
    assert (out / "best.ckpt").as_uri() in terminal.links

    # The tutorial's lines are in the log.
    log = (out / "log.txt").read_text(encoding="utf-8").splitlines()
    for text in ("Epoch 3/3", "----------", "warning: a warning after epoch 3"):
        assert text in log
    assert len([line for line in log if line.startswith("train Loss: ")]) == 3
    assert "\x1b" not in "".join(log)


def test_ctrl_c_leaves_a_sane_terminal_and_is_told_once(tmp_path: Path) -> None:
    out = tmp_path / "out"
    terminal = Terminal(*RUN, "--epochs", 5000, "--out", out, cwd=tmp_path)
    terminal.until("Epoch 3/5000  loss")
    terminal.press(b"\x03")
    assert terminal.wait() == 130
    lines = terminal.lines
    assert not [line for line in lines if OF_THE_VIEW.search(line)], "\n".join(lines)
    assert terminal.shows_cursor
    assert "\x1b[?25l" not in terminal.raw, "a run that is killed would leave it hidden"
    assert len([line for line in lines if "interrupted." in line]) == 1
    assert (out / "log.txt").read_text(encoding="utf-8").endswith("\ninterrupted.\n")


def test_without_colour_and_with_20_columns_paths_are_whole_and_errors_go_to_their_file(
    tmp_path: Path,
) -> None:
    plugin = tmp_path / "talks.py"
    plugin.write_text(TALKS)
    out, errors = tmp_path / "out", tmp_path / "errors.txt"
    terminal = Terminal(
        *RUN, "--epochs", 1, "--plugin", plugin, "--out", out,
        cwd=tmp_path, columns=20, env={"NO_COLOR": "1"}, stderr=errors,
    )  # fmt: skip
    assert terminal.wait() == 0
    assert not COLOUR.search(terminal.raw)
    assert str(out) in re.sub(r"\x1b\[[0-9;]*m", "", terminal.raw)
    assert not [line for line in terminal.lines if OF_THE_VIEW.search(line)]
    assert errors.read_text() == "to standard error\nwarning: a warning after epoch 1\n"
    assert "to standard error" not in terminal.raw


TWICE = """
import sys
import msft_core
from msft_core.system import live_view
from msft_core.testing import tiny

def run(out):
    before = sys.stdout, sys.stderr
    msft_core.run({"dataset": "tiny", "backbone": "tiny", "without": ["figures", "report"],
                   "training": {"epochs": 2, "batch_size": 8},
                   "runtime": {"mode": "pynative"}}, plugins=[tiny], out=out)
    assert (sys.stdout, sys.stderr) == before

run("one")
run("two")
frames = live_view.LiveView.lines
live_view.LiveView.lines = lambda self, width: frames(self, width) if self._epoch < 2 else 1 / 0
live_view._FRAMES_PER_SECOND = 1000
run("three")
print("the end")
"""


def test_a_view_begins_anew_and_one_that_fails_gives_way_to_plain_lines(tmp_path: Path) -> None:
    script = tmp_path / "twice.py"
    script.write_text(TWICE)
    terminal = Terminal(script, cwd=tmp_path)
    assert terminal.wait() == 0, terminal.raw
    lines = terminal.lines
    assert lines[-1] == "the end"
    assert not [line for line in lines if OF_THE_VIEW.search(line)], "\n".join(lines)
    assert len([line for line in lines if line.startswith("Epoch 1/2  loss")]) == 3
    failed = "warning: the live view failed: ZeroDivisionError: division by zero."
    assert len([line for line in lines if line.startswith(failed)]) == 1
    assert "Traceback" not in terminal.raw
    after = lines[next(i for i, line in enumerate(lines) if "live view failed" in line) :]
    assert len([line for line in after if line.startswith("train Loss: ")]) == 1
    assert any(line.startswith("End training, the best accuracy is: ") for line in after)


NOTEBOOK = """
import io, sys
import msft_core
from msft_core.testing import tiny

class OutStream(io.TextIOBase):
    # As in a notebook: no terminal, no file descriptor.
    encoding = "UTF-8"
    text = ""
    def write(self, text):
        self.text += text
        return len(text)
    def isatty(self):
        return False

real, sys.stdout = sys.stdout, OutStream()
msft_core.run({"dataset": "tiny", "backbone": "tiny", "without": ["figures", "report"],
               "training": {"epochs": 2, "batch_size": 8},
               "runtime": {"mode": "pynative"}}, plugins=[tiny], out="out")
shown, sys.stdout = sys.stdout.text, real
assert not [name for name in sys.modules if name.partition(".")[0] == "rich"], "rich is imported"
print(shown, end="")
"""


def test_a_notebook_shows_plain_lines_and_no_carriage_return(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert "\r" not in text
    assert "\x1b" not in text
    assert text.count("train Loss: ") == 2
    # Progress is printed only where it takes a second or more; the log never has it.
    text = re.sub(r"^epoch \d/2: .*\n", "", text, flags=re.M)
    assert text == (tmp_path / "out" / "log.txt").read_text(encoding="utf-8")


class Tty(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def on_a_tty(monkeypatch: pytest.MonkeyPatch) -> Tty:
    """From here to the end of the test standard output is a terminal. (No fixture: pytest itself
    sets sys.stdout after those.)
    """
    stream = Tty()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    return stream


def view_for(reporter: Any) -> Any:
    return training_view(reporter, LogFile(reporter))


def test_a_terminal_has_the_live_view(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_tty(monkeypatch)
    reporter = console_reporter()
    assert isinstance(reporter, TerminalReporter)
    assert isinstance(view_for(reporter), SafeView)


@pytest.mark.parametrize("kind", ["dumb", "unknown"])
def test_a_terminal_that_cannot_move_its_cursor_has_plain_lines(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    on_a_tty(monkeypatch)
    monkeypatch.setenv("TERM", kind)
    assert type(console_reporter()) is PlainReporter


def test_plain_lines_where_quiet_is_asked_for_or_the_terminal_has_no_utf_8(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tty = on_a_tty(monkeypatch)
    assert isinstance(view_for(console_reporter(quiet=True)), PlainView)
    tty.encoding = "iso-8859-1"
    assert isinstance(view_for(console_reporter()), PlainView)
    assert isinstance(view_for(RecordingReporter()), PlainView)


def test_quiet_on_a_terminal_prints_warnings_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tty = on_a_tty(monkeypatch)
    reporter = console_reporter(quiet=True)
    reporter.info("no")
    with reporter.progress("nothing", 3) as advance:
        advance(1)
    reporter.warning("yes")
    assert tty.getvalue() == ""
    assert capsys.readouterr().err == "warning: yes\n"


# The lines of the view


@pytest.fixture
def view() -> LiveView:
    """As after seven epochs and in the eighth."""
    log = LogFile(RecordingReporter())
    view = LiveView(log, Console(file=io.StringIO()), lambda view: None)
    view._epochs = 20
    for epoch, accuracy in enumerate((0.71, 0.83, 0.9, 0.88, 0.93, 0.95, 0.94), 1):
        view.begin_epoch(epoch)
        with view.training(4, compiles=epoch == 1) as step:
            step(0.5, 24)
        record = EpochRecord(epoch, {"loss": 0.5}, {"loss": 0.4, "accuracy": accuracy}, seconds=1.0)
        best = Best(Path("best.ckpt"), min(epoch, 6), 0.95 if epoch >= 6 else accuracy, "accuracy")
        view.end_epoch(record, best, improved=epoch <= 6)
    view.begin_epoch(8)
    return view


@pytest.mark.parametrize("columns", [10, 20, 40, 60, 80, 160])
def test_no_line_of_the_view_is_wider_than_the_terminal(view: LiveView, columns: int) -> None:
    console = Console(width=columns, file=io.StringIO())
    with view.training(40, compiles=False) as step, view.progress("evaluating val", 153, "images"):
        step(0.25, 24)
        step(0.75, 24)
        lines = view.lines(columns)
        with console.capture() as capture:
            console.print(Group(*lines))
    shown = capture.get().splitlines()
    assert len(shown) == len(lines), "no line is broken"
    assert max(map(len, shown)) <= columns


def test_the_view_says_where_training_is(view: LiveView) -> None:
    with view.training(40, compiles=False) as step:
        step(0.25, 10)
        step(0.75, 30)
        first, second, third = (line.plain for line in view.lines(80))
    assert re.fullmatch(r"Epoch 8/20   training   ━+─+   2/40 steps", first)
    assert len(first) == 80
    assert re.fullmatch(r"loss 0\.6250   [\d.]+ images/s   \d+:\d\d left", second)
    assert third == "val accuracy 0.9400   best 0.9500 (epoch 6)   ▁▅▇▆▇██"


def test_the_view_says_that_it_compiles_until_the_first_step(view: LiveView) -> None:
    with view.training(40, compiles=True) as step:
        assert "compiling the training step" in view.lines(80)[0].plain
        step(0.25, 10)
        assert "training   ━" in view.lines(80)[0].plain


def test_time_left_counts_the_epochs_that_follow(
    view: LiveView, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("msft_core.system.live_view.time.monotonic", lambda: now[0])
    view.begin_epoch(9)
    now[0] += 10
    view.begin_epoch(10)
    now[0] += 4
    assert view._seconds_left() == 10 * 10 + 6
    now[0] += 100  # an epoch that takes longer than the one before
    assert view._seconds_left() == 10 * 10


def test_an_epoch_without_a_finite_metric_leaves_the_view_as_it_is(view: LiveView) -> None:
    record = EpochRecord(8, {"loss": 0.5}, {"loss": 0.4, "accuracy": float("nan")})
    view.end_epoch(record, None, improved=False)
    assert view.lines(80)[-1].plain.startswith("val accuracy 0.9400")


def test_a_terminal_of_another_program_is_told_from_a_real_one() -> None:
    assert suits(Console(file=Tty(), force_terminal=True, legacy_windows=False))
    assert not suits(Console(file=io.StringIO()))


def test_what_others_print_is_shown_in_whole_lines() -> None:
    shown: list[str] = []
    above = _Above(sys.stdout, shown.append)
    above.write("one\ntwo\nthr")
    above.flush()
    above.write("ee\r\n")
    above.write("10 %\r20 %\r")
    above.write("30 %")
    assert shown == ["one\ntwo", "three"]
    above.end()
    assert shown == ["one\ntwo", "three", "30 %"]
    assert above.fileno == sys.stdout.fileno
    assert os.linesep  # as on this system

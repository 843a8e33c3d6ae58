"""A short fuzzing of every reader. docs/reliability.md says how to do it for longer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
READERS = 17


@pytest.mark.slow
def test_every_reader_gives_a_value_or_an_error_of_msft() -> None:
    done = subprocess.run(
        [sys.executable, HERE / "fuzz.py", "--minutes", "0.012"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if " files, " in line]
    assert len(lines) == READERS, done.stdout
    assert not [line for line in lines if ": 0 files" in line], done.stdout


def test_fuzzing_finds_a_reader_that_fails_hangs_or_fills_memory(tmp_path: Path) -> None:
    """Each in a process of its own, which the second one ends."""
    code = f"""
import sys
from pathlib import Path
sys.path[:0] = [{str(HERE)!r}, {str(HERE.parent)!r}]
import fuzz
from mutations import changed
fuzz.SECONDS = 1 if sys.argv[1] == "hangs" else 60

def reads(path):
    if path.read_bytes() == b"abcdefgh":
        return
    if sys.argv[1] == "fails":
        raise KeyError("a bug")
    if sys.argv[1] == "refuses":
        raise ValueError("msft's own")
    if sys.argv[1] == "hangs":
        while True:
            pass
    if sys.argv[1] == "fills":
        b"x" * 600_000_000

sound = b"abcdefgh"
reader = fuzz.Reader("mine", changed([sound]), reads, (ValueError,), [sound])
fuzzing = fuzz.Fuzzing(Path({str(tmp_path)!r}))
print(fuzzing.run(reader, 1.5))
"""
    said = {}
    for what in ("fails", "refuses", "hangs", "fills"):
        done = subprocess.run(
            [sys.executable, "-c", code, what],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        said[what] = done.stdout + done.stderr
    assert "KeyError: 'a bug'" in said["fails"]
    assert said["refuses"] == "\n"
    assert "Timeout" in said["hangs"]
    assert "MB" in said["fills"]

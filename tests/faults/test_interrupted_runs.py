"""Training that is killed, interrupted, or out of room goes on and ends like any other.

These are some of the cases of `kills.py`, which tries all of them: see docs/reliability.md.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from fault_kit import Harness, every
from fork_kit import Forks

QUICK = ("--without", "figures", "--epochs", "1", "--set", "runtime.mode=pynative")
AT_MOST = 4
"""Calls that each test tries, of some 140."""


@pytest.fixture(scope="module")
def runs(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Harness:
    """Runs of one epoch."""
    harness = Harness("tiny", tmp_path_factory.mktemp("runs"), forks, QUICK)
    harness.reference()
    return harness


def some_calls(runs: Harness, offset: int) -> list[int]:
    """Calls all over the run, others for each test."""
    return every(1 + offset, len(runs.calls), AT_MOST)


@pytest.mark.slow
def test_a_run_that_is_killed_at_a_write_resumes_to_the_same_end(runs: Harness) -> None:
    assert {"best.ckpt", "last.ckpt", "metrics.jsonl", "predictions.csv"} <= set(runs.same)
    writes = [n for n, call in enumerate(runs.calls, 1) if call.startswith(("write", "replace"))]
    assert len(writes) > 30, "the shim sees the writes"
    for number in [writes[i * len(writes) // AT_MOST] for i in range(AT_MOST)]:
        runs.killed_at(number)
    assert runs.kills == AT_MOST


@pytest.mark.slow
def test_killed_again_and_again_it_draws_the_same_pictures(forks: Forks, tmp_path: Path) -> None:
    harness = Harness("tiny", tmp_path, forks)
    assert {"curves.png", "predictions.png"} <= set(harness.reference())
    harness.killed_at(len(harness.calls) * 2 // 3, 30, 40)
    assert harness.kills == 3


@pytest.mark.slow
def test_a_signal_at_any_stage_ends_a_run_in_order(runs: Harness) -> None:
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for i, number in enumerate(some_calls(runs, 5)):
        runs.signalled_at(number, signals[i % 3])


@pytest.mark.slow
def test_a_disk_that_is_full_from_any_moment_on_is_told_and_nothing_is_lost(runs: Harness) -> None:
    for number in some_calls(runs, 9):
        runs.without_room_at(number)

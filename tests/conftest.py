"""What all tests share. MindSpore's environment is set here, before anything imports it."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fork_kit import ForkedCommandLine, Forks, forks_of_one_process
from loopback import Server

from msft_core.testing import CommandLine

os.environ.setdefault("GLOG_v", "3")
# Before the first convolution of this process, whichever test runs it.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

TESTS = Path(__file__).parent
Msft = CommandLine


def pytest_collection_finish() -> None:
    """Leave what is imported by now out of the collections of garbage, which MindSpore asks for
    before it compiles a graph: they take a sixth of the time of tests that train.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def own_cache(msft_cache: Path) -> None:
    """No test sees the user's cache folder or plugins chosen in the environment."""


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Run Python programs without waiting for their imports; fork_kit.py says what differs."""
    with forks_of_one_process() as forks:
        yield forks


@pytest.fixture
def msft(msft_cli: CommandLine, forks: Forks) -> Iterator[Msft]:
    """Run the command line in an empty working directory."""
    yield ForkedCommandLine(msft_cli.cwd, forks)
    require_empty(msft_cli)


@pytest.fixture
def msft_process(msft_cli: CommandLine) -> Iterator[Msft]:
    """The same, each time in a process from its start on: for tests of processes."""
    yield msft_cli
    require_empty(msft_cli)


def require_empty(msft_cli: CommandLine) -> None:
    left = {path.name for path in msft_cli.cwd.iterdir()} - {"runs", "out", "data"}
    assert not left, f"left in the working directory: {left}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A web server on loopback."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = Server()
    yield running
    running.stop()


EAGER = ("--set", "runtime.mode=pynative")
"""Options with which nothing is compiled: compiling takes twice as long as all else of a tiny run.
Tests of the compiled step, and those with a real network, leave them out."""

COMPILED = ("--plugin", "msft_core.testing.tiny", "--dataset", "tiny", "--backbone", "tiny")
COMPILED += ("--batch-size", "8", "--without", "report")
"""Arguments of a tiny run as it is by default: of its 16 images no batch is left over, for which
the step would be compiled a second time. tests/test_run.py trains with one that is."""

TINY = (*COMPILED[:-2], *EAGER, *COMPILED[-2:])
"""Arguments of a run that trains in a blink."""

"""What all tests share. MindSpore's environment is set here, before anything imports it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from loopback import Server

os.environ.setdefault("GLOG_v", "3")
# Before the first convolution of this process, whichever test runs it.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

TESTS = Path(__file__).parent
Msft = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's cache folder or plugins chosen in the environment."""
    monkeypatch.setenv("MSFT_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("MSFT_PLUGINS", raising=False)
    monkeypatch.delenv("MSFT_WITHOUT", raising=False)


@pytest.fixture
def msft(tmp_path: Path) -> Iterator[Msft]:
    """Run the command line in an empty working directory."""
    work = tmp_path / "work"
    work.mkdir()

    def run(
        *arguments: object, env: Mapping[str, str] | None = None, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "msft_core", *map(str, arguments)],
            cwd=work,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    yield run
    left = {path.name for path in work.iterdir()} - {"runs", "out", "data"}
    assert not left, f"left in the working directory: {left}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A web server on loopback."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = Server()
    yield running
    running.stop()


TINY = ("--plugin", TESTS / "tiny.py", "--dataset", "tiny", "--backbone", "tiny", "--batch-size", 6)
"""Arguments of a run that trains in a blink."""

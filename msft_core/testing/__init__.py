"""The kit for tests of plugins: a pytest plugin that is there wherever msft is installed.

Fixtures: ``msft_run`` trains in less than a second on a tiny dataset and backbone, with any plugins
added; ``msft_recorder`` holds every hook call of those runs; ``msft_reporter`` what they said;
``msft_context`` is a ``Context`` for calling a hook directly; ``msft_cli`` is the command line.
Functions: ``assert_backbone``, ``assert_dataset``, ``assert_strategy`` hold a component against the
contract.

Nothing outlives a test: plugins belong to the run they are given to, the cache folder and run
folders are temporary, and the environment is put back.

pytest imports this module at its start, so it imports nothing heavy.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from msft_core.testing.contract import assert_backbone, assert_dataset, assert_strategy
from msft_core.testing.given import split_plugins
from msft_core.testing.recording import HookRecorder, RecordingReporter

if TYPE_CHECKING:
    from msft_core.types import Context, RunReport

__all__ = [
    "CommandLine",
    "HookRecorder",
    "MsftRun",
    "RecordingReporter",
    "assert_backbone",
    "assert_dataset",
    "assert_strategy",
    "msft_cache",
    "msft_cli",
    "msft_context",
    "msft_recorder",
    "msft_reporter",
    "msft_run",
]


class MsftRun:
    """Runs msft in this process, quickly. The fixture ``msft_run`` is one.

    Args:
        folder: run folders are made in it.
        recorder: sees the hook calls.
        reporter: hears what is said.
    """

    def __init__(self, folder: Path, recorder: HookRecorder, reporter: RecordingReporter) -> None:
        self._folder, self._recorder, self._reporter = folder, recorder, reporter
        self._runs = 0

    def __call__(
        self, plugins: Sequence[object] = (), *, out: Path | None = None, **sections: Any
    ) -> RunReport:
        """Train for two epochs on the tiny dataset and backbone, unless ``sections`` say otherwise.

        Args:
            plugins: objects, classes or modules with hooks; a string or a path is what
                ``--plugin`` takes. Installed plugins are there anyway.
            out: the run folder; a new temporary one by default.
            sections: as in a configuration: ``strategy="freeze"``, ``training={"epochs": 1}``.

        Returns:
            How the run ended.

        Raises:
            MsftError: as ``msft_core.run`` does.
        """
        import msft_core
        from msft_core.config import merge

        self._runs += 1
        files, objects = split_plugins(plugins)
        return msft_core.run(
            merge(_quick(), {"plugins": files}, sections),
            plugins=objects,
            out=out or self._folder / f"run-{self._runs}",
            reporter=self._reporter,
            observers=[self._recorder],
        )


def _quick() -> dict[str, Any]:
    """What makes a run quick: small in all, no pictures drawn, and all batches of one size, since a
    step is compiled for each.
    """
    return {
        "dataset": "tiny",
        "backbone": "tiny",
        "strategy": "finetune",
        "training": {"epochs": 2, "batch_size": 8},
        "callback": {"figures": {"enabled": False}},
    }


class CommandLine:
    """The command ``msft`` in an empty working directory. The fixture ``msft_cli`` is one.

    Args:
        cwd: the working directory.
    """

    def __init__(self, cwd: Path) -> None:
        self.cwd = cwd

    def __call__(
        self,
        *arguments: object,
        env: Mapping[str, str] | None = None,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``msft`` with these arguments in a process of its own.

        Args:
            arguments: after ``msft``.
            env: added to the environment.
            timeout: seconds.

        Returns:
            Its exit status and what it wrote.
        """
        return subprocess.run(
            [sys.executable, "-m", "msft_core", *map(str, arguments)],
            cwd=self.cwd,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


@pytest.fixture
def msft_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, and no plugins chosen in the environment."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MSFT_CACHE", str(folder))
    for variable in ("MSFT_PLUGINS", "MSFT_WITHOUT", "MSFT_TRACE"):
        monkeypatch.delenv(variable, raising=False)
    return folder


@pytest.fixture
def msft_recorder() -> HookRecorder:
    """Every hook call of the test's runs."""
    return HookRecorder()


@pytest.fixture
def msft_reporter() -> RecordingReporter:
    """What the test's runs said."""
    return RecordingReporter()


@pytest.fixture
def msft_context(msft_cache: Path, msft_reporter: RecordingReporter) -> Context:
    """Seed 0, a temporary cache folder, and ``msft_reporter``."""
    from msft_core.types import Context

    return Context(0, msft_cache, msft_reporter)


@pytest.fixture
def msft_run(
    tmp_path: Path,
    msft_cache: Path,
    msft_recorder: HookRecorder,
    msft_reporter: RecordingReporter,
) -> MsftRun:
    """See ``MsftRun``."""
    return MsftRun(tmp_path, msft_recorder, msft_reporter)


@pytest.fixture
def msft_cli(tmp_path: Path, msft_cache: Path) -> CommandLine:
    """See ``CommandLine``."""
    cwd = tmp_path / "work"
    cwd.mkdir()
    return CommandLine(cwd)

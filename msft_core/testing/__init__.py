"""The test kit for plugins: a pytest plugin that pytest loads if msft is installed.

Fixtures: ``msft_run`` trains a tiny network on a tiny dataset, with additional plugins;
``msft_recorder`` holds every hook call of these runs; ``msft_reporter`` holds their messages;
``msft_context`` is a ``Context`` for direct hook calls; ``msft_cli`` runs the command line.
Functions: ``assert_dataset``, ``assert_backbone``, ``assert_strategy``, ``assert_callback``,
``assert_metric`` and ``assert_exporter`` check that a component keeps the contract;
``assert_resumes`` checks that an interrupted run goes on as if nothing had happened,
``assert_same_in_processes`` that several processes give what one gives.
``assert_same_logits`` compares a backbone with the network that it was ported from.

Nothing remains after a test: a plugin belongs to the run that receives it, the cache folder and the
run folders are temporary, and the environment is restored.

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

from msft_core.errors import MsftError
from msft_core.testing.callbacks import assert_callback
from msft_core.testing.contract import assert_backbone, assert_dataset, assert_strategy
from msft_core.testing.exporters import assert_exporter
from msft_core.testing.given import split_plugins
from msft_core.testing.metrics import assert_metric
from msft_core.testing.ports import assert_same_logits
from msft_core.testing.processes import assert_same_in_processes
from msft_core.testing.recording import HookRecorder, RecordingReporter
from msft_core.testing.resuming import assert_resumes
from msft_core.testing.tracebacks import ending_at_the_author

if TYPE_CHECKING:
    from msft_core.types import Context, RunReport

__all__ = [
    "CommandLine",
    "HookRecorder",
    "MsftRun",
    "RecordingReporter",
    "assert_backbone",
    "assert_callback",
    "assert_dataset",
    "assert_exporter",
    "assert_metric",
    "assert_resumes",
    "assert_same_in_processes",
    "assert_same_logits",
    "assert_strategy",
    "msft_cache",
    "msft_cli",
    "msft_context",
    "msft_recorder",
    "msft_reporter",
    "msft_run",
]

__tracebackhide__ = True


class MsftRun:
    """Runs msft in this process. The fixture ``msft_run`` is an instance.

    Args:
        folder: the parent of the run folders.
        recorder: receives the hook calls.
        reporter: receives the messages.
    """

    def __init__(self, folder: Path, recorder: HookRecorder, reporter: RecordingReporter) -> None:
        self._folder, self._recorder, self._reporter = folder, recorder, reporter
        self._runs = 0

    def __call__(
        self, plugins: Sequence[object] = (), *, out: Path | None = None, **sections: Any
    ) -> RunReport:
        """Train for two epochs on the tiny dataset and backbone, unless ``sections`` say otherwise.

        Nothing is compiled, unless ``runtime={"mode": "auto"}``, which is what users have, or
        ``"graph"`` says so: compiling takes longer than the rest of such a run.

        Args:
            plugins: objects, classes or modules with hooks. A string or a path means the same as
                for ``--plugin``. Installed plugins take part too.
            out: the run folder; by default a new temporary folder.
            sections: as in a configuration: ``strategy="freeze"``, ``training={"epochs": 1}``,
                ``without=["figures"]``.

        Returns:
            How the run ended.

        Raises:
            MsftError: as ``msft_core.run`` does.
        """
        import msft_core
        from msft_core.config import merge
        from msft_core.plugins.loading import names_in_environment

        self._runs += 1
        files, objects = split_plugins(plugins)
        quick = _quick()
        for name in [*sections.get("without", ()), *names_in_environment("MSFT_WITHOUT")]:
            quick["callback"].pop(name, None)  # settings of a plugin left out are unknown
        try:
            return msft_core.run(
                merge(quick, {"plugins": files}, sections),
                plugins=objects,
                out=out or self._folder / f"run-{self._runs}",
                reporter=self._reporter,
                observers=[self._recorder],
            )
        except MsftError as error:
            raise ending_at_the_author(error)  # noqa: B904 - the same error

    def resume(self, folder: Path, plugins: Sequence[object] = (), **changes: Any) -> RunReport:
        """Go on with a run that was interrupted.

        Args:
            folder: its run folder.
            plugins: objects that were given to the run; modules and files are in its configuration.
            changes: sections that differ, as in a configuration.

        Returns:
            How the run ended.

        Raises:
            MsftError: as ``msft_core.resume`` does.
        """
        import msft_core

        _, objects = split_plugins(plugins)
        try:
            return msft_core.resume(
                folder,
                changes,
                plugins=objects,
                reporter=self._reporter,
                observers=[self._recorder],
            )
        except MsftError as error:
            raise ending_at_the_author(error)  # noqa: B904 - the same error


def _quick() -> dict[str, Any]:
    """What makes a run quick: small in all, no pictures drawn, nothing compiled."""
    return {
        "dataset": "tiny",
        "backbone": "tiny",
        "strategy": "finetune",
        "training": {"epochs": 2, "batch_size": 8},
        "runtime": {"mode": "pynative"},
        "callback": {"figures": {"enabled": False}, "report": {"enabled": False}},
    }


class CommandLine:
    """Runs ``msft`` in an empty working directory. The fixture ``msft_cli`` is an instance.

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
        """Run ``msft`` with these arguments in a new process.

        Args:
            arguments: after ``msft``.
            env: added to the environment.
            timeout: seconds.

        Returns:
            Its exit status and its output.
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
    """A temporary cache folder. The fixture also unsets msft's other environment variables."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MSFT_CACHE", str(folder))
    for variable in ("MSFT_PLUGINS", "MSFT_WITHOUT", "MSFT_TRACE"):
        monkeypatch.delenv(variable, raising=False)
    return folder


@pytest.fixture
def msft_recorder() -> HookRecorder:
    """All hook calls of the test's runs."""
    return HookRecorder()


@pytest.fixture
def msft_reporter() -> RecordingReporter:
    """All messages of the test's runs."""
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

"""What a bad input is, and where one is tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

ENDS = {"trains": 0, "works": 0, "skipped": 0, "refused": 2, "fails": 1}
"""Exit status by what is expected. ``works`` is of a command that trains nothing."""

TINY = ["--plugin", "msft_core.testing.tiny", "--dataset", "tiny", "--backbone", "tiny"]
QUICK = ["--batch-size", "64", "--epochs", "1", "--without", "report", "--without", "figures"]
# Nothing is compiled: that takes longer than all the rest.
QUICK += ["--set", "runtime.mode=pynative", "--set", "extractor.openvino.enabled=false"]


class NotHere(Exception):
    """A case cannot be tried on this machine. The message says why."""


@dataclass(frozen=True)
class Place:
    """Folders of one case. Nothing may be written outside ``out`` and ``cache``.

    Args:
        inputs: receives the bad input.
        work: the working directory.
        out: the run folder, which is not there yet.
        cache: the cache folder.
    """

    inputs: Path
    work: Path
    out: Path
    cache: Path

    def run(self, *arguments: object) -> list[str]:
        """Arguments of a quick training run."""
        return ["run", *QUICK, "--out", str(self.out), *map(str, arguments)]

    def run_tiny(self, *arguments: object) -> list[str]:
        """The same with the tiny dataset and backbone."""
        return self.run(*TINY, *arguments)

    def run_folder(self, data: Path, *arguments: object) -> list[str]:
        """The same with images in a folder."""
        return self.run(*TINY[:2], "--backbone", "tiny", "--data-dir", data, *arguments)


@dataclass(frozen=True)
class Case:
    """A bad input.

    Args:
        kind: images, folders, configurations, checkpoints, states or archives.
        name: what it is; unique in its kind.
        make: makes it in a `Place`, and returns the arguments of ``msft``. If ``together``: adds it
            to a folder of good images.
        expected: a key of ``ENDS``.
        says: parts of the line that the user gets, with `` ... `` between them.
        around: entered while the command runs.
        together: all cases of the kind that say so are in one folder, which one run trains on.
        about: the id of the image that is skipped, for these.
        check: called afterwards; what it returns is wrong, or empty.
        long: it takes half a minute of the CPU, so the test suite leaves it out.
    """

    kind: str
    name: str
    make: Callable[[Any], Any]
    expected: Literal["trains", "works", "skipped", "refused", "fails"]
    says: str = ""
    around: Callable[[Place], AbstractContextManager[object]] = lambda place: nullcontext()
    together: bool = False
    about: str = ""
    check: Callable[[Place], str] = lambda place: ""
    long: bool = False

    @property
    def happens(self) -> str:
        """What happens, for the table of the documentation."""
        if self.expected in ("refused", "fails"):
            return f"status {ENDS[self.expected]}: {self.says}"
        return f"{self.expected}: {self.says}" if self.says else self.expected

    @property
    def parts(self) -> list[str]:
        """The parts of the line."""
        return self.says.split(" ... ") if self.says else []


def unique(cases: Iterator[Case]) -> list[Case]:
    """All of them; two of one name are an error."""
    found = list(cases)
    names = [case.name for case in found]
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, twice
    return found

"""Bad inputs, each tried on the command line of msft: ``python tests/faults/bad_inputs.py``.

All cases of a kind run one after the other in one process, in which memory, time, and the files
that are written are watched. Names of kinds as arguments choose; a line of JSON tells of a case.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(path) for path in (HERE, HERE.parent) if str(path) not in sys.path]

import bad_archives  # noqa: E402
import bad_checkpoints  # noqa: E402
import bad_configs  # noqa: E402
import bad_folders  # noqa: E402
import bad_images  # noqa: E402
import bad_states  # noqa: E402
from bad_kit import ENDS, Case, NotHere, Place  # noqa: E402

MODULES = (bad_images, bad_folders, bad_configs, bad_checkpoints, bad_states, bad_archives)
CASES: list[Case] = [case for module in MODULES for case in module.CASES]
KINDS = list(dict.fromkeys(case.kind for case in CASES))

SECONDS = 100
"""A case that takes longer hangs. The slowest takes 15 s of the CPU, but others may use it too."""

TOGETHER = "in one folder:"

MEGABYTES = 2000
"""Resident memory of the process, MindSpore included, at most."""


@dataclass
class Outcome:
    """What became of a case.

    Args:
        problems: what is not as it should be; empty where all is well.
        said: standard output and error.
        skipped: why images were skipped, by id.
        here: empty, or why the case was not tried.
    """

    kind: str
    name: str
    problems: list[str] = field(default_factory=list)
    status: int | None = None
    said: str = ""
    skipped: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0  # of the CPU
    megabytes: int = 0
    here: str = ""


class Writes:
    """Notes what Python writes outside some folders, from the moment on that `allow` is called."""

    def __init__(self) -> None:
        self.outside: set[str] = set()
        self.allowed: tuple[str, ...] | None = None
        sys.addaudithook(self._hear)

    def allow(self, *folders: Path) -> None:
        """Begin anew: only files below these folders may be written."""
        self.outside.clear()
        self.allowed = (
            "/dev/",
            "/proc/self/",
            *(f"{folder.resolve()}{os.sep}" for folder in folders),
        )

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.allowed is None:
            return
        paths: tuple[Any, ...] = ()
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                paths = (path,)
        elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.chmod"):
            if arguments[-1] == -1:  # else it is relative to a folder, as shutil.rmtree has it
                paths = arguments[:1]
        elif event in ("os.rename", "os.link"):
            paths = arguments[:2]
        elif event == "os.symlink":
            paths = arguments[1:2]
        for path in paths:
            if isinstance(path, (str, bytes, os.PathLike)):
                where = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - no link is followed
                if not f"{where}{os.sep}".startswith(self.allowed):
                    self.outside.add(where)


def peak_megabytes() -> int:
    """Greatest resident memory since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1000


def forget_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def files_below(folder: Path) -> set[str]:
    return {os.path.join(top, name) for top, folders, names in os.walk(folder)  # noqa: PTH118
            for name in (*folders, *names)}  # fmt: skip


def command(arguments: list[str]) -> tuple[int, str]:
    """``msft`` with these arguments, in this process: its status, and what it printed."""
    from msft_core.cli import app

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            app(arguments, prog_name="msft")
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(bool(end.code))
        except BaseException:
            traceback.print_exc()
            status = -1
    return status, said.getvalue()


class Trial:
    """Tries cases in folders below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.writes = Writes()
        self.tmp, self.home = root / "tmp", root / "home"
        for folder in (self.tmp, self.home):
            folder.mkdir()
        os.environ.update(TMPDIR=str(self.tmp), HOME=str(self.home), GLOG_v="3")
        os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
        tempfile.tempdir = None
        self._count = 0

    def place(self) -> Place:
        """New folders."""
        self._count += 1
        top = self.root / str(self._count)
        made = [top / name for name in ("inputs", "work", "runs", "cache")]
        for folder in made:
            folder.mkdir(parents=True)
        os.environ["MSFT_CACHE"] = str(made[3])
        os.chdir(made[1])
        return Place(made[0], made[1], made[2] / "out", made[3])

    def __call__(self, case: Case) -> Outcome:
        """Try one case."""
        outcome = Outcome(case.kind, case.name)
        place = self.place()
        try:
            arguments = case.make(place)
            self._watch(case, outcome, place, arguments)
        except NotHere as reason:
            outcome.here = str(reason)
        finally:
            self.writes.allowed = None
            os.chdir(self.root)
            self._clear(place)
        return outcome

    def _clear(self, place: Place) -> None:
        top = place.inputs.parent
        for folder, folders, _ in os.walk(top):
            for name in folders:
                path = Path(folder, name)
                if not path.is_symlink():
                    path.chmod(0o700)
        shutil.rmtree(top)

    def _watch(self, case: Case, outcome: Outcome, place: Place, arguments: list[str]) -> None:
        top = place.inputs.parent
        before = files_below(top) | files_below(self.home)
        forget_peak()
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        began = time.process_time()
        with case.around(place):
            self.writes.allow(place.out.parent, place.cache, self.tmp)
            outcome.status, outcome.said = command(arguments)
        outcome.seconds = round(time.process_time() - began, 2)
        faulthandler.cancel_dump_traceback_later()
        outside, self.writes.allowed = set(self.writes.outside), None
        outcome.megabytes = peak_megabytes()
        after = files_below(top) | files_below(self.home)
        mine = (f"{place.out}", f"{place.cache}{os.sep}")
        stray = {path for path in after ^ before if not path.startswith(mine)}
        if case.expected not in ("skipped", "trains"):
            stray |= {path for path in after - before if path.startswith(str(place.out))} if (
                ENDS[case.expected] == 2) else set()  # fmt: skip
        problems = outcome.problems
        if self._changes_its_own(case):
            stray = {path for path in stray if not path.startswith(str(place.inputs))}
            outside = {path for path in outside if not path.startswith(str(place.inputs))}
        if stray | outside:
            problems.append(f"files: {sorted(stray | outside)[:5]}")
        if outcome.megabytes > MEGABYTES:
            problems.append(f"{outcome.megabytes} MB of memory")
        listing = place.out / "skipped.jsonl"
        if listing.is_file():
            lines = [json.loads(line) for line in listing.read_text("utf-8").splitlines()]
            outcome.skipped = {line["id"]: line["reason"] for line in lines}
        if case.expected in ("trains", "skipped") and not (place.out / "best.ckpt").is_file():
            problems.append("there is no best.ckpt")
        if problem := case.check(place):
            problems.append(problem)
        self._judge(case, outcome)

    def _changes_its_own(self, case: Case) -> bool:
        return case.name.endswith("in mid-run")

    def _judge(self, case: Case, outcome: Outcome) -> None:
        problems = outcome.problems
        if outcome.status != ENDS[case.expected]:
            problems.append(f"status {outcome.status}, not {ENDS[case.expected]}")
        for word in ("Traceback", "bug in msft", "Exception ignored"):
            if word in outcome.said:
                problems.append(f"it says {word}")
        if case.expected in ("refused", "fails"):
            _, found, errors = outcome.said.replace("Error: ", "error: ").partition("error: ")
            if not found or max(map(len, errors.splitlines())) > 1000:
                problems.append("no short line begins with error:")
        where = [outcome.said]
        if case.expected == "skipped":
            where = [f"{name}: {reason}" for name, reason in outcome.skipped.items()]
        if not any(all(part in text for part in case.parts) for text in where):
            problems.append(f"nowhere is said: {case.says}")
        if case.expected == "trains" and outcome.skipped and not case.name.startswith(TOGETHER):
            problems.append(f"skipped: {outcome.skipped}")


def try_together(trial: Trial, kind: str, cases: list[Case]) -> Iterator[Outcome]:
    """Cases in one folder, in one run: an outcome of the run, and of each."""
    absent: dict[str, str] = {}

    def make(place: Place) -> list[str]:
        data = place.inputs / "data"
        bad_folders.good(data)
        for case in cases:
            try:
                case.make(data)
            except NotHere as reason:
                absent[case.name] = str(reason)
        # No view is stored: each image is decoded by the check, and again for training.
        return place.run_folder(data, "--set", "training.views=0")

    run = trial(Case(kind, f"{TOGETHER} {len(cases)} of them", make, "trains"))
    known = {case.about for case in cases if case.expected == "skipped"}
    if more := run.skipped.keys() - known:
        run.problems.append(f"skipped too: {more}")
    yield run
    for case in cases:
        outcome = Outcome(case.kind, case.name, here=absent.get(case.name, ""))
        reason = outcome.said = run.skipped.get(case.about, "")
        if bool(reason) != (case.expected == "skipped"):
            outcome.problems.append("skipped" if reason else "not skipped")
        elif not all(part in reason for part in case.parts):
            outcome.problems.append(f"the reason is: {reason}")
        yield outcome if not outcome.here else Outcome(case.kind, case.name, here=outcome.here)


def main(arguments: list[str]) -> None:
    """Try the cases of some kinds, or of all; a name after a colon chooses among them.

    With ``--quick``, those that take long are left out.
    """
    quick = "--quick" in arguments
    kinds = [one for one in arguments if one != "--quick"]
    root = Path(tempfile.mkdtemp(prefix="msft-bad-"))
    root.chmod(0o755)
    trial = Trial(root)
    try:
        limit_memory()
        for kind in kinds or KINDS:
            kind, _, name = kind.partition(":")
            cases = [case for case in CASES if case.kind == kind and name in case.name]
            cases = [case for case in cases if not (quick and case.long)]
            together = [case for case in cases if case.together]
            outcomes = try_together(trial, kind, together) if together else iter(())
            alone = map(trial, (case for case in cases if not case.together))
            for outcome in chain(outcomes, alone):
                print(json.dumps(vars(outcome)), flush=True)
    finally:
        os.chdir("/")
        shutil.rmtree(root, ignore_errors=True)


def limit_memory() -> None:
    """MindSpore reserves addresses that it never uses, so the limit is well above the promise."""
    import mindspore  # noqa: F401

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + 4_000_000_000
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


if __name__ == "__main__":
    main(sys.argv[1:])

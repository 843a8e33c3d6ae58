"""Runs that once failed for no fault of the user's, and what they left behind."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomlkit
from conftest import TINY, Msft
from image_kit import write_classes
from pydantic import BaseModel

import msft_core
from msft_core import (
    Component,
    DatasetSplits,
    MsftError,
    Run,
    RunReport,
    Settings,
    UsageError,
    hookimpl,
)
from msft_core import config as configuration
from msft_core.data.checking import check_splits
from msft_core.data.memory import CheckMemory
from msft_core.folders import read_splits
from msft_core.images import MemoryTable
from msft_core.plugins.loading import load_plugins
from msft_core.runs.folder import RunFolder
from msft_core.testing import RecordingReporter, tiny


def config(**sections: Any) -> dict[str, Any]:
    return {
        "dataset": "tiny",
        "backbone": "tiny",
        "strategy": "freeze",
        "training": {"epochs": 1, "batch_size": 6},
        "without": ["figures", "report"],
        **sections,
    }


def run(
    out: Path, *plugins: object, reporter: RecordingReporter | None = None, **sections: Any
) -> RunReport:
    return msft_core.run(
        config(**sections),
        plugins=[tiny, *plugins],
        out=out,
        reporter=reporter or RecordingReporter(),
    )


# The run folder


def test_out_may_be_a_link_to_an_empty_folder(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.mkdir()
    link.symlink_to(target)
    report = run(link)
    assert link.is_symlink()
    assert (target / "best.ckpt").exists()
    assert report.folder == target
    assert not [path for path in target.iterdir() if path.name.startswith(".")]


def test_out_may_be_an_empty_folder_whose_parent_cannot_be_written(tmp_path: Path) -> None:
    """As a mount point: `docker -v out:/out`."""
    out = tmp_path / "out"
    (out / "lost+found").mkdir(parents=True)
    folder = RunFolder(out)
    assert folder.path.parent == out, "the run is prepared inside, not beside"
    folder.write_text("config.toml", "")
    folder.commit()
    assert sorted(path.name for path in out.iterdir()) == ["config.toml", "lost+found"]


def test_a_refused_run_leaves_an_empty_folder_empty(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    folder = RunFolder(out)
    folder.write_text("config.toml", "")
    folder.discard()
    assert list(out.iterdir()) == []


def test_two_runs_that_begin_in_one_second_get_two_folders(tmp_path: Path) -> None:
    folders = [RunFolder(tmp_path / "now", numbered=True) for _ in range(3)]
    for folder in folders:
        folder.write_text("config.toml", "")
        folder.commit()
    assert [folder.final.name for folder in folders] == ["now", "now-2", "now-3"]


def test_of_two_runs_with_one_out_the_second_is_refused(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path / "out"), RunFolder(tmp_path / "out")
    for folder in (first, second):
        folder.write_text("config.toml", "")
    first.commit()
    with pytest.raises(UsageError, match="already exists"):
        second.commit()
    second.discard()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_what_a_killed_run_left_hinders_no_other(tmp_path: Path) -> None:
    left = tmp_path / f".out.staging-{os.getpid()}"
    left.mkdir()
    (tmp_path / ".out.x.staging").mkdir()
    assert run(tmp_path / "out").status == "completed"


def test_files_of_a_run_have_the_mode_that_the_umask_asks_for(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        report = run(tmp_path / "out", without=["figures"])
    finally:
        os.umask(before)
    for path in report.folder.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o750 if path.is_dir() else 0o640), path
    assert stat.S_IMODE(report.folder.stat().st_mode) == 0o750


# Configuration


def test_a_setting_called_like_a_kind_of_component_is_left_alone() -> None:
    raw = {"dataset": "tiny", "callback": {"log": {"dataset": "a", "strategy": "b"}}}
    merged = configuration.merge(raw, {"strategy": "freeze"})
    assert merged == {
        "dataset": {"name": "tiny"},
        "strategy": {"name": "freeze"},
        "callback": {"log": {"dataset": "a", "strategy": "b"}},
    }


class Inner(BaseModel):
    path: Path = Path("inner")


class ManyPaths(Settings):
    folder: Path = Path("~/photos")
    several: tuple[Path, ...] = (Path("a"), Path("~/b"))
    inner: Inner = Inner()
    patience: int | None = 3
    off: int | None = None


class HasManyPaths:
    @hookimpl
    def list_components(self) -> Iterable[Component]:
        return [Component("callback", "paths", "", ManyPaths)]

    @hookimpl
    def on_epoch_end(self) -> None:
        return None


def resolved(**sections: Any) -> configuration.RunConfig:
    return configuration.resolve(config(**sections), load_plugins(objects=[tiny, HasManyPaths]))


def test_paths_are_absolute_in_the_written_configuration_at_any_depth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    written = tomlkit.parse(resolved().to_toml()).unwrap()["callback"]["paths"]
    assert written["folder"] == str(tmp_path / "home" / "photos")
    assert written["several"] == [str(tmp_path / "a"), str(tmp_path / "home" / "b")]
    assert written["inner"] == {"path": str(tmp_path / "inner")}


def test_none_survives_the_way_through_toml() -> None:
    one = resolved(callback={"paths": {"patience": None}})
    text = one.to_toml()
    again = configuration.resolve(
        tomlkit.parse(text).unwrap(), load_plugins(objects=[tiny, HasManyPaths])
    )
    settings: Any = again.settings("callback", "paths")
    assert settings.patience is None
    assert settings.off is None
    assert again.to_toml() == text


def test_plugins_of_the_environment_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "mine.py"
    module.write_text("from msft_core import hookimpl\n@hookimpl\ndef on_run_start(): pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MSFT_PLUGINS", "mine.py")
    monkeypatch.setenv("MSFT_WITHOUT", "figures,report")
    report = msft_core.run(
        {k: v for k, v in config().items() if k != "without"},
        plugins=[tiny],
        out=tmp_path / "run",
        reporter=RecordingReporter(),
    )
    written = tomlkit.parse((report.folder / "config.toml").read_text()).unwrap()
    assert written["plugins"] == [str(module)]
    assert written["without"] == ["figures", "report"]


def test_a_limit_of_infinity_is_no_limit(tmp_path: Path) -> None:
    assert run(tmp_path / "run", cache={"limit_gb": float("inf")}).status == "completed"


# Names


def test_names_that_are_not_utf_8_train(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_classes(data, {"a": 6, "b": 6})
    (data / "b").rename(data / os.fsdecode(b"b\xff"))
    first = sorted((data / "a").iterdir())[0]
    first.rename(first.with_name(os.fsdecode(b"odd\xfe.jpg")))
    reporter = RecordingReporter()
    report = run(
        tmp_path / "run", reporter=reporter, dataset={"name": "folder", "data_dir": str(data)}
    )
    assert report.status == "completed"
    classes = json.loads((report.folder / "classes.json").read_text(encoding="utf-8"))
    assert classes[0] == "a"
    assert classes[1].startswith("b")
    again = msft_core.run(
        report.folder / "config.toml",
        plugins=[tiny],
        out=tmp_path / "again",
        reporter=RecordingReporter(),
    )
    assert again.history[0].val == report.history[0].val


def test_a_link_to_itself_is_one_skipped_image(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 5, "b": 5})
    (tmp_path / "a" / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "again").symlink_to("again")
    splits = read_splits(tmp_path)
    assert splits.classes == ("a", "b")
    found = check_splits(splits, plugin="folder", workers=1, reporter=RecordingReporter())
    (skipped,) = found.skipped
    assert skipped["id"] == "a/loop.jpg"
    with pytest.raises(UsageError, match="cannot be written"):
        RunFolder(tmp_path / "again" / "out")


# Memory


def test_too_little_memory_is_no_broken_image() -> None:
    def exhausted(data: bytes) -> object:
        raise MemoryError

    splits = DatasetSplits(tiny.CLASSES, tiny.table(2), tiny.table(2, start=50))
    with pytest.raises(MemoryError):
        check_splits(
            splits, plugin="mine", workers=1, reporter=RecordingReporter(), decode=exhausted
        )


class Reads:
    """Files, and how often one was read."""

    def __init__(self, folder: Path) -> None:
        write_classes(folder / "train", {"a": 3, "b": 3})
        write_classes(folder / "val", {"a": 2, "b": 2})
        self.folder = folder
        for path in folder.rglob("*.*"):
            os.utime(path, (1, 1))

    def check(self, memory: Path) -> dict[str, tuple[str, ...]]:
        found = check_splits(
            read_splits(self.folder),
            plugin="folder",
            workers=2,
            reporter=RecordingReporter(),
            memory=memory,
        )
        return found.digests


def old_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changed within two seconds is not remembered: the clock is set forward."""
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 10)


def test_a_file_that_has_not_changed_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Reads(tmp_path / "data")
    old_enough(monkeypatch)
    first = files.check(tmp_path / "memory")
    monkeypatch.setattr(Path, "read_bytes", read_only_below(tmp_path / "memory"))
    assert files.check(tmp_path / "memory") == first


def read_only_below(folder: Path) -> Any:
    read_bytes = Path.read_bytes

    def refuse(path: Path) -> bytes:
        assert folder in path.parents, f"{path} is read"
        return read_bytes(path)

    return refuse


def test_a_file_that_changed_is_read_again_whatever_its_size_and_time_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Reads(tmp_path / "data")
    old_enough(monkeypatch)
    first = files.check(tmp_path / "memory")
    victim = sorted((tmp_path / "data" / "train" / "a").iterdir())[0]
    status = victim.stat()
    content = bytearray(victim.read_bytes())
    content[-10] ^= 1
    victim.write_bytes(content)
    os.utime(victim, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert victim.stat().st_size == status.st_size
    assert files.check(tmp_path / "memory")["train"] != first["train"]


def test_a_file_that_changed_a_moment_ago_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(tiny.picture(0, 1))
    memory = CheckMemory(tmp_path / "memory")
    memory.note_file(str(path), path.stat(), "00" * 16)
    memory.save({"00" * 16: bytes(32)})
    assert CheckMemory(tmp_path / "memory").digest_of(str(path)) is None


# Fewer views


def test_fewer_views_are_stored_where_not_all_fit(tmp_path: Path) -> None:
    reporter = RecordingReporter()
    # tiny: 12 + 6 images, 16 features of 4 bytes: one view and validation take 1.2 kB.
    report = run(
        tmp_path / "run",
        reporter=reporter,
        training={"epochs": 4, "batch_size": 6, "views": 4},
        cache={"limit_gb": 2.2e-6},
    )
    assert report.status == "completed"
    told = [line for line in reporter.warnings if "do not fit into the cache" in line]
    assert len(told) == 1, reporter.warnings
    assert told[0].startswith("4 views of each training image")


def test_where_not_all_views_fit_an_extractor_is_still_asked_once(tmp_path: Path) -> None:
    asked = []

    class Asked:
        @hookimpl
        def build_feature_extractor(self, prefix: Any) -> None:
            asked.append(prefix)

    reporter = RecordingReporter()
    run(
        tmp_path / "run",
        Asked,
        reporter=reporter,
        training={"epochs": 4, "batch_size": 6, "views": 4},
        cache={"limit_gb": 2.2e-6},
    )
    told = [line for line in reporter.warnings if "do not fit into the cache" in line]
    assert len(told) == 1, reporter.warnings
    assert len(asked) == 1


# A full disk


def test_a_full_disk_says_what_is_kept_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    code = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import msft_core
from msft_core import hookimpl
from msft_core.testing import RecordingReporter, tiny

class Fills:
    @hookimpl
    def on_epoch_end(self, epoch):
        if epoch == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

try:
    msft_core.run({config(training={"epochs": 3, "batch_size": 6})!r}, plugins=[tiny, Fills],
                  out={str(tmp_path / "out")!r}, reporter=RecordingReporter())
except msft_core.MsftError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert "cannot be written: File too large" in done.stdout
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert not [name for name in left if name.startswith(".") or "tmp" in name], left
    assert "best.ckpt" in left


# Interrupts


def test_ctrl_c_while_a_hook_ends_the_run_leaves_out_no_other_hook(tmp_path: Path) -> None:
    called: list[str] = []

    class First:
        @hookimpl(tryfirst=True)
        def on_run_end(self, run: Run) -> None:
            called.append("first")
            raise KeyboardInterrupt

    class Last:
        @hookimpl(trylast=True)
        def on_run_end(self, run: Run) -> None:
            called.append("last")

    with pytest.raises(KeyboardInterrupt) as caught:
        run(tmp_path / "run", First, Last)
    report = caught.value.args[0]
    assert called == ["first", "last"]
    assert report.status == "interrupted"
    assert report.best.path.exists()


def test_a_fault_in_on_run_end_is_told_once(tmp_path: Path) -> None:
    class Fails:
        @hookimpl
        def on_run_end(self) -> None:
            raise RuntimeError("too late")

    reporter = RecordingReporter()
    with pytest.raises(MsftError, match="too late"):
        run(tmp_path / "run", Fails, reporter=reporter)
    assert not [line for line in reporter.warnings if "too late" in line]


def test_after_ctrl_c_the_network_holds_the_best_and_what_it_predicted(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    class Interrupts:
        @hookimpl
        def on_epoch_end(self, epoch: int, run: Run) -> None:
            if epoch == 1:
                seen["then"] = run.predictions("val").probabilities.copy()
            if epoch == 3:
                raise KeyboardInterrupt

        @hookimpl
        def on_run_end(self, run: Run) -> None:
            seen["best"] = run.best
            seen["now"] = run.predictions("val").probabilities

    with pytest.raises(KeyboardInterrupt) as caught:
        run(
            tmp_path / "run",
            Interrupts,
            training={"epochs": 5, "batch_size": 6},
            callback={"best_checkpoint": {"metric": "loss", "direction": "max"}},
            strategy={"name": "finetune", "learning_rate": 0.05},
        )
    report = caught.value.args[0]
    assert report.best is not None
    assert (report.folder / "last.ckpt").exists()
    if seen["best"].epoch == 1:
        np.testing.assert_array_equal(seen["now"], seen["then"])


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.2, 0.5, 0.8, 1.1, 1.4])
def test_ctrl_c_while_mindspore_is_imported_is_one_line(tmp_path: Path, delay: float) -> None:
    """Signal 11 and a traceback, five of five times."""
    process = subprocess.Popen(
        [sys.executable, "-m", "msft_core", "run", *TINY, "--out", str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    time.sleep(delay)
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (0, 130, -signal.SIGINT), err
    assert "Traceback" not in err or delay < 0.5, err
    assert "Exception ignored" not in err


def test_notes_are_raised_at_the_end_of_the_block_only() -> None:
    from msft_core.system.interrupts import Interrupts

    interrupts = Interrupts()
    with interrupts.caught():
        reached = False
        with pytest.raises(KeyboardInterrupt), interrupts.noted():  # noqa: PT012
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGINT)
            reached = True
        assert reached
        interrupts.note()
        os.kill(os.getpid(), signal.SIGINT)  # everything is done: nothing happens


# Descriptors


def test_a_run_leaves_no_thread_and_few_descriptors(tmp_path: Path) -> None:
    run(tmp_path / "warm")
    threads, files = threading.active_count(), sum(1 for _ in Path("/proc/self/fd").iterdir())
    for number in range(3):
        run(tmp_path / f"run{number}")
    assert threading.active_count() <= threads
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) <= files + 2
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 0


def test_a_table_that_is_not_files_is_read_each_time(tmp_path: Path) -> None:
    table = tiny.table(2)
    assert isinstance(table, MemoryTable)
    splits = DatasetSplits(tiny.CLASSES, table, tiny.table(2, start=50))
    for _ in range(2):
        found = check_splits(
            splits, plugin="mine", workers=1, reporter=RecordingReporter(), memory=tmp_path
        )
        assert len(found.digests["train"]) == 4


def test_msft_run_of_a_folder_tells_the_engine(msft: Msft, tmp_path: Path) -> None:
    result = msft("run", *TINY, "--strategy", "freeze", "--epochs", "1", "--out", "out")
    assert result.returncode == 0, result.stderr
    assert "Frozen stages first to pool: computed once, by MindSpore" in result.stdout
    environment = json.loads((msft.cwd / "out" / "environment.json").read_text())
    assert environment["features"] == "MindSpore"


def test_what_a_killed_run_left_in_a_mounted_folder_hinders_no_other(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    RunFolder(out).write_text("config.toml", "")  # killed before it began
    assert run(out).status == "completed"


def test_several_test_folders_are_left_alone(tmp_path: Path) -> None:
    for name in ("train", "val", "test", "Testing"):
        write_classes(tmp_path / name, {"a": 2, "b": 2})
    notes = read_splits(tmp_path).notes
    assert notes == (
        "Testing/ is left alone: no run uses its images",
        "test/ is left alone: no run uses its images",
    )


class Nested(BaseModel):
    limit: int | None = None
    name: str | None = None


class HasNested(Settings):
    inner: Nested = Nested()


def test_none_in_a_nested_model_is_left_out_of_the_written_configuration() -> None:
    class Plugin:
        @hookimpl
        def list_components(self) -> Iterable[Component]:
            return [Component("callback", "nested", "", HasNested)]

        @hookimpl
        def on_epoch_end(self) -> None:
            return None

    plugins = load_plugins(objects=[tiny, Plugin])
    one = configuration.resolve(config(), plugins)
    again = configuration.resolve(tomlkit.parse(one.to_toml()).unwrap(), plugins)
    assert again.settings("callback", "nested").inner == Nested()

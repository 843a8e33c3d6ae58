"""Writing files: whole or not at all, flushed in the right order; a clear line where it fails."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from disk_kit import TOO_LARGE, disk_that_takes, read_only

from msft_core import MsftError, OutputError
from msft_core.files import (
    remove_leftovers,
    rename_folder,
    write_atomically,
    write_json,
    write_text,
    write_together,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Calls:
    """What is asked of the operating system, in order: flush FILE, rename FILE."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        fsync, replace, rename = os.fsync, os.replace, os.rename

        def flushed(descriptor: int) -> None:
            self.made.append(f"flush {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
            fsync(descriptor)

        def replaced(source: Any, target: Any, **options: Any) -> None:
            self.made.append(f"rename {Path(target).name}")
            replace(source, target, **options)

        def renamed(source: Any, target: Any, **options: Any) -> None:
            self.made.append(f"rename {Path(target).name}")
            rename(source, target, **options)

        monkeypatch.setattr(os, "fsync", flushed)
        monkeypatch.setattr(os, "replace", replaced)
        monkeypatch.setattr(os, "rename", renamed)


def test_a_file_is_on_disk_before_it_has_its_name_and_the_name_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(monkeypatch)
    write_text(tmp_path / "a.txt", "one")
    assert calls.made == ["flush a.txt", "rename a.txt", f"flush {tmp_path.name}"]

    calls.made.clear()

    def two(folder: Path) -> list[Path]:
        for name in ("1", "2"):
            (folder / name).write_text(name)
        return [folder / "1", folder / "2"]

    write_together([tmp_path / "x", tmp_path / "y"], two)
    assert calls.made == ["flush 1", "flush 2", "rename x", "rename y", f"flush {tmp_path.name}"]


def test_all_of_a_folder_is_on_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "new" / "inner").mkdir(parents=True)
    (tmp_path / "new" / "inner" / "file").write_text("x")
    calls = Calls(monkeypatch)
    rename_folder(tmp_path / "new", tmp_path / "final")
    assert calls.made[-2:] == ["rename final", f"flush {tmp_path.name}"]
    assert sorted(calls.made[:-2]) == ["flush file", "flush inner", "flush new"]


def fails_with(number: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("call", ["mkdir", "open", "fsync", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_whichever_call_is_refused_the_file_of_before_stays_and_nothing_beside_it(
    call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_text(tmp_path / "a.json", "before")
    with monkeypatch.context() as patched:
        if call == "open":
            patched.setattr(Path, "write_bytes", fails_with(number))
        elif call == "rename":
            patched.setattr(Path, "replace", fails_with(number))
        else:
            patched.setattr(os, call, fails_with(number))
        with pytest.raises(OutputError) as caught:
            write_json(path, {"new": 1})
    assert str(caught.value).startswith(
        f"{path} cannot be written: {os.strerror(number)}; the file"
    )
    assert len(str(caught.value).splitlines()) == 1
    assert isinstance(caught.value, (MsftError, OSError))
    assert (caught.value.errno, caught.value.filename) == (number, str(path))
    assert path.read_text() == "before"
    assert names(tmp_path) == ["a.json"]
    write_text(path, "after")
    assert path.read_text() == "after"


def test_a_full_disk_is_told_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with disk_that_takes(1000), pytest.raises(OutputError) as caught:
        write_atomically(path, lambda beside: beside.write_bytes(bytes(2000)))
    line = f"{path} cannot be written: {TOO_LARGE}; nothing was left there. Make room, or write "
    assert str(caught.value) == line + "elsewhere."
    assert names(tmp_path) == []


def test_a_read_only_folder_and_one_that_is_gone_are_told_in_a_line(tmp_path: Path) -> None:
    with read_only(tmp_path), pytest.raises(OutputError, match=r"denied;.* Give yourself"):
        write_text(tmp_path / "a.txt", "x")
    gone = tmp_path / "gone"
    with pytest.raises(OutputError, match=r"a\.txt cannot be written: No such file .* removed or"):
        write_text(gone / "a.txt", "x")
    gone.mkdir()

    def vanishes(beside: Path) -> None:
        shutil.rmtree(gone)
        beside.write_text("x")

    with pytest.raises(OutputError, match=r"gone/a\.txt cannot be written: No such file"):
        write_atomically(gone / "a.txt", vanishes)


def test_what_goes_wrong_elsewhere_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    def reads(_: Path) -> None:
        (tmp_path / "photo.jpg").read_bytes()

    with pytest.raises(FileNotFoundError, match=r"photo\.jpg") as caught:
        write_atomically(tmp_path / "a.txt", reads)
    assert not isinstance(caught.value, OutputError)
    assert names(tmp_path) == []


def test_a_file_system_that_cannot_flush_names_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def no_folders(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", no_folders)
    assert write_text(tmp_path / "a", "x").read_text() == "x"


def test_a_name_as_long_as_the_file_system_takes_can_be_written(tmp_path: Path) -> None:
    assert write_text(tmp_path / ("é" * 127), "x").read_text() == "x"
    with pytest.raises(OutputError, match="Choose a shorter name"):
        write_text(tmp_path / ("x" * 256), "x")


def test_leftovers_are_removed_when_they_are_old_and_nothing_else_is(tmp_path: Path) -> None:
    (tmp_path / ".best.ckpt.x1.tmp").mkdir()
    (tmp_path / ".best.ckpt.x1.tmp" / "best.ckpt").write_text("half")
    (tmp_path / ".features.tmp").write_text("half")
    (tmp_path / "notes.tmp").write_text("the user's")
    (tmp_path / ".hidden").write_text("the user's")
    (tmp_path / ".link.tmp").symlink_to(tmp_path.parent)
    remove_leftovers(tmp_path)
    assert len(names(tmp_path)) == 5
    old = time.time() - 90_000
    for path in (tmp_path / ".best.ckpt.x1.tmp", tmp_path / ".features.tmp"):
        os.utime(path, (old, old))
    remove_leftovers(tmp_path)
    assert ".features.tmp" not in names(tmp_path)
    assert ".best.ckpt.x1.tmp" in names(tmp_path), "a file in it is new"
    remove_leftovers(tmp_path, seconds=0)
    assert names(tmp_path) == [".hidden", "notes.tmp"]
    assert tmp_path.parent.exists()
    remove_leftovers(tmp_path / "nowhere")

from __future__ import annotations

import io
import shutil
import stat
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from image_kit import write_classes
from loopback import Server

import msft_plugins.canidae
from msft_core import Context, DataError, DatasetSplits, DownloadError
from msft_core.testing import RecordingReporter
from msft_plugins.canidae import CanidaeSettings


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")  # where there is no data/Canidae
    return Context(seed=0, cache_dir=tmp_path / "cache", reporter=RecordingReporter())


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    root = tmp_path_factory.mktemp("canidae")
    write_classes(root / "data/Canidae/train", {"dogs": 4, "wolves": 4})
    write_classes(root / "data/Canidae/val", {"dogs": 2, "wolves": 2})
    paths = [path for path in sorted(root.rglob("*")) if path.is_file()]
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}
    return zipped({**files, "__MACOSX/data/._Canidae": b"litter"})


def zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return buffer.getvalue()


def build(context: Context, **settings: object) -> DatasetSplits:
    splits = msft_plugins.canidae.build_dataset(
        "canidae", CanidaeSettings.model_validate(settings), context
    )
    assert splits is not None
    return splits


def left_behind(context: Context) -> list[str]:
    """What is in the cache, but for the downloads."""
    folder = context.cache_dir / "canidae"
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def test_the_zip_is_downloaded_and_unpacked_once(
    server: Server, context: Context, archive: bytes
) -> None:
    server.files["/Canidae_data.zip"] = archive

    for _ in range(2):
        splits = build(context, url=server.url("Canidae_data.zip"))
        assert splits.classes == ("dogs", "wolves")
        assert (len(splits.train.ids), len(splits.val.ids)) == (8, 4)
        assert splits.val.ids[0] == "val/dogs/000.jpg"
        assert splits.val.read(0)[:2] == b"\xff\xd8"
    assert server.asked == ["/Canidae_data.zip"]
    assert len(left_behind(context)) == 1


def test_fetching_makes_a_later_run_work_without_a_network(
    server: Server, context: Context, archive: bytes
) -> None:
    server.files["/Canidae_data.zip"] = archive
    settings = CanidaeSettings(url=server.url("Canidae_data.zip"))
    (component,) = msft_plugins.canidae.list_components()
    assert component.fetch is not None

    folders = list(component.fetch(settings, context))
    server.files.clear()

    assert [path.name for path in folders] == ["Canidae"]
    assert len(build(context, url=server.url("Canidae_data.zip")).train.ids) == 8


def test_another_url_never_meets_what_this_one_left(
    server: Server, context: Context, archive: bytes
) -> None:
    server.files["/Canidae_data.zip"] = archive
    server.files["/other.zip"] = zipped(
        {f"x/{part}/{name}/1.jpg": b"1" for part in ("train", "val") for name in ("cats", "foxes")}
    )
    build(context, url=server.url("Canidae_data.zip"))

    assert build(context, url=server.url("other.zip")).classes == ("cats", "foxes")
    assert build(context, url=server.url("Canidae_data.zip")).classes == ("dogs", "wolves")


def test_a_cached_folder_with_something_missing_is_unpacked_anew(
    server: Server, context: Context, archive: bytes
) -> None:
    server.files["/Canidae_data.zip"] = archive
    table = build(context, url=server.url("Canidae_data.zip")).train
    Path(table.paths[0]).unlink()  # type: ignore[attr-defined]

    assert len(build(context, url=server.url("Canidae_data.zip")).train.ids) == 8


def test_a_half_unpacked_folder_is_not_trusted(
    server: Server, context: Context, archive: bytes
) -> None:
    server.files["/Canidae_data.zip"] = archive
    build(context, url=server.url("Canidae_data.zip"))
    (folder,) = (context.cache_dir / "canidae").iterdir()
    shutil.rmtree(folder)
    write_classes(folder / "data/Canidae/train", {"dogs": 1, "wolves": 1})
    write_classes(folder / "data/Canidae/val", {"dogs": 1, "wolves": 1})

    assert len(build(context, url=server.url("Canidae_data.zip")).train.ids) == 8


def test_an_interrupted_unpacking_leaves_nothing(
    server: Server, context: Context, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/Canidae_data.zip"] = archive
    extracted = []

    def interrupted(self: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
        extracted.append(member)
        (path / "some.jpg").write_bytes(b"")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(zipfile.ZipFile, "extract", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build(context, url=server.url("Canidae_data.zip"))

    assert extracted
    assert left_behind(context) == []
    assert len(build(context, url=server.url("Canidae_data.zip")).train.ids) == 8


def link() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        info = zipfile.ZipInfo("data/passwd")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(info, "/etc/passwd")
    return buffer.getvalue()


BAD_ARCHIVES = {
    "a path upwards": (zipped({"data/../../evil.txt": b"x"}), "leads out of the folder"),
    "an absolute path": (zipped({"/tmp/evil.txt": b"x"}), "leads out of the folder"),
    "a drive": (zipped({"C:/evil.txt": b"x"}), "leads out of the folder"),
    "a backslash upwards": (zipped({"..\\evil.txt": b"x"}), "leads out of the folder"),
    "a link": (link(), "holds the link 'data/passwd'"),
    "no train and val": (zipped({"data/dogs/1.jpg": b"x"}), "no folder with train/ and val/"),
    "train alone": (zipped({"train/dogs/1.jpg": b"x"}), "no folder with train/ and val/"),
    "a web page": (b"<html>Not found</html>", "not a complete zip file"),
    "nothing": (b"", "not a complete zip file"),
}


@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_a_bad_archive_is_refused_and_removed(server: Server, context: Context, name: str) -> None:
    server.files["/Canidae_data.zip"], reason = BAD_ARCHIVES[name]

    with pytest.raises(DataError) as caught:
        build(context, url=server.url("Canidae_data.zip"))

    first, second = str(caught.value).split("\n")
    assert reason in first
    url = server.url("Canidae_data.zip")
    assert second == (
        f"msft removed this file, which came from {url}: try again, or give --data-dir DIR."
    )
    assert left_behind(context) == []
    assert not list(context.cache_dir.parent.rglob("evil*"))


@pytest.mark.parametrize("part", [0.5, 0.99])
def test_after_a_truncated_zip_the_next_attempt_downloads_it_anew(
    server: Server, context: Context, archive: bytes, part: float
) -> None:
    server.files["/Canidae_data.zip"] = archive[: int(part * len(archive))]
    with pytest.raises(DataError, match="not a complete zip file"):
        build(context, url=server.url("Canidae_data.zip"))
    server.files["/Canidae_data.zip"] = archive

    assert len(build(context, url=server.url("Canidae_data.zip")).train.ids) == 8


def too_many_files() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for number in range(20_001):
            opened.writestr(f"data/{number}", b"")
    return buffer.getvalue()


def too_many_bytes() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        opened.writestr("data/1", b"")
        opened.infolist()[0].file_size = (1 << 30) + 1
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("bomb", "message"),
    [
        (too_many_files, "it holds 20001 files of 0 MiB"),
        (too_many_bytes, "it holds 1 files of 1024 MiB"),
    ],
)
def test_a_zip_bomb_is_refused_before_anything_is_written(
    server: Server, context: Context, bomb: Callable[[], bytes], message: str
) -> None:
    server.files["/Canidae_data.zip"] = bomb()

    with pytest.raises(DataError, match=message):
        build(context, url=server.url("Canidae_data.zip"))

    assert left_behind(context) == []


def test_without_a_network_the_ways_out_are_named(server: Server, context: Context) -> None:
    with pytest.raises(DownloadError) as caught:
        build(context, url=server.url("Canidae_data.zip"))

    message = str(caught.value)
    assert "the Canidae images: cannot download" in message
    for way in ("--data-dir DIR", "msft fetch canidae", str(context.cache_dir), "--dataset sample"):
        assert way in message
    assert message.count("\n") <= 1


def test_a_folder_of_the_users_is_used_without_a_network(
    server: Server, context: Context, tmp_path: Path
) -> None:
    write_classes(tmp_path / "mine/data/Canidae/train", {"dogs": 3, "wolves": 3})
    write_classes(tmp_path / "mine/data/Canidae/val", {"dogs": 1, "wolves": 1})

    for data_dir in (tmp_path / "mine", tmp_path / "mine/data/Canidae"):
        splits = build(context, data_dir=data_dir, url=server.url("Canidae_data.zip"))
        assert len(splits.train.ids) == 6
    assert server.asked == []


def test_a_folder_without_both_parts_is_refused(context: Context, tmp_path: Path) -> None:
    write_classes(tmp_path / "mine/train", {"dogs": 1})

    with pytest.raises(DataError, match=r"^no folder with train/ and val/ in .*mine: unpack"):
        build(context, data_dir=tmp_path / "mine")


def test_the_tutorials_folder_in_the_working_directory_is_found(
    server: Server, context: Context
) -> None:
    write_classes(Path("data/Canidae/train"), {"dogs": 2, "wolves": 2})
    write_classes(Path("data/Canidae/val"), {"dogs": 1, "wolves": 1})

    assert len(build(context, url=server.url("Canidae_data.zip")).train.ids) == 4
    assert server.asked == []


def test_an_incomplete_folder_in_the_working_directory_is_said_and_passed_over(
    server: Server, context: Context, archive: bytes
) -> None:
    server.files["/Canidae_data.zip"] = archive
    write_classes(Path("data/Canidae/train"), {"dogs": 2, "wolves": 2})

    assert len(build(context, url=server.url("Canidae_data.zip")).train.ids) == 8
    assert isinstance(context.reporter, RecordingReporter)
    assert context.reporter.warnings == [
        "data/Canidae is not used, because it has no train/ and val/"
    ]

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msft_core import DataError, DatasetSplits, UsageError
from msft_core.testing import MsftRun, assert_dataset, tiny

from msft_sqlite import SqliteSettings, build_dataset

SCHEMA = "CREATE TABLE images (id TEXT PRIMARY KEY, split TEXT, class TEXT, image BLOB)"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Six training and four validation images of two classes, in no order."""
    path = tmp_path / "images.db"
    rows = [
        (f"{split}-{label}-{number}", split, tiny.CLASSES[label], tiny.picture(label, number))
        for number in range(5)
        for label in (1, 0)
        for split in (("train",) if number < 3 else ("val",))
    ]
    with closing(sqlite3.connect(path)) as opened, opened:
        opened.execute(SCHEMA)
        opened.executemany("INSERT INTO images VALUES (?, ?, ?, ?)", rows)
    return path


def splits(file: Path | None, **settings: Any) -> DatasetSplits:
    built = build_dataset("sqlite", SqliteSettings(data_dir=file, **settings))
    assert built is not None
    return built


def change(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file)) as opened, opened:
        opened.execute(statement)


def test_it_honours_the_contract(file: Path) -> None:
    assert_dataset("sqlite", settings={"data_dir": str(file)})


def test_each_image_is_that_of_its_row(file: Path) -> None:
    built = splits(file)
    assert built.classes == tiny.CLASSES
    assert list(built.train.ids) == sorted(built.train.ids)
    assert len(built.train.ids) == 6
    assert len(built.val.ids) == 4
    for index, name in enumerate(built.val.ids):
        _, label, number = name.split("-")
        assert built.val.labels[index] == int(label)
        assert built.val.read(index) == tiny.picture(int(label), int(number))


def test_several_threads_read_at_once(file: Path) -> None:
    table = splits(file).train
    alone = [table.read(index) for index in range(6)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(table.read, list(range(6)) * 50)) == alone * 50


def test_a_run_trains_on_it(file: Path, msft_run: MsftRun) -> None:
    report = msft_run(dataset={"name": "sqlite", "data_dir": str(file)})
    assert report.status == "completed"


def test_what_cannot_be_used_is_refused_in_one_line(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give --data-dir FILE"):
        splits(None)
    with pytest.raises(DataError, match="there is no file"):
        splits(tmp_path / "nothing.db")
    with pytest.raises(DataError, match="no such table: photos"):
        splits(file, table="photos")
    (tmp_path / "text.db").write_text("not a database, but a text of some length" * 20)
    with pytest.raises(DataError, match="file is not a database"):
        splits(tmp_path / "text.db")
    change(file, "UPDATE images SET class = 'green' WHERE id = 'val-1-3'")
    with pytest.raises(DataError, match="class 'green' has no image in train"):
        splits(file)


def test_an_image_without_bytes_is_skipped(file: Path, msft_run: MsftRun) -> None:
    change(file, "UPDATE images SET image = NULL WHERE id = 'train-1-0'")
    report = msft_run(dataset={"name": "sqlite", "data_dir": str(file)})
    assert "train-1-0" in (report.folder / "skipped.jsonl").read_text()

"""The dataset ``sqlite``: images that are rows of a table, in one file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msft_core import Component, DataError, DatasetSplits, Settings, UsageError, hookimpl
from pydantic import Field

if TYPE_CHECKING:
    from msft_core.columns import Numbers, Texts

msft_api = "0.3"

SPLITS = ("train", "val")


class SqliteSettings(Settings):
    """``dataset.*`` of ``sqlite``."""

    data_dir: Path | None = Field(None, description="the SQLite file")
    table: str = Field("images", description="a table with the columns id, split, class and image")


@hookimpl
def list_components() -> list[Component]:
    """Offer ``sqlite``."""
    summary = "images in a table of an SQLite file"
    return [Component("dataset", "sqlite", summary, SqliteSettings)]


@hookimpl
def build_dataset(name: str, settings: SqliteSettings) -> DatasetSplits | None:
    """Read ids and classes; the images stay in the file."""
    if name != "sqlite":
        return None
    if settings.data_dir is None:
        raise UsageError("dataset sqlite needs your file: give --data-dir FILE")
    file = settings.data_dir.expanduser().absolute()
    if not file.is_file():  # else SQLite would say that it cannot open it, and not why
        raise DataError(f"there is no file {file}")
    table = '"' + settings.table.replace('"', '""') + '"'
    try:
        with closing(connect(file)) as opened:
            query = f"SELECT DISTINCT class FROM {table} WHERE split = 'train' ORDER BY class"
            classes = tuple(str(row[0]) for row in opened.execute(query))
            label_of = {one: label for label, one in enumerate(classes)}
            tables = [read_split(opened, file, table, split, label_of) for split in SPLITS]
    except sqlite3.Error as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    return DatasetSplits(classes, tables[0], tables[1], f"images in {file.name}")


def connect(file: Path) -> sqlite3.Connection:
    """Open a file that is there, to read only."""
    return sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)


def read_split(
    opened: sqlite3.Connection, file: Path, table: str, split: str, label_of: dict[str, int]
) -> SqliteTable:
    """The images of a split, without their bytes, in the order of their ids."""
    import numpy as np
    from msft_core.columns import Numbers, Texts

    # Two passes over the table instead of a list of a million rows.
    def rows(columns: str) -> Iterable[Any]:
        query = f"SELECT {columns} FROM {table} WHERE split = ? ORDER BY id"
        return opened.execute(query, (split,))

    def label(of_class: str) -> int:
        if of_class not in label_of:
            raise DataError(f"{file}: class {of_class!r} has no image in train")
        return label_of[of_class]

    ids = Texts.of(str(row[0]) for row in rows("id"))
    pairs = ((row, label(str(one))) for row, one in rows("rowid, class"))
    found = np.fromiter(pairs, [("row", np.int64), ("label", np.int32)])
    return SqliteTable(file, table, found["row"], ids, Numbers(found["label"]))


@dataclass(frozen=True)
class SqliteTable:
    """Images of a split.

    msft reads from several threads, and an SQLite connection belongs to the thread that opened it:
    so each thread has its own. A table that is pickled leaves the connections behind.

    Args:
        file: the SQLite file.
        table: the name of the table, quoted.
        rows: int64 (N,), the row of each image.
        ids: of the images.
        labels: of the images.
    """

    file: Path
    table: str
    rows: Any = field(repr=False)
    ids: Texts
    labels: Numbers
    _opened: threading.local = field(
        default_factory=threading.local, init=False, repr=False, compare=False
    )

    def read(self, index: int) -> bytes:
        """The encoded image. Raises OSError if the file or the row cannot be read."""
        try:
            if not hasattr(self._opened, "connection"):
                self._opened.connection = connect(self.file)
            query = f"SELECT image FROM {self.table} WHERE rowid = ?"
            row = self._opened.connection.execute(query, (int(self.rows[index]),)).fetchone()
        except sqlite3.Error as error:
            # msft takes an OSError for an image that cannot be read, and skips it.
            raise OSError(f"{self.file}: {error}") from error
        if row is None or not isinstance(row[0], bytes):
            raise OSError(f"{self.file} has no image {self.ids[index]!r}")
        return row[0]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_opened"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _opened=threading.local())

"""``predictions.csv``: what the best checkpoint predicts for each validation image.

A line an image: its file, the true class, the predicted class, its probability, and the probability
of each class under ``p(CLASS)``. Nine significant digits give a float32 back exactly.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msft_core.errors import DataError
from msft_core.files import write_atomically
from msft_core.types import Array, Predictions

NAME = "predictions.csv"

_COLUMNS = ("file", "class", "predicted", "probability")


def write_predictions(path: Path, predictions: Predictions) -> Path:
    """Write the predictions of a split atomically."""
    classes = predictions.classes
    truths = [classes[label] for label in predictions.labels]
    return write_rows(path, predictions.ids, predictions.probabilities, classes, truths=truths)


def write_rows(
    path: Path,
    files: Sequence[str],
    probabilities: Iterable[Array],
    classes: Sequence[str],
    *,
    truths: Sequence[str] | None = None,
) -> Path:
    """Write lines atomically.

    Args:
        path: of the file.
        files: a name for each image.
        probabilities: float32 (K,) for each image.
        classes: K class names in label order.
        truths: the true class of each image; None leaves the column out.
    """
    known = truths is not None
    columns = [name for name in _COLUMNS if known or name != "class"]

    def write(temporary: Path) -> None:
        # Line by line: all of them together may take a gigabyte.
        with temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as text:
            text.write(_line([*columns, *(f"p({name})" for name in classes)]))
            each = zip(files, truths or [""] * len(files), probabilities, strict=True)
            for file, truth, values in each:
                best = int(values.argmax())
                numbers = [_digits(value) for value in (values[best], *values)]
                text.write(_line([file, *([truth] if known else []), classes[best], *numbers]))

    return write_atomically(path, write)


def _line(cells: Sequence[str]) -> str:
    """A line of the file, with its end: a line feed."""
    text = io.StringIO()
    # Before Python 3.13 a carriage return in a name is quoted only if the lines end with one.
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n") + "\n"


def _digits(value: Any) -> str:
    return f"{float(value):.9g}"


def read_predictions(path: Path) -> Predictions:
    """Read what ``write_predictions`` wrote.

    Raises:
        DataError: there is no such file, or it is damaged.
    """
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = csv.DictReader(file)
            classes = tuple(name[2:-1] for name in (rows.fieldnames or ())[len(_COLUMNS) :])
            index = {name: number for number, name in enumerate(classes)}
            ids, labels, probabilities = [], [], []
            for row in rows:
                ids.append(row["file"])
                labels.append(index[row["class"]])
                probabilities.append([np.float32(row[f"p({name})"]) for name in classes])
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise DataError(f"{path} is damaged: it is not as msft wrote it.") from error
    if not ids or not classes:
        raise DataError(f"{path} is damaged: it has no predictions.")
    values = np.asarray(probabilities, np.float32)
    return Predictions(tuple(ids), np.asarray(labels, np.int64), values, classes)

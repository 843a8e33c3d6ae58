"""Writes MINDIR, MindSpore's own format: the graph with its values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mindspore as ms
from mindspore import nn

from msft_core import ExportError, ExportModel


def write(model: ExportModel, path: Path) -> Path:
    """Write the network, and compare what it computes when it is loaded again."""
    size = model.preprocessing.size
    images = ms.Tensor(shape=[None, 3, size, size], dtype=ms.float32)

    def describe(proto: Any) -> None:
        proto.user_info.update(model.metadata)

    try:
        ms.export(
            model.cell, images, file_name=str(path), file_format="MINDIR", custom_func=describe
        )
    except OSError:
        raise
    except Exception as error:  # MindSpore's compiler may raise any exception
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ExportError(f"MindSpore cannot export this network to MINDIR ({first}).") from error
    if not path.exists():
        raise ExportError("this network has over 1 GB of values, which MINDIR puts into two files.")
    network = nn.GraphCell(ms.load(str(path)))  # noqa: TID251 - just written
    model.require_same(lambda inputs: network(ms.Tensor(inputs)).asnumpy())
    return path

"""Write a network as an ONNX file. Public: exporters and extractors use it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mindspore as ms
from mindspore import Tensor, nn

from msft_core.errors import ExportError
from msft_core.weights.formats.protobuf import field

_METADATA_PROPS = 14
"""Number of ``ModelProto``'s field for metadata: repeated ``StringStringEntryProto``, which has the
fields key (1) and value (2). Source: onnx.proto of ONNX 1.x."""


def write_onnx(
    cell: nn.Cell,
    shape: Sequence[int | None],
    path: Path,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a network as an ONNX file, in evaluation mode.

    Needs no package besides MindSpore.

    Args:
        cell: from one tensor, float32, to one tensor. In the file these are called ``images`` and
            ``outputs``.
        shape: of the input; None where the size may vary, so (None, 3, 224, 224) takes any number
            of images.
        path: the file to write. Its name must end with ``.onnx``.
        metadata: texts to store in the file. ONNX Runtime gives them as
            ``session.get_modelmeta().custom_metadata_map``.

    Returns: ``path``.
    Raises:
        ExportError: MindSpore cannot export an operator of the network. The message is a clause
            that names the operator, without a full stop.
        OSError: the file cannot be written.
    """
    network = _Anew(cell)
    network.set_train(False)
    # MindSpore logs that a disk is full, and goes on.
    values = sum(parameter.asnumpy().nbytes for parameter in network.get_parameters())
    path.write_bytes(bytes(values))
    try:
        ms.onnx.export(
            network,
            ms.Tensor(shape=list(shape), dtype=ms.float32),
            file_name=str(path),
            input_names=["images"],
            output_names=["outputs"],
        )
    # MindSpore's graph compiler may raise any exception for a network's code.
    except Exception as error:
        raise ExportError(_refusal(error)) from error
    path.chmod(0o600)  # MindSpore's files are read-only
    with path.open("ab") as file:
        for key, value in (metadata or {}).items():
            file.write(_metadata_entry(key, value))
    return path


class _Anew(nn.Cell):
    """New for each file: MindSpore 2.10 cannot export a cell with batch norms twice."""

    def __init__(self, cell: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.cell = cell

    def construct(self, x: Tensor) -> Tensor:
        return self.cell(x)


def _refusal(error: Exception) -> str:
    """The operator that MindSpore could not export, as a clause."""
    first: Any = next(iter(str(error).strip().splitlines()), type(error).__name__)
    # "Exporting HSwish operator is not yet supported.", "currently the ResizeBilinearV2 operator in
    # your model is not support for exporting onnx."
    found = re.search(r"(?:Exporting|currently the) (\w+) operator", first)
    if found:
        return f"MindSpore cannot export the operator {found[1]} to ONNX"
    return f"MindSpore cannot export the network to ONNX ({first.rstrip('.')})"


def _metadata_entry(key: str, value: str) -> bytes:
    """One entry of the metadata, as it can stand at the end of an ONNX file.

    Protobuf's encoding allows it: two messages one after another are one message, whose repeated
    fields hold the elements of both. So nothing of the file has to be decoded.
    """
    entry = field(1, _utf8(key)) + field(2, _utf8(value))
    return field(_METADATA_PROPS, entry)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")

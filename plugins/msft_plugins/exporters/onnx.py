"""Writes ONNX, and compares it with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

from msft_core import ExportError, ExportModel
from msft_core.onnx import write_onnx


def write(model: ExportModel, path: Path) -> Path:
    """Write the network, and compare what ONNX Runtime computes."""
    import onnxruntime as runtime

    size = model.preprocessing.size
    try:
        write_onnx(model.cell, (None, 3, size, size), path, model.metadata)
    except ExportError as error:
        raise ExportError(f"{error}: choose --format mindir.") from error
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    model.require_same(lambda images: session.run(None, {given.name: images})[0])
    return path

"""The exporters ``mindir``, ``onnx`` and ``safetensors``."""

from __future__ import annotations

from pathlib import Path

from msft_core import Component, ExportModel, hookimpl

_SUMMARIES = {
    "mindir": "MindSpore's own format, for MindSpore and MindSpore Lite",
    "onnx": "for ONNX Runtime, OpenVINO, TensorRT and others (msft[onnx])",
    "safetensors": "the values alone, under the names of the library that the weights came from",
}

_NEEDS = {"onnx": {"onnxruntime": 'pip install "msft[onnx]"'}}


@hookimpl
def list_components() -> list[Component]:
    """Offer the exporters."""
    return [
        Component("exporter", name, summary, needs=_NEEDS.get(name, {}))
        for name, summary in _SUMMARIES.items()
    ]


@hookimpl
def export_model(name: str, model: ExportModel, path: Path) -> Path | None:
    """Write the file and check it."""
    if name == "mindir":
        from msft_plugins.exporters import mindir

        return mindir.write(model, path)
    if name == "onnx":
        from msft_plugins.exporters import onnx

        return onnx.write(model, path)
    if name == "safetensors":
        from msft_plugins.exporters import safetensors

        return safetensors.write(model, path)
    return None

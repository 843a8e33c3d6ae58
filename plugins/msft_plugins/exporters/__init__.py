"""The exporters ``mindir``, ``onnx`` and ``safetensors``."""

from __future__ import annotations

from msft_core import Component, hookimpl


@hookimpl
def list_components() -> list[Component]:
    """Offer the exporters."""
    return []

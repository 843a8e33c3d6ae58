"""Writes the values alone, under the names of the library that the weights came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from msft_core import ExportError, ExportModel, UsageError
from msft_core.files import json_text
from msft_core.weights import read_checkpoint


def write(model: ExportModel, path: Path) -> Path:
    """Write the values, and compare them with those that a reader gets."""
    from safetensors.numpy import save  # MindSpore depends on it

    if model.normalises:
        raise UsageError(
            "--normalise: a safetensors file holds values without a network, so it cannot "
            "normalise. Remove the option."
        )
    model.metadata["output"] = json_text(
        {
            "shape": ["N", len(model.classes)],
            "type": "float32",
            "values": "logits in the order of classes; their softmax gives probabilities",
        }
    )
    backbone = model.backbone
    cells = [*(stage.cell for stage in backbone.stages), backbone.head]
    values = {
        backbone.source_names.get(parameter.name, parameter.name): parameter.asnumpy()
        for cell in cells
        for parameter in cell.get_parameters()
    }
    # Not its save_file, which turns a full disk into an error of its own.
    arrays = {name: np.ascontiguousarray(value) for name, value in values.items()}
    path.write_bytes(save(arrays, model.metadata))
    written = read_checkpoint(path).arrays
    if set(written) != set(values):
        raise ExportError("the file that was written has other names than the network.")
    for name, value in values.items():
        if not np.array_equal(written[name], value):
            raise ExportError(f"the file that was written has other values of {name}.")
    return path

"""Batch norm with the statistics of the batch of all processes, which MindSpore has on Ascend."""

from __future__ import annotations

from mindspore import nn

from msft_core.errors import DeviceError
from msft_core.types import Backbone

_PARAMETERS = ("gamma", "beta", "moving_mean", "moving_variance")


def synchronise(backbone: Backbone, device: str) -> int:
    """Replace each ``nn.BatchNorm2d`` of a network by ``nn.SyncBatchNorm`` with its parameters.

    Args:
        backbone: is changed.
        device: cpu, gpu or ascend.

    Returns: how many were replaced.

    Raises:
        DeviceError: MindSpore 2.10 has no such operator for the device.
    """
    if device != "ascend":
        raise DeviceError(
            "training.sync_batch_norm = true: MindSpore has a synchronised batch norm on Ascend "
            f"only, not on {device}. Leave it out, or give a larger --batch-size."
        )
    found = [
        (parent, name, cell)
        for root in [*(stage.cell for stage in backbone.stages), backbone.head]
        for _, parent in root.cells_and_names()
        for name, cell in parent.name_cells().items()
        if type(cell) is nn.BatchNorm2d
    ]
    for parent, name, cell in found:
        new = nn.SyncBatchNorm(cell.num_features, eps=cell.eps, momentum=1 - cell.momentum)
        if isinstance(parent, (nn.SequentialCell, nn.CellList)):
            parent[int(name)] = new
        else:
            setattr(parent, name, new)
        # After that, since a cell's parameters are named anew when it gets its place.
        for of_cell in _PARAMETERS:
            setattr(new, of_cell, getattr(cell, of_cell))
    return len(found)

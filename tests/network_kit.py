"""What the tests about backbones share."""

from __future__ import annotations

from typing import Any


def run(stages: Any, head: Any, x: Any) -> Any:
    """The network's logits for an array of images, in evaluation mode."""
    import mindspore

    from msft_core.stages import Chain

    network = Chain([*(stage.cell for stage in stages), head])
    network.set_train(False)
    return network(mindspore.Tensor(x)).asnumpy()


def names(cells: Any) -> list[str]:
    """Names of all parameters."""
    return [parameter.name for cell in cells for parameter in cell.get_parameters()]

"""Write resnet50.json: logits of torchvision's ResNet-50, bent to each dialect's geometry.

Run with the `parity` extra, from the root of the project: python tests/reference/make_resnet50.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from drawn import fingerprint, images, resnet50_tensors
from torch import nn
from torch.nn import functional

# Dialect: eps, "same" convolutions, "same" pool.
DIALECTS = {
    "torchvision": (1e-5, False, False),
    "mindcv": (1e-5, False, True),
    "zoo": (1e-4, True, True),
    "tutorial": (1e-5, True, True),
}
INPUTS = {"64": (2, 64), "75": (1, 75), "224": (1, 224)}


def pad_same(x: torch.Tensor, kernel: int, stride: int, value: float) -> torch.Tensor:
    pads = []
    for length in (x.shape[3], x.shape[2]):
        total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
        pads += [total // 2, total - total // 2]
    return functional.pad(x, pads, value=value)


class Same(nn.Module):
    """A layer without padding of its own, after "same" padding."""

    def __init__(self, layer: nn.Module, kernel: int, stride: int, value: float) -> None:
        super().__init__()
        self.layer = layer
        self.padding: Callable[[torch.Tensor], torch.Tensor] = lambda x: pad_same(
            x, kernel, stride, value
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.padding(x))


def bend(network: nn.Module, eps: float, same_convolutions: bool, same_pool: bool) -> None:
    for module in list(network.modules()):
        if isinstance(module, nn.BatchNorm2d):
            module.eps = eps
        for name, child in list(module.named_children()):
            if same_convolutions and isinstance(child, nn.Conv2d) and child.kernel_size[0] > 1:
                kernel, stride = child.kernel_size[0], child.stride[0]
                child.padding = (0, 0)
                setattr(module, name, Same(child, kernel, stride, 0.0))
    if same_pool:
        network.maxpool = Same(nn.MaxPool2d(3, 2), 3, 2, float("-inf"))


def main() -> None:
    tensors = resnet50_tensors()
    logits: dict[str, dict[str, list[list[float]]]] = {}
    for dialect, geometry in DIALECTS.items():
        network = torchvision.models.resnet50(num_classes=10)
        state = {name: torch.from_numpy(array) for name, array in tensors.items()}
        network.load_state_dict(state, strict=False)
        bend(network, *geometry)
        network.eval()
        logits[dialect] = {}
        for name, (count, size) in INPUTS.items():
            with torch.no_grad():
                answer = network(torch.from_numpy(images(count, size)))
            logits[dialect][name] = [[round(float(v), 7) for v in row] for row in answer]
    reference = {
        "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__},
        "weights": fingerprint(tensors.values()),
        "inputs": {name: list(shape) for name, shape in INPUTS.items()},
        "logits": logits,
    }
    target = Path(__file__).with_name("resnet50.json")
    target.write_text(json.dumps(reference, indent=1) + "\n", "utf-8")
    print(f"wrote {target}")


if __name__ == "__main__":
    main()

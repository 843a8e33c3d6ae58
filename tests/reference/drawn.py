"""Inputs and weights drawn from seeds: the same in PyTorch's environment and in the tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

RESNET50_STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))


def images(count: int, size: int, seed: int = 7) -> Array:
    """Smooth coloured waves, float32 (count, 3, size, size), about as wide as normalised photos."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / size
    result = np.zeros((count, 3, size, size))
    for image in result:
        for channel in image:
            for _ in range(12):
                fy, fx = rng.uniform(-12, 12, 2)
                channel += rng.normal(0, 0.4) * np.cos(
                    2 * np.pi * (fy * y + fx * x + rng.uniform())
                )
    return result.astype(np.float32)


def resnet50_tensors(num_classes: int = 10, seed: int = 50) -> dict[str, Array]:
    """Weights of a ResNet-50 by torchvision's names, of such a scale that logits are about 1."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, Array] = {}

    def conv(name: str, outputs: int, inputs: int, kernel: int) -> None:
        scale = np.float32(np.sqrt(2 / (inputs * kernel * kernel)))
        shape = (outputs, inputs, kernel, kernel)
        tensors[f"{name}.weight"] = rng.standard_normal(shape, np.float32) * scale

    def norm(name: str, channels: int, gain: float = 1.0) -> None:
        def uniform(low: float, high: float) -> Array:
            return rng.uniform(low, high, channels).astype(np.float32)

        tensors[f"{name}.weight"] = uniform(0.8, 1.2) * np.float32(gain)
        tensors[f"{name}.bias"] = uniform(-0.2, 0.2)
        tensors[f"{name}.running_mean"] = uniform(-0.2, 0.2)
        # Some small ones, as real networks have: there eps matters.
        tensors[f"{name}.running_var"] = uniform(0.02, 1.5)

    conv("conv1", 64, 3, 7)
    norm("bn1", 64)
    inputs = 64
    for stage, (repeats, width) in enumerate(RESNET50_STAGES, start=1):
        for block in range(repeats):
            name = f"layer{stage}.{block}"
            conv(f"{name}.conv1", width, inputs, 1)
            norm(f"{name}.bn1", width, 0.6)
            conv(f"{name}.conv2", width, width, 3)
            norm(f"{name}.bn2", width, 0.6)
            conv(f"{name}.conv3", 4 * width, width, 1)
            norm(f"{name}.bn3", 4 * width, 0.3)
            if block == 0:
                conv(f"{name}.downsample.0", 4 * width, inputs, 1)
                norm(f"{name}.downsample.1", 4 * width, 0.4)
            inputs = 4 * width
    tensors["fc.weight"] = rng.standard_normal((num_classes, inputs), np.float32) * np.float32(
        0.0015
    )
    tensors["fc.bias"] = rng.standard_normal(num_classes, np.float32) * np.float32(0.1)
    return tensors


def fingerprint(arrays: Iterable[Array]) -> float:
    """Sum of magnitudes: tells a changed generator from a changed network.

    Not a hash of bytes, as the last bit of a cosine depends on the processor.
    """
    return float(sum(np.abs(array, dtype=np.float64).sum() for array in arrays))

"""What the PyTorch peers share: the data and the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, models, transforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def training_data(
    folder: Path, size: int, scale: tuple[float, float] = (0.08, 1.0)
) -> datasets.ImageFolder:
    """Random crops, flipped or not; the tutorial has torchvision's own range of crops."""
    return datasets.ImageFolder(
        folder / "train",
        transforms.Compose(
            [
                transforms.RandomResizedCrop(size, scale),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        ),
    )


def validation_data(folder: Path, size: int) -> datasets.ImageFolder:
    """The middle of each image."""
    return datasets.ImageFolder(
        folder / "val",
        transforms.Compose(
            [
                transforms.Resize(round(size / 0.875)),
                transforms.CenterCrop(size),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        ),
    )


def loader(data: Any, batch: int, workers: int, **options: Any) -> DataLoader[Any]:
    """Batches in a new order each epoch."""
    return DataLoader(data, batch, shuffle=True, num_workers=workers, **options)


def resnet50(classes: int) -> nn.Module:
    """torchvision's, random weights, with a new head."""
    network = models.resnet50(weights=None)
    network.fc = nn.Linear(network.fc.in_features, classes)
    return network

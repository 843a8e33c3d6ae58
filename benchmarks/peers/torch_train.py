"""Transfer learning with PyTorch, from start to best checkpoint.

Variants: ``default`` is the transfer-learning tutorial's loop, frozen layers included: they run in
training mode, as they do there. ``best`` is channels-last with bfloat16 autocast, and runs what is
frozen in evaluation mode without gradients, with workers that stay alive. ``cached`` does the
same once for each image and trains the rest on what that gave. Not tried: ``torch.compile``, which
needs a C++ compiler and takes minutes to start.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.peers.torch_parts import loader, resnet50, training_data, validation_data

HEAD_ONLY, FROM_LAYER4 = "fc", "layer4"


def mark(what: str) -> None:
    """Say how far this has got (``commands.MARK``)."""
    print(f"mark: {what}", flush=True)


def main() -> None:
    """Train and keep the best checkpoint."""
    mark("PyTorch imported")
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--variant", choices=("default", "best", "cached"), required=True)
    parser.add_argument("--train", choices=(HEAD_ONLY, FROM_LAYER4), required=True)
    for name in ("epochs", "batch", "size", "workers"):
        parser.add_argument(f"--{name}", type=int, required=True)
    asked = parser.parse_args()

    data = {
        "train": training_data(asked.data, asked.size),
        "val": validation_data(asked.data, asked.size),
    }
    network = resnet50(len(data["train"].classes))
    for name, parameter in network.named_parameters():
        parameter.requires_grad = name.startswith(("fc.", f"{asked.train}."))
    best = asked.variant != "default"
    options = {"persistent_workers": True} if best else {}
    batches: dict[str, DataLoader[Any]] = {
        split: loader(images, asked.batch, asked.workers, **options)
        for split, images in data.items()
    }
    mark("network made")
    forward: Callable[[Any], Any] = network
    if best:
        network.to(memory_format=torch.channels_last)
        frozen, rest = split_at(network, asked.train)
        if asked.variant == "cached":
            batches = {
                split: loader(stored(frozen, of_split), asked.batch, 0)
                for split, of_split in batches.items()
            }
            mark("features computed")
            forward = in_bfloat16(rest)
        else:
            forward = in_bfloat16(rest, after=frozen)
    train(network, forward, batches, asked.epochs, asked.out, whole_in_training_mode=not best)
    mark("all epochs done")


def train(
    network: nn.Module,
    forward: Callable[[Any], Any],
    batches: dict[str, DataLoader[Any]],
    epochs: int,
    out: Path,
    *,
    whole_in_training_mode: bool,
) -> None:
    """The tutorial's loop: train, evaluate, keep the best by validation accuracy."""
    criterion = nn.CrossEntropyLoss()
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = optim.SGD(learned, lr=0.001, momentum=0.9)
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    best = -1.0
    for epoch in range(1, epochs + 1):
        network.train()
        if not whole_in_training_mode:
            for module in network.children():
                module.train(any(p.requires_grad for p in module.parameters()))
        for images, labels in batches["train"]:
            optimizer.zero_grad()
            loss = criterion(forward(images), labels)
            loss.backward()
            optimizer.step()
        scheduler.step()
        if epoch == 1:
            mark("first epoch trained")
        network.eval()
        right = count = 0
        with torch.no_grad():
            for images, labels in batches["val"]:
                right += int((forward(images).argmax(1) == labels).sum())
                count += len(labels)
        if right / count > best:
            best = right / count
            torch.save(network.state_dict(), out)
        if epoch == 1:
            mark("first epoch evaluated")
        print(f"epoch {epoch}: {right / count:.3f}", flush=True)
    network.load_state_dict(torch.load(out))


def split_at(network: nn.Module, first_trained: str) -> tuple[nn.Module, nn.Module]:
    """What comes before a layer of torchvision's ResNet, and the rest."""
    layers = dict(network.named_children())
    names = list(layers)
    parts = [layers[name] for name in names]
    parts.insert(names.index("fc"), nn.Flatten())
    cut = names.index(first_trained) + (first_trained == "fc")
    return nn.Sequential(*parts[:cut]), nn.Sequential(*parts[cut:])


def in_bfloat16(rest: nn.Module, after: nn.Module | None = None) -> Callable[[Any], Any]:
    """A forward pass: autocast, and no gradients of what is frozen."""

    def forward(images: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            if after is not None:
                with torch.no_grad():
                    images = after(images.contiguous(memory_format=torch.channels_last))
            return rest(images).float()

    return forward


@torch.no_grad()
def stored(frozen: nn.Module, batches: DataLoader[Any]) -> TensorDataset:
    """What the frozen part gives for one view of each image."""
    frozen.eval()
    features, labels = [], []
    with torch.autocast("cpu", torch.bfloat16):
        for images, of_batch in batches:
            features.append(frozen(images.contiguous(memory_format=torch.channels_last)))
            labels.append(of_batch)
    return TensorDataset(torch.cat(features), torch.cat(labels))


if __name__ == "__main__":
    main()

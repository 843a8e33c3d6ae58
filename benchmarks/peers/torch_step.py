"""Fine-tuning steps of PyTorch: ``... benchmarks.peers.torch_step BATCH SIZE default|best``."""

from __future__ import annotations

import sys

from benchmarks.serving import Channel


def main(batch: int, size: int, variant: str) -> None:
    """Serve ``step``: one step of ResNet-50 on one batch."""
    channel = Channel()
    import torch
    from torch import nn, optim

    from benchmarks.peers.torch_parts import resnet50

    best = variant == "best"
    torch.manual_seed(0)
    network = resnet50(2).train()
    images, labels = torch.randn(batch, 3, size, size), torch.randint(0, 2, (batch,))
    if best:
        network = network.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=best):
            loss = criterion(network(images), labels)
        loss.backward()
        optimizer.step()
        loss.item()

    channel.serve({"step": step})


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])

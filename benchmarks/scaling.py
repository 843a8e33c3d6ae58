"""What larger work takes, from measured pieces: ``python -m benchmarks.scaling``.

Prints the tables of docs/scaling.md. ``MEASURED`` is from there; change it to what you measured.
"""

from __future__ import annotations

from dataclasses import dataclass

MINUTE, HOUR, DAY = 60, 3600, 86400


@dataclass(frozen=True)
class Device:
    """What a process has.

    Args:
        features: images a second through the frozen stages.
        training: images a second, when everything trains.
        decoding: images a second that its CPUs decode.
        bandwidth: bytes a second between two processes, in an all-reduce.
        latency: seconds of an all-reduce of nothing, and of the agreement before it.
        batch: images of a step, in each process.
    """

    features: float
    training: float
    decoding: float
    bandwidth: float
    latency: float
    batch: int


MEASURED = Device(21, 6.5, decoding=680, bandwidth=135e6, latency=0.004, batch=24)
"""ResNet-50 at 224 pixels on 2 cores, through mccl."""

ASSUMED = Device(3000, 1000, decoding=5400, bandwidth=10e9, latency=0.0005, batch=256)
"""An accelerator with 16 CPU cores in a network of 100 Gbit/s. Nobody measured it here."""

GRADIENTS = 94e6
"""Bytes of the gradients of ResNet-50."""

START = 25e-6
"""Seconds an image, at a start that knows it."""

FEATURE, IMAGE, STATE = 8192, 48_000, 200
"""Bytes of a feature, of a photograph on disk, and of what a process keeps of it in memory."""

VIEWS, EPOCHS = 4, 10


def freeze(images: float, processes: int, device: Device) -> float:
    """Seconds to compute and store all views. The head's own steps are left out."""
    each = max(1 / device.features, 1 / device.decoding)
    return images * START + images * VIEWS * each / processes


def finetune(images: float, processes: int, device: Device) -> float:
    """Seconds to train everything."""
    steps = EPOCHS * images / (device.batch * processes)
    return images * START + steps * step(processes, device)


def step(processes: int, device: Device) -> float:
    """Seconds of a step: of the images, then of the gradients, which do not overlap."""
    compute = device.batch * max(1 / device.training, 1 / device.decoding)
    return compute + all_reduce(processes, device)


def all_reduce(processes: int, device: Device) -> float:
    """Seconds, of a ring: each process sends and receives 2 (N - 1) / N of the bytes."""
    if processes == 1:
        return 0.0
    return device.latency + 2 * (processes - 1) / processes * GRADIENTS / device.bandwidth


def in_words(seconds: float) -> str:
    """Seconds in the unit that fits."""
    for unit, name in ((DAY, "days"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:,.0f} {name}"
    return f"{seconds:.0f} s"


def main() -> None:
    """Print the tables."""
    sizes, counts = (1e4, 1e5, 1e6, 1e7, 1e8, 1e9), (1, 8, 64, 512)
    for name, device in (("measured", MEASURED), ("assumed", ASSUMED)):
        for what in (freeze, finetune):
            print(f"\n{what.__name__}, {name} device")
            print("| images |" + "".join(f" {count} |" for count in counts))
            print("|---|" + "---|" * len(counts))
            for images in sizes:
                row = [in_words(what(images, count, device)) for count in counts]
                print(f"| {images:,.0f} | " + " | ".join(row) + " |")
    print("\n| images | on disk | features, 4 views | memory of each process |\n|---|---|---|---|")
    for images in sizes:
        room = [images * IMAGE, images * VIEWS * FEATURE, images * STATE]
        print(f"| {images:,.0f} | " + " | ".join(f"{one / 1e9:,.1f} GB" for one in room) + " |")
    for name, device in (("measured", MEASURED), ("assumed", ASSUMED)):
        shares = [step(1, device) / step(count, device) for count in counts]
        print(f"\nefficiency of finetune, {name}: " + ", ".join(f"{one:.2f}" for one in shares))


if __name__ == "__main__":
    main()

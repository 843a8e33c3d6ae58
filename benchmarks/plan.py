"""What a benchmark is asked for: sizes, repeats, and where things lie."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from benchmarks import commands, pictures


@dataclass(frozen=True)
class Plan:
    """Sizes of everything, and a folder to work in.

    Args:
        data: photographs in ``train/CLASS`` and ``val/CLASS``.
        work: a temporary folder.
        torch_python: interpreter that has PyTorch.
        cores: CPUs that may be used, which is also how many workers decode images.
        train: training photographs, made by repeating those of ``data``.
        val: validation photographs, likewise.
        size: side of the network's input, pixels.
        batch: images a step.
        epochs: of a whole command.
        repeats: of a whole command.
        steps: of what takes turns, each.
        starts: of the shortest commands, each.
        few: pictures of the smaller of two runs whose peak memory is compared.
        many: of the larger one.
    """

    data: Path
    work: Path
    torch_python: str
    cores: int
    train: int
    val: int
    size: int
    batch: int
    epochs: int
    repeats: int
    steps: int
    starts: int
    few: int
    many: int

    @functools.cached_property
    def photographs(self) -> Path:
        """The repeated photographs."""
        folder = self.work / "photographs"
        return pictures.repeat_photographs(self.data, folder, self.train, self.val)

    def torch(self, name: str, *arguments: object) -> list[str]:
        """A module of ``benchmarks.peers`` under PyTorch's interpreter."""
        texts = map(str, arguments)
        return commands.module(f"peers.{name}", *texts, python=self.torch_python)

    def module(self, name: str, *arguments: object) -> list[str]:
        """A module of this package under this interpreter."""
        return commands.module(name, *map(str, arguments))

"""A run without a network, for tests of pages: made of names, numbers and random pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from msft_core import Best, EpochRecord, ImageBatch, Predictions, UsageError
from msft_core.files import write_json, write_json_lines, write_text
from msft_core.pages import RunPages

SCRIPT = "<script>alert('x')</script>"
HOSTILE = (
    SCRIPT,
    "\"><img src=x onerror='alert(1)'>",
    "y" * 300,
    "哈士奇与边境牧羊犬",
    "כלבים גדולים",
    "caf\udce9",  # a byte that is not UTF-8
    "{{ 7 * 7 }} &amp; </style>",
)
"""Class names that a page must show as they are."""


@dataclass
class StandIn:
    """What the report asks of a run.

    Args:
        folder: the run folder; ``write_folder`` fills it.
        classes: class names.
        images: number of validation images.
        epochs: number of epochs.
        broken: names of methods that fail.
    """

    folder: Path
    classes: Sequence[str] = ("cats", "dogs")
    images_count: int = 40
    epochs: int = 5
    mistakes: float = 0.2
    broken: tuple[str, ...] = ()
    best: Best | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    skipped: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        random = np.random.default_rng(0)
        self.history = tuple(
            EpochRecord(
                epoch,
                {"loss": 1 / epoch},
                {"loss": 1.2 / epoch, "accuracy": 1 - 0.4 / epoch},
                learning_rate=0.1 / epoch,
                seconds=0.5,
                step_ms=20.0,
            )
            for epoch in range(1, self.epochs + 1)
        )
        many = len(self.classes)
        labels = np.arange(self.images_count) % many
        guesses = np.where(
            random.random(self.images_count) < self.mistakes,
            random.integers(0, many, self.images_count),
            labels,
        )
        logits = random.normal(0, 1, (self.images_count, many))
        logits[np.arange(self.images_count), guesses] += 4
        odds = np.exp(logits)
        self.answers = Predictions(
            tuple(f"{self.classes[label]}/{i}.jpg" for i, label in enumerate(labels)),
            labels,
            (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32),
            tuple(self.classes),
        )
        self.best = Best(self.folder / "best.ckpt", self.epochs, 0.9, "accuracy")
        self.config = SimpleNamespace(
            dataset=SimpleNamespace(name="folder", settings=SimpleNamespace(data_dir="/d/pets")),
            backbone=SimpleNamespace(name="tiny"),
            strategy=SimpleNamespace(name="freeze"),
        )
        self.splits = SimpleNamespace(classes=tuple(self.classes))
        self.pages = RunPages(self)  # type: ignore[arg-type]

    def write_folder(self, **facts: Any) -> StandIn:
        """Write the files that a report reads."""
        count = [self.images_count // len(self.classes)] * len(self.classes)
        about = {
            "started": "2026-01-02T03:04:05+00:00",
            "versions": {"msft": "0.4.0"},
            "device": "cpu",
            "dataset": {
                "description": "Pets",
                "train": 100,
                "val": self.images_count,
                "classes": list(self.classes),
                "counts": {"train": count, "val": count},
                "twins": [],
            },
            "backbone": {"weights": "imagenet"},
            "features": "",
            "status": "completed",
            "seconds": 12.3,
            "stages": [
                {"name": "stem", "parameters": 100, "trained": 0, "from_epoch": None},
                {"name": "late", "parameters": 50, "trained": 50, "from_epoch": 3},
                {"name": "part", "parameters": 10, "trained": 4, "from_epoch": 1},
                {"name": "pool", "parameters": 0, "trained": 0, "from_epoch": None},
                {"name": "head", "parameters": 20, "trained": 20, "from_epoch": 1},
            ],
            "warnings": [],
        }
        write_json(self.folder / "environment.json", {**about, **facts})
        write_json_lines(self.folder / "skipped.jsonl", self.skipped)
        write_text(self.folder / "config.toml", "[training]\nepochs = 5\n")
        return self

    def facts(self) -> dict[str, Any]:
        """The content of ``environment.json``."""
        found: dict[str, Any] = json.loads((self.folder / "environment.json").read_text())
        return found

    def predictions(self, split: str) -> Predictions:
        self._fail("predictions")
        assert split == "val"
        return self.answers

    def images(self, split: str, count: int) -> ImageBatch:
        self._fail("images")
        assert split == "train"
        return self._photos([f"{self.classes[0]}/{i}.jpg" for i in range(count)])

    def read_images(self, split: str, ids: Sequence[str]) -> ImageBatch:
        self._fail("images")
        assert split == "val"
        return self._photos(ids)

    def explain(self, split: str, ids: Sequence[str]) -> Any:
        self._fail("explain")
        return np.linspace(0, 1, len(ids) * 32 * 32).astype(np.float32).reshape(-1, 32, 32)

    def _photos(self, ids: Sequence[str]) -> ImageBatch:
        pixels = np.random.default_rng(1).integers(0, 256, (len(ids), 32, 32, 3)).astype(np.uint8)
        return ImageBatch(pixels, np.zeros(len(ids), np.int64), tuple(ids))

    def _fail(self, what: str) -> None:
        if what in self.broken:
            raise UsageError(f"no {what} here.")

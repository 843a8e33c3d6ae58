"""The dataset ``sample``: drawn dogs and wolves, for trying msft without a network.

The 208 pictures ship in the folder ``pictures`` of this package. ``tools/painter``, in msft's
source repository, drew them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pydantic import Field, field_validator

from msft_core import Component, Context, DatasetSplits, Settings, hookimpl

if TYPE_CHECKING:
    from msft_core.images import FileTable

CLASSES = ("dogs", "wolves")
PICTURES = Path(__file__).parent / "pictures"


class SampleSettings(Settings):
    """Settings of the dataset ``sample``."""

    seed: int = Field(0, description="only 0, the seed that the shipped pictures were drawn with")
    train_per_class: int = Field(80, ge=1, le=80, description="training pictures of each class")
    val_per_class: int = Field(24, ge=1, le=24, description="validation pictures of each class")

    @field_validator("seed")
    @classmethod
    def _shipped(cls, seed: int) -> int:
        # msft 0.3.0 drew the pictures, and wrote the seed into the config.toml of each run.
        if seed != 0:
            raise ValueError(
                "the dataset sample ships its pictures, so seed must be 0; "
                "tools/painter in msft's source repository draws others"
            )
        return seed


@hookimpl
def list_components() -> Iterable[Component]:
    """Offer the dataset ``sample``."""
    yield Component(
        "dataset", "sample", "drawn dogs and wolves, no download: to try things out", SampleSettings
    )


@hookimpl
def build_dataset(name: str, settings: Settings, context: Context) -> DatasetSplits | None:
    """Build the splits from the first pictures of each class."""
    if name != "sample":
        return None
    chosen = cast(SampleSettings, settings)
    return DatasetSplits(
        classes=CLASSES,
        train=_table("train", chosen.train_per_class),
        val=_table("val", chosen.val_per_class),
        description=(
            "dogs and wolves drawn by a program, not photographed; "
            "figures on them say nothing about real photographs"
        ),
    )


def _table(split: str, per_class: int) -> FileTable:
    from msft_core.images import FileTable  # imports NumPy and Pillow

    rows = [
        (f"{split}/{name}/{number:03}.jpg", label)
        for label, name in enumerate(CLASSES)
        for number in range(per_class)
    ]
    return FileTable(
        ids=tuple(image_id for image_id, _ in rows),
        labels=tuple(label for _, label in rows),
        paths=tuple(str(PICTURES / image_id) for image_id, _ in rows),
    )

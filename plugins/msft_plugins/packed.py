"""The dataset ``packed``: images that ``msft pack`` has put into MindRecord shards."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import cast

from pydantic import Field

from msft_core import Component, Context, DatasetSplits, Settings, UsageError, hookimpl


class PackedSettings(Settings):
    """Settings of the dataset ``packed``."""

    data_dir: Path | None = Field(None, description="folder that `msft pack DIR OUT` has written")


@hookimpl
def list_components() -> Iterable[Component]:
    """Offer the dataset ``packed``."""
    yield Component("dataset", "packed", "images in the shards of `msft pack`", PackedSettings)


@hookimpl
def build_dataset(name: str, settings: Settings, context: Context) -> DatasetSplits | None:
    """Read the index of the pack in ``data_dir``."""
    if name != "packed":
        return None
    from msft_core.packs import read_pack  # imports NumPy and Pillow

    chosen = cast(PackedSettings, settings)
    if chosen.data_dir is None:
        raise UsageError("dataset packed needs a pack: give --data-dir OUT of `msft pack DIR OUT`")
    return read_pack(chosen.data_dir.expanduser())

"""The dataset ``folder``: the user's own images, in one folder for each class."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import cast

from pydantic import Field

from msft_core import Component, Context, DatasetSplits, Settings, UsageError, hookimpl


class FolderSettings(Settings):
    """Settings of the dataset ``folder``."""

    data_dir: Path | None = Field(
        None, description="folder with train/CLASS/ and val/CLASS/, or with CLASS/ alone"
    )
    val_fraction: float = Field(
        0.2, gt=0, lt=1, description="fraction held out for validation if there is no val folder"
    )
    split_seed: int = Field(0, description="decides which images are held out")


@hookimpl
def list_components() -> Iterable[Component]:
    """Offer the dataset ``folder``."""
    yield Component("dataset", "folder", "your own images, a folder for each class", FolderSettings)


@hookimpl
def build_dataset(name: str, settings: Settings, context: Context) -> DatasetSplits | None:
    """Read the class folders in ``data_dir``."""
    if name != "folder":
        return None
    from msft_core.folders import read_splits  # imports NumPy and Pillow

    chosen = cast(FolderSettings, settings)
    if chosen.data_dir is None:
        raise UsageError("dataset folder needs your images: give --data-dir DIR")
    return read_splits(
        chosen.data_dir.expanduser(),
        val_fraction=chosen.val_fraction,
        split_seed=chosen.split_seed,
        reporter=context.reporter,
    )

"""The dataset ``canidae``: the dogs and wolves of MindSpore's transfer-learning tutorial."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import cast

from pydantic import Field

from msft_core import Component, Context, DatasetSplits, Settings, hookimpl

URL = (
    "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/intermediate/"
    "Canidae_data.zip"
)


class CanidaeSettings(Settings):
    """Settings of the dataset ``canidae``."""

    data_dir: Path | None = Field(
        None,
        description="folder of the unpacked images; else ./data/Canidae, the cache, or a download",
    )
    url: str = Field(URL, description="the zip file to download")
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="SHA-256 of the zip file, checked if given"
    )


def fetch(settings: CanidaeSettings, context: Context) -> Iterable[Path]:
    """Download and unpack the images, unless the cache has them. Returns their folder."""
    from msft_plugins.canidae.locate import fetch_images

    return [fetch_images(settings.url, settings.sha256, context)]


@hookimpl
def list_components() -> Iterable[Component]:
    """Offer the dataset ``canidae``."""
    yield Component(
        "dataset",
        "canidae",
        "dogs and wolves of the MindSpore tutorial (11.9 MB download)",
        CanidaeSettings,
        fetch=fetch,
        urls=(URL,),
    )


@hookimpl
def build_dataset(name: str, settings: Settings, context: Context) -> DatasetSplits | None:
    """Find the images, or download them."""
    if name != "canidae":
        return None
    from msft_core.folders import read_splits
    from msft_plugins.canidae.locate import find_images  # imports NumPy and Pillow

    chosen = cast(CanidaeSettings, settings)
    data_dir = chosen.data_dir and chosen.data_dir.expanduser()
    root = find_images(data_dir, chosen.url, chosen.sha256, context)
    return read_splits(root, description=f"Canidae in {root}")

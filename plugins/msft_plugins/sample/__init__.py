"""The dataset ``sample``: drawn dogs and wolves, for trying msft without a network.

Nothing is downloaded and nothing is shipped: the pictures are drawn when they are first asked
for, and kept in the cache folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from pydantic import Field

from msft_core import Component, Context, DatasetSplits, Settings, hookimpl


class SampleSettings(Settings):
    """Settings of the dataset ``sample``."""

    seed: int = Field(
        0, description="another one draws other pictures; training.seed does not change them"
    )
    train_per_class: int = Field(80, ge=1, description="pictures of a class to train on")
    val_per_class: int = Field(24, ge=1, description="pictures of a class to evaluate on")


@hookimpl
def list_components() -> Iterable[Component]:
    """Offer the dataset ``sample``."""
    yield Component(
        "dataset", "sample", "drawn dogs and wolves, no download: to try things out", SampleSettings
    )


@hookimpl
def build_dataset(name: str, settings: Settings, context: Context) -> DatasetSplits | None:
    """Draw the pictures, or take those that were drawn before."""
    if name != "sample":
        return None
    from msft_plugins.sample.tables import build  # imports NumPy and Pillow

    chosen = cast(SampleSettings, settings)
    return build(chosen.seed, chosen.train_per_class, chosen.val_per_class, context)

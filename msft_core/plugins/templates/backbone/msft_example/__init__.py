"""The backbone ``example``: a small convolutional network in three stages, with weights.

The network is ``head(pool(third(second(first(images)))))``. A strategy trains or freezes whole
stages, so two stages must not share a parameter.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msft_core import (
    Backbone,
    Component,
    Context,
    NameOrFile,
    Preprocessing,
    Settings,
    Stage,
    hookimpl,
)
from pydantic import Field

if TYPE_CHECKING:
    from mindspore import nn

msft_api = "0.4"

# Put the address of your weights here, and their hash.
URL = "https://host.invalid/example.pth"
SHA256 = None

# Parts of PyTorch's parameter names, and what this network has instead.
RENAMED = {
    ".1.weight": ".1.gamma",
    ".1.bias": ".1.beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
    "fc.": "classifier.",
}


class ExampleSettings(Settings):
    """``backbone.*`` where the backbone is ``example``."""

    weights: NameOrFile = Field("none", description="none, pretrained, a file, or a URL")
    image_size: int = Field(64, ge=16, le=512, description="side of the square input, pixels")
    width: int = Field(16, ge=1, description="channels of the first stage; each next one doubles")
    dropout: float = Field(0.0, ge=0, lt=1, description="fraction of inputs that the head drops")


@hookimpl
def list_components() -> list[Component]:
    """The components of this plugin. Keep it fast: import heavy modules only where needed."""
    summary = "three convolutional stages"
    return [Component("backbone", "example", summary, ExampleSettings, fetch=fetch)]


def fetch(settings: ExampleSettings, context: Context) -> list[Path]:
    """Download the weights for ``msft fetch``, so that a later run needs no network."""
    path = find_weights(settings, context)
    return [path] if path else []


def find_weights(settings: ExampleSettings, context: Context) -> Path | None:
    """The file of the weights, downloaded if necessary; None for ``weights=none``."""
    from msft_core.weights import KnownWeights, resolve_weights

    known = {"pretrained": KnownWeights(URL, SHA256, "trained on many photographs")}
    return resolve_weights(settings.weights, context, known)


@hookimpl
def build_backbone(
    name: str,
    num_classes: int,
    settings: ExampleSettings,
    context: Context,
) -> Backbone | None:
    """Make the network. msft has set MindSpore's seed, so every run draws the same weights."""
    if name != "example":
        return None
    path = find_weights(settings, context)  # first, so that a wrong setting fails at once
    from msft_core.stages import Head, Pool  # imports MindSpore

    width = settings.width
    stages = (
        _stage("first", 3, width),
        _stage("second", width, 2 * width),
        _stage("third", 2 * width, 4 * width),
        Stage("pool", Pool()),
    )
    head = Head(4 * width, num_classes, context.seed, dropout=settings.dropout)
    if path is not None:
        _load(path, [*(stage.cell for stage in stages), head], context)
    looks = Preprocessing(
        settings.image_size, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    return Backbone("example", stages, head, looks, weights=settings.weights)


def _stage(name: str, channels: int, out: int) -> Stage:
    """(N, channels, H, W) to (N, out, H / 2, W / 2)."""
    from mindspore import nn
    from msft_core.stages import prefix_names

    convolution = nn.Conv2d(channels, out, 3, stride=2, weight_init="HeNormal")
    cell = nn.SequentialCell([convolution, nn.BatchNorm2d(out), nn.ReLU()])
    # Parameter names must be unique over all stages and the head.
    return Stage(name, prefix_names(cell, name))


def _load(path: Path, cells: list[nn.Cell], context: Context) -> None:
    """Copy the file into the network. The head stays new, unless the file has the same classes."""
    from msft_core.stages import Head
    from msft_core.weights import drop_bookkeeping, keeps_head, load_into, read_checkpoint

    checkpoint = read_checkpoint(path)
    load_into(
        cells,
        drop_bookkeeping(checkpoint.arrays),
        source=str(path),
        reporter=context.reporter,
        rename=_rename,
        reset=() if keeps_head(checkpoint, context) else Head.NAMES,
    )


def _rename(name: str) -> str:
    """A parameter's name in the network. Names from a run's own checkpoint stay as they are."""
    for theirs, ours in RENAMED.items():
        name = name.replace(theirs, ours)
    return name

"""mindcv's classifiers as backbones of msft: ``--backbone mindcv/resnet18``.

Importing this module imports neither MindSpore nor NumPy nor mindcv.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from pydantic import Field

from msft_core import (
    Backbone,
    Component,
    Context,
    NameOrFile,
    Preprocessing,
    Settings,
    WeightsError,
    hookimpl,
)
from msft_mindcv.table import Model, models

msft_api = "0.3"


class MindcvSettings(Settings):
    """Settings of every ``mindcv/...`` backbone."""

    weights: NameOrFile = Field(
        "imagenet", description="imagenet (mindcv's own), none, a file, or a URL"
    )
    image_size: int | None = Field(
        None,
        ge=32,
        le=1024,
        description="side of the square input, pixels; by default the one the network is made for",
    )


@hookimpl
def list_components() -> Iterable[Component]:
    """Offer each of mindcv's classifiers that runs."""
    return [
        Component(
            "backbone",
            name,
            model.summary,
            MindcvSettings,
            fetch=partial(_fetch, model),
            urls=(model.url,) if model.url else (),
        )
        for name, model in models().items()
    ]


@hookimpl
def build_backbone(
    name: str, num_classes: int, settings: MindcvSettings, context: Context
) -> Backbone | None:
    """Make the network as mindcv does, cut it into stages, load its weights, reset the head."""
    model = models().get(name)
    if model is None:
        return None
    # Find the file before the network is made: a mistake is told at once.
    path = _find(model, settings.weights, context)

    from msft_core.weights import keeps_head, read_checkpoint
    from msft_mindcv import network

    checkpoint = None if path is None else read_checkpoint(path)
    net = network.build(model, num_classes, context.seed)
    size = settings.image_size or model.size
    if size != model.size:
        network.check_size(net, model, size)
    if checkpoint is not None:
        keep = keeps_head(checkpoint, context)
        network.load(net, model, checkpoint, context.reporter, keep_head=keep)
    return Backbone(
        name=name,
        stages=net.stages,
        head=net.head,
        preprocessing=Preprocessing(
            size, model.mean, model.std, model.crop_fraction, model.interpolation
        ),
        dialect="mindcv",
        weights=settings.weights,
    )


def _fetch(model: Model, settings: MindcvSettings, context: Context) -> Iterable[Path]:
    path = _find(model, settings.weights, context)
    return [] if path is None else [path]


def _find(model: Model, spec: str, context: Context) -> Path | None:
    from msft_core.weights import KnownWeights, resolve_weights

    if spec == "imagenet" and not model.url:
        raise WeightsError(
            f"{model.component}: mindcv publishes no weights of this network.\n"
            "Try: --weights none; or --weights FILE."
        )
    return resolve_weights(
        spec,
        context,
        {"imagenet": KnownWeights(model.url, summary="ImageNet, mindcv's")} if model.url else {},
        ways_out=(
            f"run `msft fetch {model.component}` where there is a network and copy the folder "
            f"{context.cache_dir / 'downloads'}",
            "--weights FILE",
            "--weights none",
        ),
    )

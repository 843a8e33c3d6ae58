"""The structure of mindcv's networks: their stages and their heads, a family at a time.

A family's networks differ in depth and width, not in the order of their parts. A stage is written
``name = part part ...``, or as the one part that it is named after. A part is

- the path of a cell in the network, ``layer1`` or ``features.conv0``;
- ``blocks[:]``, ``blocks[:10]``: the items of a list of cells. As a stage of its own each item
  becomes a stage; batch norms and items without parameters join the one before;
- ``+pos_embed``: a parameter that is added;
- ``@pool`` or ``@stage2``: what stands between the cells in the network's own code, a class of
  ``parts.py``.

Importing this module imports neither MindSpore nor mindcv.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Family:
    """Networks that are cut alike.

    Args:
        stages: see above; together with the head they are the network.
        head: parts of the head; every Dense and convolution in it is new.
        unused: beginnings of names of parameters that the logits do not depend on, such as an
            auxiliary classifier's; they are left out.
    """

    stages: tuple[str, ...]
    head: str
    unused: tuple[str, ...] = field(default=())


def _of(*stages: str, head: str, unused: tuple[str, ...] = ()) -> Family:
    return Family(stages, head, unused)


_FOUR_LAYERS = ("layer1", "layer2", "layer3", "layer4")
_GOOGLENET = (
    "stem = conv1 maxpool1 conv2 conv3 maxpool2",
    "inception3a",
    "inception3b = inception3b maxpool3",
    *(f"inception4{letter}" for letter in "abcd"),
    "inception4e = inception4e maxpool4",
    "inception5a",
    "inception5b",
    "pool",
)
_VISFORMER = tuple(
    f"stage{i} = patch_embed{i} +pos_embed{i} pos_drop stage{i}[:]" for i in (1, 2, 3)
)
_VISFORMER_POOL = "pool = norm global_pooling"

FAMILIES: dict[str, Family] = {
    "bit": _of(
        "stem = conv1 pad max_pool",
        *_FOUR_LAYERS,
        "pool = gn relu pool",
        head="classifier @flatten",
    ),
    "cait": _of(
        "embed = patch_embed +pos_embed pos_drop",
        "blocks[:]",
        "token = @class_attention",
        head="head",
    ),
    "cmt": _of(
        "stem = stem_conv1 stem_relu1 stem_norm1 stem_conv2 stem_relu2 stem_norm2 "
        "stem_conv3 stem_relu3 stem_norm3",
        *(f"stage{i} = @cmt_stage{i}" for i in (1, 2, 3, 4)),
        "pool = _fc _bn @swish @pool",
        head="_drop head",
    ),
    "coat": _of("features = @coat_features", "norm = @coat_norm", head="head"),
    "coat_lite": _of(
        *(f"stage{i} = @coat_stage{i}" for i in (1, 2, 3, 4)),
        "norm = norm4 @token",
        head="head",
    ),
    "convit": _of(
        "embed = patch_embed +pos_embed pos_drop",
        "blocks[:10]",
        "blocks.10 = @prepend_token blocks.10",
        "blocks[11:]",
        "norm = norm @token",
        head="classifier",
    ),
    "convnext": _of("feature[:]", "pool = @pool norm", head="classifier"),
    "crossvit": _of(
        "features = @crossvit_features", "norm = @crossvit_norm", head="@crossvit_head"
    ),
    "densenet": _of("features[:]", "pool", head="classifier"),
    "dpn": _of(
        "stem = features.conv1",
        *(f"stage{i} = @dpn_stage{i}" for i in (2, 3, 4, 5)),
        "pool = conv5_x avgpool",
        head="classifier",
    ),
    "edgenext": _of(
        "stage0 = downsample_layers.0 stages.0 @edgenext_position",
        *(f"stage{i} = downsample_layers.{i} stages.{i}" for i in (1, 2, 3)),
        "pool = @pool norm",
        head="head_dropout head",
    ),
    "efficientnet": _of("features[:]", "pool = avgpool", head="dropout mlp_head"),
    "ghostnet": _of(
        "stem = conv_stem bn1 act1",
        "blocks[:]",
        "pool = global_pool conv_head act2 flatten",
        head="dropout classifier",
    ),
    "googlenet": _of(*_GOOGLENET, head="dropout classifier", unused=("aux1.", "aux2.")),
    "hrnet": _of(
        "stem = conv1 bn1 relu conv2 bn2 relu",
        "layer1",
        "branches = @rest",
        "final_layer",
        "pool",
        head="classifier",
    ),
    "inceptionv3": _of(
        "stem = conv1a conv2a conv2b maxpool1 conv3b conv4a maxpool2",
        *(f"inception5{letter}" for letter in "bcd"),
        *(f"inception6{letter}" for letter in "abcde"),
        *(f"inception7{letter}" for letter in "abc"),
        "pool",
        head="dropout classifier",
        unused=("aux.",),
    ),
    "inceptionv4": _of("features[:]", "pool", head="dropout classifier"),
    "mae": _of(
        "embed = patch_embed @prepend_token +pos_embed pos_drop patch_drop norm_pre",
        "blocks[:]",
        "pool = norm @patches fc_norm",
        head="head_drop head",
    ),
    "mixnet": _of("stem = stem_conv", "layers[:]", "head_conv", "pool", head="dropout classifier"),
    "mlpmixer": _of(
        "embed = to_patch_embedding",
        "mixer_blocks[:]",
        "pool = layer_norm @tokens",
        head="mlp_head",
    ),
    "mnasnet": _of("features[:]", "pool", head="dropout classifier"),
    "mobilenetv1": _of("features[:]", "pool", head="classifier"),
    "mobilenetv2": _of("features[:]", "pool", head="classifier[:]"),
    "mobilenetv3": _of("features[:]", "pool", "neck = classifier[:-2]", head="classifier[-2:]"),
    "mobilevit": _of(
        "stem = conv_1",
        *(f"layer_{i}" for i in (1, 2, 3, 4, 5)),
        "conv_1x1_exp",
        "pool = classifier[:2]",
        head="classifier[2:]",
    ),
    "nasnet": _of("conv0", "cells = @rest", "pool", head="dropout classifier"),
    "pit": _of(
        "embed = patch_embed +pos_embed pos_drop @pit_tokens",
        *(f"transformer{i} = @pit_stage{i}" for i in (0, 1, 2)),
        "norm = @token norm",
        head="head",
    ),
    "pnasnet": _of("conv_0", "cells = @rest", "pool = relu pool", head="dropout last_linear"),
    "poolformer": _of("patch_embed", "network[:]", "pool = norm @pool", head="head"),
    "pvtv2": _of(
        *(f"stage{i} = @pvtv2_stage{i}" for i in (1, 2, 3, 4)), "pool = @pool", head="head"
    ),
    "regnet": _of("stem", "stages[:]", "pool = head.avg_pool", head="head.fc"),
    "repmlp": _of(
        "stage0 = conv_embedding stages.0[:] embeds.0",
        "stage1 = stages.1[:] embeds.1",
        "stage2 = stages.2[:] embeds.2",
        "stage3 = stages.3[:]",
        "pool = head_norm @pool",
        head="head",
        unused=("conv2d.",),
    ),
    "repvgg": _of(*(f"stage{i}" for i in (0, 1, 2, 3, 4)), "pool = gap", head="linear"),
    "res2net": _of("stem = conv1 bn1 relu max_pool", *_FOUR_LAYERS, "pool", head="classifier"),
    "resnest": _of("stem = conv1 bn1 relu maxpool", *_FOUR_LAYERS, "pool = avgpool", head="fc"),
    "resnet": _of("stem = conv1 bn1 relu max_pool", *_FOUR_LAYERS, "pool", head="classifier"),
    "senet": _of("stem = layer0 pool0", *_FOUR_LAYERS, "pool", head="classifier"),
    "shufflenetv1": _of(
        "stem = first_conv max_pool", "features[:]", "pool = global_pool", head="classifier"
    ),
    "shufflenetv2": _of(
        "stem = first_conv max_pool", "features[:]", "conv_last", "pool", head="classifier"
    ),
    "squeezenet": _of("features[:]", head="classifier[:]"),
    "swintransformer": _of(
        "embed = patch_embed pos_drop", "layers[:]", "pool = norm @tokens", head="classifier"
    ),
    "swintransformerv2": _of(
        "embed = patch_embed pos_drop", "layers[:]", "pool = norm @tokens", head="head"
    ),
    "vgg": _of(
        "features[:]",
        "neck0 = flatten classifier[:3]",
        "neck1 = classifier[3:5]",
        head="classifier[5:]",
    ),
    "visformer": _of(
        "stem",
        *_VISFORMER,
        _VISFORMER_POOL,
        head="head",
    ),
    "visformer_v2": _of(
        "stem",
        "stage0 = patch_embed0 +pos_embed0 pos_drop stage0[:]",
        *_VISFORMER,
        _VISFORMER_POOL,
        head="head",
    ),
    "vit": _of(
        "embed = patch_embed @prepend_token +pos_embed pos_drop patch_drop norm_pre",
        "blocks[:]",
        "pool = norm @token fc_norm",
        head="head_drop head",
    ),
    "xception": _of(
        "stem = conv1 bn1 relu conv2 bn2 relu",
        "blocks[:]",
        "conv3 = conv3 bn3 relu",
        "conv4 = conv4 bn4 relu",
        "pool",
        head="dropout classifier",
    ),
    "xcit": _of(
        "embed = @xcit_embed",
        *(f"blocks.{i} = @xcit_block{i}" for i in range(12)),
        "token = @xcit_token",
        head="head",
    ),
}
"""By mindcv's module, where that holds networks of one structure."""
FAMILIES["resnetv2"] = FAMILIES["sknet"] = FAMILIES["resnet"]

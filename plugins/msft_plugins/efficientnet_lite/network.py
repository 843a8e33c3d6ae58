"""EfficientNet-Lite0 in MindSpore, as named stages.

The architecture is the Lite form of Tan and Le's EfficientNet (arXiv:1905.11946): without
squeeze-and-excitation and with ReLU6. All padding is "same", as in TensorFlow, where the weights
were trained. For an even input and a stride of 2 this pads one pixel more at the end.
"""

from __future__ import annotations

from typing import NamedTuple

from mindspore import Tensor, nn

from msft_core import Reporter, Stage, WeightsError
from msft_core.stages import Head, Pool, prefix_names
from msft_core.weights import Checkpoint, drop_bookkeeping, load_into

NAME = "efficientnet_lite0"
FEATURES = 1280
"""Number of inputs of the head."""

DROPOUT = 0.2
"""Dropout rate before the classifier, as in the training of the published weights."""

EPS = 1e-3
MOMENTUM = 0.9
"""Momentum of batch norm's moving statistics. Pretraining used 0.99. Over the few dozen steps of a
transfer, statistics with 0.99 lag behind the weights: after fine-tuning for 24 steps on 140
photographs at rate 0.01, the validation loss was 0.409 with 0.9 and 0.429 with 0.99 (0.659 and
0.670 at rate 0.001)."""


class _Block(NamedTuple):
    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


STEM_CHANNELS = 32
STAGES = (
    _Block(1, 3, 1, 1, 16),
    _Block(2, 3, 2, 6, 24),
    _Block(2, 5, 2, 6, 40),
    _Block(3, 3, 2, 6, 80),
    _Block(3, 5, 1, 6, 112),
    _Block(4, 5, 2, 6, 192),
    _Block(1, 3, 1, 6, 320),
)
"""Table 1 of the paper, for width and depth 1."""


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, group: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, pad_mode="same", group=group, has_bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPS, momentum=MOMENTUM)


class ConvNorm(nn.Cell):
    """Convolution, batch norm and ReLU6: used for the stem and before pooling."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = _conv(inputs, outputs, kernel, stride)
        self.norm = _norm(outputs)
        self.relu = nn.ReLU6()

    def construct(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride), rounded up."""
        return self.relu(self.norm(self.conv(x)))


class InvertedResidual(nn.Cell):
    """Widen, convolve each channel separately, narrow. Has a shortcut if the shapes allow one."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        width = inputs * expand
        self.widens = expand != 1
        self.has_shortcut = stride == 1 and inputs == outputs
        if self.widens:
            self.expand = _conv(inputs, width, 1)
            self.norm0 = _norm(width)
        self.depthwise = _conv(width, width, kernel, stride, group=width)
        self.norm1 = _norm(width)
        self.project = _conv(width, outputs, 1)
        self.norm2 = _norm(outputs)
        self.relu = nn.ReLU6()

    def construct(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride), rounded up."""
        out = x
        if self.widens:
            out = self.relu(self.norm0(self.expand(out)))
        out = self.relu(self.norm1(self.depthwise(out)))
        out = self.norm2(self.project(out))
        if self.has_shortcut:
            out = out + x
        return out


def build(num_classes: int, seed: int = 0) -> tuple[tuple[Stage, ...], Head]:
    """Make the network with random weights.

    Args:
        num_classes: number of outputs of the head.
        seed: seed of the head's weights. All others come from MindSpore's own random generator.

    Returns: stages ``stem``, ``stage1`` to ``stage7``, ``neck``, ``pool``, and the head. Parameters
    have names such as ``STAGE.BLOCK.LAYER.weight``; those of the head are ``classifier.weight`` and
    ``classifier.bias``.
    """
    cells: dict[str, nn.Cell] = {"stem": ConvNorm(3, STEM_CHANNELS, 3, 2)}
    channels = STEM_CHANNELS
    for number, (repeats, kernel, stride, expand, outputs) in enumerate(STAGES, start=1):
        blocks = []
        for repeat in range(repeats):
            blocks.append(
                InvertedResidual(channels, outputs, kernel, stride if repeat == 0 else 1, expand)
            )
            channels = outputs
        cells[f"stage{number}"] = nn.SequentialCell(blocks)
    cells["neck"] = ConvNorm(channels, FEATURES, 1, 1)
    for name, cell in cells.items():
        prefix_names(cell, name)
    cells["pool"] = Pool()
    return tuple(Stage(name, cell) for name, cell in cells.items()), Head(
        FEATURES, num_classes, seed, dropout=DROPOUT
    )


def load(
    checkpoint: Checkpoint,
    stages: tuple[Stage, ...],
    head: Head,
    reporter: Reporter,
    *,
    keep_head: bool = False,
) -> None:
    """Load the published PyTorch checkpoint or a checkpoint of msft, in any format.

    Args:
        checkpoint: its weights.
        stages: of ``build``.
        head: of ``build``; keeps its new weights, unless
        keep_head: the checkpoint's classifier is wanted too, with its number of classes.
        reporter: told of each array that is left out.

    Raises: WeightsError if the file belongs to another network.
    """
    path = checkpoint.path
    owner = checkpoint.metadata.get("backbone", NAME)
    if owner != NAME:
        raise WeightsError(
            f"{path}: these are weights of {owner}, not of {NAME}; use --backbone {owner}"
        )
    arrays = drop_bookkeeping(checkpoint.arrays)
    if "backbone" not in checkpoint.metadata and not keep_head:
        # That the published file has a layer for ImageNet's classes is no news to the user.
        arrays = {k: v for k, v in arrays.items() if parameter_name(k) not in Head.NAMES}
    load_into(
        [*(stage.cell for stage in stages), head],
        arrays,
        source=str(path),
        reporter=reporter,
        rename=parameter_name,
        reset=() if keep_head else Head.NAMES,
    )


def parameter_name(key: str) -> str:
    """This network's name for an array of the published PyTorch checkpoint.

    That checkpoint numbers all blocks in one sequence (``_blocks.0`` to ``_blocks.15``), and its
    names of layers begin with an underscore. Unknown names are returned unchanged.
    """
    parts = key.split(".")
    owner, layer, last = "", "", parts[-1]
    if parts[0] == "_blocks" and len(parts) == 4 and parts[1] in _BLOCK_NAMES:
        owner, layer = _BLOCK_NAMES[parts[1]], _BLOCK_LAYERS.get(parts[2], "")
    elif len(parts) == 2:
        owner, layer = _OUTER_LAYERS.get(parts[0], ("", ""))
    if not layer:
        return key
    if layer.startswith("norm"):
        last = _NORM.get(last, last)
    return f"{owner}.{layer}.{last}" if owner else f"{layer}.{last}"


def source_names(stages: tuple[Stage, ...], head: Head) -> dict[str, str]:
    """For each parameter, the name that it has in the published PyTorch checkpoint."""
    cells = [*(stage.cell for stage in stages), head]
    names = [parameter.name for cell in cells for parameter in cell.get_parameters()]
    return {name: source_name(name) for name in names}


def source_name(name: str) -> str:
    """The published PyTorch checkpoint's name for a parameter of this network."""
    owner, _, last = name.rpartition(".")
    block, _, layer = owner.rpartition(".")
    if layer.startswith("norm"):
        last = _SOURCE_NORM[last]
    if block in _SOURCE_BLOCKS:
        return f"_blocks.{_SOURCE_BLOCKS[block]}.{_SOURCE_LAYERS[layer]}.{last}"
    return f"{_SOURCE_OUTER[block, layer]}.{last}"


_BLOCK_NAMES = {
    str(number): name
    for number, name in enumerate(
        f"stage{stage}.{block}"
        for stage, blocks in enumerate(STAGES, start=1)
        for block in range(blocks.repeats)
    )
}
_BLOCK_LAYERS = {
    "_expand_conv": "expand",
    "_bn0": "norm0",
    "_depthwise_conv": "depthwise",
    "_bn1": "norm1",
    "_project_conv": "project",
    "_bn2": "norm2",
}
_OUTER_LAYERS = {
    "_conv_stem": ("stem", "conv"),
    "_bn0": ("stem", "norm"),
    "_conv_head": ("neck", "conv"),
    "_bn1": ("neck", "norm"),
    "_fc": ("", "classifier"),
}
_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}

_SOURCE_BLOCKS = {ours: theirs for theirs, ours in _BLOCK_NAMES.items()}
_SOURCE_LAYERS = {ours: theirs for theirs, ours in _BLOCK_LAYERS.items()}
_SOURCE_OUTER = {ours: theirs for theirs, ours in _OUTER_LAYERS.items()}
_SOURCE_NORM = {ours: theirs for theirs, ours in _NORM.items()}
"""The same, from this network's names to the checkpoint's."""

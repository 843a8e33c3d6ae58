"""ResNet-50 (version 1.5) in MindSpore, as named stages.

He et al., arXiv:1512.03385, table 1. A block has its stride on the 3x3 convolution and not on the
first one, as in all four dialects. The parameters have mindcv's names.
"""

from __future__ import annotations

from mindspore import Tensor, nn

from msft_core import Reporter, Stage, WeightsError
from msft_core.stages import Head, Pool, prefix_names
from msft_core.weights import Checkpoint, drop_bookkeeping, load_into
from msft_plugins.resnet.dialects import DIALECTS, Dialect, recognise

NAME = "resnet50"
FEATURES = 2048
"""Number of inputs of the head."""

STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))
"""Number of blocks, width and stride of ``layer1`` to ``layer4``."""

EXPANSION = 4
"""A block has this many times its width as output channels."""

MOMENTUM = 0.9
"""Momentum of batch norm's moving statistics. PyTorch calls the same value 0.1."""


def _conv(inputs: int, outputs: int, kernel: int, stride: int, dialect: Dialect) -> nn.Conv2d:
    if dialect.same_convolutions or kernel == 1:
        return nn.Conv2d(inputs, outputs, kernel, stride, pad_mode="same", has_bias=False)
    return nn.Conv2d(
        inputs, outputs, kernel, stride, pad_mode="pad", padding=kernel // 2, has_bias=False
    )


def _norm(channels: int, dialect: Dialect) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=dialect.eps, momentum=MOMENTUM)


class Stem(nn.Cell):
    """The 7x7 convolution and the max-pool."""

    def __init__(self, dialect: Dialect) -> None:
        super().__init__()
        self.conv1 = _conv(3, 64, 7, 2, dialect)
        self.bn1 = _norm(64, dialect)
        self.relu = nn.ReLU()
        self.pads_pool = not dialect.same_pool
        if self.pads_pool:
            self.pad = nn.Pad(((0, 0), (0, 0), (1, 1), (1, 1)))
        self.max_pool = nn.MaxPool2d(3, 2, pad_mode="same" if dialect.same_pool else "valid")

    def construct(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 64, H / 4, W / 4), rounded up."""
        x = self.relu(self.bn1(self.conv1(x)))
        if self.pads_pool:
            # After a ReLU, padding with zeros does not change a maximum. So this is the same as a
            # padded max-pool, which MindSpore cannot export to ONNX.
            x = self.pad(x)
        return self.max_pool(x)


class Bottleneck(nn.Cell):
    """Narrow, convolve, widen, and add a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int, dialect: Dialect) -> None:
        super().__init__()
        outputs = width * EXPANSION
        self.conv1 = _conv(inputs, width, 1, 1, dialect)
        self.bn1 = _norm(width, dialect)
        self.conv2 = _conv(width, width, 3, stride, dialect)
        self.bn2 = _norm(width, dialect)
        self.conv3 = _conv(width, outputs, 1, 1, dialect)
        self.bn3 = _norm(outputs, dialect)
        self.relu = nn.ReLU()
        self.projects = stride != 1 or inputs != outputs
        if self.projects:
            self.down_sample = nn.SequentialCell(
                [_conv(inputs, outputs, 1, stride, dialect), _norm(outputs, dialect)]
            )

    def construct(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, 4 width, H / stride, W / stride), rounded up."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        shortcut = self.down_sample(x) if self.projects else x
        # Not `out += shortcut`: MindSpore cannot export that to ONNX.
        return self.relu(out + shortcut)


def build(num_classes: int, dialect: Dialect, seed: int = 0) -> tuple[tuple[Stage, ...], Head]:
    """Make the network with random weights.

    Args:
        num_classes: number of outputs of the head.
        dialect: decides padding and eps.
        seed: seed of the head's weights. All others come from MindSpore's own random generator.

    Returns: stages ``stem``, ``layer1`` to ``layer4``, ``pool``, and the head. The stem's
    parameters are ``conv1.weight`` and ``bn1.*``, as in other libraries; the head's are
    ``classifier.weight`` and ``classifier.bias``.
    """
    stages = [Stage("stem", Stem(dialect))]
    channels = 64
    for number, (repeats, width, stride) in enumerate(STAGES, start=1):
        blocks = []
        for repeat in range(repeats):
            blocks.append(Bottleneck(channels, width, stride if repeat == 0 else 1, dialect))
            channels = width * EXPANSION
        name = f"layer{number}"
        stages.append(Stage(name, prefix_names(nn.SequentialCell(blocks), name)))
    stages.append(Stage("pool", Pool()))
    return tuple(stages), Head(FEATURES, num_classes, seed)


def dialect_of(checkpoint: Checkpoint) -> Dialect:
    """The dialect of a checkpoint: from the metadata if msft wrote it, otherwise from the names.

    Raises: WeightsError if the checkpoint belongs to another network.
    """
    owner = checkpoint.metadata.get("backbone")
    if owner is None:
        return recognise(drop_bookkeeping(checkpoint.arrays), str(checkpoint.path))
    dialect = checkpoint.metadata.get("dialect", "")
    if owner != NAME:
        raise WeightsError(
            f"{checkpoint.path}: these are weights of {owner}, not of {NAME}; "
            f"use --backbone {owner}"
        )
    if dialect not in DIALECTS:
        raise WeightsError(
            f"{checkpoint.path}: dialect {dialect!r} is unknown to this msft, which knows "
            f"{', '.join(DIALECTS)}"
        )
    return DIALECTS[dialect]


def source_names(stages: tuple[Stage, ...], head: Head, dialect: Dialect) -> dict[str, str]:
    """For each parameter that has another name in a file of the dialect, that name."""
    cells = [*(stage.cell for stage in stages), head]
    names = [parameter.name for cell in cells for parameter in cell.get_parameters()]
    return {n: dialect.source_name(n) for n in names if dialect.source_name(n) != n}


def load(
    checkpoint: Checkpoint,
    stages: tuple[Stage, ...],
    head: Head,
    reporter: Reporter,
    *,
    keep_head: bool = False,
) -> None:
    """Load a checkpoint into a network built for its dialect.

    Args:
        checkpoint: a checkpoint of any dialect, or one that msft wrote.
        stages: the stages from ``build``.
        head: the head from ``build``. It keeps its new weights, except with ``keep_head``.
        keep_head: load the checkpoint's classifier too. It must have the same number of classes.
        reporter: receives a line for each array that is not loaded.

    Raises: WeightsError if names or shapes do not fit.
    """
    ours = "backbone" in checkpoint.metadata
    rename = str if ours else dialect_of(checkpoint).parameter_name
    load_into(
        [*(stage.cell for stage in stages), head],
        drop_bookkeeping(checkpoint.arrays),
        source=str(checkpoint.path),
        reporter=reporter,
        rename=rename,
        reset=() if keep_head else Head.NAMES,
    )

"""ResNet-50 (version 1.5) in MindSpore, as named stages.

He et al., arXiv:1512.03385, table 1, with the stride of a block on its 3x3 convolution rather than
on its first, as in all four dialects. Names of parameters are mindcv's.
"""

from __future__ import annotations

from mindspore import Tensor, nn

from msft_core import Reporter, Stage, WeightsError
from msft_core.stages import Head, Pool, prefix_names
from msft_core.weights import Checkpoint, drop_bookkeeping, load_into
from msft_plugins.resnet.dialects import DIALECTS, Dialect, recognise

NAME = "resnet50"
FEATURES = 2048
"""Numbers that the head classifies by."""

STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))
"""Blocks, width and stride of ``layer1`` to ``layer4``."""

EXPANSION = 4
"""A block's outputs are this many times its width."""

MOMENTUM = 0.9
"""Of batch norm's moving statistics; PyTorch's 0.1."""


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
            # After a ReLU zeros never win, so this is a padded max-pool, which ONNX export lacks.
            x = self.pad(x)
        return self.max_pool(x)


class Bottleneck(nn.Cell):
    """Narrow, convolve, widen, and add the shortcut."""

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
        # Not `out += shortcut`: ONNX export refuses it.
        return self.relu(out + shortcut)


def build(num_classes: int, dialect: Dialect, seed: int = 0) -> tuple[tuple[Stage, ...], Head]:
    """Make the network with random weights.

    Args:
        num_classes: outputs of the head.
        dialect: decides padding and eps.
        seed: of the head's weights; the others are drawn from MindSpore's own generator.

    Returns: stages ``stem``, ``layer1`` to ``layer4``, ``pool``, and the head. The stem's
    parameters are ``conv1.weight`` and ``bn1.*``, as everywhere; the head's ``classifier.weight``
    and ``classifier.bias``.
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
    """Tell the dialect of a checkpoint: a run's own says it, in others the names do.

    Raises: WeightsError where it is of another network.
    """
    owner = checkpoint.metadata.get("backbone")
    if owner is None:
        return recognise(drop_bookkeeping(checkpoint.arrays), str(checkpoint.path))
    dialect = checkpoint.metadata.get("dialect", "")
    if owner != NAME or dialect not in DIALECTS:
        raise WeightsError(
            f"{checkpoint.path}: weights of {owner} (dialect {dialect!r}), not of {NAME}; "
            f"use --backbone {owner}"
        )
    return DIALECTS[dialect]


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
        checkpoint: of any dialect, or one of msft's own.
        stages: of ``build``.
        head: of ``build``; keeps its new weights, unless
        keep_head: the checkpoint's classifier is wanted too, with its number of classes.
        reporter: told of each array that is left out.

    Raises: WeightsError where names or shapes do not fit.
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

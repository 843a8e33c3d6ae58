"""Four dialects of one network: where a ResNet-50 checkpoint comes from and what that decides.

They agree on shapes and on most names, so a file of one loads into a network built for another
once it is renamed, and gives other answers: padding and eps belong to the weights. So each file is
run in the geometry it was trained in. Importing this module does not import MindSpore.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from msft_core import WeightsError

DialectName = Literal["zoo", "mindcv", "tutorial", "torchvision"]


@dataclass(frozen=True)
class Dialect:
    """What a dialect decides.

    On an even input "same" padding of a stride of 2 pads one pixel more at the end, and 3x3 pads
    nothing at the start; PyTorch pads both ends alike.

    Args:
        name: of the dialect.
        source: who wrote such files, for messages.
        eps: of batch norm.
        same_convolutions: "same" padding of the convolutions, rather than half the kernel on both
            ends.
        same_pool: likewise of the max-pool.
        renames: patterns and replacements that turn the file's names into ours, which are
            mindcv's.
        marks: patterns of names that only this dialect has.
    """

    name: DialectName
    source: str
    eps: float
    same_convolutions: bool
    same_pool: bool
    marks: tuple[str, ...]
    renames: Mapping[str, str] = field(default_factory=dict)

    def parameter_name(self, key: str) -> str:
        """Our name of the array that the file calls ``key``; an unknown name is unchanged."""
        for pattern, replacement in self.renames.items():
            key = re.sub(pattern, replacement, key)
        return key


_TORCH_NORM = r"((?:^|\.)bn\d|\.down_sample\.1)"

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        Dialect(
            "zoo",
            "MindSpore's model zoo",
            eps=1e-4,
            same_convolutions=True,
            same_pool=True,
            marks=(r"^end_point\.", r"\.down_sample_layer\."),
            renames={
                r"\.down_sample_layer\.": ".down_sample.",
                r"^end_point\.": "classifier.",
            },
        ),
        Dialect(
            "torchvision",
            "torchvision",
            eps=1e-5,
            same_convolutions=False,
            same_pool=False,
            marks=(r"\.running_mean$", r"\.downsample\."),
            renames={
                r"\.downsample\.": ".down_sample.",
                r"^fc\.": "classifier.",
                _TORCH_NORM + r"\.weight$": r"\1.gamma",
                _TORCH_NORM + r"\.bias$": r"\1.beta",
                r"\.running_mean$": ".moving_mean",
                r"\.running_var$": ".moving_variance",
            },
        ),
        Dialect(
            "tutorial",
            "MindSpore's tutorial since r2.0",
            eps=1e-5,
            same_convolutions=True,
            same_pool=True,
            marks=(r"^norm\.", r"\.norm\d\."),
            renames={
                r"^norm\.": "bn1.",
                r"\.norm(\d)\.": r".bn\1.",
                r"^fc\.": "classifier.",
            },
        ),
        Dialect(
            "mindcv",
            "mindcv",
            eps=1e-5,
            same_convolutions=False,
            same_pool=True,
            marks=(r"^classifier\.", r"\.down_sample\.\d\."),
        ),
    )
}
"""By name, in the order they are recognised: ``tutorial`` and ``mindcv`` share their shortcut's
name, so mindcv is what is left."""

_EVERYWHERE = ("conv1.weight", "layer1.0.conv1.weight", "layer4.2.conv3.weight")


def recognise(keys: Collection[str], source: str) -> Dialect:
    """Tell from the names in a checkpoint which dialect it is.

    Args:
        keys: names of the arrays, without bookkeeping.
        source: the file, for the message.

    Raises: WeightsError where the names are not a ResNet-50's.
    """
    if all(key in keys for key in _EVERYWHERE):
        for dialect in DIALECTS.values():
            if any(re.search(mark, key) for mark in dialect.marks for key in keys):
                return dialect
    some = ", ".join(list(keys)[:3])
    raise WeightsError(
        f"{source}: not the weights of a ResNet-50 (it has {some}, ...); "
        "give such a file, or --weights none."
    )

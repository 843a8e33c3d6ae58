"""The four dialects of ResNet-50 checkpoints. The origin of the weights decides padding and eps.

The dialects have the same shapes and most names in common. After renaming, a file of one dialect
loads into a network of another, which then computes other logits: padding and eps belong to the
weights. So each file is used with the geometry of its training. Importing this module does not
import MindSpore.
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
    """A dialect: the geometry and the names of its checkpoints.

    For an even input and a stride of 2, "same" padding pads one pixel more at the end, and with a
    3x3 kernel it pads nothing at the start. PyTorch pads both ends alike.

    Args:
        name: name of the dialect.
        source: the project that wrote such files, for messages.
        eps: eps of batch norm.
        same_convolutions: convolutions use "same" padding; otherwise half the kernel at both ends.
        same_pool: the same for the max-pool.
        renames: patterns and replacements that turn the file's names into this network's names,
            which are mindcv's.
        restores: patterns and replacements that turn this network's names into the file's names.
        marks: patterns of names that only this dialect has.
    """

    name: DialectName
    source: str
    eps: float
    same_convolutions: bool
    same_pool: bool
    marks: tuple[str, ...]
    renames: Mapping[str, str] = field(default_factory=dict)
    restores: Mapping[str, str] = field(default_factory=dict)

    def parameter_name(self, key: str) -> str:
        """This network's name for the file's name ``key``. An unknown name is unchanged."""
        return _replaced(key, self.renames)

    def source_name(self, name: str) -> str:
        """The file's name for this network's name ``name``."""
        return _replaced(name, self.restores)


def _replaced(name: str, replacements: Mapping[str, str]) -> str:
    for pattern, replacement in replacements.items():
        name = re.sub(pattern, replacement, name)
    return name


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
            restores={
                r"\.down_sample\.": ".down_sample_layer.",
                r"^classifier\.": "end_point.",
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
            restores={
                r"\.down_sample\.": ".downsample.",
                r"^classifier\.": "fc.",
                r"\.gamma$": ".weight",
                r"\.beta$": ".bias",
                r"\.moving_mean$": ".running_mean",
                r"\.moving_variance$": ".running_var",
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
            restores={
                r"^bn1\.": "norm.",
                r"\.bn(\d)\.": r".norm\1.",
                r"^classifier\.": "fc.",
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
"""The dialects by name, in the order in which ``recognise`` tries them. ``tutorial`` and ``mindcv``
have the same name for the shortcut, so mindcv comes last."""

_EVERYWHERE = ("conv1.weight", "layer1.0.conv1.weight", "layer4.2.conv3.weight")


def recognise(keys: Collection[str], source: str) -> Dialect:
    """Recognise the dialect of a checkpoint by its names.

    Args:
        keys: names of the arrays, without bookkeeping.
        source: the file, for the message.

    Raises: WeightsError if the names are not those of a ResNet-50.
    """
    if all(key in keys for key in _EVERYWHERE):
        for dialect in DIALECTS.values():
            if any(re.search(mark, key) for mark in dialect.marks for key in keys):
                return dialect
    some = ", ".join(list(keys)[:3])
    raise WeightsError(
        f"{source}: these are not the weights of a ResNet-50 (the file has {some}, ...); "
        "give a ResNet-50's file, or --weights none."
    )

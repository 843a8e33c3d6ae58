"""The settings of the core: the sections ``training``, ``data``, ``runtime`` and ``cache``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from msft_core.types import Settings


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("the first number must not exceed the second")
    return pair


_Ratio = Annotated[float, Field(gt=0, allow_inf_nan=False)]

Range = Annotated[tuple[_Ratio, _Ratio], AfterValidator(_ascending)]

AreaRange = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]],
    AfterValidator(_ascending),
]


class TrainingSettings(Settings):
    """``training.*``: number of epochs, batches, seed and stored views."""

    epochs: int = Field(10, ge=1, description="passes over the training images")
    # A checkpoint with a larger one is taken for damaged (runs/checkpoints.py).
    batch_size: int = Field(24, ge=1, le=65_536, description="images in a training step")
    seed: int = Field(0, ge=0, lt=2**32, description="decides the new head, the order, the views")
    save_minutes: float = Field(
        5.0, gt=0, description="within an epoch, how often is saved what --resume goes on from"
    )
    sync_batch_norm: bool = Field(
        False,
        description="of several processes: batch norm takes the statistics of the whole batch "
        "(Ascend only)",
    )
    drop_remainder: bool = Field(False, description="leave out the last batch if it is smaller")
    views: int = Field(
        4,
        ge=0,
        description="number of views of each training image whose features are computed once and "
        "stored; 0: no features are stored, and each epoch has new views",
    )


class DataSettings(Settings):
    """``data.*``: how images become arrays."""

    pipeline: Literal["keyed", "mindspore"] = Field(
        "keyed",
        description="keyed: views depend only on seed, image and epoch; mindspore: in C++",
    )
    workers: int | None = Field(
        None, ge=0, description="decoding threads; by default one for each CPU"
    )
    strict: bool = Field(False, description="an image that does not decode is an error")
    crop_scale: AreaRange = Field(
        (0.7, 1.0), description="area of a training crop, as a fraction of the image's area"
    )
    crop_ratio: Range = Field((0.75, 1.333), description="width / height of a training crop")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    augment_validation: bool = Field(
        False, description="treat validation images like training ones, as tutorial r1.6 does"
    )


class RuntimeSettings(Settings):
    """``runtime.*``: where and how MindSpore computes."""

    device: Literal["auto", "cpu", "gpu", "ascend"] = Field(
        "auto", description="the device that computes"
    )
    mode: Literal["auto", "graph", "pynative"] = Field(
        "auto", description="auto: graph on an accelerator; on a CPU only for parts it makes faster"
    )
    processes: int = Field(
        1, ge=1, description="processes on this host that train together, each with its device"
    )
    sink: bool = Field(
        False, description="feed whole epochs to the device at once (MindSpore's dataset sink mode)"
    )


class CacheSettings(Settings):
    """``cache.*``: the features kept on disk between runs."""

    limit_gb: float = Field(
        10.0, ge=0, description="greatest size of all stored features, in units of 10^9 bytes"
    )
    dtype: Literal["float32", "float16"] = Field(
        "float32",
        description="float16: store features in half the bytes; each value is off by up to 0.05 %",
    )


SECTIONS: dict[str, type[Settings]] = {
    "training": TrainingSettings,
    "data": DataSettings,
    "runtime": RuntimeSettings,
    "cache": CacheSettings,
}

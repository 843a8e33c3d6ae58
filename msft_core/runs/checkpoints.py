"""The checkpoints of a run. Each is a complete file that holds all that prediction needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from msft_core.errors import WeightsError, first_line
from msft_core.files import json_text, write_atomically
from msft_core.plugins.checks import problem_of_preprocessing
from msft_core.types import Preprocessing, Reporter
from msft_core.weights import read_checkpoint
from msft_core.weights.formats import ckpt

if TYPE_CHECKING:
    from msft_core.training.state import TrainState
    from msft_core.weights import Checkpoint

FORMAT = 3
"""Format number of the metadata. Format 1 (msft 0.1 to 0.3.0) lacks the backbone's settings, format
2 (0.3) what made the file and how it was evaluated."""


_LARGEST_IMAGE = 4096
"""Side in pixels. No classifier takes images as large; one would take 0.2 GB."""


@dataclass(frozen=True)
class Evaluation:
    """How a run computed the logits of validation images. It decides their last bits.

    Args:
        batch_size: images in a batch; the last one is padded to it.
        stages_apart: leading stages whose features were computed apart, 16 images at a time.
        engine: what computed these features; empty if there are none.
        compiled: whether these stages were compiled.
        stored_as: dtype in which these features were stored: ``float16`` rounds them.
        extractors: settings of the extractors that took part in the run, by name.
    """

    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 24
    stages_apart: Annotated[int, Field(ge=0)] = 0
    engine: str = ""
    compiled: bool = True
    stored_as: Literal["float32", "float16"] = "float32"
    extractors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckpointInfo:
    """The metadata of a checkpoint: it describes the classifier in the file.

    Args:
        backbone: name of the backbone component.
        settings: the backbone's settings, as in the section ``backbone`` of a configuration.
        dialect: where the backbone's weights came from.
        strategy: name of the strategy that trained the classifier.
        classes: class names in label order.
        preprocessing: how an image becomes the network's input.
        origins: for dataset, backbone and strategy: the package and version of the plugin that gave
            it, such as ``msft-mindcv 0.1.0``.
        versions: of msft and MindSpore.
        evaluation: how the run evaluated, so that the same probabilities can be computed again.
        epoch: after which the file was written; 0 where it is not known.
        format: format number of the metadata.
    """

    backbone: str
    dialect: str
    strategy: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    settings: Mapping[str, Any] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    evaluation: Evaluation = field(default_factory=Evaluation)
    epoch: int = 0
    format: int = FORMAT

    def to_metadata(self) -> dict[str, str]:
        """Convert to strings: a ``.ckpt`` can keep nothing else beside the parameters."""
        return {
            "msft": str(self.format),
            "backbone": self.backbone,
            "settings": json_text(self.settings),
            "dialect": self.dialect,
            "strategy": self.strategy,
            "classes": json_text(self.classes),
            "preprocessing": json.dumps(asdict(self.preprocessing)),
            "origins": json_text(self.origins),
            "versions": json_text(self.versions),
            "evaluation": json_text(asdict(self.evaluation)),
            "epoch": str(self.epoch),
        }


def describe_checkpoint(checkpoint: Checkpoint, reporter: Reporter) -> CheckpointInfo:
    """Read the metadata of a checkpoint that msft wrote.

    Args:
        checkpoint: as ``weights.read_checkpoint`` returns it.
        reporter: receives a line if an older format lacks a field, with the default used instead.

    Raises:
        WeightsError: another program or a newer msft wrote the file, or the file is damaged.
    """
    metadata, path = checkpoint.metadata, checkpoint.path
    if "msft" not in metadata:
        raise WeightsError(f"{path}: not a checkpoint of msft; give the best.ckpt of a run")
    try:
        number = int(metadata["msft"])
        if number > FORMAT:
            raise WeightsError(
                f"{path}: written by a newer msft (format {number}, this msft reads up to "
                f"{FORMAT}): pip install --upgrade msft"
            )
        mean, std = (tuple(json.loads(metadata["preprocessing"])[key]) for key in ("mean", "std"))
        preprocessing = {**json.loads(metadata["preprocessing"]), "mean": mean, "std": std}
        told: dict[str, Any] = {
            "backbone": metadata["backbone"],
            "settings": json.loads(metadata.get("settings", "{}")),
            "dialect": metadata["dialect"],
            "strategy": metadata["strategy"],
            "classes": _class_names(json.loads(metadata["classes"])),
            "preprocessing": preprocessing,
            "origins": json.loads(metadata.get("origins", "{}")),
            "versions": json.loads(metadata.get("versions", "{}")),
            "evaluation": json.loads(metadata.get("evaluation", "{}")),
            "epoch": int(metadata.get("epoch", "0")),
            "format": number,
        }
        # The file may be a stranger's: every field is checked.
        info = TypeAdapter(CheckpointInfo).validate_python(told)
        if problem := problem_of_preprocessing(info.preprocessing):
            raise ValueError(problem)
        if info.preprocessing.size > _LARGEST_IMAGE:
            raise ValueError(f"preprocessing.size exceeds {_LARGEST_IMAGE}")
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise WeightsError(
            f"{path}: its metadata is damaged ({first_line(error)}); give another checkpoint"
        ) from error
    if "settings" not in metadata:
        reporter.info(
            f"{path} was written by msft 0.3.0 or older, which did not save the backbone's "
            f"settings: the default settings of {info.backbone} are used."
        )
    return info


def _class_names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or len({str(name) for name in value}) < len(value):
        raise ValueError("classes must be a list of different names")
    return tuple(value)


def save_checkpoint(path: Path, state: TrainState, info: CheckpointInfo) -> Path:
    """Write every parameter of the network into a ``.ckpt``, atomically and with a checksum.

    Raises:
        OutputError: the folder cannot be written, or the disk is full. What was there stays.
    """
    tensors = (
        ckpt.Saved(name, str(parameter.dtype), parameter.asnumpy())
        for name, parameter in sorted(state.parameters.items())
    )
    metadata = info.to_metadata()
    return write_atomically(path, lambda beside: ckpt.write(beside, tensors, metadata))


def load_parameters(path: Path, state: TrainState) -> None:
    """Load the parameters from a checkpoint that ``save_checkpoint`` wrote for this network.

    A parameter that has the file's value is left as it is. In a frozen network nearly all have, and
    to set a parameter takes longer than to compare it.
    """
    from mindspore import Tensor

    saved = read_checkpoint(path).arrays
    for name, parameter in state.parameters.items():
        array, current = saved[name], parameter.asnumpy()
        if array.dtype != current.dtype or array.tobytes() != current.tobytes():
            # A copy: the parameter must not share memory with the array.
            parameter.set_data(Tensor(array.copy(), parameter.dtype))

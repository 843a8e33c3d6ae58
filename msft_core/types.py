"""The data that crosses a hook. Importing this module imports neither MindSpore nor NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeAlias, runtime_checkable

from pydantic import AfterValidator, BaseModel, ConfigDict

if TYPE_CHECKING:
    import numpy as np
    from mindspore import nn

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Kind = Literal["dataset", "backbone", "strategy", "callback", "metric", "extractor"]

CHOSEN_KINDS: tuple[Kind, ...] = ("dataset", "backbone", "strategy")
"""A run has one component of each, chosen by name."""

SWITCHED_KINDS: tuple[Kind, ...] = ("callback", "metric", "extractor")
"""Every component of these takes part that is ``enabled``."""


class Settings(BaseModel):
    """Base of every settings model: unknown keys are refused, values do not change."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        populate_by_name=True,
        coerce_numbers_to_str=True,
    )


def _absolute_if_file(value: str) -> str:
    path = Path(value).expanduser()
    return str(path.absolute()) if path.is_file() else value


NameOrFile = Annotated[str, AfterValidator(_absolute_if_file)]
"""A setting that is a name, a URL or a file. A file's path is made absolute, so that the written
configuration finds it from any working directory."""


class Reporter(Protocol):
    """What a plugin says to the user while it works."""

    def info(self, message: str) -> None:
        """Say one line, unless the user asked for quiet."""

    def warning(self, message: str) -> None:
        """Say one line that the user should not miss."""

    def progress(
        self, description: str, total: int | None = None, unit: str = ""
    ) -> AbstractContextManager[Callable[[int], None]]:
        """A progress bar; call what it gives with the number of units done since the last call."""


@dataclass(frozen=True)
class Context:
    """What a dataset or a backbone may need from the run that builds it."""

    seed: int
    cache_dir: Path
    reporter: Reporter


@dataclass(frozen=True)
class Component:
    """A named thing that a plugin offers.

    Args:
        kind: one of dataset, backbone, strategy, callback, metric, extractor.
        name: how ``--dataset``, ``--backbone``, ``--strategy`` or a settings section names it.
        summary: one line for ``msft plugins``.
        settings: model of its settings, shown by ``msft plugins show`` and checked before anything
            heavy runs.
        fetch: downloads all it needs for working offline later and returns the files; None where
            there is nothing to download.
        urls: what ``fetch`` downloads from unless a setting gives another, for ``msft doctor``.
    """

    kind: Kind
    name: str
    summary: str
    settings: type[Settings] = Settings
    fetch: Callable[[Any, Context], Iterable[Path]] | None = None
    urls: tuple[str, ...] = ()


@runtime_checkable
class ImageTable(Protocol):
    """Encoded images by index; picklable. ``msft_core.images`` has two ready-made ones."""

    @property
    def ids(self) -> Sequence[str]:
        """A stable, unique name for each image: augmentation is keyed by it."""

    @property
    def labels(self) -> Sequence[int]:
        """Index into the class list for each image."""

    def read(self, index: int) -> bytes:
        """The encoded image (a JPEG file's content, say)."""


@dataclass(frozen=True)
class DatasetSplits:
    """Training and validation images with one class list, fixed from train.

    Args:
        classes: class names in label order.
        train: the images trained on.
        val: the images evaluated on.
        description: what these images are, for the output and the run folder.
        notes: lines that the user should see (a split that was made, say).
    """

    classes: tuple[str, ...]
    train: ImageTable
    val: ImageTable
    description: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the network's input.

    Args:
        size: side of the square input, pixels.
        mean: for each of R, G, B, on a scale of 0 to 1.
        std: likewise.
        crop_fraction: evaluation resizes the short side to ``round(size / crop_fraction)`` pixels
            and crops the centre.
        interpolation: of evaluation's resize and of training's crop.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_fraction: float = 0.875
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"


@dataclass(frozen=True)
class Stage:
    """A named part of a backbone: a Cell from one tensor to one tensor that alone owns its
    parameters."""

    name: str
    cell: nn.Cell


@dataclass(frozen=True)
class Backbone:
    """A network as an ordered list of named stages and a head.

    The network is ``head(stage_n(... stage_1(images)))``; images are float32 (N, 3, size, size),
    normalised, and the head returns logits, float32 (N, num_classes). Parameter names are unique
    over all stages and the head. Pooling is a stage; dropout before the classifier belongs to the
    head.

    Args:
        name: of the component.
        stages: in the order they are applied.
        head: the last classification layer, new for this number of classes.
        preprocessing: of the images.
        dialect: where the weights come from; goes into the checkpoint, since it decides padding
            and eps.
        weights: what was loaded, for the output and the run folder.
    """

    name: str
    stages: tuple[Stage, ...]
    head: nn.Cell
    preprocessing: Preprocessing
    dialect: str = ""
    weights: str = "none"


MOVING_STATISTICS = ("moving_mean", "moving_variance")
"""Ends of the names of parameters that are counted, not learned."""


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that train alike.

    Args:
        names: parameter names.
        rate_factor: multiplies the learning rate.
        weight_decay: overrides the optimizer's, where not None.
    """

    names: tuple[str, ...]
    rate_factor: float = 1.0
    weight_decay: float | None = None


@dataclass(frozen=True)
class OptimizerSpec:
    """The optimizer a strategy asks for.

    Args:
        name: momentum (SGD with momentum) or adam.
        learning_rate: peak rate.
        momentum: of ``momentum``; adam ignores it.
        weight_decay: applied to parameters of two and more dimensions, as usual: not to biases
            and norms.
        schedule: constant, or half a cosine from the peak to zero over the whole run.
        warmup_epochs: the rate rises linearly over these first epochs.
    """

    name: Literal["momentum", "adam"]
    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_epochs: float = 0.0


@dataclass(frozen=True)
class Trainable:
    """What a strategy answers: which parameters train, and how.

    Args:
        groups: parameters that train; all others are frozen.
        optimizer: how they train.
        batch_norm: ``frozen_eval`` runs a batch norm in evaluation mode where its own parameters
            are frozen, and on batch statistics, moving the moving ones, where they train;
            ``batch`` runs every one on batch statistics, as the published tutorials do.
    """

    groups: tuple[ParameterGroup, ...]
    optimizer: OptimizerSpec
    batch_norm: Literal["frozen_eval", "batch"] = "frozen_eval"

    @property
    def names(self) -> frozenset[str]:
        """Every parameter that trains."""
        return frozenset(name for group in self.groups for name in group.names)


@dataclass(frozen=True)
class FeatureExtractor:
    """The frozen prefix of a backbone on another engine.

    Args:
        compute: from images, float32 of the shape that the plugin was shown, to what the prefix
            gives for them.
        description: engine, version and precision, all that its values depend on: stored outputs
            of another description are not used.
        tolerance: greatest difference from MindSpore's own output that the precision explains:
            the Euclidean norm of a batch's difference by that of its output.
    """

    compute: Callable[[Array], Array]
    description: str
    tolerance: float


@dataclass(frozen=True, eq=False)
class Predictions:
    """The network's answers on a split.

    Args:
        ids: of the images.
        labels: int64 (N,), the true classes.
        probabilities: float32 (N, K), rows sum to 1.
        classes: K names.
    """

    ids: tuple[str, ...]
    labels: Array
    probabilities: Array
    classes: tuple[str, ...]

    @property
    def predicted(self) -> Array:
        """int64 (N,), the most probable class of each image."""
        return self.probabilities.argmax(axis=1)


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Images as the network saw them, with normalisation undone, for pictures.

    Args:
        pixels: uint8 (N, H, W, 3), RGB.
        labels: int64 (N,).
        ids: of the images.
    """

    pixels: Array
    labels: Array
    ids: tuple[str, ...]


@dataclass(frozen=True)
class EpochRecord:
    """One epoch, as in a line of ``metrics.jsonl``.

    Args:
        epoch: from 1.
        train: ``{"loss": ...}``.
        val: metrics of the validation images; empty where the epoch was not evaluated.
        learning_rate: at the epoch's last step.
        seconds: training time of the epoch, evaluation left out.
        step_ms: mean time of a training step, milliseconds.
        extra: what plugins recorded with ``run.record``.
    """

    epoch: int
    train: Mapping[str, float]
    val: Mapping[str, float] = field(default_factory=dict)
    learning_rate: float = 0.0
    seconds: float = 0.0
    step_ms: float = 0.0
    extra: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Best:
    """The best checkpoint so far."""

    path: Path
    epoch: int
    value: float
    metric: str


@dataclass(frozen=True)
class RunReport:
    """How a run ended; what ``msft_core.run`` returns.

    Args:
        status: ``completed``, ``stopped`` (a plugin asked for it), ``interrupted`` or ``failed``.
        folder: the run folder.
        best: None where nothing was evaluated.
        history: a record for each epoch that finished.
        reason: why it stopped, where it did.
    """

    status: Literal["completed", "stopped", "interrupted", "failed"]
    folder: Path
    best: Best | None
    history: tuple[EpochRecord, ...]
    reason: str = ""


@dataclass(eq=False)
class HookCall:
    """One call of a plugin's hook, as observers see it.

    Args:
        plugin: whose function it is.
        hook: which.
        arguments: what the function takes of the hook's arguments, by name.
        depth: how many other hook calls it is inside of.
        result: what it answered; None until it has.
        error: what it raised, as ``PluginError`` where that was not a ``MsftError`` already.
        seconds: how long it took.
    """

    plugin: str
    hook: str
    arguments: Mapping[str, Any]
    depth: int = 0
    result: Any = None
    error: BaseException | None = None
    seconds: float = 0.0


class Observer(Protocol):
    """Sees every hook call of a run: ``run(observers=[...])``."""

    def begin(self, call: HookCall) -> None:
        """The function is about to be called."""

    def end(self, call: HookCall) -> None:
        """The same object again, with what came of it."""


class Run(Protocol):
    """A run as callbacks see it."""

    config: Any
    """The resolved configuration (``msft_core.config.RunConfig``)."""
    splits: DatasetSplits
    """The images, without those that do not decode."""
    backbone: Backbone
    """The network that is being trained."""
    reporter: Reporter
    """For lines, warnings and progress."""
    best: Best | None
    """The best checkpoint so far, as ``set_best`` named it."""

    @property
    def folder(self) -> Path:
        """The run folder."""

    @property
    def history(self) -> Sequence[EpochRecord]:
        """A record for each finished epoch; in ``on_epoch_end`` the epoch just trained is last."""

    def settings(self, kind: Kind, name: str) -> Any:
        """The resolved settings of a component."""

    def evaluate(self, split: str = "val") -> Mapping[str, float]:
        """Loss and every metric on a split; computed at most once an epoch and shared by all."""

    def predictions(self, split: str = "val") -> Predictions:
        """Likewise, the answers themselves."""

    def images(self, split: str, count: int) -> ImageBatch:
        """Some images of a split: of train the first of epoch 1, augmented; of val evenly spaced
        ones, as evaluated."""

    def read_images(self, split: str, ids: Sequence[str]) -> ImageBatch:
        """These images of a split, as evaluated."""

    def save_checkpoint(self, path: Path) -> Path:
        """Write the network as it is now, with all that prediction needs; never half a file."""

    def set_best(self, path: Path, epoch: int, value: float, metric: str) -> None:
        """Name the checkpoint that the end of the run reloads."""

    def record(self, name: str, value: float) -> None:
        """Add a figure to this epoch's line of ``metrics.jsonl``."""

    def stop(self, reason: str) -> None:
        """End training after this epoch."""

"""Types of hook arguments and hook results. This module imports neither MindSpore nor NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Protocol,
    TypeAlias,
    runtime_checkable,
)

from msft_core.errors import ExportError, MsftError, first_line
from msft_core.settings import NONE as NONE
from msft_core.settings import NameOrFile as NameOrFile
from msft_core.settings import Settings as Settings

if TYPE_CHECKING:
    import numpy as np
    from mindspore import nn

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Kind = Literal["dataset", "backbone", "strategy", "callback", "metric", "extractor", "exporter"]

CHOSEN_KINDS: tuple[Kind, ...] = ("dataset", "backbone", "strategy")
"""A run has one component of each, chosen by name."""

SWITCHED_KINDS: tuple[Kind, ...] = ("callback", "metric", "extractor")
"""Every component of these takes part that is ``enabled``."""

# An exporter belongs to neither: `msft export --format NAME` names it.


class Reporter(Protocol):
    """Prints messages of a plugin for the user."""

    def info(self, message: str) -> None:
        """Print one line, unless the user asked for quiet."""

    def warning(self, message: str) -> None:
        """Print one warning line."""

    def progress(
        self, description: str, total: int | None = None, unit: str = ""
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Show a progress bar. Call its value with the number of units done since the last call."""


@dataclass(frozen=True)
class Context:
    """What a dataset or a backbone may need from the run that builds it.

    Args:
        seed: of the run.
        cache_dir: the folder for what is worth keeping between runs.
        reporter: for lines, warnings and progress.
        classes: class names in label order; empty as long as the dataset is not built.
    """

    seed: int
    cache_dir: Path
    reporter: Reporter
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Component:
    """A named dataset, backbone, strategy, callback, metric, extractor or exporter of a plugin.

    Args:
        kind: one of dataset, backbone, strategy, callback, metric, extractor, exporter.
        name: its name for ``--dataset``, ``--backbone``, ``--strategy``, ``--format`` or a settings
            section.
        summary: one line for ``msft plugins``.
        settings: model of its settings. ``msft plugins show`` prints it, and msft checks the
            settings with it before MindSpore is imported.
        fetch: downloads all files that the component needs offline, and returns their paths; None
            if there is nothing to download.
        urls: addresses from which ``fetch`` downloads by default; ``msft doctor`` checks them.
        needs: modules that an exporter needs besides msft's own, each with the command that
            installs it, such as ``{"onnxruntime": 'pip install "msft[onnx]"'}``. If one is
            missing, msft says so before it loads a network. Only exporters have it.
    """

    kind: Kind
    name: str
    summary: str
    settings: type[Settings] = Settings
    fetch: Callable[[Any, Context], Iterable[Path]] | None = None
    urls: tuple[str, ...] = ()
    needs: Mapping[str, str] = field(default_factory=dict, hash=False)


@runtime_checkable
class ImageTable(Protocol):
    """Encoded images by index; picklable. ``msft_core.images`` has two implementations."""

    @property
    def ids(self) -> Sequence[str]:
        """A unique name for each image, the same in each run. Augmentation depends on it."""

    @property
    def labels(self) -> Sequence[int]:
        """For each image, an index into the class list."""

    def read(self, index: int) -> bytes:
        """Return an encoded image, for example the bytes of a JPEG file."""


@dataclass(frozen=True)
class DatasetSplits:
    """Training and validation images with one class list.

    Args:
        classes: class names in label order.
        train: the training images. Every class needs at least one.
        val: the validation images.
        description: a name of the images, for the output and the run folder.
        notes: lines for the user, for example about held-out images.
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
        mean: of R, G and B, on a scale of 0 to 1.
        std: of R, G and B, on the same scale.
        crop_fraction: evaluation resizes the short side to ``round(size / crop_fraction)`` pixels
            and crops the centre.
        interpolation: for the resize in evaluation and for the crop in training.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_fraction: float = 0.875
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"


@dataclass(frozen=True)
class Stage:
    """A named part of a backbone.

    Its Cell takes one tensor and returns one tensor. No other stage has the same parameters.
    """

    name: str
    cell: nn.Cell


@dataclass(frozen=True)
class Backbone:
    """A network as an ordered list of named stages and a head.

    The network is ``head(stage_n(... stage_1(images)))``; images are float32 (N, 3, size, size),
    normalised, and the head returns logits, float32 (N, num_classes). Parameter names are unique
    over all stages and the head. Pooling is a stage. Dropout before the classifier belongs to the
    head.

    Args:
        name: name of the component.
        stages: in the order of computation.
        head: a new classification layer for this number of classes.
        preprocessing: how an image becomes the input.
        dialect: origin of the weights. It decides padding and eps, so msft writes it into the
            checkpoint.
        weights: name of the loaded weights, for the output and the run folder.
        source_names: for each parameter that has another name in the library that the weights came
            from, that name. An exporter writes them, so that this library can load the file. Give
            no name for a parameter that has the same one.
    """

    name: str
    stages: tuple[Stage, ...]
    head: nn.Cell
    preprocessing: Preprocessing
    dialect: str = ""
    weights: str = "none"
    source_names: Mapping[str, str] = field(default_factory=dict)


MOVING_STATISTICS = ("moving_mean", "moving_variance")
"""Ends of the names of moving statistics: parameters that never train."""


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that train with the same settings.

    Args:
        names: parameter names.
        rate_factor: multiplies the learning rate.
        weight_decay: if not None, overrides the optimizer's weight decay.
    """

    names: tuple[str, ...]
    rate_factor: float = 1.0
    weight_decay: float | None = None


@dataclass(frozen=True)
class OptimizerSpec:
    """The optimizer that a strategy chooses.

    Args:
        name: momentum (SGD with momentum) or adam.
        learning_rate: peak rate.
        momentum: for the optimizer ``momentum``; adam ignores it.
        weight_decay: for parameters with two or more dimensions, not for biases and norms.
        schedule: constant, or half a cosine from the peak to zero over the whole run.
        warmup_epochs: number of first epochs in which the rate rises linearly.
    """

    name: Literal["momentum", "adam"]
    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_epochs: float = 0.0


@dataclass(frozen=True)
class Trainable:
    """The result of ``select_trainable``: which parameters train, and how.

    Args:
        groups: parameters that train; msft freezes all others.
        optimizer: optimizer and schedule.
        batch_norm: with ``frozen_eval``, a batch norm with frozen parameters runs in evaluation
            mode, and a batch norm that trains uses batch statistics and updates its moving
            statistics. With ``batch``, every batch norm uses batch statistics, as in the published
            tutorials.
    """

    groups: tuple[ParameterGroup, ...]
    optimizer: OptimizerSpec
    batch_norm: Literal["frozen_eval", "batch"] = "frozen_eval"

    @property
    def names(self) -> frozenset[str]:
        """The names of all parameters that train."""
        return frozenset(name for group in self.groups for name in group.names)


@dataclass(frozen=True)
class FeatureExtractor:
    """The frozen prefix of a backbone on another engine.

    Args:
        compute: takes images, float32 with the shape of the hook's example, and returns the
            outputs of the prefix.
        description: engine, version and precision, and everything else that the values depend on.
            It is part of the cache key.
        tolerance: largest relative difference from MindSpore's output that the precision
            explains: the Euclidean norm of the difference of a batch, divided by the norm of
            MindSpore's output.
    """

    compute: Callable[[Array], Array]
    description: str
    tolerance: float


@dataclass(frozen=True, eq=False)
class Predictions:
    """The network's predictions for a split.

    Args:
        ids: N image ids.
        labels: int64 (N,), the true classes.
        probabilities: float32 (N, K); the K values of an image sum to 1.
        classes: K class names.
    """

    ids: tuple[str, ...]
    labels: Array
    probabilities: Array
    classes: tuple[str, ...]

    @property
    def predicted(self) -> Array:
        """int64 (N,), the most probable class of each image."""
        import numpy as np

        # In blocks, since NumPy copies an array that may not be written to.
        blocks = range(0, max(1, len(self.probabilities)), 4096)
        return np.concatenate([self.probabilities[at : at + 4096].argmax(axis=1) for at in blocks])


@dataclass(frozen=True)
class Prediction:
    """What a classifier predicts for one image.

    Args:
        class_name: the most probable class.
        probability: its probability.
        probabilities: the probability of each class, by name in label order; they sum to 1.
    """

    class_name: str
    probability: float
    probabilities: Mapping[str, float]


EXPORT_TOLERANCE = 1e-4
"""Greatest accepted difference of a probability between an exported file and MindSpore."""

_BATCHES = (16, 3, 1)


@dataclass(frozen=True, eq=False)
class ExportModel:
    """A trained classifier, as an exporter receives it.

    Args:
        cell: in evaluation mode, from images, float32 (N, 3, size, size), to probabilities,
            float32 (N, K). The images are normalised, or RGB from 0 to 255 where ``normalises``.
        backbone: stages and head with their trained values.
        classes: K class names in label order.
        preprocessing: how an image becomes the input.
        normalises: whether ``cell`` subtracts the mean and divides by the deviation itself.
        images: some real images as ``cell`` takes them, float32 (M, 3, size, size).
        probabilities: what ``cell`` computes for them, float32 (M, K).
        metadata: JSON texts to store in the file where its format can: class names, preprocessing
            and others. msft writes them beside the file too, after the exporter. So an exporter
            changes what is not true of its file, for example ``output`` where it gives logits.
    """

    cell: nn.Cell
    backbone: Backbone
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    normalises: bool
    images: Array
    probabilities: Array
    metadata: dict[str, str]
    _differences: list[float] = field(default_factory=list, init=False, repr=False)

    @property
    def difference(self) -> float | None:
        """The greatest difference that ``require_same`` found; None if it was not called."""
        return max(self._differences, default=None)

    def require_same(
        self, compute: Callable[[Array], Array], tolerance: float = EXPORT_TOLERANCE
    ) -> float:
        """Compare what the exported file computes with ``probabilities``.

        Calls ``compute`` with all images, and with the first 16, 3 and 1, since a file may take
        one number of images only.

        Args:
            compute: runs the exported file on images such as ``images``, of any number.
            tolerance: greatest accepted difference of a probability.

        Returns: the greatest difference.
        Raises:
            ExportError: ``compute`` fails, or its shape or its values differ.
        """
        counts = [len(self.images), *(count for count in _BATCHES if count < len(self.images))]
        greatest = max(self._difference_of(compute, count) for count in counts)
        if greatest > tolerance:
            raise ExportError(
                f"the exported file's probabilities differ by {greatest:.2g} from MindSpore's, "
                f"more than {tolerance:.2g}"
            )
        self._differences.append(greatest)
        return greatest

    def _difference_of(self, compute: Callable[[Array], Array], count: int) -> float:
        expected = self.probabilities[:count]
        try:
            found = compute(self.images[:count])
        except MsftError:
            raise
        except Exception as error:
            raise ExportError(
                f"the exported file fails with {count} images: {first_line(error)}"
            ) from error
        if found.shape != expected.shape:
            raise ExportError(
                f"the exported file gives {found.shape} for {count} images, not {expected.shape}"
            )
        difference = float(abs(found - expected).max())
        return difference if difference == difference else float("inf")  # NaN differs


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Images as the network sees them, without normalisation, for figures.

    Args:
        pixels: uint8 (N, H, W, 3), RGB.
        labels: int64 (N,).
        ids: N image ids.
    """

    pixels: Array
    labels: Array
    ids: tuple[str, ...]


@dataclass(frozen=True)
class EpochRecord:
    """The values of one epoch, as in a line of ``metrics.jsonl``.

    Args:
        epoch: from 1.
        train: ``{"loss": ...}``.
        val: metrics of the validation images; empty if the epoch was not evaluated.
        learning_rate: at the last step of the epoch.
        seconds: time of the epoch, with the features that it computed, without evaluation.
        step_ms: mean time of a training step, milliseconds.
        extra: figures that plugins added with ``run.record``.
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
    """How a run ended. ``msft_core.run`` returns it.

    Args:
        status: ``completed``, ``stopped`` (by a plugin), ``interrupted`` or ``failed``.
        folder: the run folder.
        best: the best checkpoint; None if no epoch was evaluated.
        history: one record per finished epoch.
        reason: why the run stopped, if it did.
    """

    status: Literal["completed", "stopped", "interrupted", "failed"]
    folder: Path
    best: Best | None
    history: tuple[EpochRecord, ...]
    reason: str = ""


@dataclass(eq=False)
class HookCall:
    """One hook call, as an observer receives it.

    Args:
        plugin: name of the plugin.
        hook: name of the hook.
        arguments: the arguments that the function takes, by name.
        depth: number of other hook calls around this call.
        result: the hook result; None before the call ends.
        error: the exception. An exception that is no ``MsftError`` is wrapped in ``PluginError``.
        seconds: duration.
    """

    plugin: str
    hook: str
    arguments: Mapping[str, Any]
    depth: int = 0
    result: Any = None
    error: BaseException | None = None
    seconds: float = 0.0


class Observer(Protocol):
    """Receives every hook call of a run: ``run(observers=[...])``."""

    def begin(self, call: HookCall) -> None:
        """Called just before the plugin's function."""

    def end(self, call: HookCall) -> None:
        """Called after it, with the same object and its result or error."""


class Pages(Protocol):
    """Pictures and pages of a run. Each method writes one file atomically and returns its path."""

    def train_batch(self, path: Path, *, images: int = 24, dpi: int = 110) -> Path:
        """Draw training images as the network sees them in epoch 1."""

    def curves(self, path: Path, *, dpi: int = 110) -> Path:
        """Draw loss and metrics by epoch."""

    def predictions(self, path: Path, *, images: int = 24, dpi: int = 110) -> Path:
        """Draw validation images: mistakes, surest first; then right ones, least sure first."""

    def confusion_matrix(self, path: Path, *, dpi: int = 110) -> Path:
        """Draw how often each class was predicted as each other."""

    def report(self, path: Path) -> Path:
        """Write the report of the run, one HTML file that needs no other."""


class Run(Protocol):
    """A run, as callbacks see it: one in progress, or a finished one that was opened again.

    In a finished run ``save_checkpoint``, ``set_best``, ``record`` and ``stop`` raise
    ``UsageError``.
    """

    @property
    def config(self) -> Any:
        """The resolved configuration (``msft_core.config.RunConfig``)."""

    @property
    def splits(self) -> DatasetSplits:
        """The images, without those that cannot be decoded."""

    @property
    def backbone(self) -> Backbone:
        """The network in training."""

    @property
    def reporter(self) -> Reporter:
        """Prints lines, warnings and progress bars."""

    @property
    def best(self) -> Best | None:
        """The best checkpoint so far, from the last ``set_best``."""

    @property
    def pages(self) -> Pages:
        """Draws the run's pictures and writes its pages."""

    @property
    def folder(self) -> Path:
        """The run folder."""

    @property
    def history(self) -> Sequence[EpochRecord]:
        """One record per finished epoch; in ``on_epoch_end`` the last one is this epoch's."""

    @property
    def resumed(self) -> bool:
        """Whether the run went on after an interruption, from a saved state."""

    @property
    def rank(self) -> int:
        """Which of the processes this is, from 0. Only 0 calls the hooks that get a ``Run``."""

    @property
    def processes(self) -> int:
        """Number of processes that train together."""

    def settings(self, kind: Kind, name: str) -> Any:
        """Return the resolved settings of a component."""

    def evaluate(self, split: str = "val") -> Mapping[str, float]:
        """Return loss and every metric of a split. msft computes them at most once per epoch."""

    def predictions(self, split: str = "val") -> Predictions:
        """Return the predictions for a split. msft computes them at most once per epoch."""

    def images(self, split: str, count: int) -> ImageBatch:
        """Return some images of a split: for train the first images of epoch 1, augmented; for val
        evenly spaced images, as in evaluation."""

    def read_images(self, split: str, ids: Sequence[str]) -> ImageBatch:
        """Return the images of a split with these ids, as in evaluation."""

    def explain(self, split: str, ids: Sequence[str]) -> Array:
        """Return where in these images the network sees the class that it predicts.

        Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) at the last stage with a spatial output.

        Returns: float32 (N, size, size), 0 to 1, for the images as in evaluation.

        Raises: ``UsageError`` if no stage of the backbone has a spatial output.
        """

    def save_checkpoint(self, path: Path) -> Path:
        """Write the current network and all data for prediction. The file is complete or absent."""

    def set_best(self, path: Path, epoch: int, value: float, metric: str) -> None:
        """Set the checkpoint that msft reloads at the end of the run."""

    def record(self, name: str, value: float) -> None:
        """Add a figure to the line of this epoch in ``metrics.jsonl``."""

    def stop(self, reason: str) -> None:
        """End training after this epoch."""

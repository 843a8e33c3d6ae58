"""A trained classifier: from images to class names and probabilities."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import mindspore as ms
import numpy as np

from msft_core.data.pipeline import Batch
from msft_core.data.views import evaluation_view, normalise
from msft_core.errors import DataError, TrainingError
from msft_core.features.prefix import BATCH, AskExtractor, EngineFailed, FrozenPrefix
from msft_core.features.rounding import HALF, rounded
from msft_core.images import ImageError
from msft_core.runs.checkpoints import CheckpointInfo
from msft_core.runs.inputs import is_one, name_of, view_of
from msft_core.stages import Chain
from msft_core.system.device import Runtime
from msft_core.training.compilation import MINDSPORE
from msft_core.training.gradcam import heat_maps
from msft_core.training.losses import softmax
from msft_core.training.state import TrainState
from msft_core.training.trainer import Trainer
from msft_core.types import (
    Array,
    Backbone,
    ImageTable,
    Prediction,
    Predictions,
    Preprocessing,
    Reporter,
)

if TYPE_CHECKING:
    from msft_core.runs.inputs import ImageInput

T = TypeVar("T")

_AHEAD = 64
"""Images that are decoded ahead of the network."""


class Classifier:
    """A trained classifier. ``msft_core.load`` opens one.

    Several threads may use it. It may be used beside a training run in the same process.

    Args:
        backbone: stages and head with their trained values.
        info: what the checkpoint says.
        path: of the checkpoint.
        plugin: the plugin that made the backbone, for messages.
        runtime: device and modes.
        workers: threads that decode images.
        ask_extractor: asks the plugins for the engine with which the run evaluated; None for
            MindSpore.
        reporter: for lines and warnings.
    """

    def __init__(
        self,
        backbone: Backbone,
        info: CheckpointInfo,
        path: Path,
        *,
        plugin: str,
        runtime: Runtime,
        workers: int,
        ask_extractor: AskExtractor | None,
        reporter: Reporter,
    ) -> None:
        self._backbone, self.info, self.path = backbone, info, path
        self._plugin, self._runtime, self._workers = plugin, runtime, max(1, workers)
        self._ask_extractor, self._reporter = ask_extractor, reporter
        self._trainer: Trainer | None = Trainer(
            TrainState(backbone), plugin, len(info.classes), runtime, reporter.info
        )
        self._trainer.skip_stages(info.evaluation.stages_apart)
        self._prefix: FrozenPrefix | None = None
        _close_at_exit(self)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        return self.info.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes the network's input."""
        return self.info.preprocessing

    @property
    def backbone(self) -> Backbone:
        """Stages and head with their trained values."""
        return self._backbone

    @overload
    def predict(self, images: ImageInput) -> Prediction: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, images: Iterable[ImageInput]) -> list[Prediction]: ...

    def predict(self, images: Any) -> Prediction | list[Prediction]:
        """Predict the class of one image or of many.

        Several images go through the same engine, in batches of the same size, as in the run's own
        evaluation, and get the same probabilities to the bit. One image alone is computed by
        MindSpore at once: its probabilities differ by less than 1e-5 (float32).

        Args:
            images: one image or an iterable of images. An image is the path of a file, the bytes of
                one, a PIL image, or an array uint8 (H, W, 3), RGB, or (H, W), grey. An array uint8
                (N, H, W, 3) is N images.

        Returns:
            One prediction, or a list of them in the order of the images.

        Raises:
            DataError: an image cannot be used; the message names it, or its place.
        """
        if is_one(images):
            (values,) = self._computed([images])
            return self._prediction(values)
        return [self._prediction(values) for values in self._computed(list(images))]

    def explain(self, images: Any, class_name: str | None = None) -> Array:
        """Show where in an image the network sees a class: Grad-CAM.

        Args:
            images: as for ``predict``.
            class_name: the class in question; by default the one that is predicted.

        Returns:
            Heat maps, float32 (size, size) for one image, else (N, size, size), 0 to 1: of the part
            of the image that the network sees (``preprocessing``).

        Raises:
            DataError: an image cannot be used, or there is no such class.
            UsageError: no stage of the backbone has a spatial output.
        """
        if class_name is not None and class_name not in self.classes:
            raise DataError(f"there is no class {class_name!r}: {', '.join(self.classes)}.")
        alone = is_one(images)
        sources = [images] if alone else list(images)
        if not sources:
            size = self.preprocessing.size
            return np.zeros((0, size, size), np.float32)
        pixels = np.stack([self.view(source, index) for index, source in enumerate(sources)])
        inputs = normalise(pixels, self.preprocessing)
        if class_name is None:
            chosen = np.stack([self._alone(one) for one in inputs]).argmax(axis=1)
        else:
            chosen = np.full(len(inputs), self.classes.index(class_name))
        maps = heat_maps(self._backbone, inputs, chosen)
        return maps[0] if alone else maps

    def view(self, image: ImageInput, index: int = 0) -> Array:
        """What the network sees of an image, uint8 (size, size, 3), before normalisation.

        Raises:
            DataError: the image cannot be used; the message names it, or its place ``index``.
        """
        try:
            return view_of(image, self.preprocessing)
        except ImageError as error:
            raise DataError(f"image {name_of(image, index)} cannot be used: {error}.") from error

    def predict_table(
        self, table: ImageTable, advance: Callable[[int], None] = lambda count: None
    ) -> Predictions:
        """Predict all images of a table, as the run's evaluation does.

        Args:
            table: the images; its labels index into ``classes``.
            advance: called with the number of images done since the last call.

        Raises:
            DataError: an image cannot be used.
        """

        def read(index: int) -> Array:
            name = table.ids[index]
            try:
                return evaluation_view(table.read(index), self.preprocessing)
            except ImageError as error:
                raise DataError(f"image {name} does not decode: {error}.") from error

        rows = []
        for _, values in self.probabilities(range(len(table.ids)), read, quick_alone=False):
            rows.append(values)
            advance(1)
        return Predictions(
            tuple(table.ids),
            np.asarray(table.labels, np.int64),
            np.stack(rows),
            self.classes,
        )

    def probabilities(
        self, sources: Sequence[T], read: Callable[[T], Array], *, quick_alone: bool = True
    ) -> Iterator[tuple[int, Array]]:
        """Yield (index, probabilities float32 (K,)) for each image, in order.

        Args:
            sources: what ``read`` takes, one for each image.
            read: returns the view of an image, uint8 (size, size, 3). It is called in threads. An
                image for which it raises ``ImageError`` is left out; other errors end the work.
            quick_alone: compute a single image without a padded batch: sooner, but equal only
                within 1e-5.

        Raises:
            TrainingError: the network gives outputs that are not finite.
        """
        views = self._views(sources, read)
        for indices, logits in self._logits(views, quick_alone and len(sources) == 1):
            wrong = ~np.isfinite(logits).all(axis=1)
            if wrong.any():
                raise TrainingError(
                    f"{self.path}: the network's outputs are not finite for {int(wrong.sum())} of "
                    f"{len(logits)} images. This checkpoint cannot be used."
                )
            yield from zip(indices, softmax(logits), strict=True)

    def close(self) -> None:
        """Drop the network. MindSpore's cells must be gone before Python is."""
        self._trainer = self._prefix = None
        self._backbone = Backbone("", (), None, self.preprocessing)

    # Inside

    def _prediction(self, values: Array) -> Prediction:
        named = {name: float(value) for name, value in zip(self.classes, values, strict=True)}
        best = int(values.argmax())
        return Prediction(self.classes[best], float(values[best]), named)

    def _computed(self, sources: Sequence[ImageInput]) -> list[Array]:
        indices = range(len(sources))
        found = self.probabilities(indices, lambda index: self.view(sources[index], index))
        return [values for _, values in found]

    def _views(
        self, sources: Sequence[T], read: Callable[[T], Array]
    ) -> Iterator[tuple[int, Array]]:
        """The views that can be made, in order, some of them ahead."""

        def attempt(source: T) -> Array | ImageError:
            try:
                return read(source)
            except ImageError as error:
                return error

        with ThreadPoolExecutor(self._workers, "msft-decode") as pool:
            try:
                waiting = iter(enumerate(sources))
                ahead = [(i, pool.submit(attempt, one)) for i, one in islice(waiting, _AHEAD)]
                while ahead:
                    index, future = ahead.pop(0)
                    ahead += [(i, pool.submit(attempt, one)) for i, one in islice(waiting, 1)]
                    view = future.result()
                    if not isinstance(view, ImageError):
                        yield index, view
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _logits(
        self, views: Iterator[tuple[int, Array]], alone: bool
    ) -> Iterator[tuple[list[int], Array]]:
        """Indices and logits, float32 (n, K), batch by batch."""
        if alone:
            for index, view in views:
                inputs = normalise(view[None], self.preprocessing)
                yield [index], self._alone(inputs[0])[None]
            return
        rows: Iterator[tuple[int, Array]]
        if self.info.evaluation.stages_apart:
            rows = self._features(views)
        else:
            rows = ((i, normalise(view[None], self.preprocessing)[0]) for i, view in views)
        size, trainer = self.info.evaluation.batch_size, self._open_trainer()
        for indices, inputs in _in_batches(rows, size):
            batch = Batch(inputs, np.zeros(len(inputs), np.int32), np.asarray(indices))
            with MINDSPORE:
                ((_, logits),) = trainer.logits([batch], size)
            yield indices, logits

    def _alone(self, inputs: Array) -> Array:
        """Logits float32 (K,) of one image, float32 (3, size, size), without compiling anything."""
        trainer = self._open_trainer()
        with MINDSPORE:
            trainer.network.set_train(False)
            values = Chain(list(trainer.network.parts))(ms.Tensor(inputs[None])).asnumpy()[0]
        return np.asarray(values, np.float32)

    def _features(self, views: Iterator[tuple[int, Array]]) -> Iterator[tuple[int, Array]]:
        """The outputs of the stages that the run computed apart."""
        for indices, pixels in _in_batches(views, BATCH):
            images = normalise(pixels, self.preprocessing)
            features = self._compute_features(images)
            if self.info.evaluation.stored_as == HALF:
                features = rounded(features)
            yield from zip(indices, features, strict=True)

    def _compute_features(self, images: Array) -> Array:
        with MINDSPORE:
            if self._prefix is None:
                self._prefix = self._make_prefix(images)
            try:
                return self._prefix.compute(images)
            except EngineFailed as reason:
                self._reporter.warning(f"{reason} MindSpore computes the frozen stages instead.")
                self._ask_extractor = None
                self._prefix = self._make_prefix(images)
                return self._prefix.compute(images)

    def _make_prefix(self, images: Array) -> FrozenPrefix:
        how, names = self.info.evaluation, [stage.name for stage in self._backbone.stages]
        prefix = FrozenPrefix(
            self._open_trainer().prefix(how.stages_apart),
            name=f"{names[0]} to {names[how.stages_apart - 1]}",
            plugin=self._plugin,
            graph=how.compiled,
            example=images[:1],
            features=1_000_000,  # so that an automatic extractor takes part, as it did in the run
            ask_extractor=self._ask_extractor,
            say=self._reporter.info,
        )
        if prefix.engine != how.engine:
            self._reporter.info(
                f"{prefix.engine} computes the frozen stages; the run used {how.engine}. "
                "Probabilities may differ in their last digits."
            )
        return prefix

    def _open_trainer(self) -> Trainer:
        if self._trainer is None:
            raise ValueError("this classifier is closed")
        return self._trainer


def _in_batches(rows: Iterable[tuple[int, Array]], size: int) -> Iterator[tuple[list[int], Array]]:
    rows = iter(rows)
    while taken := list(islice(rows, size)):
        yield [index for index, _ in taken], np.stack([row for _, row in taken])


def _close_at_exit(classifier: Classifier) -> None:
    """Close it at the end of the process, since a notebook keeps it in a global variable."""
    reference = weakref.ref(classifier)

    def close() -> None:
        found = reference()
        if found is not None:
            found.close()

    atexit.register(close)

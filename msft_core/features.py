"""What the frozen stages of a network give, computed once for each image and view, and stored."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import mindspore as ms
import numpy as np

from msft_core.errors import MsftError, PluginError, blaming
from msft_core.images import hash_of
from msft_core.pipeline import Batch, KeyedPipeline
from msft_core.stages import Chain
from msft_core.store import FeatureStore
from msft_core.training import if_possible, padded
from msft_core.types import Array, FeatureExtractor, Reporter

BATCH = 16
"""Images computed at once. Always so many, since a graph is compiled for one shape. Of 8 to 64 it
is as fast as any for MindSpore and OpenVINO, and asks for less memory than the larger ones."""

TOLERANCE = 1e-3
"""Greatest relative difference between a stored row and the same one computed by MindSpore now.
Between graph mode and PyNative it is 1e-7; other instruction sets may differ by more."""

AskExtractor = Callable[[Chain, Array], "tuple[FeatureExtractor, str] | None"]
"""From the prefix and an example to an extractor and the plugin it came from."""


class CannotStore(Exception):
    """Features cannot be stored; the message is a clause that says why."""


class Prefix:
    """The frozen stages as a function, and the rows of it that are stored.

    Args:
        chain: the stages, in evaluation mode.
        name: of the stages, for people.
        plugin: which plugin made them, for messages.
        description: what their outputs depend on, but for the image and the extractor.
        store: keeps the rows.
        graph: compile the stages.
        keys: of all rows that the run will need.
        probe: a few images, float32 (n, 3, size, size), and the keys of their rows: computed by
            MindSpore now, to know a row's shape, and to compare them with what is stored.
        ask_extractor: asks the plugins for another engine.
        reporter: for progress.

    Raises:
        CannotStore: there is no room, or the cache folder cannot be written.
        PluginError: a stage breaks the contract.
    """

    def __init__(
        self,
        chain: Chain,
        *,
        name: str,
        plugin: str,
        description: Mapping[str, Any],
        store: FeatureStore,
        graph: bool,
        keys: Sequence[bytes],
        probe: tuple[Array, Sequence[bytes]],
        ask_extractor: AskExtractor,
        reporter: Reporter,
    ) -> None:
        self._chain, self._name, self._plugin = chain, name, plugin
        self._store, self._reporter = store, reporter
        self._many: Callable[..., Any] = chain
        if graph:
            self._many = if_possible(ms.jit(chain.construct), chain, reporter.info)
        images, probed = probe
        rows = self._by_mindspore(images)
        self._form = (rows.shape[1:], rows.dtype)
        if rows.dtype.kind not in "biufc":
            raise CannotStore(f"{name} gives {rows.dtype}, which cannot be stored")
        self._extractor = ask_extractor(chain, padded(images, BATCH))
        self._agrees = False
        self._row_bytes = rows[0].nbytes
        by = self._extractor[0].description if self._extractor else "MindSpore"
        try:
            self.space = store.open({**description, "extractor": by})
            self._distrust(rows, probed)
            refusal = store.refusal(len(self.space.missing(keys)) * self._row_bytes)
        except OSError as error:
            raise CannotStore(_in_words(error)) from error
        if refusal:
            self.space.close()
            raise CannotStore(refusal)

    def complete(
        self,
        images: KeyedPipeline,
        epoch: int,
        keys: Sequence[bytes],
        label: str,
        between: Callable[[], None],
    ) -> None:
        """Compute and store the rows that are missing.

        Args:
            images: gives the views.
            epoch: whose views.
            keys: of the row of each image.
            label: what is computed, for the progress bar.
            between: called after each batch; what it raises ends it, and what is done is kept.

        Raises:
            CannotStore: the cache folder cannot be written, or is full.
            PluginError: a stage or the extractor breaks the contract.
        """
        missing = set(self.space.missing(keys))
        if not missing:
            return
        # Images with the same content may share a row.
        row_of = {key: row for row, key in enumerate(keys) if key in missing}
        rows = np.fromiter(row_of.values(), np.int64)
        portions = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
        progress = self._reporter.progress(f"{self._name} of {label}", len(rows), "images")
        try:
            self._store.make_room(len(rows) * self._row_bytes)
            with self.space.writer() as writer, progress as advance:
                for batch in images.batches(portions, epoch):
                    features = self._compute(batch.inputs)
                    writer.add([keys[row] for row in batch.rows], features)
                    advance(len(batch.rows))
                    between()
        except OSError as error:
            raise CannotStore(_in_words(error)) from error

    # Computing

    def _compute(self, images: Array) -> Array:
        """Features (n, ...) of images, float32 (n, 3, size, size), at most ``BATCH``."""
        count, images = len(images), padded(images, BATCH)
        if self._extractor is None:
            with self._blaming_the_backbone():
                return self._many(ms.Tensor(images)).asnumpy()[:count]
        extractor, plugin = self._extractor
        with blaming(plugin, "build_feature_extractor"):
            # A copy, since what it is compared with is computed from the same images.
            features = extractor.compute(images if self._agrees else images.copy())
        self._require_form(features, plugin)
        if not self._agrees:
            self._require_agreement(features, images)
        return features[:count]

    def _require_form(self, features: object, plugin: str) -> None:
        """Of every batch, since it is stored, and a later run would trust it."""
        shape, dtype = (BATCH, *self._form[0]), self._form[1]
        what = ""
        if not isinstance(features, np.ndarray):
            what = f"gives {type(features).__name__} where MindSpore gives an array"
        elif features.shape != shape:
            what = f"gives {features.shape} where MindSpore gives {shape}"
        elif features.dtype != dtype:
            what = f"gives {features.dtype} where MindSpore gives {dtype}"
        elif not np.isfinite(features).all():
            what = "gives numbers that are not finite"
        if what:
            raise PluginError(plugin, "build_feature_extractor", what)

    def _require_agreement(self, features: Array, images: Array) -> None:
        assert self._extractor is not None
        extractor, plugin = self._extractor
        difference = relative_difference(features, self._by_mindspore(images))
        if not difference <= extractor.tolerance:
            raise PluginError(
                plugin,
                "build_feature_extractor",
                f"{extractor.description} differs from MindSpore by {difference:.2g} of the "
                f"features' size, more than its tolerance of {extractor.tolerance:.2g}",
            )
        self._agrees = True

    def _by_mindspore(self, images: Array) -> Array:
        """In PyNative, which compiles nothing."""
        with self._blaming_the_backbone():
            output = self._chain(ms.Tensor(images))
            # Here, since PyNative raises only when it is asked for the numbers.
            values = output.asnumpy() if isinstance(output, ms.Tensor) else None
        if values is None or output.ndim < 1 or len(output) != len(images):
            got = tuple(output.shape) if isinstance(output, ms.Tensor) else type(output).__name__
            raise PluginError(
                self._plugin,
                "build_backbone",
                f"the stages {self._name} give {got} for {len(images)} images, not one row each",
            )
        return values

    def _blaming_the_backbone(self) -> AbstractContextManager[None]:
        return blaming(self._plugin, "build_backbone", f"the stages {self._name} do not run: ")

    def _distrust(self, rows: Array, keys: Sequence[bytes]) -> None:
        """Throw away what is stored where it is not what the stages give now."""
        missing = set(self.space.missing(keys))
        there = [i for i, key in enumerate(keys) if key not in missing]
        form = (self.space.shape, self.space.dtype)
        if form == (None, None):
            return
        same = form == self._form
        if same and there:
            tolerance = self._extractor[0].tolerance if self._extractor else TOLERANCE
            stored = self.space.read([keys[i] for i in there])
            same = relative_difference(stored, rows[there]) <= tolerance
        if same:
            return
        self._reporter.warning(
            f"the stored features of {self._name} are not what it gives now (has its code "
            "changed?): they are computed anew."
        )
        self.space.discard()


class Rows:
    """Which rows the epochs of a pipeline stand for.

    Args:
        images: the pipeline.
        digests: hash of each image's bytes.
    """

    def __init__(self, images: KeyedPipeline, digests: Sequence[str]) -> None:
        self.images, self._digests = images, digests
        self._keys: dict[int, list[bytes]] = {}

    def view(self, epoch: int) -> int:
        """Number of the view that an epoch shows; 0 where there is but one."""
        return self.images.view_number(epoch) if self.images.recipe.augmentation else 0

    def keys(self, epoch: int) -> list[bytes]:
        """See ``row_keys``; made once for each view."""
        view = self.view(epoch)
        if view not in self._keys:
            self._keys[view] = row_keys(self.images, self._digests, epoch)
        return self._keys[view]


class FeaturePipeline:
    """Batches of features, in the same order and of the same views as batches of images.

    Args:
        rows: the images and their keys.
        prefix: computes and stores the features.
        name: of the pipeline, for the progress bar.
    """

    def __init__(self, rows: Rows, prefix: Prefix, name: str) -> None:
        self._rows, self._prefix, self._name = rows, prefix, name

    def steps(self) -> int:
        """See ``Pipeline``."""
        return self._rows.images.steps()

    def prepare(self, number: int, between: Callable[[], None]) -> None:
        """Compute what an epoch needs and is not stored. See ``Prefix.complete``."""
        images, label = self._rows.images, self._name
        if images.recipe.augmentation:
            # Counted from 1, in the order of the epochs: the last one's number is 0.
            label += f", view {self._rows.view(number) or images.recipe.views}"
        self._prefix.complete(images, number, self._rows.keys(number), label, between)

    def epoch(self, number: int) -> Iterator[Batch]:
        """See ``Pipeline``; ``prepare`` comes first."""
        images, keys = self._rows.images, self._rows.keys(number)
        for rows in images.portions(number):
            try:
                features = self._prefix.space.read([keys[row] for row in rows])
            except OSError as error:
                raise MsftError(f"stored features cannot be read: {error}.") from error
            yield Batch(features, images.labels(rows), rows)


def code_of(chain: Chain) -> str:
    """Hash of what stages compute, but for their parameters: another value, other features.

    That is where each cell stands, the plain attributes of each, such as a stride, and the source
    of the module that each class of cell is from; MindSpore's own are of a version.
    """
    cells = [(path, type(cell), vars(cell)) for path, cell in chain.cells_and_names()]
    settings = [
        (path, kind.__qualname__, sorted((k, v) for k, v in held.items() if _is_plain(k, v)))
        for path, kind, held in cells
    ]
    sources = sorted({_source_of(kind) for kind in {kind for _, kind, _ in cells}})
    # Where an object is in memory says nothing.
    text = re.sub(r" at 0x[0-9a-f]+", "", json.dumps([settings, sources]))
    return hashlib.sha256(text.encode()).hexdigest()


def _is_plain(name: str, value: object) -> bool:
    if name.startswith("_"):
        return False
    if isinstance(value, (tuple, list)):
        return all(_is_plain(name, one) for one in value)
    return isinstance(value, (bool, int, float, str))


def _source_of(kind: type) -> str:
    """Of the module, since what a cell calls is mostly there too; empty where there is none."""
    if kind.__module__.split(".")[0] == "mindspore":
        return ""
    try:
        module = inspect.getmodule(kind)
        return inspect.getsource(module) if module else ""
    except (OSError, TypeError):  # typed into a session
        return ""


def row_keys(images: KeyedPipeline, digests: Sequence[str], epoch: int) -> list[bytes]:
    """16 bytes for each image that name what an epoch shows of it: its content and the view."""
    recipe = images.recipe
    if recipe.augmentation is None:
        return [hash_of("evaluation", digest) for digest in digests]
    view = (recipe.seed, images.view_number(epoch), recipe.augmentation)
    ids = images.table.ids
    return [hash_of("training", *view, i, d) for i, d in zip(ids, digests, strict=True)]


def digest_of(chain: Chain) -> str:
    """Hash of the names, types and values of a Cell's parameters."""
    digest = hashlib.blake2b(digest_size=16)
    for parameter in chain.get_parameters():
        value = parameter.asnumpy()
        digest.update(f"{parameter.name}\0{value.dtype}\0{value.shape}\0".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def relative_difference(one: Array, other: Array) -> float:
    """The Euclidean norm of the difference by that of ``other``.

    Over all rows at once: an image of one colour has features next to nothing, of which rounding
    is a large part.
    """
    one, other = one.astype(np.float64), other.astype(np.float64)
    size = float(np.linalg.norm(other))
    return float(np.linalg.norm(one - other)) / (size or 1.0)


def _in_words(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    return f"the cache folder cannot be written{where}: {error.strerror or error}"

"""The frozen prefix as a function. MindSpore or a plugin's extractor computes it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np

from msft_core.errors import MsftError, PluginError, blaming
from msft_core.stages import Chain
from msft_core.system import onednn
from msft_core.training.compilation import MINDSPORE, compiled_or_eager, padded
from msft_core.types import Array, FeatureExtractor

BATCH = 16
"""Number of images computed at once. It is always the same, since a graph is compiled for one
shape. Of 8 to 64, 16 is as fast as any for MindSpore and OpenVINO, and it needs less memory than
the larger ones."""

TOLERANCE = 1e-3
"""Greatest accepted relative difference between stored features and the same features computed by
MindSpore now. Graph mode and PyNative differ by 1e-7; other instruction sets may differ by more."""

AUTO_FROM = 100
"""An extractor with ``enabled = "auto"`` is used where a run needs so many features: to export and
compile the stages for fewer takes longer than it saves."""


@dataclass(frozen=True)
class Engine:
    """An extractor of a plugin.

    Args:
        extractor: computes features.
        plugin: whose it is.
        optional: nobody asked for it by name, so MindSpore takes over where it fails.
    """

    extractor: FeatureExtractor
    plugin: str
    optional: bool = False


AskExtractor = Callable[[Chain, Array, int], Engine | None]
"""From the prefix, an example and the number of features that a run needs to an engine."""


class EngineFailed(Exception):
    """An optional engine cannot be used; the message says why."""


class FrozenPrefix:
    """Computes the features of images.

    Args:
        chain: the frozen stages, in evaluation mode.
        name: names the stages in messages.
        plugin: the plugin that made the stages, for messages.
        graph: compile the stages.
        example: a few images, float32 (n, 3, size, size).
        features: so many does the run need.
        ask_extractor: asks the plugins for another engine; None where no plugin has one.
        say: prints a line for the user.

    Raises:
        PluginError: a stage breaks the contract.
    """

    def __init__(
        self,
        chain: Chain,
        *,
        name: str,
        plugin: str,
        graph: bool,
        example: Array,
        features: int,
        ask_extractor: AskExtractor | None,
        say: Callable[[str], None],
    ) -> None:
        self._chain, self.name, self._plugin = chain, name, plugin
        self._compiled: Callable[..., Any] = chain
        if graph:
            self._compiled = compiled_or_eager(ms.jit(chain.construct), chain, say)
        self.of_example = self._by_mindspore(example)
        """The features of the example, computed by MindSpore, (n, ...)."""
        self.shape, self.dtype = self.of_example.shape[1:], self.of_example.dtype
        self._engine: Engine | None = None
        if ask_extractor is not None:
            # Not before the convolution above: MindSpore reads the variable there.
            onednn.release()
            with MINDSPORE:  # an extractor may export and compile with it
                self._engine = ask_extractor(chain, padded(example, BATCH), features)
        self._agrees = False
        self._say = say

    @property
    def engine(self) -> str:
        """The engine that computes the features, as the cache names it."""
        return self._engine.extractor.description if self._engine else "MindSpore"

    @property
    def tolerance(self) -> float:
        """Greatest accepted relative difference from MindSpore's own features."""
        return self._engine.extractor.tolerance if self._engine else TOLERANCE

    def compute(self, images: Array) -> Array:
        """Features (n, ...) of images, float32 (n, 3, size, size), at most ``BATCH``.

        Raises:
            PluginError: a stage or the extractor breaks the contract.
            EngineFailed: likewise, where nobody asked for the extractor by name.
        """
        count, images = len(images), padded(images, BATCH)
        if self._engine is None:
            with MINDSPORE, self._blaming_the_backbone():
                features = self._compiled(ms.Tensor(images)).asnumpy()
            if not self._agrees:
                features = self._checked_against_pynative(features, images)
            return features[:count]
        try:
            return self._compute_in(self._engine, images)[:count]
        except MsftError as error:
            if self._engine.optional:
                raise EngineFailed(f"{str(error).rstrip('.')}.") from error
            raise

    def _compute_in(self, engine: Engine, images: Array) -> Array:
        with MINDSPORE, blaming(engine.plugin, "build_feature_extractor"):
            # A copy, since what it is compared with is computed from the same images.
            features = engine.extractor.compute(images if self._agrees else images.copy())
        self._require_form(features, engine.plugin)
        if not self._agrees:
            self._require_agreement(features, images, engine)
        return features

    def _require_form(self, features: object, plugin: str) -> None:
        """Check every batch, since it is stored, and a later run would trust it."""
        shape, dtype = (BATCH, *self.shape), self.dtype
        what = ""
        if not isinstance(features, np.ndarray):
            what = f"compute returned {type(features).__name__}, but MindSpore computes an array"
        elif features.shape != shape:
            what = f"compute returned shape {features.shape}, but MindSpore computes {shape}"
        elif features.dtype != dtype:
            what = f"compute returned {features.dtype}, but MindSpore computes {dtype}"
        elif not np.isfinite(features).all():
            what = "compute returned numbers that are not finite"
        if what:
            raise PluginError(plugin, "build_feature_extractor", what)

    def _require_agreement(self, features: Array, images: Array, engine: Engine) -> None:
        extractor, plugin = engine.extractor, engine.plugin
        difference = relative_difference(features, self._by_mindspore(images))
        if not difference <= extractor.tolerance:
            raise PluginError(
                plugin,
                "build_feature_extractor",
                f"{extractor.description}: the relative difference of {difference:.2g} from "
                f"MindSpore's features exceeds its tolerance of {extractor.tolerance:.2g}",
            )
        self._agrees = True

    def _checked_against_pynative(self, features: Array, images: Array) -> Array:
        """Compare compiled features with PyNative's once, since they are stored.

        Returns: the features, from PyNative where the two differ.
        """
        self._agrees = True
        few = images[: len(self.of_example)]
        difference = relative_difference(features[: len(few)], self._by_mindspore(few))
        if difference <= TOLERANCE:
            return features
        self._say(
            f"The compiled stages {self.name} differ from PyNative by {difference:.2g} of the "
            "features' size, so they run in PyNative."
        )
        self._compiled = self._chain
        return self._by_mindspore(images)

    def _by_mindspore(self, images: Array) -> Array:
        """Compute in PyNative mode, which compiles nothing."""
        with MINDSPORE, self._blaming_the_backbone():
            output = self._chain(ms.Tensor(images))
            # Inside the block, since PyNative raises only when it is asked for the numbers.
            values = output.asnumpy() if isinstance(output, ms.Tensor) else None
        if values is None or output.ndim < 1 or len(output) != len(images):
            got = tuple(output.shape) if isinstance(output, ms.Tensor) else type(output).__name__
            raise PluginError(
                self._plugin,
                "build_backbone",
                f"the stages {self.name} return {got} for {len(images)} images; "
                "expected one feature for each image",
            )
        return values

    def _blaming_the_backbone(self) -> AbstractContextManager[None]:
        return blaming(self._plugin, "build_backbone", f"the stages {self.name} failed: ")


def relative_difference(one: Array, other: Array) -> float:
    """The Euclidean norm of the difference, divided by the norm of ``other``.

    It is taken over all features together. An image of one colour has features close to zero, and
    alone rounding would be a large part of them.
    """
    one, other = one.astype(np.float64), other.astype(np.float64)
    size = float(np.linalg.norm(other))
    return float(np.linalg.norm(one - other)) / (size or 1.0)

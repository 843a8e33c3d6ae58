"""Keys of stored features: the stages, their parameters and code, the image and the view."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Sequence

import numpy as np

from msft_core.columns import Rows
from msft_core.data.pipeline import KeyedPipeline
from msft_core.features.segments import KEY_BYTES
from msft_core.files import begun_hash
from msft_core.stages import Chain
from msft_core.types import Array


class ViewKeys:
    """The keys of the features that the epochs of a pipeline need.

    Args:
        images: the pipeline of images.
        digests: the hash of each image's bytes.
    """

    def __init__(self, images: KeyedPipeline, digests: Sequence[str]) -> None:
        self.images, self._digests = images, digests
        self._keys: dict[int, Rows] = {}

    def view(self, epoch: int) -> int:
        """Number of the view that an epoch shows; 0 where each image has only one view."""
        return self.images.view_number(epoch) if self.images.recipe.augmentation else 0

    def of_epoch(self, epoch: int) -> Rows:
        """See ``feature_keys``; computed once for each view."""
        view = self.view(epoch)
        if view not in self._keys:
            self._keys[view] = feature_keys(self.images, self._digests, epoch)
        return self._keys[view]


def code_digest(chain: Chain) -> str:
    """Hash of the function that stages compute, without its parameters.

    If the hash changes, the stored features are not used. It covers the place of each cell, the
    plain attributes of each cell (a stride, say), and the source of the module that defines each
    class of cell. MindSpore's own modules are left out: its version is part of the key.
    """
    cells = [(path, type(cell), vars(cell)) for path, cell in chain.cells_and_names()]
    settings = [
        (path, kind.__qualname__, sorted((k, v) for k, v in held.items() if _is_plain(k, v)))
        for path, kind, held in cells
    ]
    sources = sorted({_source_of(kind) for kind in {kind for _, kind, _ in cells}})
    # An object's address in memory means nothing.
    text = re.sub(r" at 0x[0-9a-f]+", "", json.dumps([settings, sources]))
    return hashlib.sha256(text.encode()).hexdigest()


def _is_plain(name: str, value: object) -> bool:
    if name.startswith("_"):
        return False
    if isinstance(value, (tuple, list)):
        return all(_is_plain(name, one) for one in value)
    return isinstance(value, (bool, int, float, str))


def _source_of(kind: type) -> str:
    """The source of the class's module, which mostly has the functions a cell calls too.

    Empty where there is no source.
    """
    if kind.__module__.split(".")[0] == "mindspore":
        return ""
    try:
        module = inspect.getmodule(kind)
        return inspect.getsource(module) if module else ""
    except (OSError, TypeError):  # a class that was typed into a session
        return ""


def feature_keys(images: KeyedPipeline, digests: Sequence[str], epoch: int) -> Rows:
    """For each image 16 bytes that identify its content and the view that an epoch shows.

    They are ``hash_of`` what the view is, the image's id unless it is as in evaluation, and the
    hash of its content; the first part is hashed once.
    """
    recipe = images.recipe
    if recipe.augmentation is None:
        start, ends = begun_hash("evaluation"), iter(digests)
    else:
        view = (recipe.seed, images.view_number(epoch), recipe.augmentation)
        start = begun_hash("training", *view)
        each = zip(images.table.ids, digests, strict=True)
        ends = (f"{name}\0{digest}" for name, digest in each)
    keys: Array = np.empty((len(digests), KEY_BYTES), np.uint8)
    for index, end in enumerate(ends):
        whole = start.copy()
        whole.update(end.encode("utf-8", "surrogateescape"))
        keys[index] = np.frombuffer(whole.digest(), np.uint8)
    return Rows(keys)


def parameters_digests(chain: Chain) -> tuple[str, ...]:
    """Hashes of the parameters of the first 1, 2, ... parts of a chain, in one pass.

    Each covers names, dtypes, shapes and values. The last is that of the whole chain; any other is
    that of the chain of these first parts alone.
    """
    # SHA-256, not BLAKE2b: newer processors have instructions for it, and networks are large.
    digest = hashlib.sha256()
    seen: set[int] = set()
    digests = []
    for part in chain.parts:
        for parameter in part.get_parameters():
            if id(parameter) in seen:  # parts may share a parameter
                continue
            seen.add(id(parameter))
            value = parameter.asnumpy()
            digest.update(f"{parameter.name}\0{value.dtype}\0{value.shape}\0".encode())
            digest.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
        digests.append(digest.hexdigest())
    return tuple(digests)

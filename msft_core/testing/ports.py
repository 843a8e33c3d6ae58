"""The comparison of a backbone with the network that it was ported from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msft_core.errors import UsageError, blaming, suggest
from msft_core.testing.asking import Asked, check, class_names

if TYPE_CHECKING:
    from msft_core.types import Array, Backbone

__tracebackhide__ = True


@check
def assert_same_logits(
    name: str,
    reference: Mapping[str, Any] | str | Path | Callable[[Array], Any],
    *,
    plugins: Sequence[object] = (),
    settings: Mapping[str, Any] | None = None,
    classes: Sequence[str] = (),
    tolerance: float = 1e-3,
) -> None:
    """Check that a backbone with its weights computes what the original network computes.

    ``reference`` says what the original computes. It is a mapping of arrays, the path of an
    ``.npz`` file with these arrays, or a function. ``images`` is float32 (N, 3, S, S), normalised:
    the input of both networks. ``logits`` (N, K) is what the original computes for them. Under the
    name of a stage is the original's output after that stage. Under the name of a parameter of the
    head, such as ``classifier.weight``, are its values in the original: a backbone makes a new
    head, so a comparison of logits needs the original's.

    At least ``logits`` or one stage is needed. A function receives ``images``, which the check
    draws, and returns such a mapping without ``images``, or only logits.

    Args:
        name: name of the backbone.
        reference: what the original computes, see above.
        plugins: plugins besides the installed ones, as for ``msft_run``.
        settings: as in the section ``backbone`` of a configuration.
        classes: names of the classes, for a backbone that keeps the head of a run's checkpoint
            (``keeps_head``); by default K invented names.
        tolerance: largest difference, as a fraction of the largest value of the reference.

    Raises:
        AssertionError: the outputs differ. The message has the largest difference after each
            compared stage, and says after which stage the first difference is.
        MsftError: raised by the plugin, or the reference cannot be used.
    """
    import numpy as np

    asked = Asked("backbone", name, plugins, settings)
    if callable(reference):
        backbone = asked.backbone(classes or class_names(2))
        size = backbone.preprocessing.size
        images = np.random.default_rng(0).normal(size=(2, 3, size, size)).astype(np.float32)
        given = reference(images.copy())
        values = dict(given) if isinstance(given, Mapping) else {"logits": given}
        values["images"] = images
    elif isinstance(reference, Mapping):
        values = dict(reference)
    else:
        with np.load(reference, allow_pickle=False) as file:  # noqa: TID251 - no pickles
            values = dict(file)
    arrays = {key: np.asarray(value) for key, value in values.items()}
    if not classes:
        logits = arrays.get("logits")
        classes = class_names(2 if logits is None else logits.shape[-1])
    backbone = asked.backbone(classes)
    has_head = _take_head(backbone, arrays)
    found = _compare(backbone, arrays, asked.plugin)
    wrong = [one for one in found if not one.size <= tolerance]
    if not wrong:
        return
    first = f"The first difference above the tolerance of {tolerance:g} is {wrong[0].where}."
    if wrong[0].where == "in the logits" and not has_head:
        first += " The reference has no parameters of the head: is the head a new one?"
    heading = f"{asked.what} does not compute what its original computes. {first}"
    raise AssertionError("\n  ".join([heading, *(f"{one.where}: {one.told_as}" for one in found)]))


@dataclass(frozen=True)
class _Difference:
    """Of one output.

    Args:
        where: in the network.
        size: largest difference as a fraction of the largest value; infinite for another shape.
        told_as: the details.
    """

    where: str
    size: float
    told_as: str


def _take_head(backbone: Backbone, arrays: Mapping[str, Array]) -> bool:
    """Put the original's head into the backbone; say whether there is one. Refuse unknown names."""
    import mindspore as ms
    import numpy as np

    head = {parameter.name: parameter for parameter in backbone.head.get_parameters()}
    stages = [stage.name for stage in backbone.stages]
    known = ["images", "logits", *stages, *head]
    for key in arrays:
        if key not in known:
            raise UsageError(
                f"reference: {key!r} is neither images nor logits, nor a stage "
                f"({', '.join(stages)}), nor a parameter of the head ({', '.join(head)})."
                f"{suggest(key, known)}"
            )
    if "images" not in arrays or not {"logits", *stages} & set(arrays):
        raise UsageError("reference: give images, and logits or the outputs of a stage.")
    given = {key: parameter for key, parameter in head.items() if key in arrays}
    for key, parameter in given.items():
        if arrays[key].shape != tuple(parameter.shape):
            raise UsageError(
                f"reference: {key} has the shape {arrays[key].shape}, the head's has "
                f"{tuple(parameter.shape)}."
            )
        parameter.set_data(ms.Tensor(np.asarray(arrays[key], np.float32)))
    return bool(given)


def _compare(backbone: Backbone, arrays: Mapping[str, Array], plugin: str) -> list[_Difference]:
    """The difference of each output that the reference has, in the order of computation."""
    import mindspore as ms
    import numpy as np

    tensor: Any = ms.Tensor(np.asarray(arrays["images"], np.float32))
    found = []
    parts = [(s.name, f"after stage {s.name!r}", s.cell) for s in backbone.stages]
    for key, where, cell in [*parts, ("logits", "in the logits", backbone.head)]:
        cell.set_train(False)
        with blaming(plugin, "build_backbone", "the network does not run: "):
            tensor = cell(tensor)
        if key in arrays:
            found.append(_difference(where, tensor.asnumpy(), arrays[key]))
    return found


def _difference(where: str, ours: Array, original: Array) -> _Difference:
    import numpy as np

    if ours.shape != original.shape:
        infinite = float("inf")
        return _Difference(where, infinite, f"the shape is {ours.shape}, not {original.shape}")
    distances = np.abs(ours.astype(np.float64) - original.astype(np.float64))
    place = np.unravel_index(int(np.nan_to_num(distances, nan=np.inf).argmax()), distances.shape)
    size = float(distances[place]) / (float(np.abs(original).max(initial=0.0)) or 1.0)
    index = tuple(int(number) for number in place)
    return _Difference(
        where,
        size,
        f"the largest difference is {size:.2g} of the largest value: {ours[place]:.6g} instead of "
        f"{original[place]:.6g} at {index}",
    )

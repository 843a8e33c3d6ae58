"""Load arrays into a network's parameters by name. Every array and parameter is accounted for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msft_core.errors import WeightsError
from msft_core.files import json_value

if TYPE_CHECKING:
    from mindspore import nn

    from msft_core.types import Context, Reporter
    from msft_core.weights.reading import Checkpoint

BOOKKEEPING_PREFIXES = ("moments.", "adam_m.", "adam_v.", "ema.")
"""Names with one of these prefixes belong to an optimizer or a moving average of the weights."""

BOOKKEEPING_NAMES = ("global_step", "learning_rate", "momentum", "epoch_num", "step_num")
"""Names of numbers that training leaves in a checkpoint beside the weights."""

_SHOWN = 3


def drop_bookkeeping(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Drop the arrays that belong to the optimizer or to the training loop.

    These are ``num_batches_tracked``, the names in ``BOOKKEEPING_NAMES``, and names with a prefix
    in ``BOOKKEEPING_PREFIXES``.
    """
    return {
        name: array
        for name, array in arrays.items()
        if not name.startswith(BOOKKEEPING_PREFIXES)
        and name not in BOOKKEEPING_NAMES
        and name.rpartition(".")[2] != "num_batches_tracked"
    }


def load_into(
    cells: Iterable[nn.Cell],
    arrays: Mapping[str, NDArray[Any]],
    *,
    source: str,
    reporter: Reporter,
    rename: Callable[[str], str] = str,
    reset: Collection[str] = (),
) -> None:
    """Copy a checkpoint into a network; every array and every parameter is accounted for.

    Args:
        cells: all stages and the head, and so all parameters, moving statistics included.
        arrays: arrays by the file's names, without bookkeeping (``drop_bookkeeping``).
        source: the file, for messages.
        reporter: receives a line for each array that is not loaded.
        rename: turns the file's name of an array into the network's name of the parameter.
        reset: parameters that keep their present values, whether or not the file has them. These
            are the parameters of the new head.

    Raises: WeightsError if names or shapes do not match exactly, apart from ``reset``, or if values
    are whole numbers, NaN or infinite. Then the network is unchanged. Values are copied exactly;
    other float types become float32.
    """
    from mindspore import Tensor

    parameters = {
        parameter.name: parameter for cell in cells for parameter in cell.get_parameters()
    }
    names = {key: rename(key) for key in arrays}
    wanted = {name for name in parameters if name not in reset}
    given = {name: key for key, name in names.items() if name not in reset}
    if len(given) < sum(name not in reset for name in names.values()):
        twice = [key for key, name in names.items() if given.get(name, key) != key]
        raise WeightsError(f"{source}: there are two arrays for one parameter: {_shorten(twice)}")
    missing = [name for name in parameters if name in wanted and name not in given]
    surplus = [key for name, key in given.items() if name not in wanted]
    if missing or surplus:
        raise WeightsError(
            f"{source}: does not fit the network. Missing in the file: {_shorten(missing)}; "
            f"unknown to the network: {_shorten(surplus)}."
        )
    wrong = [
        f"{key} {arrays[key].shape} instead of {tuple(parameters[name].shape)}"
        for name, key in given.items()
        if arrays[key].shape != tuple(parameters[name].shape)
    ]
    if wrong:
        raise WeightsError(f"{source}: shapes do not fit the network: {_shorten(wrong)}.")
    values = {name: _as_float32(arrays[key]) for name, key in given.items()}
    types = {key: arrays[key].dtype for key in given.values()}
    if whole := [f"{key} of {dtype}" for key, dtype in types.items() if dtype.kind != "f"]:
        raise WeightsError(
            f"{source}: weights must be floating-point numbers, but there is {_shorten(whole)}: "
            "give a network that is not quantised."
        )
    broken = [given[name] for name, array in values.items() if not np.isfinite(array).all()]
    if broken:
        raise WeightsError(f"{source}: there is NaN or infinity in {_shorten(broken)}.")
    for key, name in names.items():
        if name in reset:
            reporter.info(f"Delete parameter from checkpoint: {key}")
    for name, array in values.items():
        # A copy: the parameter must not share memory with the caller's array.
        parameters[name].set_data(Tensor(array.copy()))


def _as_float32(array: NDArray[Any]) -> NDArray[Any]:
    """The array itself where it is float32; a value that is too large becomes infinite."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32, order="C", copy=False)


def keeps_head(checkpoint: Checkpoint, context: Context) -> bool:
    """Whether the classification layer of a run's own checkpoint fits, and say so.

    It does where the class names are the same in the same order. Then leave ``reset`` of
    ``load_into`` empty, so that training goes on where it ended.

    Args:
        checkpoint: whose metadata has the classes, if a run of msft wrote it.
        context: of the backbone that is built, with the classes of the dataset.
    """
    try:
        classes = json_value(checkpoint.metadata.get("classes", "[]"))
    except ValueError:
        return False
    if not context.classes or classes != list(context.classes):
        return False
    context.reporter.info(
        f"The classification layer of {checkpoint.path} is kept: its classes are the same."
    )
    return True


def draw_head(
    num_classes: int, features: int, seed: int, *, std: float = 0.01
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Draw the weights of a new classification layer: a function of the arguments alone.

    With small weights the first probabilities are nearly equal for all classes. So the first
    gradients depend on the images and not on the random weights.

    Args:
        num_classes: number of outputs.
        features: number of inputs.
        seed: the run's seed.
        std: standard deviation of the normal distribution of the weights.

    Returns: weight float32 (num_classes, features) and bias float32 (num_classes,), which is zero.
    """
    weight = np.random.default_rng(seed).normal(0.0, std, (num_classes, features))
    return weight.astype(np.float32), np.zeros(num_classes, np.float32)


def _shorten(names: Sequence[str]) -> str:
    if not names:
        return "nothing"
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown

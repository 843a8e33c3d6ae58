"""Functions that draw: arrays in, a matplotlib ``Figure`` out. No pyplot, no window, no state.

Importing this module imports matplotlib. The plugin imports it when it draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from msft_core.pages.style import (
    CAPTION,
    DETAIL,
    FILE,
    INK,
    LINE,
    MARGIN,
    METRIC_COLOURS,
    MUTED,
    NARROWEST,
    PALE,
    RIGHT,
    WRONG,
    Inches,
    fitting,
    house_style,
    place,
    sheet,
    text_width,
)
from msft_core.pages.texts import counted
from msft_core.types import Best, EpochRecord, ImageBatch, Predictions

Indices = np.ndarray[Any, np.dtype[np.int64]]


def most_telling(predictions: Predictions) -> Indices:
    """All indices, int64 (N,): mistakes, surest first; then right predictions, least sure first."""
    wrong = predictions.predicted != predictions.labels
    sureness = predictions.probabilities.max(axis=1)
    order: Indices = np.lexsort((np.where(wrong, -sureness, sureness), ~wrong))
    return order


@house_style()
def draw_training_images(images: ImageBatch, classes: Sequence[str], total: int) -> Figure:
    """A grid of training images with their class names.

    Args:
        images: augmented images, pixels uint8 (N, H, W, 3), N >= 1.
        classes: class names in label order.
        total: number of all training images.
    """
    count, height, width, _ = images.pixels.shape
    _, tile = _grid_shape(count)
    captions = [[(fitting("{}", classes[label], tile, CAPTION), INK)] for label in images.labels]
    detail = (
        f"{count} of {counted(total, 'image')} of {counted(len(classes), 'class', 'classes')}, "
        f"{width} × {height} pixels, as augmented for epoch 1"
    )
    return _grid(images.pixels, captions, "Training images", [detail])


@house_style()
def draw_predictions(
    images: ImageBatch, predictions: Predictions, order: Sequence[int] | Indices, source: str
) -> Figure:
    """A grid of validation images, each with the predicted class and its probability.

    Args:
        images: pixels uint8 (N, H, W, 3), N >= 1.
        predictions: the predictions of the whole split.
        order: N indices into ``predictions``, one for each image.
        source: which weights predicted, for the heading.
    """
    classes, labels, predicted = predictions.classes, predictions.labels, predictions.predicted
    _, tile = _grid_shape(len(order))
    captions = []
    for index in order:
        guess, truth = predicted[index], labels[index]
        confidence = predictions.probabilities[index, guess]
        colour = RIGHT if guess == truth else WRONG
        lines = [(fitting(f"{{}} {confidence:.0%}", classes[guess], tile, CAPTION), colour)]
        if guess != truth:
            lines.append((fitting("true: {}", classes[truth], tile, CAPTION), colour))
        # So that a mislabelled photograph can be found.
        lines.append((fitting("{}", predictions.ids[index].rpartition("/")[2], tile, FILE), MUTED))
        captions.append(lines)

    mistakes = int((predicted != labels).sum())
    if mistakes == 0:
        detail = "no mistakes; the least sure predictions first"
    elif mistakes < len(order):
        detail = f"{counted(mistakes, 'mistake')}, surest first; then the least sure right images"
    else:
        detail = f"{len(order)} of {counted(mistakes, 'mistake')}, surest first"
    title = f"Validation: {_accuracy(predictions)}"
    return _grid(images.pixels, captions, title, [source, detail])


@house_style()
def draw_classified(
    pixels: np.ndarray[Any, np.dtype[np.uint8]],
    files: Sequence[str],
    probabilities: np.ndarray[Any, np.dtype[np.float32]],
    classes: Sequence[str],
    total: int,
    maps: np.ndarray[Any, np.dtype[np.float32]] | None = None,
) -> Figure:
    """A grid of images, each with the class that was predicted for it.

    Args:
        pixels: uint8 (N, H, W, 3), N >= 1.
        files: the file of each image.
        probabilities: float32 (N, K).
        classes: K class names.
        total: number of all images that were classified.
        maps: heat maps float32 (N, H, W), 0 to 1, to lay over the images; None for plain ones.
    """
    _, tile = _grid_shape(len(files))
    captions = []
    for file, values in zip(files, probabilities, strict=True):
        guess = int(values.argmax())
        line = fitting(f"{{}} {values[guess]:.0%}", classes[guess], tile, CAPTION)
        name = fitting("{}", file.rpartition("/")[2], tile, FILE)
        captions.append([(line, INK), (name, MUTED)])
    details = [
        counted(total, "image") if len(files) == total else f"{len(files)} of {total} images"
    ]
    if maps is not None:
        details.append("red: what speaks for the class (Grad-CAM)")
        pixels = np.stack([overlaid(*pair) for pair in zip(pixels, maps, strict=True)])
    return _grid(pixels, captions, "Predicted classes", details)


def overlaid(
    pixels: np.ndarray[Any, np.dtype[np.uint8]], heat: np.ndarray[Any, np.dtype[np.float32]]
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An image, uint8 (H, W, 3), under a heat map, float32 (H, W), 0 to 1: grey, with red on it."""
    grey = pixels.mean(axis=2, keepdims=True) * 0.75 + 40
    colour = np.array([214, 40, 40])
    share = 0.72 * heat[..., None]
    mixed = grey * (1 - share) + colour * share
    return mixed.clip(0, 255).astype(np.uint8)


def _grid_shape(count: int) -> tuple[int, Inches]:
    """Columns of a grid, and the side of an image in it."""
    wide = min(10, max(4, math.ceil(math.sqrt(1.5 * count))))
    # One more column if that leaves fewer gaps in the last row.
    columns = count if count <= 4 else min((wide, wide + 1), key=lambda columns: -count % columns)
    return columns, 2.2 if columns <= 4 else 1.8


def _grid(
    pixels: np.ndarray[Any, np.dtype[np.uint8]],
    captions: Sequence[Sequence[tuple[str, str]]],
    title: str,
    details: Sequence[str],
) -> Figure:
    """Images (N, H, W, 3) in rows. Above each image is its caption: lines, each with its colour."""
    columns, tile = _grid_shape(len(pixels))
    rows = math.ceil(len(pixels) / columns)
    gap = 0.16
    caption = LINE * max(map(len, captions)) + 0.04
    step = caption + tile + gap
    width = max(2 * MARGIN + columns * (tile + gap) - gap, NARROWEST)
    body = rows * step - gap + MARGIN
    figure = sheet(width, body, title, details)
    axes = place(figure, 0, 0, width, body)
    axes.set_axis_off()
    for index, (image, lines) in enumerate(zip(pixels, captions, strict=True)):
        row, column = divmod(index, columns)
        left = MARGIN + column * (tile + gap)
        top = body - row * step - caption
        axes.imshow(image, extent=(left, left + tile, top - tile, top))
        for number, (line, colour) in enumerate(reversed(lines)):
            size = FILE if colour == MUTED else CAPTION
            axes.text(left, top + 0.06 + number * LINE, line, color=colour, fontsize=size)
    axes.set(xlim=(0, width), ylim=(0, body))
    return figure


@house_style()
def draw_curves(history: Sequence[EpochRecord], best: Best | None) -> Figure:
    """The loss by epoch, and beside it every validation metric with values between 0 and 1.

    An epoch that was not evaluated has no point. A value that is not finite leaves a gap.

    Args:
        history: a record for each epoch, at least one.
        best: the epoch to mark, and the metric that chose it.
    """
    losses = {
        "training": _series({record.epoch: record.train for record in history}, "loss"),
        "validation": _series({record.epoch: record.val for record in history}, "loss"),
    }
    names = dict.fromkeys(name for record in history for name in record.val if name != "loss")
    metrics = {
        name: _series({record.epoch: record.val for record in history}, name) for name in names
    }
    metrics = {name: series for name, series in metrics.items() if _is_share(series[1])}

    side, tall, gap = 4.9, 3.2, 0.7
    panels = 2 if metrics else 1
    width = MARGIN + panels * (side + gap)
    detail = counted(len(history), "epoch")
    if best is not None:
        detail += f"; best {best.metric} {best.value:.4g} at epoch {best.epoch}"
    figure = sheet(width, tall + 0.82, "Training curves", [detail])

    left = place(figure, gap, 0.6, side, tall)
    _plot(left, losses, [MUTED, RIGHT], "loss")
    finite = [value for _, values in losses.values() for value in values if not math.isnan(value)]
    left.set_ylim(0, 1.08 * max([*finite, 0.01]))
    if metrics:
        right = place(figure, 2 * gap + side, 0.6, side, tall)
        _plot(right, metrics, METRIC_COLOURS, "validation metrics")
        low, high = right.get_ylim()
        right.set_ylim(max(low, 0), min(high, 1))

    for axes in figure.axes:
        axes.set_xlim(history[0].epoch - 0.5, history[-1].epoch + 0.5)
        if best is not None:
            axes.axvline(
                best.epoch,
                color=INK,
                linewidth=0.9,
                linestyle=(0, (2, 3)),
                zorder=1,
                label=f"best: epoch {best.epoch}",
            )
        if axes.lines:
            axes.legend()
    return figure


Series = tuple[list[int], list[float]]


def _series(values: Mapping[int, Mapping[str, float]], name: str) -> Series:
    """The epochs that have this value, and the values, with NaN for those that are not finite."""
    epochs = [epoch for epoch, of_epoch in values.items() if name in of_epoch]
    found = [values[epoch][name] for epoch in epochs]
    return epochs, [value if math.isfinite(value) else math.nan for value in found]


def _is_share(values: Sequence[float]) -> bool:
    finite = [value for value in values if not math.isnan(value)]
    return bool(finite) and all(0 <= value <= 1 for value in finite)


def _plot(axes: Axes, lines: Mapping[str, Series], colours: Sequence[str], title: str) -> None:
    """Lines by epoch. Lines after the last colour are pale and share one entry in the legend."""
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
    axes.yaxis.grid(True, color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    for index, (name, (epochs, values)) in enumerate(lines.items()):
        if not epochs:
            continue
        named = index < len(colours)
        label = fitting("{}", name, 2.0, 8.5) if named else f"{len(lines) - len(colours)} more"
        axes.plot(
            epochs,
            values,
            color=colours[index] if named else "#cccccc",
            label=label if index <= len(colours) else None,
            linewidth=1.6,
            marker="o",
            markersize=4 if len(epochs) <= 40 else 2,
            zorder=3 if named else 2,
            clip_on=False,  # a point at 1 is whole, though the axis ends there
        )


@house_style()
def draw_confusion_matrix(predictions: Predictions, source: str) -> Figure:
    """How often each true class (row) was predicted as each class (column).

    With up to 30 classes each cell shows its count and its share of the row. With up to about 120
    the classes have their names. With more, only the shades are left, and the figure does not grow.

    Args:
        predictions: the predictions of the whole split. A class without images has a grey row.
        source: which weights predicted, for the heading.
    """
    classes = predictions.classes
    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, (predictions.labels, predictions.predicted), 1)

    cell = min(1.4, max(0.42, 6 / len(classes))) if len(classes) <= 30 else 12.6 / len(classes)
    side = cell * len(classes)
    size = min(9.0, max(5.5, 0.6 * 72 * cell)) if cell > 0.1 else 9.0
    names = [fitting("{}", name, 1.7, size) for name in classes] if cell > 0.1 else []
    longest = max((text_width(name, size) for name in names), default=0.4)
    angle = 0 if longest < 0.95 * cell else 45 if cell > 0.4 else 90
    below = {0: 0.2, 45: 0.75 * longest + 0.1, 90: longest}[angle]

    left = MARGIN + 0.34 + longest
    width = max(left + side + MARGIN, NARROWEST)
    title = f"Confusion matrix: {_accuracy(predictions)}"
    shares = "shade" if len(classes) > 30 else "shade and per cent"
    details = [source, f"{shares}: share of the true class"]
    if not counts.sum(axis=1).all():
        details[1] += "; a grey row has no images"
    if len(classes) > 30:
        details.append(_frequent_mistakes(counts, classes))
    figure = sheet(width, 0.45 + below + side, title, details)
    axes = place(figure, left, 0.45 + below, side, side)

    axes.imshow(_shades(counts, faintest=0.12 if names else 0.5), interpolation="nearest")
    number = "" if names else ", its number in classes.json"
    axes.set_xlabel(f"predicted class{number}", labelpad=6)
    axes.set_ylabel(f"true class{number}", labelpad=6)
    axes.tick_params(length=0 if names else 3, labelsize=size, pad=3)
    if names:
        slanted: dict[str, Any] = {"ha": "right", "rotation_mode": "anchor"} if angle == 45 else {}
        axes.set_xticks(range(len(names)), names, rotation=angle, **slanted)
        axes.set_yticks(range(len(names)), names)
    if len(classes) <= 30:
        edges = np.arange(len(classes) + 1) - 0.5
        axes.hlines(edges, edges[0], edges[-1], color="white", linewidth=1)
        axes.vlines(edges, edges[0], edges[-1], color="white", linewidth=1)
        _write_counts(axes, counts, size=min(11.0, 0.24 * 72 * cell), zeros=len(classes) <= 10)
    return figure


def _shades(counts: Indices, faintest: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Counts int64 (K, K) as colours (K, K, 3). A larger share of the row is darker.

    A cell that is not 0 has at least the shade ``faintest``. A row without images is grey.
    """
    totals = counts.sum(axis=1, keepdims=True)
    shade = np.where(counts > 0, faintest + (1 - faintest) * counts / np.maximum(totals, 1), 0)
    diagonal = np.eye(len(counts), dtype=bool)
    full = np.where(diagonal[..., None], to_rgb(RIGHT), to_rgb(WRONG))
    colours = 1 - shade[..., None] * (1 - full)
    return np.where(totals[..., None] > 0, colours, to_rgb(PALE))


def _write_counts(axes: Axes, counts: Indices, size: float, zeros: bool) -> None:
    """Write into each cell the count and its share of the row."""
    for (row, column), count in np.ndenumerate(counts):
        total = counts[row].sum()
        if count:
            text, colour = f"{count}\n{count / total:.0%}", INK if 2 * count <= total else "white"
        elif zeros and total:
            text, colour = "0", "#b0b0b0"
        else:
            continue
        axes.text(column, row, text, color=colour, fontsize=size, ha="center", va="center")


def _frequent_mistakes(counts: Indices, classes: Sequence[str]) -> str:
    """The three most frequent mistakes in words, from counts int64 (K, K)."""
    mistakes = counts.copy()
    np.fill_diagonal(mistakes, 0)
    found = []
    for index in np.argsort(-mistakes, axis=None, kind="stable")[:3]:
        truth, guess = divmod(int(index), len(classes))
        if mistakes[truth, guess]:
            pair = [fitting("{}", classes[label], 1.5, DETAIL) for label in (truth, guess)]
            found.append(f"{pair[0]} as {pair[1]} ({mistakes[truth, guess]})")
    return "most frequent mistakes: " + (", ".join(found) or "none")


def _accuracy(predictions: Predictions) -> str:
    right = int((predictions.predicted == predictions.labels).sum())
    total = len(predictions.labels)
    return f"accuracy {right / max(total, 1):.1%} ({right}/{total})"

"""``msft predict``: from files, folders and patterns to predictions."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from msft_core.errors import UsageError
from msft_core.folders import files_below
from msft_core.system.interrupts import Interrupts

if TYPE_CHECKING:
    from msft_core.runs.classifier import Classifier
    from msft_core.types import Array, Reporter


@dataclass(frozen=True, eq=False)
class Classified:
    """What a classifier says of some files.

    Args:
        files: the files that it could use, as they were asked for.
        probabilities: float32 (N, K).
        problems: for each file that it could not use, the reason.
    """

    files: tuple[str, ...]
    probabilities: Array
    problems: dict[str, str]


_READ = ".jpg .jpeg .jpe .jfif .png .apng .webp .bmp .dib .tif .tiff .avif .heic .heif"
_REFUSED = ".gif .svg .ico .psd .jp2 .jxl .tga .ppm .pgm .dng .cr2 .cr3 .nef .arw .raf .orf"

IMAGE_SUFFIXES = frozenset(["", *_READ.split(), *_REFUSED.split()])
"""Ends of the names of images, also of kinds that msft cannot read; and names without an end."""


def find_images(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The files that names of files, folders and patterns mean, each once, in order.

    A folder means all files below it, but for hidden ones and those whose names say that they are
    no images. A pattern may have ``**``. A name that is nothing of these is returned as it is:
    reading it gives the reason.

    Returns: the files, and those in folders that are no images.
    Raises:
        UsageError: no name is given, a folder has no images, or a pattern matches nothing.
    """
    found: dict[str, None] = {}
    others: dict[str, None] = {}
    for name in names:
        path = Path(name).expanduser()
        if path.is_dir():
            below = files_below(path)
            inside = [str(one) for one in below if one.suffix.lower() in IMAGE_SUFFIXES]
            if not inside:
                what = f"images among its {len(below)} files" if below else "files"
                raise UsageError(f"the folder {name} has no {what}.")
            found |= dict.fromkeys(inside)
            others |= dict.fromkeys(map(str, below))
        elif glob.has_magic(name) and not path.exists():
            matching = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
            files = [one for one in matching if not Path(one).is_dir()]
            if not files:
                raise UsageError(f"no file matches {name}.")
            found |= dict.fromkeys(files)
        else:
            found[str(path)] = None
    if not found:
        raise UsageError("no images are given: give files, folders or patterns.")
    return list(found), [one for one in others if one not in found]


def classify(
    classifier: Classifier,
    files: Sequence[str],
    advance: Callable[[int], None],
    emit: Callable[[str, Array], None] = lambda file, values: None,
    interrupts: Interrupts | None = None,
) -> Classified:
    """Classify files. A file that cannot be used hinders no other.

    Args:
        classifier: of a finished run.
        files: the files.
        advance: called with the number of files done since the last call.
        emit: called with each file and its probabilities, float32 (K,), as soon as they are known.
        interrupts: raised between images, since MindSpore cannot be interrupted.
    """
    import numpy as np

    from msft_core.images import ImageError
    from msft_core.runs.inputs import view_of

    problems: dict[int, str] = {}

    def read(index: int) -> Array:
        try:
            return view_of(files[index], classifier.preprocessing)
        except ImageError as error:
            problems[index] = str(error)
            raise

    signals = interrupts or Interrupts()
    if interrupts is not None:
        interrupts.install()  # MindSpore may have replaced the handlers
    names, rows, last = [], [], -1
    with signals.held():
        for index, values in classifier.probabilities(range(len(files)), read):
            names.append(files[index])
            rows.append(values)
            emit(files[index], values)
            advance(index - last)
            last = index
            signals.check()
    advance(len(files) - 1 - last)
    together = np.stack(rows) if rows else np.zeros((0, len(classifier.classes)), np.float32)
    return Classified(tuple(names), together, {files[i]: problems[i] for i in sorted(problems)})


PICTURED = 60
"""Images in a picture at most."""


def draw(
    classifier: Classifier, found: Classified, path: Path, *, explain: bool, reporter: Reporter
) -> Path:
    """Draw the images with what was predicted, and with ``explain`` where the network saw it.

    Raises:
        UsageError: no image could be used, or no stage has a spatial output.
        OutputError: the file cannot be written.
    """
    import numpy as np

    from msft_core.pages import drawing, style

    if not found.files:
        raise UsageError(f"{path} was not drawn: no image could be used.")
    files, total = found.files[:PICTURED], len(found.files)
    if total > PICTURED:
        reporter.info(f"{path} shows the first {PICTURED} of {total} images.")
    pixels = np.stack([classifier.view(file, index) for index, file in enumerate(files)])
    maps = None
    if explain:
        from msft_core.data.views import normalise
        from msft_core.training.gradcam import heat_maps

        inputs = normalise(pixels, classifier.preprocessing)
        chosen = found.probabilities[: len(files)].argmax(axis=1)
        maps = heat_maps(classifier.backbone, inputs, chosen)
    figure = drawing.draw_classified(
        pixels, files, found.probabilities[: len(files)], classifier.classes, total, maps
    )
    return style.save(figure, path, dpi=110)


def write_csv(classifier: Classifier, found: Classified, path: Path) -> Path:
    """Write the predictions as ``predictions.csv`` has them, without the true classes.

    Raises:
        OutputError: the file cannot be written.
    """
    from msft_core.runs.predictions_file import write_rows

    return write_rows(path, found.files, found.probabilities, classifier.classes)

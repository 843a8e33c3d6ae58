"""Export a trained classifier: ``msft export``."""

from __future__ import annotations

import errno
import importlib.util
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msft_core.config import component_settings
from msft_core.data.views import evaluation_view, normalise
from msft_core.engine.load import open_run
from msft_core.errors import DataError, ExportError, PluginError, UsageError
from msft_core.files import json_text, write_json, write_together
from msft_core.folders import files_below
from msft_core.images import FileTable, ImageError
from msft_core.runs.checkpoints import CheckpointInfo
from msft_core.runs.shown import evenly_spaced, indices_of
from msft_core.system.cache_folder import cache_dir
from msft_core.system.interrupts import Interrupts
from msft_core.types import (
    Array,
    Backbone,
    Component,
    Context,
    ExportModel,
    ImageTable,
    Preprocessing,
    Reporter,
    Settings,
)

if TYPE_CHECKING:
    from msft_core.plugins.registry import Plugins
    from msft_core.runs.finished import FinishedRun

CHECKED = 32
"""Number of real images with which an exported file is compared."""

_DISTINCT = 1e-3
"""Probabilities that differ by less are the same for the check."""

_FILES_OF_A_RUN = ("best.ckpt", "last.ckpt", "classes.json", "environment.json", "config.toml")

_NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def export(
    run: str | Path,
    format: str,
    *,
    out: str | Path | None = None,
    normalise: bool = False,
    data_dir: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    modules: Sequence[str] = (),
    without: Sequence[str] = (),
    objects: Sequence[object] = (),
    device: str = "auto",
    reporter: Reporter,
) -> Path:
    """Write a trained classifier in a format of other programs, and a JSON file beside it.

    Args:
        run: a run folder or a checkpoint.
        format: name of an exporter.
        out: the file; by default ``model.FORMAT`` in the run folder, or beside a checkpoint with
            its name.
        normalise: whether the exported network normalises its input itself.
        data_dir: a folder of images with which the file is compared, instead of the run's
            validation images.
        settings: of the exporter.
        modules: as with ``--plugin``.
        without: as with ``--without``.
        objects: plugin objects or classes.
        device: cpu, gpu, ascend or auto.
        reporter: for lines, warnings and progress.

    Returns: the file.
    Raises:
        MsftError: one line for the user. Then an older file stays as it was.
    """
    interrupts = Interrupts()
    with interrupts.caught():
        opened = open_run(
            run,
            modules=modules,
            without=without,
            objects=objects,
            device=device,
            reporter=reporter,
        )
        component = opened.plugins.component("exporter", format)
        owner = opened.plugins.owner("exporter", format)
        _require_packages(component)
        checked = component_settings(component, settings or {}, owner)
        target = _target(opened, Path(run).expanduser(), format, out)
        table = _images(opened, data_dir)
        classifier = opened.classifier  # imports MindSpore
        interrupts.install()  # MindSpore has replaced the handlers
        model = describe(
            classifier.backbone, opened.info, _read(table, opened.info.preprocessing), normalise
        )
        write(opened.plugins, component, checked, model, target, reporter, interrupts)
        return target


def _require_packages(component: Component) -> None:
    """Raise UsageError where a module is missing that the exporter needs."""
    for module, command in component.needs.items():
        if importlib.util.find_spec(module) is None:
            raise UsageError(f"exporter {component.name} needs the package {module}: {command}.")


def _target(run: FinishedRun, given: Path, format: str, out: str | Path | None) -> Path:
    """The file to write. Raises UsageError where it cannot be one."""
    if out is not None:
        target = Path(out).expanduser()
    else:
        is_best = run.is_whole and (given.is_dir() or run.checkpoint.name == "best.ckpt")
        stem = "model" if is_best else run.checkpoint.stem
        target = run.checkpoint.parent / f"{stem}.{_suffix(format)}"
    if target.is_dir():
        raise UsageError(f"--out {target} is a folder: name a file in it.")
    if not target.parent.is_dir():
        raise UsageError(f"--out {target}: there is no folder {target.parent}; create it first.")
    if _beside(target).is_dir():
        raise UsageError(
            f"--out {target}: {_beside(target)}, the JSON file beside it, is a folder: name "
            "another file."
        )
    for path in (target, _beside(target)):
        of_run = path.name in _FILES_OF_A_RUN and path.parent.resolve() == run.folder.resolve()
        if of_run or path.resolve() == run.checkpoint.resolve():
            raise UsageError(f"--out {target} would replace {path} of the run: name another file.")
    return target


def _beside(target: Path) -> Path:
    """The JSON file that describes an exported file."""
    return target.with_name(f"{target.name}.json")


def _suffix(format: str) -> str:
    return format.replace("/", "-")


# The images that the file is checked with


def _images(run: FinishedRun, data_dir: str | Path | None) -> ImageTable:
    if data_dir is not None:
        root = Path(data_dir).expanduser()
        files = files_below(root)
        names = tuple(file.relative_to(root).as_posix() for file in files)
        return FileTable(names, (0,) * len(files), tuple(map(str, files)))
    another = "--data-dir DIR names a folder of images to check the exported file with."
    if not run.is_whole:
        raise UsageError(f"{run.checkpoint} has no run folder beside it: {another}")
    try:
        return run.splits.val
    except (DataError, UsageError) as error:
        raise type(error)(f"{str(error).rstrip('.')}. {another}") from error


def _read(table: ImageTable, preprocessing: Preprocessing) -> Array:
    """Some of the images as evaluation sees them, uint8 (M, size, size, 3)."""
    views, reason = [], "there are no files"
    for index in indices_of(table, "val", evenly_spaced(table, CHECKED)):
        try:
            views.append(evaluation_view(table.read(index), preprocessing))
        except (ImageError, OSError) as error:
            reason = f"{table.ids[index]}: {getattr(error, 'strerror', None) or error}"
    if not views:
        raise DataError(
            f"no image can be read to check the exported file with ({reason}): give another "
            "folder, --data-dir DIR."
        )
    return np.stack(views)


# The network


def describe(
    backbone: Backbone, info: CheckpointInfo, views: Array, normalises: bool
) -> ExportModel:
    """Make what an exporter receives.

    Args:
        backbone: with its trained values.
        info: what the checkpoint says.
        views: real images as evaluation sees them, uint8 (M, size, size, 3).
        normalises: whether the exported network normalises its input itself.
    """
    import mindspore as ms

    from msft_core.engine.exported import Exported
    from msft_core.stages import Chain
    from msft_core.training.compilation import MINDSPORE
    from msft_core.training.losses import softmax

    preprocessing = backbone.preprocessing
    cells = [*(stage.cell for stage in backbone.stages), backbone.head]
    inputs = normalise(views, preprocessing)
    with MINDSPORE:
        network = Chain(cells)
        network.set_train(False)
        # Not with the Cell that is exported, whose own mistakes would then be on both sides.
        logits = network(ms.Tensor(inputs)).asnumpy().astype(np.float32)
        if not np.isfinite(logits).all():
            raise ExportError("the network's outputs are not finite: choose another checkpoint.")
        probabilities = softmax(logits)
        cell = Exported(cells, preprocessing if normalises else None)
        cell.set_train(False)
    images = np.ascontiguousarray(views.transpose(0, 3, 1, 2), np.float32)
    return ExportModel(
        cell=cell,
        backbone=backbone,
        classes=info.classes,
        preprocessing=preprocessing,
        normalises=normalises,
        images=images if normalises else inputs,
        probabilities=probabilities,
        metadata=_metadata(info, preprocessing, normalises),
    )


def _metadata(
    info: CheckpointInfo, preprocessing: Preprocessing, normalises: bool
) -> dict[str, str]:
    facts = {
        "classes": list(info.classes),
        "preprocessing": asdict(preprocessing),
        "input": _input(preprocessing, normalises),
        "output": _output(info),
        "steps": _steps(preprocessing, normalises),
        "made_by": _origin(info),
    }
    return {key: json_text(value) for key, value in facts.items()}


def _input(preprocessing: Preprocessing, normalises: bool) -> dict[str, Any]:
    size = preprocessing.size
    return {
        "shape": ["N", 3, size, size],
        "layout": "NCHW",
        "type": "float32",
        "channels": "RGB",
        "values": "0 to 255" if normalises else "(value / 255 - mean) / std, for each channel",
        "normalised_inside": normalises,
    }


def _output(info: CheckpointInfo) -> dict[str, Any]:
    return {
        "shape": ["N", len(info.classes)],
        "type": "float32",
        "values": "probabilities in the order of classes; those of an image sum to 1",
    }


def _steps(preprocessing: Preprocessing, normalises: bool) -> list[str]:
    """Preprocessing in words that a deployer can follow."""
    size, resized = preprocessing.size, round(preprocessing.size / preprocessing.crop_fraction)
    steps = [
        "Decode the image. Turn it upright as its EXIF orientation says. Convert it to RGB, with "
        "transparent parts over white.",
        f"Take the square in its centre whose side is {size}/{resized} of the shorter side; its "
        "edges may lie between pixels.",
        f"Resize this square to {size} x {size} pixels in one step with Pillow's "
        f"{preprocessing.interpolation} filter, which averages over all pixels where it makes an "
        "image smaller (Image.resize(size, filter, box)).",
    ]
    if not normalises:
        mean, std = (list(values) for values in (preprocessing.mean, preprocessing.std))
        steps.append(
            "Divide the values by 255. From each channel subtract its mean, and divide by its "
            f"standard deviation: mean {mean}, std {std} for R, G, B."
        )
    steps.append("Order the values as (image, channel, row, column), float32.")
    return steps


def _origin(info: CheckpointInfo) -> dict[str, Any]:
    return {
        "backbone": info.backbone,
        "dialect": info.dialect,
        "strategy": info.strategy,
        "epoch": info.epoch,
        "packages": dict(info.origins),
        "versions": dict(info.versions),
    }


# The file


def write(
    plugins: Plugins,
    component: Component,
    settings: Settings,
    model: ExportModel,
    target: Path,
    reporter: Reporter,
    interrupts: Interrupts,
) -> None:
    """Let the exporter write the file, and move it and its JSON to their names.

    Args:
        plugins: the loaded plugins.
        component: the exporter.
        settings: its settings.
        model: see ``describe``.
        target: the file to write.
        reporter: for lines and warnings.
        interrupts: held back while the two files get their names.

    Raises:
        ExportError: the file cannot be written, or computes something else.
    """
    from msft_core.training.compilation import MINDSPORE

    beside = _beside(target)
    context = Context(0, cache_dir(), reporter, model.classes)

    def export_to(folder: Path) -> list[Path]:
        inside = folder.absolute() / "export"
        inside.mkdir()
        name = f"model.{_suffix(component.name)}"
        with MINDSPORE, plugins.named_by_package(), _plain_path(inside) as path:
            plugins.ask(
                "export_model",
                "exporter",
                component.name,
                model=model,
                path=path / name,
                settings=settings,
                context=context,
            )
        about = write_json(folder / beside.name, _about(component.name, model))
        return [about, inside / name]

    try:
        # The file itself last: where an error is told, it is as it was.
        write_together([beside, target], export_to, renaming=interrupts.held())
    except PluginError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in _NO_ROOM:
            raise _unwritable(target, cause) from error
        raise
    except OSError as error:
        raise _unwritable(target, error) from error
    if len(model.images) > 1 and np.ptp(model.probabilities, axis=0).max() < _DISTINCT:
        reporter.warning(
            f"all {len(model.images)} images that {target} was checked with get the same "
            "probabilities, so the check says little: give others with --data-dir DIR."
        )
    reporter.info(f"{target}: {_checked_how(model)}")
    reporter.info(f"{beside}: class names and preprocessing")


@contextmanager
def _plain_path(folder: Path) -> Iterator[Path]:
    """Another path to a folder, of a few plain letters: MindSpore refuses spaces and other scripts
    in the path of a file that it writes, but the user's folder may have them.
    """
    with tempfile.TemporaryDirectory(prefix="msft-") as plain:
        link = Path(plain, "export")
        link.symlink_to(folder, target_is_directory=True)
        yield link


def _about(format: str, model: ExportModel) -> dict[str, Any]:
    """The content of the JSON file."""
    facts = {key: json.loads(value) for key, value in model.metadata.items()}
    check = {"images": len(model.images), "greatest_difference": model.difference}
    return {"format": format, **facts, "check": check}


def _checked_how(model: ExportModel) -> str:
    if model.difference is None:
        return f"{len(model.classes)} classes; the exporter computed no probabilities to compare"
    images = f"{len(model.images)} images" if len(model.images) > 1 else "1 image"
    return (
        f"its probabilities for {images} differ by at most {model.difference:.1g} from MindSpore's"
    )


def _unwritable(target: Path, error: OSError) -> ExportError:
    there = "the file of before is intact" if target.exists() else "nothing was left there"
    return ExportError(
        f"{target} cannot be written: {error.strerror or error}; {there}. Make room, or choose "
        "another --out."
    )

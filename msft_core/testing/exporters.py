"""The check of an exporter."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msft_core.errors import ExportError, UsageError
from msft_core.testing.asking import Asked, check, class_names, fail_if

if TYPE_CHECKING:
    from msft_core.types import Array, Backbone, ExportModel

__tracebackhide__ = True

_CLASSES = 3
_OLD = b"the export of before"


@check
def assert_exporter(
    name: str,
    *,
    plugins: Sequence[object] = (),
    settings: Mapping[str, Any] | None = None,
    read: Callable[[Path], Callable[[Array], Array]] | None = None,
    backbone: str = "tiny",
    backbone_settings: Mapping[str, Any] | None = None,
) -> None:
    """Check an exporter: it writes one file, which computes what the network computes.

    Exports the network with and without normalisation inside, and compares the files with the
    network for 1, 3 and 20 images. An exporter that compares by itself (``model.require_same``)
    must refuse a network that computes something else. A second export must pass too. The network
    must stay as it was, and nothing may appear in the working directory.

    Args:
        name: name of the exporter.
        plugins: plugins besides the installed ones, as for ``msft_run``.
        settings: of the exporter.
        read: from a file to a function that runs it, from images as ``ExportModel.images`` to
            probabilities, float32 (N, K). Needed if the exporter does not compare by itself.
        backbone: name of the backbone to export.
        backbone_settings: as in the section ``backbone``.

    Raises:
        AssertionError: the contract is broken; one line per breach.
        MsftError: raised by the plugin, or by the core, which refuses the hook result.
    """
    asked = Asked("exporter", name, plugins, settings)
    of_backbone = Asked("backbone", backbone, plugins, backbone_settings)
    network = _varied(of_backbone.backbone(class_names(_CLASSES)))
    breaches: list[str] = []
    with _empty_working_directory() as folder:
        for normalises in (False, True):
            where = "with normalisation inside: " if normalises else ""
            try:
                found = _breaches_of(asked, network, normalises, folder, read)
            except UsageError:
                # A format without a network, such as safetensors, refuses to normalise.
                if not normalises:
                    raise
                continue
            breaches += [where + breach for breach in found]
            if found:
                break
        left = sorted(path.name for path in Path.cwd().iterdir())
        if left:
            breaches.append(f"leaves files in the working directory: {', '.join(left)}")
    fail_if(breaches, asked.what)


def _breaches_of(
    asked: Asked,
    network: Backbone,
    normalises: bool,
    folder: Path,
    read: Callable[[Path], Callable[[Array], Array]] | None,
) -> list[str]:
    import numpy as np

    model = _model(network, normalises)
    before = _values(network)
    target = folder / "model.file"
    for _ in range(2):
        _export(asked, model, target)
    if any(not np.array_equal(value, before[key]) for key, value in _values(network).items()):
        return ["changes the values of the network"]
    if read is not None:
        try:
            model.require_same(read(target))
        except ExportError as error:
            return [str(error)]
    elif model.difference is None:
        return [
            "does not compare the file with the network: call model.require_same(compute) before "
            "you return, or give assert_exporter(read=...)"
        ]
    else:
        return _breaches_of_comparing(asked, model, target)
    return []


def _breaches_of_comparing(asked: Asked, model: ExportModel, target: Path) -> list[str]:
    """What an exporter does that finds a difference."""
    import numpy as np

    wrong = replace(model, probabilities=np.ascontiguousarray(model.probabilities[:, ::-1]))
    target.write_bytes(_OLD)
    try:
        _export(asked, wrong, target)
    except ExportError:
        if target.read_bytes() != _OLD:
            return ["replaces the export of before though the new one differs from the network"]
        return []
    return ["writes a file that differs from the network: let the ExportError pass"]


def _export(asked: Asked, model: ExportModel, target: Path) -> None:
    from msft_core.engine.export import write
    from msft_core.system.interrupts import Interrupts

    component = asked.loaded.component("exporter", asked.name)
    reporter = asked.context.reporter
    write(asked.loaded, component, asked.settings, model, target, reporter, Interrupts())


def _model(network: Backbone, normalises: bool) -> ExportModel:
    import numpy as np

    from msft_core.data.views import evaluation_view
    from msft_core.engine.export import describe
    from msft_core.runs.checkpoints import CheckpointInfo
    from msft_core.testing import tiny

    preprocessing = network.preprocessing
    pictures = [tiny.picture(number % 2, number) for number in range(20)]
    views = np.stack([evaluation_view(picture, preprocessing) for picture in pictures])
    info = CheckpointInfo(
        network.name, network.dialect, "finetune", class_names(_CLASSES), preprocessing
    )
    return describe(network, info, views, normalises)


def _varied(network: Backbone) -> Backbone:
    """Give the head large values, so that the images get different probabilities."""
    import mindspore as ms
    import numpy as np

    random = np.random.default_rng(0)
    for parameter in network.head.get_parameters():
        values = random.normal(size=parameter.shape).astype(np.float32)
        parameter.set_data(ms.Tensor(values))
    return network


def _values(network: Backbone) -> dict[str, Array]:
    cells = [*(stage.cell for stage in network.stages), network.head]
    return {p.name: p.asnumpy().copy() for cell in cells for p in cell.get_parameters()}


@contextmanager
def _empty_working_directory() -> Iterator[Path]:
    """Work in an empty folder; gives another one for files."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as work, tempfile.TemporaryDirectory() as folder:
        os.chdir(work)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)

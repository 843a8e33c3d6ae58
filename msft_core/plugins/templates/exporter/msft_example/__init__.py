"""The exporter ``example``: a zip archive of a MINDIR file and the class names."""

from __future__ import annotations

import zipfile
from pathlib import Path

from msft_core import Component, ExportModel, Settings, hookimpl
from pydantic import Field

msft_api = "0.3"


class ExampleSettings(Settings):
    """Settings of ``example``, for ``--set exporter.KEY=VALUE``."""

    labels: str = Field("labels.txt", description="name of the file with the class names")


@hookimpl
def list_components() -> list[Component]:
    """The components of this plugin. Keep it fast: import heavy modules only where needed."""
    summary = "zip archive of a MINDIR file and the class names"
    return [Component("exporter", "example", summary, ExampleSettings)]


@hookimpl
def export_model(
    name: str, model: ExportModel, path: Path, settings: ExampleSettings
) -> Path | None:
    """Write the archive, and check that the network in it computes the same probabilities."""
    if name != "example":
        return None
    import mindspore as ms

    size = model.preprocessing.size
    # None stands for any number of images.
    images = ms.Tensor(shape=[None, 3, size, size], dtype=ms.float32)
    network = path.with_name("network.mindir")
    ms.export(model.cell, images, file_name=str(network), file_format="MINDIR")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(network, network.name)
        archive.writestr(settings.labels, "\n".join(model.classes))
    network.unlink()  # an export is one file

    # Read it again, as its users will.
    with zipfile.ZipFile(path) as archive:
        archive.extract(network.name, path.parent)
    graph = ms.nn.GraphCell(ms.load(str(network)))
    network.unlink()
    model.require_same(lambda given: graph(ms.Tensor(given)).asnumpy())
    return path

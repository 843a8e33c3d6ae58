"""The images of a split that passed the check: each must still be what was checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from msft_core.columns import FilePaths, Hashes, Numbers, Texts, numbers
from msft_core.errors import DataError, MsftError, PluginError, first_line
from msft_core.files import content_digest
from msft_core.images import ImageError
from msft_core.types import ImageTable


def read_image(table: ImageTable, index: int, plugin: str) -> bytes:
    """An encoded image of a plugin's table.

    Args:
        table: the plugin's.
        index: of the image.
        plugin: whose table it is, for messages.

    Raises:
        OSError, ImageError: as the table raised it: the image cannot be read.
        PluginError: the table raised something else, or gave no bytes.
    """
    try:
        data = table.read(index)
    except (OSError, ImageError, MsftError, MemoryError):
        raise
    except Exception as error:
        raise PluginError(
            plugin, "", f"read({index}) of its table raised {first_line(error)}"
        ) from error
    if not isinstance(data, (bytes, bytearray, memoryview)):
        what = type(data).__name__
        raise PluginError(plugin, "", f"read({index}) of its table gave {what}, not bytes")
    return bytes(data)


@dataclass(frozen=True)
class CheckedTable:
    """Images of another table, which still reads them.

    Features are stored under the digest of what was checked. So an image that changes in the
    middle of a run is refused rather than stored under its old content.

    Args:
        table: the plugin's.
        indices: of the images in it.
        ids: of the images.
        labels: of the images.
        digests: of the content of each, as the check found it.
        plugin: whose table it is, for messages.
    """

    table: ImageTable
    indices: Sequence[int]
    ids: Sequence[str]
    labels: Sequence[int]
    digests: Hashes
    plugin: str

    def read(self, index: int) -> bytes:
        """The encoded image.

        Raises:
            DataError: it cannot be read any more, or has changed since it was checked.
            PluginError: the table raised something else, or gave no bytes.
        """
        try:
            data = read_image(self.table, self.indices[index], self.plugin)
        except (OSError, ImageError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise DataError(f"image {self.ids[index]} can no longer be read: {reason}.") from error
        if content_digest(data) != self.digests[index]:
            raise DataError(
                f"image {self.ids[index]} has changed since this run checked it. Start the run "
                "again, and leave the images as they are while it runs."
            )
        return data


@dataclass(frozen=True)
class CheckedFiles(CheckedTable):
    """The same for images that are files.

    Args:
        paths: of the files.
    """

    paths: Sequence[str]


def checked_table(
    table: ImageTable, indices: Sequence[int], digests: Sequence[str], plugin: str
) -> CheckedTable:
    """Images of a table, in the order given; it has ``paths`` if the table has."""
    chosen = numbers(indices)
    hashes = Hashes.of(digests)
    everything = len(chosen) == len(table.ids) and np.array_equal(chosen, np.arange(len(chosen)))
    places: Sequence[int] = range(len(chosen)) if everything else chosen
    all_ids = Texts.of(table.ids)
    ids = all_ids if everything else all_ids.take(chosen.array)
    labels = numbers(table.labels)
    labels = Numbers(labels.array.astype(np.int32)[slice(None) if everything else chosen.array])
    paths: Sequence[str] | None = getattr(table, "paths", None)
    if paths is None:
        return CheckedTable(table, places, ids, labels, hashes, plugin)
    if isinstance(paths, FilePaths):
        shared = paths.ids is all_ids
        of_chosen: Sequence[str] = paths.sharing(ids) if shared else paths.take(chosen.array)
    else:
        of_chosen = paths if everything else Texts.of(paths[i] for i in chosen)
    return CheckedFiles(table, places, ids, labels, hashes, plugin, of_chosen)

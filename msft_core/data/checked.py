"""The images of a split that passed the check: each must still be what was checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    indices: tuple[int, ...]
    ids: tuple[str, ...]
    labels: tuple[int, ...]
    digests: tuple[str, ...]
    plugin: str

    def read(self, index: int) -> bytes:
        """The encoded image.

        Raises:
            DataError: it cannot be read any more, or has changed since it was checked.
            PluginError: the table raised something else, or gave no bytes.
        """
        name = self.ids[index]
        try:
            data = read_image(self.table, self.indices[index], self.plugin)
        except (OSError, ImageError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise DataError(f"image {name} can no longer be read: {reason}.") from error
        if content_digest(data) != self.digests[index]:
            raise DataError(
                f"image {name} has changed since this run checked it. Start the run again, and "
                "leave the images as they are while it runs."
            )
        return data


@dataclass(frozen=True)
class CheckedFiles(CheckedTable):
    """The same for images that are files.

    Args:
        paths: of the files.
    """

    paths: tuple[str, ...]


def checked_table(
    table: ImageTable, indices: Sequence[int], digests: Sequence[str], plugin: str
) -> CheckedTable:
    """Images of a table, in the order given; it has ``paths`` if the table has."""
    chosen = tuple(indices)
    ids = tuple(table.ids[i] for i in chosen)
    labels = tuple(int(table.labels[i]) for i in chosen)
    paths: Sequence[str] | None = getattr(table, "paths", None)
    if paths is None:
        return CheckedTable(table, chosen, ids, labels, tuple(digests), plugin)
    of_chosen = tuple(paths[i] for i in chosen)
    return CheckedFiles(table, chosen, ids, labels, tuple(digests), plugin, of_chosen)

"""Turn the setting ``weights`` into a file."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from msft_core import downloads
from msft_core.errors import WeightsError

if TYPE_CHECKING:
    from msft_core.types import Context


@dataclass(frozen=True)
class KnownWeights:
    """Weights that a backbone offers under a name.

    Args:
        url: the address to download them from.
        sha256: SHA-256 of the file; None if none is published.
        summary: one line about the weights.
        find: instead of ``url``, for weights in an installed package: returns the file, or raises
            WeightsError with the package to install.
    """

    url: str = ""
    sha256: str | None = None
    summary: str = ""
    find: Callable[[], Path] | None = field(default=None, compare=False)


def resolve_weights(
    spec: str,
    context: Context,
    known: Mapping[str, KnownWeights],
    *,
    ways_out: Sequence[str] = (),
) -> Path | None:
    """Turn the setting ``weights`` into a file. Downloads it if needed.

    Args:
        spec: ``none``, a name in ``known``, an ``http(s)://`` or ``file://`` URL, or a file.
        context: cache folder and reporter.
        known: the backbone's weights by name.
        ways_out: for the message of a failed download, see ``downloads.fetch``.

    Returns: the file, or None for ``none``.

    Raises: WeightsError if there is no such file; DownloadError.
    """
    if spec == "none":
        return None
    if spec in known:
        weights = known[spec]
        if weights.find is not None:
            return weights.find()
        return downloads.fetch(
            weights.url,
            context,
            sha256=weights.sha256,
            what=f"weights {spec!r}",
            ways_out=ways_out,
        )
    if spec.startswith(("http://", "https://", "file://")):
        return downloads.fetch(spec, context, what="weights", ways_out=ways_out)
    path = Path(spec).expanduser()
    if path.is_file():
        return path
    names = ["none", *known]
    near = difflib.get_close_matches(spec, names, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else "Give one of these, a file or a URL."
    reason = "this is a folder" if path.is_dir() else "there is no such file"
    raise WeightsError(
        f"weights {spec!r}: {reason}, and the known names are {', '.join(names)}. {hint}"
    )

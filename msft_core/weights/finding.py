"""From what the user asked for to a file of weights."""

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
    """Weights that a backbone knows by name.

    Args:
        url: where they are downloaded from.
        sha256: of the file; None where none is published.
        summary: one line about them.
        find: for weights that an installed package carries, instead of ``url``: gives the file,
            or raises WeightsError that says what to install.
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
    """Turn what the user asked for into a file, downloading it where needed.

    Args:
        spec: ``none``, a name in ``known``, an ``http(s)://`` or ``file://`` URL, or a file.
        context: cache folder and reporter.
        known: the backbone's weights by name.
        ways_out: for the message of a download that fails, see ``downloads.fetch``.

    Returns: the file, or None for ``none``.

    Raises: WeightsError where there is no such file; DownloadError.
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
    hint = f"did you mean {near[0]!r}?" if near else "give one of these, a file or a URL."
    reason = "this is a folder" if path.is_dir() else "there is no such file"
    raise WeightsError(f"weights {spec!r}: {reason}, and it is none of {', '.join(names)}; {hint}")

"""Tracebacks that end where the author can change something."""

from __future__ import annotations

import contextlib
import os
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from msft_core.errors import MsftError

__tracebackhide__ = True

_PACKAGES = ("msft_core", "pluggy", "mindspore")


def ending_at_the_author(error: MsftError) -> MsftError:
    """Leave the frames of msft, pluggy and MindSpore out of an error and of what caused it.

    What remains are the lines of the test and of the plugin. An error that is no more than a
    ``MsftError`` may come from a bug in msft, so its frames stay.
    """
    if type(error) is not MsftError:
        folders = _folders()
        link: BaseException | None = error
        while link is not None:
            link.__traceback__ = _without(folders, link.__traceback__)
            link = link.__cause__
    return error


def _folders() -> tuple[str, ...]:
    specs = filter(None, map(find_spec, _PACKAGES))
    parents = [str(Path(spec.origin).parent) + os.sep for spec in specs if spec.origin]
    return (*parents, contextlib.__file__)


def _without(folders: tuple[str, ...], traceback: TracebackType | None) -> TracebackType | None:
    kept = []
    while traceback is not None:
        if not traceback.tb_frame.f_code.co_filename.startswith(folders):
            kept.append(traceback)
        traceback = traceback.tb_next
    shown: TracebackType | None = None
    for entry in reversed(kept):
        shown = TracebackType(shown, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return shown

"""From a template of this folder to a page that is one file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from msft_core.files import write_atomically
from msft_core.pages.texts import short


@lru_cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("msft_core", "pages"),
        autoescape=True,  # of every template: names of classes and files are anyone's
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["short"] = short
    environment.globals["version"] = version("msft")
    return environment


def write_page(path: Path, template: str, content: Mapping[str, Any]) -> Path:
    """Render a template and write the page atomically.

    Args:
        path: the file to write.
        template: name of a file in ``msft_core/pages``.
        content: what the template shows; it escapes every text.

    Raises:
        OSError: the folder cannot be written, or the disk is full. What was there stays.
    """
    text = _templates().get_template(template).render(content)
    # Bytes of a file name that are not UTF-8 show as escapes, as in the JSON files.
    encoded = text.encode("utf-8", "backslashreplace")
    return write_atomically(path, lambda beside: beside.write_bytes(encoded))

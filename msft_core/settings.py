"""The base of settings models. Importing this module imports neither MindSpore nor NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

NONE = "none"
"""How a configuration file says None, which TOML lacks, for a setting whose default is another."""


class Settings(BaseModel):
    """Base class of every settings model. It refuses unknown keys; its values cannot change."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        populate_by_name=True,
        coerce_numbers_to_str=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _read_none(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        given = dict(values)
        for name, info in cls.model_fields.items():
            key = info.alias or name
            may_be_none = type(None) in get_args(info.annotation)
            if may_be_none and info.default is not None and given.get(key) == NONE:
                given[key] = None
        return given


def _absolute_if_file(value: str) -> str:
    path = Path(value).expanduser()
    return str(path.absolute()) if path.is_file() else value


NameOrFile = Annotated[str, AfterValidator(_absolute_if_file)]
"""Type of a setting that is a name, a URL or a file. The path of a file becomes absolute, so that
the written configuration works from any working directory."""

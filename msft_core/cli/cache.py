"""``msft cache``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from msft_core.cli import help
from msft_core.cli.errors import reported
from msft_core.cli.options import AsJson

if TYPE_CHECKING:
    from pathlib import Path

    from msft_core.features.store import FeatureStore, SpaceInfo

app = typer.Typer(name="cache", cls=help.CommandGroup)


@app.callback(invoke_without_command=True)
def listing(
    context: typer.Context,
    as_json: AsJson = False,
) -> None:
    """List or remove the stored features of frozen layers.

    Without a command, list them: a feature is the output of the frozen layers for one view of one
    image, stored by a run for the next ones.
    """
    if context.invoked_subcommand:
        return
    with reported():
        from msft_core.files import size_text
        from msft_core.system.cache_folder import cache_dir

        store = _store()
        spaces = store.spaces()
        total = sum(space.bytes for space in spaces)
        others = _size_without(cache_dir(), store.folder)
        if as_json:
            value = {
                "folder": str(store.folder),
                "spaces": [
                    {
                        "key": space.key,
                        "description": space.description,
                        "rows": space.features,
                        "bytes": space.bytes,
                        "last_used": space.last_used.isoformat(),
                    }
                    for space in spaces
                ],
                "bytes": total,
                "other_bytes": others,
            }
            typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
            return
        typer.echo(f"features in {store.folder}")
        for space in spaces:
            typer.echo(
                f"    {space.key[:8]}  {_what(space)}  {space.features:,} features"
                f"  {size_text(space.bytes)}"
                f"  last used {space.last_used.astimezone():%Y-%m-%d %H:%M}"
            )
        typer.echo(f"features: {size_text(total)}")
        typer.echo(f"other files, which `msft cache clear` keeps: {size_text(others)}")


@app.command("clear", cls=help.Command)
def clear(
    keys: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY",
            help="Features to remove: a key from the list, or its beginning. Without KEY, all.",
        ),
    ] = None,
) -> None:
    """Remove stored features. This is safe while runs are in progress."""
    with reported():
        from msft_core.files import size_text

        store = _store()
        known = [space.key for space in store.spaces()]
        chosen = [_find(key, known) for key in keys] if keys else None
        typer.echo(f"freed {size_text(store.clear(chosen))}")
        left = [space for space in store.spaces() if chosen is None or space.key in chosen]
        if left:
            typer.echo(
                f"{size_text(sum(space.bytes for space in left))} not removed: a run is writing "
                "these features, a run was killed less than a day ago, or the files cannot be "
                "deleted"
            )


def _store() -> FeatureStore:
    from msft_core.features.store import FeatureStore
    from msft_core.system.cache_folder import cache_dir

    return FeatureStore(cache_dir() / "features", limit=0)


def _find(key: str, known: list[str]) -> str:
    from msft_core.errors import UsageError

    found = [each for each in known if key and each.startswith(key.lower())]
    if not found:
        raise UsageError(f"no features have the key {key!r}: `msft cache` lists the keys.")
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} keys begin with {key!r}: "
            f"give more characters of {' or '.join(found[:3])}."
        )
    return found[0]


def _what(space: SpaceInfo) -> str:
    """The known ones of these: backbone, last stage, extractor, dtype if it is not the stages'."""
    described = space.description
    stages = described.get("stages")
    last = f"to {stages[-1]}" if isinstance(stages, list) and stages else ""
    extractor = described.get("extractor")
    by = f"by {extractor}" if extractor else ""
    dtype = f"stored in {described['dtype']}" if "dtype" in described else ""
    return " ".join(filter(None, [str(described.get("backbone", "unknown")), last, by, dtype]))


def _size_without(folder: Path, without: Path) -> int:
    """Bytes of all files in a folder, except those in one of its subfolders."""
    import os
    from pathlib import Path

    total = 0
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if Path(parent, name) != without]
        for name in names:
            try:
                total += Path(parent, name).lstat().st_size
            except OSError:
                continue
    return total

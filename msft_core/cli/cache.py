"""``msft cache``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from msft_core.cli.errors import reported
from msft_core.files import size_text

if TYPE_CHECKING:
    from pathlib import Path

    from msft_core.features.store import FeatureStore, SpaceInfo

app = typer.Typer(name="cache", help="Show or clear the features that runs keep.")


@app.callback(invoke_without_command=True)
def listing(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the features that runs keep: what frozen stages gave for each view of an image."""
    if context.invoked_subcommand:
        return
    with reported():
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
        typer.echo(f"downloads and all else, which `msft cache clear` leaves: {size_text(others)}")


@app.command("clear")
def clear(
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY", help="As listed, or its beginning; all where none."),
    ] = None,
) -> None:
    """Remove features. Runs that are going on are not harmed."""
    with reported():
        store = _store()
        known = [space.key for space in store.spaces()]
        chosen = [_find(key, known) for key in keys] if keys else None
        typer.echo(f"freed {size_text(store.clear(chosen))}")
        left = [space for space in store.spaces() if chosen is None or space.key in chosen]
        if left:
            typer.echo(
                f"{size_text(sum(space.bytes for space in left))} could not be removed, or a run "
                "is writing them, or one was killed within a day"
            )


def _store() -> FeatureStore:
    from msft_core.features.store import FeatureStore
    from msft_core.system.cache_folder import cache_dir

    return FeatureStore(cache_dir() / "features", limit=0)


def _find(key: str, known: list[str]) -> str:
    from msft_core.errors import UsageError

    found = [each for each in known if key and each.startswith(key.lower())]
    if not found:
        raise UsageError(f"no features have the key {key!r}: `msft cache` lists them.")
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} keys begin with {key!r}: give more of {' or '.join(found[:3])}."
        )
    return found[0]


def _what(space: SpaceInfo) -> str:
    """The backbone, the last of its stages and who computed it, as far as they are known."""
    described = space.description
    stages = described.get("stages")
    last = f"to {stages[-1]}" if isinstance(stages, list) and stages else ""
    extractor = described.get("extractor")
    by = f"by {extractor}" if extractor else ""
    return " ".join(filter(None, [str(described.get("backbone", "unknown")), last, by]))


def _size_without(folder: Path, without: Path) -> int:
    """Bytes of all files in a folder but those in one folder of it."""
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

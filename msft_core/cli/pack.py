"""``msft pack``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msft_core.cli.errors import reported
from msft_core.cli.options import Quiet, Verbose


def command(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of images, as for --dataset folder.")
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder for the pack, new or interrupted.")
    ],
    val_fraction: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Fraction held out for validation if there is no val folder."
        ),
    ] = 0.2,
    split_seed: Annotated[int, typer.Option(help="Decides which images are held out.")] = 0,
    shard_mb: Annotated[
        int, typer.Option(min=1, metavar="MB", help="Size of a shard, about.")
    ] = 256,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Pack a folder of images into MindRecord shards: a few files instead of a million.

    Then train with --dataset packed --data-dir OUT. The images, their order and their views are
    those of the folder. An interrupted pack goes on when the same command is given again.
    """
    with reported(verbose=verbose):
        from msft_core.engine.pack import pack
        from msft_core.errors import UsageError
        from msft_core.system.console import console_reporter

        if not 0 < val_fraction < 1:
            raise UsageError("--val-fraction must lie between 0 and 1.")
        pack(
            folder.expanduser(),
            out.expanduser(),
            val_fraction=val_fraction,
            split_seed=split_seed,
            shard_bytes=shard_mb * 1_000_000,
            reporter=console_reporter(quiet=quiet),
        )

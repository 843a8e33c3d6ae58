"""``msft run``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from msft_core.cli.errors import reported
from msft_core.cli.options import Blocked, Modules


def command(
    dataset: Annotated[str | None, typer.Option(help="Where the images come from.")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Which network.  [default: resnet50]")
    ] = None,
    strategy: Annotated[str | None, typer.Option(help="What trains.  [default: finetune]")] = None,
    data_dir: Annotated[
        str | None, typer.Option(help="Folder of the images: dataset.data_dir.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="A name, a file or a URL: backbone.weights.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="training.epochs")] = None,
    batch_size: Annotated[int | None, typer.Option(help="training.batch_size")] = None,
    lr: Annotated[float | None, typer.Option(help="strategy.learning_rate")] = None,
    seed: Annotated[int | None, typer.Option(help="training.seed")] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, gpu or ascend: runtime.device.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run folder.  [default: a new one under runs/]")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file of settings; flags and --set win over it.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any setting; may be given many times."),
    ] = None,
    plugin: Modules = None,
    without: Blocked = None,
    trace: Annotated[
        bool, typer.Option("--trace", help="Print every call of a plugin's hook, as MSFT_TRACE=1.")
    ] = False,
    quiet: Annotated[bool, typer.Option(help="Print warnings and errors only.")] = False,
    verbose: Annotated[bool, typer.Option(help="Print the traceback of an error.")] = False,
) -> None:
    """Train a classifier and keep the best checkpoint.

    Settings come from --config, then from flags, then from --set. Exit status: 0 done, 2 refused
    before the run began, 1 failed after, 130 interrupted.
    """
    with reported(verbose=verbose):
        from msft_core import config as configuration
        from msft_core.engine import run as engine
        from msft_core.plugins.trace import Tracer, is_asked_for
        from msft_core.system.console import console_reporter

        flags = {
            "dataset": {"name": dataset, "data_dir": data_dir},
            "backbone": {"name": backbone, "weights": weights},
            "strategy": {"name": strategy, "learning_rate": lr},
            "training": {"epochs": epochs, "batch_size": batch_size, "seed": seed},
            "runtime": {"device": device},
            "plugins": plugin,
            "without": without,
        }
        raw = configuration.merge(
            configuration.read_toml(config) if config else {},
            _given(flags),
            *(configuration.parse_assignment(text) for text in assignments or []),
        )
        observers = [Tracer()] if trace and not is_asked_for() else []
        engine.run(
            raw,
            out=out,
            reporter=console_reporter(quiet=quiet, verbose=verbose),
            observers=observers,
        )


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    """Only what was given on the command line."""
    given: dict[str, Any] = {}
    for key, value in flags.items():
        if isinstance(value, dict):
            inner = {name: item for name, item in value.items() if item is not None}
            if inner:
                given[key] = inner
        elif value:
            given[key] = value
    return given

"""``msft run``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from msft_core.cli import completion, help
from msft_core.cli.errors import reported
from msft_core.cli.options import PLUGINS, Blocked, Modules
from msft_core.errors import UsageError
from msft_core.system.ranks import ranks_of

if TYPE_CHECKING:
    from msft_core.engine.run_each import EachReport

_WHAT = "What to train"
_HOW = "How to train"
_WHERE = "Where to compute"
_HOSTS = "Several hosts"
_SETTINGS = "Settings"
_OUTPUT = "Output"


class Command(help.Command):
    """``msft run``, which takes no arguments: one that is given is a folder of images, mostly."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options; an argument is refused with the options that it was meant for."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # of click, or of the click inside newer releases of typer
            message = str(getattr(error, "message", ""))
            surplus = re.search(r"unexpected extra argument\S* \(([^ )]+)", message)
            if surplus is None:
                raise
            hint = f"For a folder of images: msft run --dataset folder --data-dir {surplus[1]}"
            raise type(error)(f"{message}. {hint}", ctx) from None


def command(
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Dataset to train on.",
            autocompletion=completion.components("dataset"),
            rich_help_panel=_WHAT,
        ),
    ] = None,
    data_dir: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the dataset's images (dataset.data_dir).",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Network to train.  [default: resnet50]",
            autocompletion=completion.components("backbone"),
            rich_help_panel=_WHAT,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="WEIGHTS",
            help="Pretrained weights: a name, a file or a URL (backbone.weights).",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[,NAME]",
            help="Which layers train, and when; several names run one after the other and are "
            "compared.  [default: finetune]",
            autocompletion=completion.listed_components("strategy"),
            rich_help_panel=_HOW,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Passes over the training images (training.epochs).  [default: 10]",
            rich_help_panel=_HOW,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Images per step (training.batch_size).  [default: 24]",
            rich_help_panel=_HOW,
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help="Learning rate (strategy.learning_rate).",
            rich_help_panel=_HOW,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Seed of all random choices (training.seed).  [default: 0]",
            rich_help_panel=_HOW,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICE",
            help="cpu, gpu, ascend or auto (runtime.device).  [default: auto]",
            autocompletion=completion.devices,
            rich_help_panel=_WHERE,
        ),
    ] = None,
    extractor: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Compute frozen layers with this extractor, instead of MindSpore "
            "(extractor.NAME.enabled).",
            autocompletion=completion.components("extractor"),
            rich_help_panel=_WHERE,
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Processes on this host that train together (runtime.processes).  [default: 1]",
            rich_help_panel=_WHERE,
        ),
    ] = None,
    nodes: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="Number of hosts, each with so many.", rich_help_panel=_HOSTS
        ),
    ] = 1,
    node_rank: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Number of this host, from 0.", rich_help_panel=_HOSTS
        ),
    ] = 0,
    master_addr: Annotated[
        str,
        typer.Option(metavar="HOST", help="Address of host 0.", rich_help_panel=_HOSTS),
    ] = "127.0.0.1",
    master_port: Annotated[
        int,
        typer.Option(
            metavar="PORT",
            min=0,
            max=65535,
            help="Port of MindSpore's scheduler on host 0.",
            rich_help_panel=_HOSTS,
        ),
    ] = 0,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Read settings from a TOML file.",
            rich_help_panel=_SETTINGS,
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change any setting, such as training.views=8 (repeatable).",
            rich_help_panel=_SETTINGS,
        ),
    ] = None,
    plugin: Modules = None,
    without: Blocked = None,
    trace: Annotated[
        bool,
        typer.Option(
            "--trace",
            help="Print every call of a plugin's hook, like MSFT_TRACE=1.",
            rich_help_panel=PLUGINS,
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Run folder to write.  [default: a new one in runs/]",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Go on with the interrupted run in this folder.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", help="Print warnings and errors only.", rich_help_panel=_OUTPUT),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", help="Print the traceback of an error.", rich_help_panel=_OUTPUT),
    ] = False,
) -> None:
    """Train a classifier and keep the best checkpoint.

    --set overrides the other options, and they override --config. `msft plugins` lists the names
    of datasets, backbones, strategies and extractors, and `msft plugins show NAME` their settings.

    Exit status: 0 done, 2 refused before the run began, 1 failed later, 130 interrupted.
    """
    with reported(verbose=verbose):
        from msft_core import config as configuration
        from msft_core.engine import run as engine
        from msft_core.engine.run_each import run_each
        from msft_core.plugins.trace import Tracer, is_asked_for
        from msft_core.system.console import console_reporter

        flags = {
            "dataset": {"name": dataset, "data_dir": data_dir},
            "backbone": {"name": backbone, "weights": weights},
            "strategy": {"name": strategy, "learning_rate": lr},
            "training": {"epochs": epochs, "batch_size": batch_size, "seed": seed},
            "runtime": {"device": device, "processes": processes},
            "extractor": {} if extractor is None else {extractor: {"enabled": True}},
            "plugins": plugin,
            "without": without,
        }
        file = configuration.read_toml(config) if config else {}
        given = configuration.merge(
            _given(flags), *(configuration.parse_assignment(text) for text in assignments or [])
        )
        raw = configuration.merge(file, given)
        status = _in_processes(raw, resume, nodes, node_rank, master_addr, master_port)
        if status is not None:
            raise typer.Exit(status)
        how: dict[str, Any] = {
            # Where srun or mpirun shows what all processes print, rank 0 alone says how it goes.
            "reporter": console_reporter(quiet=quiet or _is_overheard(), verbose=verbose),
            "observers": [Tracer()] if trace and not is_asked_for() else [],
        }
        if resume:
            from msft_core.engine.resume import resume as go_on

            if out:
                raise UsageError("--resume RUN writes into RUN: leave --out away.")
            go_on(resume, raw, **how)
            return
        how["out"] = out
        if strategies := configuration.listed_strategies(raw):
            configs, note = configuration.for_each_strategy(strategies, file, given)
            if note:
                how["reporter"].info(note)
            each = run_each(configs, **how)
            if ranks_of().rank == 0:  # the others have no comparison, and end well
                _end(each, quiet)
        else:
            raw, note = configuration.with_strategy(file, given)
            if note:
                how["reporter"].info(note)
            engine.run(raw, **how)


def _in_processes(
    raw: dict[str, Any],
    resume: Path | None,
    nodes: int,
    node_rank: int,
    master_addr: str,
    master_port: int,
) -> int | None:
    """Start the processes that were asked for, and wait for them: their exit status.

    None where one process is enough, or where this is one of those that were started.
    """
    from msft_core import config as configuration
    from msft_core.engine.launched import is_started

    if (ranks := ranks_of()).size > 1:
        if nodes > 1 and not is_started():
            raise UsageError(
                f"--nodes {nodes}: {ranks.started_by} has started {ranks.size} processes already, "
                "which find each other without it. Leave it out."
            )
        return None
    asked = configuration.section_of(raw, "runtime").get("processes")
    if asked is None and resume and (resume / "config.toml").is_file():
        of_run = configuration.read_toml(resume / "config.toml")
        asked = configuration.section_of(of_run, "runtime").get("processes")
    if nodes > 1 and master_addr == "127.0.0.1":
        raise UsageError("--nodes needs --master-addr, the address of host 0 for all of them.")
    if node_rank >= nodes:
        raise UsageError(f"--node-rank {node_rank}: the {nodes} hosts are 0 to {nodes - 1}.")
    if nodes == 1 and (not isinstance(asked, int) or asked <= 1):
        return None

    import sys

    from msft_core.engine.launch import Cluster, launch

    count = asked if isinstance(asked, int) else 1
    cluster = Cluster(count, nodes, node_rank, master_addr, master_port)
    return launch(sys.argv[1:], cluster)


def _is_overheard() -> bool:
    """Whether this is not rank 0, and what it prints goes where rank 0 prints."""
    from msft_core.engine.launched import is_started

    return ranks_of().rank > 0 and not is_started()


def _end(each: EachReport, quiet: bool) -> None:
    """Print the comparison, and exit with 1 if a run failed."""
    if each.comparison and not quiet:
        import sys

        from msft_core.cli.compare import print_comparison
        from msft_core.system.console import unless_closed

        with unless_closed(sys.stdout):
            typer.echo()
            print_comparison(each.comparison)
            typer.echo(f"Comparison: {each.page or each.folder}")
    for name, error in each.failures.items():
        typer.echo(f"error: the run {name} failed: {error}", err=True)
    if each.failures or (each.page is None and len(each.reports) > 1):
        raise typer.Exit(1)


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    """Only the flags that the command line has."""
    given: dict[str, Any] = {}
    for key, value in flags.items():
        if isinstance(value, dict):
            inner = {name: item for name, item in value.items() if item is not None}
            if inner:
                given[key] = inner
        elif value:
            given[key] = value
    return given

"""Open what a run left: its checkpoint, configuration and history, and the plugins it needs.

Nothing that a file contains runs as code: a plugin is used if it is installed, or given anew.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msft_core import config as configuration
from msft_core.config import RunConfig
from msft_core.errors import DataError, MsftError, UsageError, WeightsError, first_line, suggest
from msft_core.files import json_value, sha256_of
from msft_core.plugins.registry import Plugins
from msft_core.runs.checkpoints import CheckpointInfo
from msft_core.runs.folder import is_run_folder
from msft_core.system.cache_folder import cache_dir
from msft_core.system.interrupts import Interrupts
from msft_core.types import (
    SWITCHED_KINDS,
    Backbone,
    Context,
    EpochRecord,
    Kind,
    Reporter,
)

if TYPE_CHECKING:
    from msft_core.data.checking import Findings
    from msft_core.features.prefix import AskExtractor
    from msft_core.runs.classifier import Classifier
    from msft_core.system.device import Runtime
    from msft_core.weights import Checkpoint


@dataclass(frozen=True)
class Found:
    """What a path of a user led to.

    Args:
        checkpoint: the checkpoint to use.
        folder: the run folder; None for a checkpoint alone.
    """

    checkpoint: Path
    folder: Path | None


def find(path: Path) -> Found:
    """Find the checkpoint of a run folder, or the run folder of a checkpoint.

    Raises:
        UsageError: there is no run and no checkpoint.
    """
    path = path.expanduser()
    if path.is_dir():
        if not is_run_folder(path):
            inside = [one for one in sorted(path.iterdir()) if one.is_dir() and is_run_folder(one)]
            hint = f": did you mean {inside[-1]}?" if inside else ", which has a config.toml."
            raise UsageError(f"{path} is no run folder{hint}")
        for name in (best_file(path), "best.ckpt", "last.ckpt"):
            if (path / name).is_file():
                return Found(path / name, path)
        raise UsageError(
            f"{path} has no checkpoint: the run ended before it kept one, or the file was removed."
        )
    if path.is_file():
        return Found(path, path.parent if is_run_folder(path.parent) else None)
    near = ""
    if path.parent.is_dir():
        near = suggest(path.name, [one.name for one in path.parent.iterdir()])
    raise UsageError(f"there is no run folder or checkpoint {path}.{near}")


def read_facts(folder: Path) -> dict[str, Any]:
    """The content of ``environment.json``; empty where it cannot be read."""
    try:
        value = json_value((folder / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def best_file(folder: Path) -> str:
    """The name of the best checkpoint in a run folder: a plugin may have called it otherwise."""
    told = read_facts(folder).get("best")
    name = told.get("file", "") if isinstance(told, dict) else ""
    return name if isinstance(name, str) and name == Path(name).name != "" else "best.ckpt"


def made_the_predictions(checkpoint: Path, facts: Mapping[str, Any]) -> bool | None:
    """Whether ``predictions.csv`` is of this checkpoint, and not of one that stood there before.

    Returns: None where ``environment.json`` does not say.
    """
    told = facts.get("best")
    if not isinstance(told, dict) or "sha256" not in told:
        return None
    return bool(told.get("file") == checkpoint.name and told["sha256"] == sha256_of(checkpoint))


def prepare(device: str, reporter: Reporter) -> Runtime:
    """Import MindSpore, which reads checkpoints too, and choose the device.

    Raises:
        UsageError: there is no such device.
        DeviceError: it cannot be used here.
    """
    settings = configuration.section_settings("runtime", {"device": device})
    from msft_core.system import device as system

    interrupts = Interrupts()
    with interrupts.caught(), interrupts.noted():
        return system.prepare(settings, reporter)


def read_config(folder: Path, plugins: Plugins, reporter: Reporter) -> RunConfig:
    """The configuration of a run, as far as its plugins are installed.

    Settings of callbacks, metrics and extractors that are not installed are left out, with a
    warning. A dataset or strategy that is not installed is only named: whoever needs it says so.

    Raises:
        UsageError: it cannot be read, or has settings that are wrong now.
    """
    raw = configuration.read_toml(folder / "config.toml")
    # Modules that the run was given are code: they are used only where the user gives them again.
    modules = raw.pop("plugins", [])
    raw.pop("without", None)
    for kind in SWITCHED_KINDS:
        known = plugins.components(kind)
        section = raw.get(kind, {})
        gone = [name for name in section if name not in known]
        if gone:
            reporter.warning(
                f"{kind} {', '.join(gone)} of the run is not installed, so it is left out."
                + _give_again(modules)
            )
        raw[kind] = {name: value for name, value in section.items() if name in known}
    return configuration.resolve(raw, plugins, lenient=True)


def _give_again(modules: Any) -> str:
    if not modules:
        return ""
    again = " ".join(f"--plugin {shlex.quote(str(module))}" for module in modules)
    return f" The run was given plugins; trust them, and give them again: {again}"


def read_history(path: Path) -> tuple[EpochRecord, ...]:
    """The epochs in ``metrics.jsonl``.

    Raises:
        MsftError: it cannot be read or is damaged.
    """
    of_core = ("epoch", "train", "val", "learning_rate", "seconds", "step_ms")
    try:
        lines = [json_value(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return tuple(
            EpochRecord(
                _epoch(line["epoch"]),
                _numbers(line["train"]),
                _numbers(line.get("val", {})),
                _number(line.get("learning_rate", 0.0)),
                _number(line.get("seconds", 0.0)),
                _number(line.get("step_ms", 0.0)),
                _numbers({k: v for k, v in line.items() if k not in of_core}),
            )
            for line in lines
        )
    except OSError as error:
        raise MsftError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise MsftError(f"{path} is damaged: {first_line(error)[:200]}.") from error


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """``null`` stands for a number that is not finite."""
    return {key: _number(value) for key, value in values.items()}


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _epoch(value: Any) -> int:
    if type(value) is not int or not 0 < value < 2**31:
        raise ValueError("an epoch is no number")
    return value


# Building with plugins


def open_classifier(
    file: Checkpoint, info: CheckpointInfo, plugins: Plugins, runtime: Runtime, reporter: Reporter
) -> Classifier:
    """Build the network of a checkpoint and load its values.

    Raises:
        UsageError: the plugin that made the backbone is not installed.
        WeightsError: the values do not fit the network that the plugin makes now.
    """
    require(plugins, "backbone", info.backbone, info, file.path)
    with plugins.named_by_package():
        # Values that are drawn at random would be replaced at once.
        from mindspore.nn.utils import no_init_parameters

        from msft_core.runs.classifier import Classifier
        from msft_core.system.device import clamp_workers
        from msft_core.training.compilation import MINDSPORE
        from msft_core.weights.reading import kept

        quiet = _Quiet(reporter)
        context = Context(0, cache_dir(), quiet, info.classes)
        with MINDSPORE, no_init_parameters(), kept(file):
            backbone, plugin = _build(file, info, plugins, context)
        how = info.evaluation
        return Classifier(
            backbone,
            info,
            file.path,
            plugin=plugin,
            runtime=runtime,
            workers=clamp_workers(None, reporter),
            ask_extractor=_extractor(info, plugins, context) if how.engine != "MindSpore" else None,
            reporter=reporter,
        )


def _build(
    file: Checkpoint, info: CheckpointInfo, plugins: Plugins, context: Context
) -> tuple[Backbone, str]:
    from msft_core.weights import load_into

    component = plugins.component("backbone", info.backbone)
    values = dict(info.settings)
    values.pop("name", None)
    if "weights" in component.settings.model_fields:
        # A checkpoint of msft, which the plugin knows by what it says: it makes the network in the
        # geometry of these weights, and looks for no others.
        values["weights"] = str(file.path)
    owner = plugins.owner("backbone", info.backbone)
    settings = configuration.component_settings(component, values, owner)
    backbone, plugin, _ = plugins.ask(
        "build_backbone",
        "backbone",
        info.backbone,
        num_classes=len(info.classes),
        settings=settings,
        context=context,
    )
    if backbone.dialect != info.dialect:
        raise WeightsError(
            f"{file.path}: its weights are of dialect {info.dialect!r}, but plugin {plugin!r} "
            f"made the network of dialect {backbone.dialect!r}."
        )
    try:
        load_into(
            [*(stage.cell for stage in backbone.stages), backbone.head],
            file.arrays,
            source=str(file.path),
            reporter=context.reporter,
        )
    except WeightsError as error:
        made, now = info.origins.get("backbone", "another release"), plugins.origin(plugin)
        raise WeightsError(f"{error} The run used {made}; here is {now}.") from error
    return replace(backbone, preprocessing=info.preprocessing), plugin


def _extractor(info: CheckpointInfo, plugins: Plugins, context: Context) -> AskExtractor | None:
    """Asks for the extractor with which the run computed its frozen stages."""
    from msft_core.features.prefix import Engine

    hook = "build_feature_extractor"
    found = []
    for name, values in info.evaluation.extractors.items():
        component = plugins.components("extractor").get(name)
        if component is not None:
            owner = plugins.owner("extractor", name)
            settings = configuration.component_settings(component, values, owner)
            found.append((owner, settings))
    if not found:
        return None

    def ask(prefix: Any, example: Any, features: int) -> Engine | None:
        for plugin, settings in found:
            try:
                result = plugins.call_one(
                    hook, plugin, prefix=prefix, example=example, settings=settings, context=context
                )
            except MsftError as error:
                context.reporter.warning(f"{error} MindSpore computes the frozen stages instead.")
                continue
            if result is not None:
                return Engine(result, plugin, optional=True)
        return None

    return ask


def check_images(
    config: RunConfig, info: CheckpointInfo, plugins: Plugins, reporter: Reporter
) -> Findings:
    """The images of the run's dataset, checked as a run checks them.

    Raises:
        UsageError: the dataset's plugin is not installed.
        DataError: the images are gone, or their classes are others now.
    """
    from msft_core.data.checking import check_splits
    from msft_core.system.device import cpu_count

    name = config.dataset.name
    require(plugins, "dataset", name, info, Path("the run"))
    with plugins.named_by_package():
        splits, owner, _ = plugins.ask(
            "build_dataset",
            "dataset",
            name,
            settings=config.dataset.settings,
            context=Context(config.training.seed, cache_dir(), reporter),
        )
        if splits.classes != info.classes:
            raise DataError(
                f"the dataset {name} has the classes {', '.join(splits.classes)} now, but the "
                f"classifier knows {', '.join(info.classes)}."
            )
        return check_splits(
            splits,
            plugin=owner,
            workers=cpu_count(),
            reporter=reporter,
            memory=cache_dir() / "checked",
        )


def require(plugins: Plugins, kind: Kind, name: str, info: CheckpointInfo, where: Path) -> None:
    """Raise UsageError where no plugin offers a component that a run used."""
    if name in plugins.components(kind):
        return
    origin = info.origins.get(kind, "")
    if origin.startswith("--plugin "):
        way = f"It came from {origin.partition(' ')[2]}: give it again, --plugin FILE."
    elif origin.startswith("run("):
        way = "It came from an object in a Python program: give it again, plugins=[...]."
    elif re.fullmatch(r"[A-Za-z0-9][\w.-]* [\w.+!-]+", origin):
        package, _, version = origin.partition(" ")
        way = f"It came from {package} {version}: pip install {package}."
    else:
        way = "Install the package that offers it, or give --plugin."
    broken = "".join(
        f"\nPlugin {one.name!r} could not be loaded: {one.problem}" for one in plugins.broken
    )
    raise UsageError(f"{where}: the {kind} {name!r} is not installed. {way}{broken}")


class _Quiet:
    """Passes warnings on. What a backbone says of the weights it loads is no news here."""

    def __init__(self, reporter: Reporter) -> None:
        self.warning, self.progress = reporter.warning, reporter.progress

    def info(self, message: str) -> None:
        """Say nothing."""

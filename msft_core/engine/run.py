"""A run from top to bottom, in ten steps. This module knows their order, but no plugin."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msft_core import config as configuration
from msft_core.config import RunConfig
from msft_core.engine.asking import Asker, Strategy
from msft_core.engine.epochs import conclude, train_to_the_end
from msft_core.engine.launched import log_into, note_lost, note_run
from msft_core.engine.processes import require_together
from msft_core.errors import DataError, MsftError, enough_memory
from msft_core.plugins.loading import load_plugins
from msft_core.runs.folder import FolderOfFirst, ReopenedFolder, RunFolder, default_folder
from msft_core.runs.lock import lock_run_folder
from msft_core.system.cache_folder import cache_dir, warning_about_others
from msft_core.system.console import console_reporter, training_view
from msft_core.system.interrupts import Interrupts
from msft_core.system.log_file import LogFile
from msft_core.system.ranks import ranks_of
from msft_core.types import (
    Backbone,
    Context,
    DatasetSplits,
    Observer,
    Reporter,
    RunReport,
)

if TYPE_CHECKING:
    from msft_core.data.checking import Findings
    from msft_core.data.pipeline import Pipeline, Use
    from msft_core.engine.resume import Before
    from msft_core.plugins.registry import Plugins
    from msft_core.system.device import Runtime
    from msft_core.training.trainer import Trainer


def run(
    config: Mapping[str, Any] | RunConfig | str | Path,
    *,
    plugins: Sequence[object] = (),
    out: str | Path | None = None,
    reporter: Reporter | None = None,
    observers: Sequence[Observer] = (),
) -> RunReport:
    """Train a classifier.

    Args:
        config: a mapping with the structure of a configuration file, a path to such a file, or
            the resolved configuration of another run.
        plugins: plugin objects or classes. msft asks them before the plugins that own the
            components, so one hook of three lines can replace a dataset.
        out: the run folder; by default a new one under ``runs/``.
        reporter: receives lines and progress; by default the console.
        observers: notified of every hook call.

    Returns:
        How the run ended.

    Raises:
        MsftError: its message is for the user. Its ``report`` is None if msft refused the run
            before it began.
        KeyboardInterrupt: on Ctrl-C. If the run has begun, it is raised after ``on_run_end``, with
            the ``RunReport`` as its argument. Otherwise it has no argument.
    """
    interrupts = Interrupts()
    with interrupts.caught():
        # In a function of its own, so that its Cells are gone before the handlers are.
        return run_steps(
            config, plugins, out, reporter or console_reporter(), observers, interrupts
        )


def run_steps(
    config: Mapping[str, Any] | RunConfig | str | Path,
    plugins: Sequence[object],
    out: str | Path | None,
    reporter: Reporter,
    observers: Sequence[Observer],
    interrupts: Interrupts,
    before: Before | None = None,
    check_backbone: Callable[[Backbone], None] | None = None,
) -> RunReport:
    """All ten steps, with interrupts that are caught already. See ``run``.

    Args:
        config: see ``run``.
        plugins: see ``run``.
        out: see ``run``.
        reporter: see ``run``.
        observers: see ``run``.
        interrupts: catches signals.
        before: the run that goes on; None for a new one.
        check_backbone: called with the backbone; what it raises refuses the run.
    """
    with ExitStack() as always, ExitStack() as if_refused:
        began = time.perf_counter()
        # Everything that the run says goes through it, to the user and into log.txt.
        users, log = reporter, LogFile(reporter)
        reporter = log
        always.callback(log.close)
        always.enter_context(enough_memory())
        if before and before.saved:
            began -= before.saved.seconds
            log.warnings += before.saved.warnings

        # 1, 2: what was asked for, and the plugins.
        raw = read_config(config)
        modules, without = configuration.plugin_lists(raw)
        loaded = load_plugins(
            modules=modules, without=without, objects=plugins, observers=observers
        )
        always.enter_context(loaded.named_by_package())

        # 3, 4: check every setting; resolve the three components by name.
        settled = configuration.resolve(raw, loaded)
        saved = before.saved if before else None
        if before:
            reporter.info(before.first_line(settled.training.epochs))
            before.require_same_config(settled, raw, reporter)
            before.warn_of_plugins(loaded, without, reporter)
        _say_plugins(loaded, reporter)
        asker = Asker(loaded, settled, reporter)
        ranks = ranks_of()
        require_together(settled, ranks, reporter)

        # 5: the run folder, under a temporary name until the run begins.
        if ranks.rank:
            folder: RunFolder = FolderOfFirst()
        elif before:
            folder = ReopenedFolder(before.folder)
        else:
            folder = RunFolder(
                Path(out) if out else default_folder(settled.dataset.name, settled.strategy.name),
                numbered=not out,
            )
        if_refused.callback(folder.discard)

        # 6: the device; MindSpore is imported here and no earlier.
        from msft_core.system.agreeing import require_same
        from msft_core.system.device import clamp_workers, prepare, versions
        from msft_core.system.group import PeerDied, join

        with interrupts.noted():
            device = prepare(settled.runtime, reporter, ranks)
            group = join(ranks, device.device, reporter.warning, note_lost)
            interrupts.install()
        if_refused.callback(group.close)
        interrupts.patient, group.interrupted = group.size > 1, lambda: interrupts.pending
        workers = clamp_workers(settled.data.workers, reporter)

        # 7: the dataset; check every image.
        if others := warning_about_others():
            reporter.warning(others)
        context = Context(settled.training.seed, cache_dir(), reporter)
        with group.leader_of_host_first():
            splits, owner = asker.ask("build_dataset", "dataset", context=context)
            found = _checked(splits, owner, settled, workers, reporter)
        splits = found.splits
        _introduce(splits, reporter)

        # 8: the backbone with its weights and a new head; the parameters that train in epoch 1.
        import mindspore

        from msft_core.data.pipeline import Use
        from msft_core.engine.environment import environment, features_depend_on
        from msft_core.engine.follow import follow
        from msft_core.features.feed import Feed
        from msft_core.features.keys import parameters_digests
        from msft_core.features.store import FeatureStore
        from msft_core.pages import RunPages
        from msft_core.runs.live import LiveRun
        from msft_core.runs.saving import StateSaver, data_digests
        from msft_core.runs.state import StateFolder
        from msft_core.training.randomness import random_cells
        from msft_core.training.state import TrainState
        from msft_core.training.sync_norm import synchronise
        from msft_core.training.trainer import Trainer

        mindspore.set_seed(settled.training.seed)
        classes = len(splits.classes)
        context = replace(context, classes=splits.classes)
        with group.leader_of_host_first():  # it may have to download the weights
            backbone, owner = asker.ask(
                "build_backbone", "backbone", num_classes=classes, context=context
            )
        if check_backbone:
            check_backbone(backbone)
        if settled.training.sync_batch_norm and group.size > 1:
            count = synchronise(backbone, device.device)
            reporter.info(f"{count} batch norms take the statistics of all processes.")
        state = TrainState(backbone, settled.training.seed)
        trainer = Trainer(state, owner, classes, device, reporter.info, group)
        interrupts.install()
        reporter.info(f"Backbone {backbone.name}, weights: {backbone.weights}")
        if random := list(random_cells(trainer.network)):
            reporter.info(
                f"{len(random)} cells use MindSpore's random numbers, such as {random[0]}. Where "
                "they train, two runs with one seed may differ: msft_core.stages.Dropout repeats."
            )
        pipelines = _pipelines(splits, trainer, settled, device, workers, reporter)
        feed = Feed(
            trainer,
            pipelines,
            found.digests,
            views=_stored_views(settled, reporter),
            epochs=settled.training.epochs,
            description=features_depend_on(settled, device, asker, trainer),
            store=FeatureStore(cache_dir() / "features", settled.cache.limit_gb * 1e9),
            graph=device.graph or device.may_compile,
            ask_extractor=asker.extractor(context, device.device),
            reporter=reporter,
            before=before.fed(settled) if before else None,
            group=group,
        )
        strategy = Strategy(asker, trainer, pipelines[Use.TRAINING].steps(), settled, reporter)
        initial = parameters_digests(trainer.network)
        data = data_digests(splits, found.digests)
        require_same(group, str(data), "the images")
        require_same(group, initial[-1], "the network's first values")
        restored = None
        if before and saved:
            before.warn_of_versions(versions(), reporter)
            before.require_same_start(data, initial[-1])
            strategy.ask_again(saved.selected, before.epochs)
            steps = pipelines[Use.TRAINING].steps()
            restored = before.restore(state, splits, settled.training.epochs, steps)
            feed.refresh()
        else:
            strategy.select(1)
            feed.refresh(initial)
        if_refused.callback(feed.close)
        trainer.try_out(feed.example())

        # The run begins: write the facts of all steps above; give the folder its final name.
        folder.write_text("config.toml", settled.to_toml())
        about = environment(settled, device, asker, found, trainer, group)
        about = before.about(about) if before else about
        folder.write_json("environment.json", {**about, "features": feed.engine})
        folder.write_json("classes.json", list(splits.classes))
        folder.write_lines("skipped.jsonl", found.skipped)
        # From here on an interruption has a run folder to tell of: it waits for step 9.
        interrupts.note()
        folder.commit()
        folder.path = Path(group.from_first(str(folder.path)))
        if group.leads:
            if not before:  # who resumes a run has locked it
                lock = always.enter_context(lock_run_folder(folder.path))
                if lock.warning:
                    reporter.warning(lock.warning)
            log.open(folder.path / "log.txt")
        else:
            log_into(folder.path, group.rank)
        note_run(folder.path)
        if_refused.pop_all()
        reporter.info(f"Run folder {folder.path}")

        live = LiveRun(
            config=settled,
            run_folder=folder,
            splits=splits,
            trainer=trainer,
            feed=feed,
            plugins=loaded,
            reporter=reporter,
            interrupts=interrupts,
            environment=about,
            pages=RunPages,
            origins=asker.origins,
            compiles=device.graph or device.may_compile,
            saver=StateSaver(
                before.states if before else StateFolder(folder.path),
                data=data,
                weights=initial[-1],
                config=settled.to_mapping(),
                began=began,
                warnings=lambda: log.warnings,
                every_seconds=60 * settled.training.save_minutes,
            ),
            resumed=saved is not None,
            group=group,
        )
        if saved and restored:
            live.take_up(saved, restored)
        if not group.leads:
            always.callback(feed.close)
            try:
                follow(live, strategy, interrupts)
            except PeerDied:
                raise  # nothing can come after it
            except MsftError as error:
                # It ended after it began, as that of rank 0 did: others may come after it.
                error.report = RunReport("failed", folder.path, None, (), str(error))
                raise
            return RunReport("completed", folder.path, None, ())
        view = training_view(users, log)
        always.callback(view.close)
        remembered = restored.plugins if restored else {}
        try:
            report = train_to_the_end(live, strategy, interrupts, view, log, began, remembered)
        except BaseException as error:
            group.close(error)
            raise
        group.close()
        conclude(live, report, time.perf_counter() - began, view, log)
        return report


def _say_plugins(plugins: Plugins, reporter: Reporter) -> None:
    """Which plugins are left out, and which should be mended."""
    for info in plugins.infos:
        named = f"plugin {info.name!r} ({info.origin})"
        if info.status == "broken":
            reporter.warning(f"{named} is broken and not used: {info.problem}")
            if info.error is not None and getattr(reporter, "verbose", False):
                reporter.warning("".join(traceback.format_exception(info.error)).rstrip())
        for warning in info.warnings:
            reporter.warning(f"{named}: {warning}.")


def read_config(config: Mapping[str, Any] | RunConfig | str | Path) -> dict[str, Any]:
    """What was asked for, in each form that ``run`` takes."""
    if isinstance(config, RunConfig):
        return config.to_mapping()
    if isinstance(config, (str, Path)):
        return configuration.read_toml(Path(config))
    return dict(config)


def _checked(
    splits: DatasetSplits, plugin: str, config: RunConfig, workers: int, reporter: Reporter
) -> Findings:
    """Skip images that do not decode, and report them. With ``data.strict`` raise instead."""
    from msft_core.data.checking import TOO_SIMILAR, check_splits

    found = check_splits(
        splits, plugin=plugin, workers=workers, reporter=reporter, memory=cache_dir() / "checked"
    )
    if found.skipped:
        first = f"{found.skipped[0]['id']}: {found.skipped[0]['reason']}"
        if config.data.strict:
            raise DataError(
                f"{len(found.skipped)} images do not decode, the first is {first}. "
                "Remove them, or let msft skip them with --set data.strict=false."
            )
        reporter.warning(
            f"{len(found.skipped)} images do not decode and are skipped, the first is {first}. "
            "skipped.jsonl lists all of them."
        )
    if found.twins:
        of_train, of_val = found.twins[0]
        reporter.warning(
            f"{len(found.twins)} validation images are also training images, the first is {of_val} "
            f"(same bytes as {of_train}): the accuracy will look better than it is."
        )
    alike = found.near_duplicates
    if alike.pairs:
        of_train, of_val = alike.pairs[0]
        reporter.warning(
            f"{len(alike.pairs)} validation images look like a training image, the first is "
            f"{of_val} (like {of_train}). Where they are copies (resized, cropped or saved again), "
            "the accuracy will look better than it is. environment.json lists all of them."
        )
    if not alike.complete:
        reporter.info(TOO_SIMILAR)
    return found


def _introduce(splits: DatasetSplits, reporter: Reporter) -> None:
    for note in splits.notes:
        reporter.info(note)
    shown = ", ".join(splits.classes[:10]) + (", ..." if len(splits.classes) > 10 else "")
    reporter.info(
        f"{splits.description or 'Dataset'}: {len(splits.train.ids)} training and "
        f"{len(splits.val.ids)} validation images in {len(splits.classes)} classes ({shown})"
    )


def _pipelines(
    splits: DatasetSplits,
    trainer: Trainer,
    config: RunConfig,
    device: Runtime,
    workers: int,
    reporter: Reporter,
) -> dict[Use, Pipeline]:
    from msft_core.data.mindspore_pipeline import MindSporePipeline
    from msft_core.data.pipeline import KeyedPipeline, Use, recipes

    data, training = config.data, config.training
    if training.drop_remainder:
        for name in ("train", "val") if data.augment_validation else ("train",):
            images = len(getattr(splits, name).ids)
            if images < training.batch_size:
                raise DataError(
                    f"batch size {training.batch_size} exceeds the {images} images of {name}, so "
                    "training.drop_remainder drops all of them: choose a smaller --batch-size."
                )
    elif training.batch_size > len(splits.train.ids):
        reporter.warning(
            f"batch size {training.batch_size} exceeds the {len(splits.train.ids)} training "
            "images: each epoch is one step on all of them."
        )
    preprocessing = trainer.backbone.preprocessing
    as_trained, as_evaluated = recipes(config, preprocessing, workers)
    make: Any = MindSporePipeline if data.pipeline == "mindspore" else KeyedPipeline
    return {
        Use.TRAINING: make(splits.train, as_trained),
        Use.EVALUATING_TRAIN: make(splits.train, as_evaluated),
        Use.VALIDATION: make(splits.val, as_trained if data.augment_validation else as_evaluated),
    }


def _stored_views(config: RunConfig, reporter: Reporter) -> int:
    """Number of views of each training image whose features are stored."""
    why = ""
    if config.training.views and config.data.pipeline == "mindspore":
        why = "with data.pipeline=mindspore the views can differ from run to run"
    elif config.training.views and config.runtime.sink:
        why = "with runtime.sink=true the device reads images, a whole epoch at once"
    if why:
        reporter.info(f"Features of frozen stages are not stored: {why}.")
    views = 0 if why else config.training.views
    settings: Any
    for name, settings in config.extractor.items():
        if settings.enabled is True and not views:
            reporter.warning(f"extractor {name} is not used, since features are not stored.")
    return views

"""A run from top to bottom, in ten steps. It knows their order, and no plugin."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msft_core import config as configuration
from msft_core.answers import problem_of_extractor
from msft_core.cache import cache_dir
from msft_core.config import RunConfig
from msft_core.errors import DataError, MsftError, PluginError, first_line
from msft_core.interrupt import Interrupts
from msft_core.plugins import Plugins
from msft_core.reporter import console_reporter
from msft_core.runfolder import RunFolder, unused_name, write_text
from msft_core.types import (
    Context,
    DatasetSplits,
    EpochRecord,
    FeatureExtractor,
    Kind,
    Observer,
    Reporter,
    RunReport,
)

if TYPE_CHECKING:
    from msft_core.checking import Findings
    from msft_core.pipeline import Pipeline
    from msft_core.runstate import RunState
    from msft_core.runtime import Runtime
    from msft_core.training import Trainer


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
        config: a mapping as a configuration file has it, a path to such a file, or the resolved
            configuration of another run.
        plugins: objects or classes with hooks; they are asked before the plugins that own the
            components, so one hook of three lines replaces a dataset.
        out: the run folder; by default a new one under ``runs/``.
        reporter: where lines and progress go; by default the console.
        observers: see every call of a plugin's hook.

    Returns:
        How the run ended.

    Raises:
        MsftError: with a message for the user; its ``report`` is None where the run was refused
            before it began.
        KeyboardInterrupt: on Ctrl-C, after ``on_run_end``; before the run began, with no argument,
            after that with the ``RunReport``.
    """
    reporter = reporter or console_reporter()
    interrupts = Interrupts()
    with interrupts.caught(), ExitStack() as always, ExitStack() as if_refused:
        # 1, 2: what was asked for, and the plugins.
        raw = _raw(config)
        modules, without = configuration.plugin_lists(raw)
        loaded = Plugins.load(
            modules=modules, without=without, objects=plugins, observers=observers
        )
        always.enter_context(loaded.named_by_package())
        for info in loaded.infos:
            named = f"plugin {info.name!r} ({info.origin})"
            if info.status == "broken":
                reporter.warning(f"{named} is left out: {info.problem}")
            for warning in info.warnings:
                reporter.warning(f"{named}: {warning}.")

        # 3, 4: every setting checked, the three components resolved by name.
        settled = configuration.resolve(raw, loaded)
        asker = _Asker(loaded, settled, reporter)

        # 5: the run folder, under a temporary name until the run begins.
        folder = RunFolder(Path(out) if out else _default_folder(settled))
        if_refused.callback(folder.discard)

        # 6: the device; MindSpore is imported here and no earlier.
        from msft_core import runtime
        from msft_core.checking import require_contract

        device = runtime.prepare(settled.runtime, reporter)
        interrupts.install()
        workers = runtime.clamp_workers(settled.data.workers, reporter)

        # 7: the dataset, every image of it checked.
        context = Context(settled.training.seed, cache_dir(), reporter)
        splits, owner = asker.ask("build_dataset", "dataset", context=context)
        found = _checked(require_contract(splits, owner), settled, workers, reporter)
        splits = found.splits
        _introduce(splits, reporter)

        # 8: the backbone with its weights and a new head, and what trains at first.
        import mindspore

        from msft_core.feed import Feed
        from msft_core.store import FeatureStore
        from msft_core.training import Trainer

        mindspore.set_seed(settled.training.seed)
        classes = len(splits.classes)
        backbone, owner = asker.ask(
            "build_backbone", "backbone", num_classes=classes, context=context
        )
        trainer = Trainer(backbone, owner, classes, device, reporter.info)
        interrupts.install()
        reporter.info(f"Backbone {backbone.name}, weights: {backbone.weights}")
        images = _images(splits, trainer, settled, device, workers, reporter)
        feed = Feed(
            trainer,
            images,
            found.digests,
            views=_stored_views(settled, reporter),
            epochs=settled.training.epochs,
            description=_features_of(settled, device, asker, trainer),
            store=FeatureStore(cache_dir() / "features", round(settled.cache.limit_gb * 1e9)),
            graph=device.graph or device.may_compile,
            ask_extractor=partial(asker.extractor, context=context),
            reporter=reporter,
        )
        strategy = _Strategy(asker, trainer, images["train"].steps(), settled, reporter)
        strategy.select(1)

        # The run begins: all of the above stands in its folder, which takes its name.
        write_text(folder.path / "config.toml", settled.to_toml())
        folder.write_json("environment.json", _environment(settled, device, asker, splits, trainer))
        folder.write_json("classes.json", list(splits.classes))
        folder.write_lines("skipped.jsonl", found.skipped)
        folder.commit()
        if_refused.pop_all()
        reporter.info(f"Run folder {folder.path}")

        from msft_core.runstate import RunState

        state = RunState(
            config=settled,
            run_folder=folder,
            splits=splits,
            trainer=trainer,
            feed=feed,
            plugins=loaded,
            reporter=reporter,
            interrupts=interrupts,
        )
        return _train_to_the_end(state, strategy, interrupts)


def _train_to_the_end(state: RunState, strategy: _Strategy, interrupts: Interrupts) -> RunReport:
    """Steps 9 and 10, whatever happens in between."""
    error: BaseException | None = None
    try:
        state.feed.follow()
        state.call("on_run_start")
        # 9: the epochs.
        for epoch in range(1, state.config.training.epochs + 1):
            if epoch > 1 and strategy.select(epoch):  # the first was asked for in step 8
                state.feed.follow()
            _one_epoch(epoch, state, interrupts)
            if state.stop_reason:
                state.reporter.info(f"Stopped after epoch {epoch}: {state.stop_reason}")
                break
    except (Exception, KeyboardInterrupt) as caught:
        error = caught
    # 10: the best checkpoint again, and the end.
    if state.best and not isinstance(error, KeyboardInterrupt):
        try:
            state.reload_best()
        except Exception as caught:
            error, state.best = error or caught, None
    report = _report(state, error)
    for failure in state.call_guarded("on_run_end", report=report, error=error):
        state.reporter.warning(str(failure))
        if error is None:
            error, report = failure, replace(report, status="failed", reason=str(failure))
    state.feed.close()
    if isinstance(error, KeyboardInterrupt):
        raise KeyboardInterrupt(report) from None
    if error is not None:
        if not isinstance(error, MsftError):
            error = MsftError(first_line(error)).with_traceback(error.__traceback__)
        error.report = report
        raise error
    _conclude(state, report)
    return report


def _one_epoch(epoch: int, state: RunState, interrupts: Interrupts) -> None:
    epochs = state.config.training.epochs
    with interrupts.held():
        state.feed.prepare("train", epoch, interrupts.check)
    train = state.feed.pipeline("train")
    started = time.perf_counter()
    label = f"epoch {epoch}/{epochs}"
    with interrupts.held(), state.reporter.progress(label, train.steps(), "steps") as advance:

        def after_step() -> None:
            advance(1)
            interrupts.check()

        result = state.trainer.train_epoch(train, epoch, after_step)
    seconds = time.perf_counter() - started
    state.begin_epoch_end(
        EpochRecord(
            epoch,
            {"loss": result.loss},
            learning_rate=result.learning_rate,
            seconds=seconds,
            step_ms=1000 * seconds / result.steps,
        )
    )
    state.save_checkpoint(state.folder / "last.ckpt")
    best_before = state.best
    state.call("on_epoch_end", epoch=epoch)
    _say_epoch(state.finish_epoch_end(), epochs, state.best is not best_before, state.reporter)


class _Asker:
    """Asks for a component's answer, and says where another plugin answers in its owner's place."""

    def __init__(self, plugins: Plugins, config: RunConfig, reporter: Reporter) -> None:
        self.plugins, self._config, self._reporter = plugins, config, reporter
        self.overrides: dict[str, str] = {}

    def ask(self, hook: str, kind: Kind, **arguments: Any) -> tuple[Any, str]:
        """The answer, and the plugin it came from."""
        choice = getattr(self._config, kind)
        answer, plugin, overrides = self.plugins.ask(
            hook, kind, choice.name, settings=choice.settings, **arguments
        )
        if overrides and self.overrides.get(hook) != plugin:
            self.overrides[hook] = plugin
            self._reporter.info(f"{hook} is answered by plugin {plugin!r}, in its owner's place.")
        return answer, plugin

    def extractor(
        self, prefix: Any, example: Any, context: Context
    ) -> tuple[FeatureExtractor, str] | None:
        """The first answer to ``build_feature_extractor``, and the plugin it came from."""
        from msft_core import runtime

        hook = "build_feature_extractor"
        for plugin in self.plugins.names_with(hook, self._config.enabled):
            runtime.release_onednn(os.environ)
            settings = self._config.extractor_settings(self.plugins.components_of(plugin))
            answer = self.plugins.call_one(
                hook, plugin, prefix=prefix, example=example, settings=settings, context=context
            )
            if isinstance(answer, FeatureExtractor):
                if problem := problem_of_extractor(answer):
                    raise PluginError(plugin, hook, problem)
                return answer, plugin
            if answer is not None:
                what = type(answer).__name__
                raise PluginError(plugin, hook, f"gave {what}, not a FeatureExtractor")
        return None


class _Strategy:
    """What trains, asked before each epoch; the trainer hears of it where it has changed."""

    def __init__(
        self, asker: _Asker, trainer: Trainer, steps: int, config: RunConfig, reporter: Reporter
    ) -> None:
        self._asker, self._trainer, self._steps = asker, trainer, steps
        self._config, self._reporter = config, reporter
        self._current: Any = None

    def select(self, epoch: int) -> bool:
        """Ask, and make the training step anew where the answer is a new one; say whether."""
        from msft_core.training import describe

        backbone = self._trainer.backbone
        answer, plugin = self._asker.ask(
            "select_trainable", "strategy", backbone=backbone, epoch=epoch
        )
        if answer == self._current:
            return False
        self._trainer.select(answer, plugin, self._steps, self._config.training.epochs)
        self._current = answer
        counts = describe(answer, self._trainer.parameters)
        self._reporter.info(f"Strategy {self._config.strategy.name}: {counts}")
        optimizer, epochs = answer.optimizer, self._config.training.epochs
        if optimizer.warmup_epochs > epochs:
            self._reporter.warning(
                f"the learning rate rises over {optimizer.warmup_epochs:g} epochs and the run has "
                f"{epochs}, so it never reaches {optimizer.learning_rate:g}."
            )
        return True


def _raw(config: Mapping[str, Any] | RunConfig | str | Path) -> dict[str, Any]:
    if isinstance(config, RunConfig):
        return config.to_mapping()
    if isinstance(config, (str, Path)):
        return configuration.read_toml(Path(config))
    return dict(config)


def _default_folder(config: RunConfig) -> Path:
    started = datetime.now().strftime("%Y%m%d-%H%M%S")
    return unused_name(Path("runs"), f"{started}-{config.dataset.name}-{config.strategy.name}")


def _checked(
    splits: DatasetSplits, config: RunConfig, workers: int, reporter: Reporter
) -> Findings:
    """Leave out what does not decode, unless that is to be an error, and say so."""
    from msft_core.checking import check_splits

    found = check_splits(splits, workers=workers, reporter=reporter, memory=cache_dir() / "checked")
    if found.skipped:
        first = f"{found.skipped[0]['id']}: {found.skipped[0]['reason']}"
        if config.data.strict:
            raise DataError(
                f"{len(found.skipped)} images do not decode, the first is {first}. "
                "Remove them, or leave them out with --set data.strict=false."
            )
        reporter.warning(
            f"{len(found.skipped)} images do not decode and are left out ({first}); "
            "skipped.jsonl lists them."
        )
    if found.twins:
        of_train, of_val = found.twins[0]
        reporter.warning(
            f"{len(found.twins)} validation images are training images too ({of_val} is "
            f"{of_train}): the accuracy will look better than it is."
        )
    return found


def _introduce(splits: DatasetSplits, reporter: Reporter) -> None:
    for note in splits.notes:
        reporter.info(note)
    shown = ", ".join(splits.classes[:10]) + (", ..." if len(splits.classes) > 10 else "")
    reporter.info(
        f"{splits.description or 'Dataset'}: {len(splits.train.ids)} training and "
        f"{len(splits.val.ids)} validation images in {len(splits.classes)} classes ({shown})"
    )


def _images(
    splits: DatasetSplits,
    trainer: Trainer,
    config: RunConfig,
    device: Runtime,
    workers: int,
    reporter: Reporter,
) -> dict[str, Pipeline]:
    from msft_core.images import Augmentation
    from msft_core.pipeline import PIPELINES, Recipe

    data, training = config.data, config.training
    if training.drop_remainder:
        for name in ("train", "val") if data.augment_validation else ("train",):
            images = len(getattr(splits, name).ids)
            if images < training.batch_size:
                raise DataError(
                    f"a batch of {training.batch_size} is above the {images} images of {name}, and "
                    "training.drop_remainder leaves none: choose a smaller --batch-size."
                )
    elif training.batch_size > len(splits.train.ids):
        reporter.warning(
            f"a batch of {training.batch_size} is above the {len(splits.train.ids)} training "
            "images: each epoch is one step on all of them."
        )
    as_trained = Recipe(
        preprocessing=trainer.backbone.preprocessing,
        augmentation=Augmentation(data.crop_scale, data.crop_ratio, data.flip),
        seed=training.seed,
        batch_size=training.batch_size,
        shuffle=True,
        drop_remainder=training.drop_remainder,
        workers=workers,
    )
    as_evaluated = replace(as_trained, augmentation=None, shuffle=False, drop_remainder=False)
    # A whole epoch sunk into a device is fed by MindSpore's pipeline.
    make = PIPELINES["mindspore" if device.sink else data.pipeline]
    return {
        "train": make(splits.train, as_trained),
        "evaluate train": make(splits.train, as_evaluated),
        "val": make(splits.val, as_trained if data.augment_validation else as_evaluated),
    }


def _stored_views(config: RunConfig, reporter: Reporter) -> int:
    """How many views of each training image have their features stored."""
    why = ""
    if config.training.views and config.data.pipeline == "mindspore":
        why = "data.pipeline=mindspore gives views that are not the same in each run"
    elif config.training.views and config.runtime.sink:
        why = "runtime.sink=true feeds images, a whole epoch at once"
    if why:
        reporter.info(f"Features of frozen stages are not stored: {why}.")
    views = 0 if why else config.training.views
    enabled = [name for name in config.extractor if config.enabled("extractor", name)]
    if enabled and not views:
        reporter.warning(f"extractor {enabled[0]} is not used, since features are not stored.")
    return views


def _features_of(
    config: RunConfig, device: Runtime, asker: _Asker, trainer: Trainer
) -> dict[str, Any]:
    """What features depend on, besides the stages, their weights and the extractor."""
    from msft_core import runtime

    versions = {i.name: i.version for i in asker.plugins.infos}
    decide = ("msft", "mindspore", "pillow")
    return {
        "backbone": config.backbone.name,
        "settings": config.backbone.settings.model_dump(mode="json"),
        "plugin": f"{trainer.plugin} {versions.get(trainer.plugin, '')}",
        "dialect": trainer.backbone.dialect,
        "device": device.device,
        "versions": {n: v for n, v in runtime.versions().items() if n in decide},
    }


def _environment(
    config: RunConfig, device: Runtime, asker: _Asker, splits: DatasetSplits, trainer: Trainer
) -> dict[str, Any]:
    from msft_core import runtime

    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "versions": runtime.versions(),
        "platform": platform.platform(),
        "device": device.device,
        "mode": "graph" if device.graph else "pynative",
        "sink": device.sink,
        "seed": config.training.seed,
        "dataset": {
            "name": config.dataset.name,
            "description": splits.description,
            "train": len(splits.train.ids),
            "val": len(splits.val.ids),
        },
        "backbone": {
            "name": config.backbone.name,
            "weights": trainer.backbone.weights,
            "dialect": trainer.backbone.dialect,
        },
        "plugins": {info.name: f"{info.origin}, {info.status}" for info in asker.plugins.infos},
        "overrides": asker.overrides,
    }


def _say_epoch(record: EpochRecord, epochs: int, is_best: bool, reporter: Reporter) -> None:
    """The lines that users of the tutorial know."""
    lines = [f"Epoch {record.epoch}/{epochs}", "-" * 10, f"train Loss: {record.train['loss']:.6f}"]
    mark = "  (best so far)" if is_best else ""
    if record.val:
        if "accuracy" in record.val:
            lines.append(f"val Acc: {record.val['accuracy']:.6f}{mark}")
        others = [f"{name} {value:.6f}" for name, value in record.val.items() if name != "accuracy"]
        lines.append(f"val {', '.join(others)}")
    lines.append(
        f"epoch time: {1000 * record.seconds:.3f} ms, per step time: {record.step_ms:.3f} ms"
    )
    reporter.info("\n".join(lines))


def _report(state: RunState, error: BaseException | None) -> RunReport:
    if isinstance(error, KeyboardInterrupt):
        status, reason = "interrupted", "interrupted by the user"
    elif error is not None:
        status, reason = "failed", first_line(error)
    elif state.stop_reason:
        status, reason = "stopped", state.stop_reason
    else:
        status, reason = "completed", ""
    return RunReport(status, state.folder, state.best, tuple(state.history), reason)  # type: ignore[arg-type]


def _conclude(state: RunState, report: RunReport) -> None:
    best = report.best
    if best is None:
        state.reporter.info(f"End training; nothing was evaluated. Last: {state.folder}/last.ckpt")
        return
    state.reporter.info(
        f"End training, the best {best.metric} is: {best.value:.6f}, "
        f"the best {best.metric} epoch is {best.epoch}\nBest checkpoint: {best.path}"
    )

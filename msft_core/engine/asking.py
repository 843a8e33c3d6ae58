"""Ask the plugins for a run's components, and the strategy for the parameters that train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msft_core.config import RunConfig
from msft_core.errors import MsftError
from msft_core.plugins.registry import Plugins
from msft_core.types import Context, Kind, Reporter

if TYPE_CHECKING:
    from msft_core.features.prefix import AskExtractor
    from msft_core.training.trainer import Trainer


class Asker:
    """Asks the plugins for components. Reports a plugin that overrides a component's owner."""

    def __init__(self, plugins: Plugins, config: RunConfig, reporter: Reporter) -> None:
        self.plugins, self._config, self._reporter = plugins, config, reporter
        self.overrides: dict[str, str] = {}
        self.origins: dict[str, str] = {}
        """For each kind that was asked for: package and version of the plugin that answered."""

    def ask(self, hook: str, kind: Kind, **arguments: Any) -> tuple[Any, str]:
        """Call a hook. Return its result and the name of the plugin that gave it."""
        choice = getattr(self._config, kind)
        result, plugin, overrides = self.plugins.ask(
            hook, kind, choice.name, settings=choice.settings, **arguments
        )
        if overrides and self.overrides.get(hook) != plugin:
            self.overrides[hook] = plugin
            self._reporter.info(f"plugin {plugin!r} overrides {hook} of {kind} {choice.name!r}")
        self.origins[kind] = self.plugins.origin(plugin)
        return result, plugin

    def extractor(self, context: Context, device: str) -> AskExtractor | None:
        """Make a function that asks the plugins for a frozen prefix's extractor.

        Returns: the function, or None where no plugin has an enabled extractor.
        """
        from msft_core.features.prefix import AUTO_FROM, Engine

        hook = "build_feature_extractor"
        plugins = self.plugins.names_with(hook, self._config.enabled)
        if not plugins:
            return None

        def ask(prefix: Any, example: Any, features: int) -> Engine | None:
            for plugin in plugins:
                settings = self._config.extractor_settings(self.plugins.components_of(plugin))
                optional = getattr(settings, "enabled", True) == "auto"
                if optional and (device != "cpu" or features < AUTO_FROM):
                    continue
                try:
                    result = self.plugins.call_one(
                        hook,
                        plugin,
                        prefix=prefix,
                        example=example,
                        settings=settings,
                        context=context,
                    )
                except MsftError as error:
                    if not optional:
                        raise
                    self._reporter.warning(
                        f"{str(error).rstrip('.')}. MindSpore computes the frozen stages instead."
                    )
                    continue
                if result is not None:
                    return Engine(result, plugin, optional)
            return None

        return ask


class Strategy:
    """Asks the strategy before each epoch which parameters train. Tells the trainer of changes."""

    def __init__(
        self, asker: Asker, trainer: Trainer, steps: int, config: RunConfig, reporter: Reporter
    ) -> None:
        self._asker, self._trainer, self._steps = asker, trainer, steps
        self._config, self._reporter = config, reporter
        self.asked = 0
        """The epoch for which the strategy was asked last."""

    def select(self, epoch: int) -> bool:
        """Ask the strategy. If its result is new, rebuild the training step and return True."""
        changed = self._ask(epoch)
        if changed:
            self._say_what_trains()
        return changed

    def ask_again(self, last: int, epochs: int) -> None:
        """Ask for each epoch up to ``last`` as a run did that goes on now.

        Args:
            last: the epoch for which the strategy was asked last.
            epochs: the number of epochs that the run was begun with.
        """
        for epoch in range(1, last + 1):
            self._ask(epoch)
        self._say_what_trains()
        trainable = self._trainer.state.trainable
        now = self._config.training.epochs
        if now != epochs and trainable and trainable.optimizer.schedule == "cosine":
            self._reporter.warning(
                f"the learning rate falls along a cosine over the whole run, so with {now} epochs "
                f"it is another schedule than with {epochs}: this is not the run that had "
                f"{now} epochs from the start."
            )

    def _ask(self, epoch: int) -> bool:
        state = self._trainer.state
        trainable, _ = self._asker.ask(
            "select_trainable", "strategy", backbone=state.backbone, epoch=epoch
        )
        self.asked = epoch
        if trainable == state.trainable:
            return False
        self._trainer.select(trainable, self._steps, self._config.training.epochs)
        return True

    def _say_what_trains(self) -> None:
        from msft_core.training.step import describe

        state = self._trainer.state
        trainable = state.trainable
        assert trainable is not None
        counts = describe(trainable, state.parameters)
        self._reporter.info(f"Strategy {self._config.strategy.name}: {counts}")
        optimizer, epochs = trainable.optimizer, self._config.training.epochs
        if optimizer.warmup_epochs > epochs:
            self._reporter.warning(
                f"the warm-up of {optimizer.warmup_epochs:g} epochs is longer than the run of "
                f"{epochs}: the learning rate never reaches {optimizer.learning_rate:g}."
            )

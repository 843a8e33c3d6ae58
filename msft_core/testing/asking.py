"""What every check of the kit does: find a component, ask its plugin, train with it."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, cast

from msft_core.errors import MsftError
from msft_core.testing.tracebacks import ending_at_the_author

if TYPE_CHECKING:
    from msft_core.plugins.registry import Plugins
    from msft_core.types import Backbone, Context, Kind, Settings

__tracebackhide__ = True

P = ParamSpec("P")


def check(function: Callable[P, None]) -> Callable[P, None]:
    """Make a function a check of the kit.

    It uses a temporary cache folder, unless ``MSFT_CACHE`` names one, and the traceback of what it
    raises ends at a line of the author.
    """

    @functools.wraps(function)
    def checking(*arguments: P.args, **keywords: P.kwargs) -> None:
        own = not os.environ.get("MSFT_CACHE")
        with tempfile.TemporaryDirectory() as folder:
            if own:
                os.environ["MSFT_CACHE"] = folder
            try:
                function(*arguments, **keywords)
            except MsftError as error:
                raise ending_at_the_author(error)  # noqa: B904 - the same error
            finally:
                if own:
                    del os.environ["MSFT_CACHE"]

    return checking


class Asked:
    """A component, found and configured as a run does it.

    Args:
        kind: of the component.
        name: of the component.
        plugins: besides the installed ones.
        settings: as in the component's section of a configuration.
    """

    def __init__(
        self,
        kind: Kind,
        name: str,
        plugins: Sequence[object],
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        from msft_core.config import component_settings
        from msft_core.plugins.loading import load_plugins
        from msft_core.system.cache_folder import cache_dir
        from msft_core.testing.given import split_plugins
        from msft_core.testing.recording import RecordingReporter
        from msft_core.types import Context

        self.kind, self.name, self.given = kind, name, plugins
        files, objects = split_plugins(plugins)
        self.loaded: Plugins = load_plugins(modules=files, objects=objects)
        self.raw = dict(settings or {})
        self.what = f"{kind} {name!r}"
        component = self.loaded.component(kind, name)
        self.settings: Settings = component_settings(component, self.raw)
        self.plugin = self.loaded.owner(kind, name)
        """The plugin that answered last; at first, the one that offers the component."""
        self.context: Context = Context(0, cache_dir(), RecordingReporter())

    def __call__(self, hook: str, **arguments: Any) -> Any:
        """A hook's result, as far as the core accepts it. Raises PluginError."""
        self._prepare_mindspore()
        with self.loaded.named_by_package():
            result, self.plugin, _ = self.loaded.ask(
                hook, self.kind, self.name, settings=self.settings, **arguments
            )
        return result

    def backbone(self, classes: Sequence[str]) -> Backbone:
        """The backbone for these classes."""
        self._prepare_mindspore()
        import mindspore

        mindspore.set_seed(self.context.seed)
        context = replace(self.context, classes=tuple(classes))
        backbone = self("build_backbone", num_classes=len(classes), context=context)
        return cast("Backbone", backbone)

    def train(self, *plugins: object, epochs: int = 1, **sections: Any) -> None:
        """Train on the tiny dataset, in a folder that is gone afterwards."""
        from msft_core.testing import HookRecorder, MsftRun

        with tempfile.TemporaryDirectory() as folder:
            run = MsftRun(Path(folder), HookRecorder(), self.context.reporter)  # type: ignore[arg-type]
            run([*self.given, *plugins], training={"epochs": epochs, "batch_size": 6}, **sections)

    def _prepare_mindspore(self) -> None:
        from msft_core.config import RuntimeSettings
        from msft_core.system import device

        device.prepare(RuntimeSettings(), self.context.reporter)


def class_names(count: int) -> tuple[str, ...]:
    """Names of so many classes."""
    return tuple(f"class {number}" for number in range(count))


def fail_if(breaches: Sequence[str], what: str, cause: BaseException | None = None) -> None:
    """Raise an AssertionError with a line for each breach, if there is any."""
    if breaches:
        message = "\n  ".join([f"{what} breaks the contract:", *breaches])
        raise AssertionError(message) from cause

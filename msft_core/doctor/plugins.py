"""Check whether the plugins can be loaded, and whether their components can be chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from msft_core.doctor.findings import Finding
from msft_core.errors import PluginError, UsageError
from msft_core.plugins.loading import load_plugins
from msft_core.plugins.registry import PluginInfo, Plugins
from msft_core.types import Component


@dataclass(frozen=True)
class Loaded:
    """The plugins that could be loaded, and the errors of the given plugins that could not."""

    plugins: Plugins | None
    refused: Sequence[PluginError]
    misnamed: str = ""

    @property
    def components(self) -> list[Component]:
        """The components of all plugins that could be loaded."""
        infos = self.plugins.infos if self.plugins else []
        return [component for info in infos for component in info.components]


def load(modules: Sequence[str], without: Sequence[str]) -> Loaded:
    """Load all plugins that can be loaded. Given plugins that are broken are left out."""
    refused: list[PluginError] = []
    while True:
        left_out = [*without, *(error.plugin for error in refused)]
        try:
            return Loaded(load_plugins(modules=modules, without=left_out), refused)
        except PluginError as error:
            refused.append(error)
        except UsageError as error:
            # Of two given plugins with one name, the second cannot be left out by its name.
            return Loaded(None, refused, "" if refused else str(error))


def check_plugins(loaded: Loaded) -> Iterator[Finding]:
    """Whether each plugin could be loaded, and whether a component has two owners."""
    for error in loaded.refused:
        advice = "fix it, or remove the --plugin (or MSFT_PLUGINS) that names it"
        hook = f"hook {error.hook}: " if error.hook else ""
        yield Finding(error.plugin, "problem", f"broken: {hook}{error.message}", advice)
    if loaded.misnamed:
        advice = "msft plugins lists the names; look at MSFT_WITHOUT too"
        yield Finding("--without", "problem", loaded.misnamed, advice)
    if loaded.plugins is None:
        return
    infos, refused = loaded.plugins.infos, [error.plugin for error in loaded.refused]
    usable = [info for info in infos if info.status == "ok"]
    blocked = [i.name for i in infos if i.status == "blocked" and i.name not in refused]
    count = sum(len(info.components) for info in usable)
    found = f"{len(usable)} plugins with {count} components"
    found += f"; blocked: {', '.join(blocked)}" if blocked else ""
    seconds = round(sum(info.seconds for info in infos), 3)
    value = {"plugins": len(usable), "components": count, "seconds": seconds}
    yield Finding("loaded", "ok", found, value=value)
    for info in infos:
        if info.status == "broken":
            found = f"broken ({info.origin}): {info.problem}"
            yield Finding(info.name, "problem", found, _what_helps(info))
        for warning in info.warnings:
            advice = f"tell its authors, or block it: --without {info.name}"
            yield Finding(info.name, "note", warning, advice, {"seconds": round(info.seconds, 3)})
    for component in loaded.components:
        try:
            loaded.plugins.component(component.kind, component.name)
        except UsageError as error:
            said, _, advice = str(error).rpartition(": ")
            yield Finding(f"{component.kind} {component.name}", "problem", said, advice)


def _what_helps(info: PluginInfo) -> str:
    package = info.origin.split()[0]
    # Of two installed plugins with one name, the second has its entry point in its name.
    if " " in info.name:
        return f"uninstall one of the two: pip uninstall {package}"
    without = f"block it: --without {info.name}"
    if info.problem.endswith("pip install --upgrade msft"):
        return f"do that, or {without}"
    if isinstance(info.error, ModuleNotFoundError) and info.error.name:
        return f"pip install {info.error.name.partition('.')[0]}, which it needs; or {without}"
    if info.error is not None:
        return f"pip install --upgrade {package}, or {without}"
    if "claims the" in info.problem:
        return f"uninstall one of the two: pip uninstall {package}, or {without}"
    return f"tell the authors of {package}, or {without}"

"""Finding, blocking and refusing plugins, as their authors and users meet it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
import strangers

from msft_core import Component, DatasetSplits, PluginError, UsageError, hookimpl
from msft_core.plugins.loading import load_plugins
from msft_core.plugins.registry import PluginInfo, Plugins
from msft_core.testing import tiny

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Make an installed distribution with one plugin out of a module's source."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[str] = []

    def make(name: str, source: str, version: str = "1.2") -> None:
        made.append(strangers.install(tmp_path, name, source, version))

    yield make
    for module in made:
        sys.modules.pop(module, None)


def info(plugins: Plugins, name: str) -> PluginInfo:
    return next(info for info in plugins.infos if info.name == name)


GOOD = """
    from msft_core import Component, hookimpl
    @hookimpl
    def list_components():
        return [Component("dataset", "mine", "of my own")]
    @hookimpl
    def build_dataset(name, settings):
        return None
"""


def test_an_installed_plugin_is_listed_with_version_origin_hooks_and_components(
    install: Install,
) -> None:
    install("good", GOOD)
    found = info(load_plugins(), "good")
    assert (found.status, found.version, found.origin) == ("ok", "1.2", "stranger_good 1.2")
    assert set(found.hooks) == {"list_components", "build_dataset"}
    assert [component.name for component in found.components] == ["mine"]


def test_the_built_in_plugins_are_all_well() -> None:
    plugins = load_plugins()
    assert [p for p in plugins.infos if p.status != "ok"] == []
    assert len(plugins.infos) == 14
    assert set(plugins.components("dataset")) == {"folder", "packed", "canidae", "sample"}
    assert set(plugins.components("backbone")) == {"resnet50", "efficientnet_lite0"}
    assert set(plugins.components("strategy")) == {"finetune", "freeze", "partial", "gradual"}
    callbacks = {"best_checkpoint", "figures", "health", "report"}
    assert set(plugins.components("callback")) == callbacks
    assert set(plugins.components("metric")) == {"accuracy"}
    assert set(plugins.components("extractor")) == {"openvino"}
    assert set(plugins.components("exporter")) == {"mindir", "onnx", "safetensors"}


def test_a_blocked_plugin_is_never_imported(install: Install) -> None:
    install("loud", "raise SystemExit('imported')")
    plugins = load_plugins(without=["loud"])
    assert info(plugins, "loud").status == "blocked"
    assert "stranger_loud" not in sys.modules


def test_the_environment_blocks_and_adds_plugins(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("loud", "raise RuntimeError")
    install("other", GOOD)
    monkeypatch.setenv("MSFT_WITHOUT", "loud, other")
    monkeypatch.setenv("MSFT_PLUGINS", "stranger_other")
    plugins = load_plugins()
    assert info(plugins, "loud").status == info(plugins, "other").status == "blocked"
    assert info(plugins, "stranger_other").status == "ok"


def test_blocking_a_plugin_that_is_not_there_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"--without figure: no such plugin. .*'figures'"):
        load_plugins(without=["figure"])


BROKEN = {
    "raises at import": ("1 / 0", "import failed, ZeroDivisionError"),
    "exits at import": ("import sys; sys.exit('bye')", "import failed, SystemExit: bye"),
    "does not parse": ("def (", "import failed, SyntaxError"),
    "needs what is missing": ("import no_such_thing", "import failed, ModuleNotFoundError"),
    "has no hooks": ("x = 1", "no function marked"),
    "misspells a hook": (
        "from msft_core import hookimpl\n@hookimpl\ndef on_epoch_ends(run): pass",
        "on_epoch_ends is not a hook of msft. Did you mean 'on_epoch_end'?",
    ),
    "forgets the marker": (
        "def on_epoch_end(run): pass",
        "on_epoch_end is not marked @msft_core.hookimpl",
    ),
    "misnames an argument": (
        "from msft_core import hookimpl\n@hookimpl\ndef on_epoch_end(epoch, runn): pass",
        "on_epoch_end has no argument 'runn'; its arguments are epoch, run",
    ),
    "gives a default": (
        "from msft_core import hookimpl\n@hookimpl\ndef on_epoch_end(epoch, run=None): pass",
        "'run' of on_epoch_end must have no default",
    ),
    "takes anything": (
        "from msft_core import hookimpl\n@hookimpl\ndef on_epoch_end(**kw): pass",
        "on_epoch_end must not take *args or **kwargs",
    ),
    "wraps": (
        "from msft_core import hookimpl\n@hookimpl(wrapper=True)\ndef on_epoch_end(run): yield",
        "is a hook wrapper, which msft does not support",
    ),
    "lists what is no component": (
        "from msft_core import hookimpl\n@hookimpl\ndef list_components(): return ['x']",
        "list_components returned str, not a msft_core.Component",
    ),
    "lists settings that are none": (
        "from msft_core import Component, hookimpl\n@hookimpl\n"
        "def list_components(): return [Component('dataset', 'x', '', dict)]",
        "list_components returned the component 'x' with settings that are not a subclass of",
    ),
    "lists a kind that is none": (
        "from msft_core import Component, hookimpl\n@hookimpl\n"
        "def list_components(): return [Component('data', 'x', '')]",
        "list_components returned the component 'x' with kind 'data', which must be one of dataset",
    ),
    "switches a callback by a word": (
        """
        from msft_core import Component, Settings, hookimpl

        class Own(Settings):
            enabled: str = "yes"

        @hookimpl
        def list_components():
            return [Component("callback", "x", "x", Own)]
        """,
        "list_components returned the component 'x' with a setting called 'enabled' that is not",
    ),
    "is async": (
        "from msft_core import hookimpl\n@hookimpl\nasync def on_epoch_end(run): pass",
        "on_epoch_end is async, but msft does not await it",
    ),
    "yields": (
        "from msft_core import hookimpl\n@hookimpl\ndef on_epoch_end(run): yield",
        "on_epoch_end has a yield, but msft does not iterate over it",
    ),
    "fails when it is asked for an attribute": (
        "def __getattr__(name): raise RuntimeError(f'no {name} here')",
        "reading its attribute msft_api raised RuntimeError: no msft_api here",
    ),
    "lists a name that is none": (
        "from msft_core import Component, hookimpl\n@hookimpl\n"
        "def list_components(): return [Component('callback', 3, '')]",
        "list_components returned a component with the name 3, which must be text",
    ),
    "lists urls that are no tuple": (
        "from msft_core import Component, hookimpl\n@hookimpl\n"
        "def list_components(): return [Component('dataset', 'x', '', urls=['http://x'])]",
        "list_components returned the component 'x' with urls that are not a tuple",
    ),
    "lists nothing": (
        "from msft_core import hookimpl\n@hookimpl\ndef list_components(): return None",
        "list_components gave NoneType, not a list of Component",
    ),
    "raises while listing": (
        "from msft_core import hookimpl\n@hookimpl\ndef list_components(): raise OSError('disk')",
        "list_components raised OSError: disk",
    ),
    "claims a taken name": (
        "from msft_core import Component, hookimpl\n@hookimpl\n"
        "def list_components(): return [Component('dataset', 'folder', '')]",
        "list_components lists the dataset 'folder', which plugin 'folder' already offers",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_listed_with_its_reason_and_hinders_no_other(
    install: Install, case: str
) -> None:
    source, reason = BROKEN[case]
    install("bad", source)
    install("good", GOOD)
    plugins = load_plugins()
    assert info(plugins, "bad").status == "broken"
    assert reason in info(plugins, "bad").problem
    assert info(plugins, "good").status == "ok"
    assert "mine" in plugins.components("dataset")


def test_a_module_that_is_pythons_own_is_told_to_be_so() -> None:
    with pytest.raises(
        PluginError, match=r"no function marked.*Python has a module 'json' of its own"
    ):
        load_plugins(modules=["json"])


@pytest.mark.parametrize("case", BROKEN)
def test_the_same_plugin_given_to_a_run_is_refused_by_name(tmp_path: Path, case: str) -> None:
    source, _ = BROKEN[case]
    path = tmp_path / "given_plugin.py"
    path.write_text(dedent(source))
    with pytest.raises(PluginError, match=r"given_plugin\.py"):
        load_plugins(modules=[str(path)])


def test_a_component_claimed_by_two_plugins_is_refused_when_it_is_asked_for(
    install: Install,
) -> None:
    install("rival", BROKEN["claims a taken name"][0])
    plugins = load_plugins()
    with pytest.raises(
        UsageError, match=r"'folder' and 'rival' \(hook list_components\).*--without"
    ):
        plugins.component("dataset", "folder")
    assert plugins.component("dataset", "sample").name == "sample"
    assert load_plugins(without=["rival"]).component("dataset", "folder").name == "folder"


def test_an_unknown_component_gets_a_suggestion_and_the_list() -> None:
    with pytest.raises(UsageError, match=r"no backbone 'resnet5'. Did you mean 'resnet50'\?"):
        load_plugins().component("backbone", "resnet5")


def test_an_unknown_component_names_the_plugins_that_could_not_be_loaded(install: Install) -> None:
    install("bad", "1 / 0")
    with pytest.raises(UsageError, match="Plugin 'bad' could not be loaded: import failed"):
        load_plugins().component("dataset", "whatever")


def test_a_module_that_is_not_there_is_refused() -> None:
    with pytest.raises(PluginError, match="'no_such_module': import failed, ModuleNotFoundError"):
        load_plugins(modules=["no_such_module"])


def splits(description: str) -> DatasetSplits:
    return DatasetSplits(tiny.CLASSES, tiny.table(1), tiny.table(1, start=1), description)


def test_plugins_given_later_are_asked_first() -> None:
    class Base:
        @hookimpl
        def list_components(self) -> list[Component]:
            return [Component("dataset", "base", "")]

        @hookimpl
        def build_dataset(self, name: str) -> DatasetSplits:
            return splits("base")

    class Early(Base):
        list_components = None  # type: ignore[assignment]

        @hookimpl
        def build_dataset(self, name: str) -> DatasetSplits:
            return splits("early")

    class Late(Early):
        @hookimpl
        def build_dataset(self, name: str) -> DatasetSplits:
            return splits("late")

    arguments = {"settings": None, "context": None}
    plugins = load_plugins(objects=[Base, Early, Late])
    result, plugin, overrides = plugins.ask("build_dataset", "dataset", "base", **arguments)
    assert (result.description, plugin, overrides) == ("late", "Late", True)
    alone = load_plugins(objects=[Base])
    result, plugin, overrides = alone.ask("build_dataset", "dataset", "base", **arguments)
    assert (result.description, plugin, overrides) == ("base", "Base", False)


def test_an_owner_without_an_answer_is_named() -> None:
    class Lazy:
        @hookimpl
        def list_components(self) -> list[Component]:
            return [Component("dataset", "lazy", "")]

    class Silent(Lazy):
        @hookimpl
        def build_dataset(self) -> None:
            return None

    arguments = {"settings": None, "context": None}
    with pytest.raises(PluginError, match="'Silent', hook build_dataset: returned None"):
        load_plugins(objects=[Silent]).ask("build_dataset", "dataset", "lazy", **arguments)
    with pytest.raises(
        PluginError, match=r"'Lazy', .* has no function build_dataset: check the function's name"
    ):
        load_plugins(objects=[Lazy]).ask("build_dataset", "dataset", "lazy", **arguments)
    (warning,) = load_plugins(objects=[Lazy]).infos[-1].warnings
    assert warning.startswith("it lists the dataset 'lazy' but has no function build_dataset")


def test_every_hook_is_documented_in_one_order() -> None:
    from msft_core import hookspecs

    assert len(hookspecs.HOOK_NAMES) == 12
    for name in hookspecs.HOOK_NAMES:
        text = getattr(hookspecs, name).__doc__
        positions = [text.index(word) for word in ("Called:", "Raises:", "Since:")]
        assert positions == sorted(positions), name

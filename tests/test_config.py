"""Configuration: layers, checks, suggestions, and the way back to TOML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from msft_core import Component, Settings, UsageError, hookimpl
from msft_core import config as configuration
from msft_core.plugins.loading import load_plugins
from msft_core.plugins.registry import Plugins
from msft_core.testing import tiny

CONFIGS = sorted((Path(__file__).parent.parent / "configs").rglob("*.toml"))


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return load_plugins(objects=[tiny])


def resolve(plugins: Plugins, *assignments: str, **raw: Any) -> configuration.RunConfig:
    base = {"dataset": "tiny", "backbone": "tiny", **raw}
    layers = (configuration.parse_assignment(text) for text in assignments)
    return configuration.resolve(configuration.merge(base, *layers), plugins)


def test_assignments_win_over_what_came_before(plugins: Plugins) -> None:
    resolved = resolve(plugins, "training.epochs=3", "training.epochs=4", training={"epochs": 2})
    assert resolved.training.epochs == 4


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.b=16", 16),
        ("a.b=0.5", 0.5),
        ("a.b=true", True),
        ("a.b=layer4", "layer4"),
        ("a.b=http://127.0.0.1:80/x?y=z", "http://127.0.0.1:80/x?y=z"),
        ("a.b=[0.1, 1.0]", [0.1, 1.0]),
        ('a.b="16"', "16"),
        ("a.b=", ""),
    ],
)
def test_a_value_is_toml_where_it_can_be_and_text_otherwise(text: str, value: object) -> None:
    assert configuration.parse_assignment(text) == {"a": {"b": value}}


@pytest.mark.parametrize("text", ["training.epochs", "=3", "training.=3", ""])
def test_an_assignment_without_key_or_equals_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write it as key=value"):
        configuration.parse_assignment(text)


def test_all_mistakes_are_told_at_once_each_with_a_suggestion(plugins: Plugins) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(
            plugins,
            "trainig.epochs=1",
            "training.epoch=1",
            "training.batch_size=0",
            "strategy.learnin_rate=1",
            "callback.best_checkpont.patience=1",
            "data.workers=many",
            backbone="tinny",
        )
    lines = str(caught.value).splitlines()
    assert len(lines) == 7
    for expected in (
        "unknown setting 'trainig'. Did you mean 'training'?",
        "unknown setting training.epoch. Did you mean 'epochs'?",
        "training.batch_size = 0: input should be greater than or equal to 1.",
        "unknown setting strategy.learnin_rate (of finetune). Did you mean 'learning_rate'?",
        "unknown callback 'best_checkpont'. Did you mean 'best_checkpoint'?",
        "data.workers = 'many': input should be a valid integer",
        "no backbone 'tinny'. Did you mean 'tiny'?",
    ):
        assert any(expected in line for line in lines), expected


@pytest.mark.parametrize(
    "key", ["learning_rate", "momentum", "weight_decay", "warmup_epochs", "stage_decay"]
)
@pytest.mark.parametrize("value", ["inf", "nan"])
def test_a_number_of_a_strategy_that_is_not_finite_is_refused(
    plugins: Plugins, key: str, value: str
) -> None:
    with pytest.raises(UsageError, match=rf"strategy\.{key} = {value}"):
        resolve(plugins, f"strategy.{key}={value}")


@pytest.mark.parametrize("section", ["training", "dataset", "callback", "strategy"])
def test_a_value_where_a_section_belongs_is_an_error_that_names_it(
    plugins: Plugins, section: str
) -> None:
    with pytest.raises(UsageError, match=section):
        resolve(plugins, **{section: 3})


@pytest.mark.parametrize("value", ["[0.9, 0.1]", "[0, 1]", "[0.5, 2]", "0.5"])
def test_a_crop_scale_that_makes_no_sense_is_refused(plugins: Plugins, value: str) -> None:
    with pytest.raises(UsageError, match=r"data\.crop_scale"):
        resolve(plugins, f"data.crop_scale={value}")


def test_a_dataset_must_be_named(plugins: Plugins) -> None:
    with pytest.raises(
        UsageError, match=r"no dataset is chosen: give --dataset NAME. There are: .*folder"
    ):
        configuration.resolve({}, plugins)


def test_the_resolved_configuration_resolves_to_itself(plugins: Plugins, tmp_path: Path) -> None:
    resolved = resolve(plugins, "training.seed=7", "data.crop_scale=[0.2, 0.9]")
    path = tmp_path / "config.toml"
    path.write_text(resolved.to_toml())
    again = configuration.resolve(configuration.read_toml(path), plugins)
    assert again == resolved
    assert again.to_toml() == resolved.to_toml()


@given(
    epochs=st.integers(1, 10**6),
    seed=st.integers(0, 2**32 - 1),
    scale=st.tuples(st.floats(1e-6, 1), st.floats(1e-6, 1)),
    rate=st.floats(1e-12, 1e12),
)
def test_every_value_survives_the_way_through_toml(
    plugins: Plugins, epochs: int, seed: int, scale: tuple[float, float], rate: float
) -> None:
    resolved = resolve(
        plugins,
        training={"epochs": epochs, "seed": seed},
        data={"crop_scale": sorted(scale)},
        strategy={"learning_rate": rate},
    )
    again = configuration.resolve(tomlkit.parse(resolved.to_toml()).unwrap(), plugins)
    assert again == resolved


def test_callbacks_are_on_and_extractors_off_unless_said_otherwise() -> None:
    class Fast(Settings):
        threads: int = 1

    class Both:
        @hookimpl
        def list_components(self) -> list[Component]:
            return [Component("extractor", "fast", "", Fast), Component("callback", "log", "")]

    plugins = load_plugins(objects=[tiny, Both])
    resolved = resolve(plugins)
    assert resolved.enabled("callback", "log")
    assert not resolved.enabled("extractor", "fast")
    switched = resolve(plugins, "extractor.fast.enabled=true", "extractor.fast.threads=2")
    assert switched.enabled("extractor", "fast")
    assert switched.settings("extractor", "fast").threads == 2


def test_a_callback_that_lacks_a_setting_can_be_left_out() -> None:
    class Needs(Settings):
        path: str

    class Plugin:
        @hookimpl
        def list_components(self) -> list[Component]:
            return [Component("callback", "log", "", Needs)]

    plugins = load_plugins(objects=[tiny, Plugin])
    with pytest.raises(UsageError) as caught:
        resolve(plugins)
    assert str(caught.value) == (
        "callback.log.path must be given: --set callback.log.path=VALUE, "
        "or switch it off: --set callback.log.enabled=false."
    )
    resolved = resolve(plugins, "callback.log.enabled=false")
    assert not resolved.enabled("callback", "log")
    again = configuration.resolve(tomlkit.parse(resolved.to_toml()).unwrap(), plugins)
    assert not again.enabled("callback", "log")
    with pytest.raises(UsageError, match=r"unknown setting callback\.log\.pth"):
        resolve(plugins, "callback.log.enabled=false", "callback.log.pth=x")


@pytest.mark.parametrize("content", ["a = ", "\xff\xfe", None])
def test_a_file_that_is_not_toml_is_one_line(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "c.toml"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match=r"c\.toml") as caught:
        configuration.read_toml(path)
    assert len(str(caught.value).splitlines()) == 1


def test_there_are_configurations_to_check() -> None:
    assert {path.relative_to(path.parents[1]).as_posix() for path in CONFIGS} >= {
        "tutorial-r1.6/finetune.toml",
        "tutorial-r1.6/freeze.toml",
    }


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_shipped_configuration_is_valid(plugins: Plugins, path: Path) -> None:
    configuration.resolve(configuration.read_toml(path), plugins)


def test_a_callback_that_is_off_by_default_may_lack_a_setting() -> None:
    class Off(Settings):
        enabled: bool = False
        path: str

    class Plugin:
        @hookimpl
        def list_components(self) -> list[Component]:
            return [Component("callback", "log", "", Off)]

        @hookimpl
        def on_epoch_end(self) -> None:
            return None

    plugins = load_plugins(objects=[tiny, Plugin])
    assert not resolve(plugins).enabled("callback", "log")
    with pytest.raises(UsageError, match=r"callback\.log\.path must be given"):
        resolve(plugins, "callback.log.enabled=true")

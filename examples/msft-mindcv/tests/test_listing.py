"""What the package offers, and that saying so is cheap."""

from __future__ import annotations

import subprocess
import sys

import msft_mindcv
from msft_mindcv.table import every_model, models


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys, msft_mindcv; listed = list(msft_mindcv.list_components()); "
        "print(len(listed), *({'mindspore', 'mindcv', 'numpy'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    count, *heavy = result.stdout.split()
    assert int(count) == len(models()) > 200
    assert heavy == []


def test_every_component_is_a_network_of_mindcv_with_one_settings_model() -> None:
    from mindcv import list_models

    components = list(msft_mindcv.list_components())
    names = [component.name for component in components]
    assert len(set(names)) == len(names)
    assert {name.removeprefix("mindcv/") for name in names} <= set(list_models())
    assert {component.kind for component in components} == {"backbone"}
    assert len({component.settings for component in components}) == 1


def test_the_table_is_what_mindcv_says() -> None:
    from mindcv import list_models
    from mindcv.models import registry

    table = every_model()
    assert set(table) == {name for name in list_models() if not name.endswith("_pretrain")}
    for name, model in table.items():
        assert model.url == registry.get_pretrained_cfg(name)["url"], name


def test_each_network_that_does_not_run_says_why_and_is_not_offered() -> None:
    offered = models()
    for model in every_model().values():
        assert (model.component in offered) == (not model.problem), model.name

"""The strategies: what trains, at which rates, what stays as it was, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, Msft
from test_cli import refused
from test_run import config, parameters

import msft_core
import msft_plugins.strategies
from msft_core import Backbone, Preprocessing, Trainable, UsageError, hookimpl
from msft_core import config as configuration
from msft_core.plugins.loading import load_plugins
from msft_core.testing import RecordingReporter, tiny

PREPROCESSING = Preprocessing(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
RESNET = ("stem", "layer1", "layer2", "layer3", "layer4")
EFFICIENTNET = ("stem", *(f"stage{number}" for number in range(1, 8)), "neck")


@pytest.fixture(scope="module")
def backbones() -> dict[str, Backbone]:
    """The real networks with random weights, and the tiny one."""
    import msft_plugins.efficientnet_lite.network
    import msft_plugins.resnet.network
    from msft_plugins.resnet.dialects import DIALECTS

    resnet = msft_plugins.resnet.network.build(2, DIALECTS["zoo"])
    efficientnet = msft_plugins.efficientnet_lite.network.build(2)
    small = tiny.build_backbone("tiny", 2, tiny.TinyBackboneSettings())
    assert small is not None
    return {
        "resnet50": Backbone("resnet50", *resnet, PREPROCESSING),
        "efficientnet_lite0": Backbone("efficientnet_lite0", *efficientnet, PREPROCESSING),
        "tiny": small,
    }


def ask(strategy: str, backbone: Backbone, epoch: int = 1, **settings: Any) -> Trainable:
    model = load_plugins().component("strategy", strategy).settings
    answer = msft_plugins.strategies.select_trainable(strategy, backbone, model(**settings), epoch)
    assert answer is not None
    return answer


def rates(answer: Trainable, backbone: Backbone) -> dict[str, float]:
    """Rate factor of each part that trains; a group is all that one part learns, or this fails."""
    from msft_core.stages import learned_names

    cells = {**{stage.name: stage.cell for stage in backbone.stages}, "head": backbone.head}
    owners = {learned_names(cell): name for name, cell in cells.items()}
    return {owners[group.names]: group.rate_factor for group in answer.groups}


def halving(*stages: str) -> dict[str, float]:
    """Rate factors of these stages and the head, each half of the next one's."""
    parts = (*stages, "head")
    return {part: 0.5 ** (len(parts) - 1 - i) for i, part in enumerate(parts)}


# What trains, and at which rates


@pytest.mark.parametrize(
    ("backbone", "strategy", "settings", "trains"),
    [
        ("resnet50", "freeze", {}, ()),
        ("resnet50", "finetune", {}, RESNET),
        ("resnet50", "partial", {}, ("layer4",)),
        ("resnet50", "partial", {"from": "layer3"}, ("layer3", "layer4")),
        ("resnet50", "partial", {"from": "stem"}, RESNET),
        ("efficientnet_lite0", "freeze", {}, ()),
        ("efficientnet_lite0", "finetune", {}, EFFICIENTNET),
        ("efficientnet_lite0", "partial", {}, ("neck",)),
        ("efficientnet_lite0", "partial", {"from": "stage7"}, ("stage7", "neck")),
        ("tiny", "partial", {}, ("second",)),
        ("tiny", "partial", {"from": "first"}, ("first", "second")),
    ],
)
def test_a_strategy_trains_these_stages_and_the_head_at_rates_that_halve(
    backbones: dict[str, Backbone],
    backbone: str,
    strategy: str,
    settings: dict[str, str],
    trains: tuple[str, ...],
) -> None:
    network = backbones[backbone]
    if strategy != "freeze":
        settings = {**settings, "stage_decay": 0.5}
    assert rates(ask(strategy, network, **settings), network) == halving(*trains)


@pytest.mark.parametrize("backbone", ["resnet50", "efficientnet_lite0", "tiny"])
def test_partial_from_a_stage_with_no_parameters_after_it_trains_the_head(
    backbones: dict[str, Backbone], backbone: str
) -> None:
    network = backbones[backbone]
    assert rates(ask("partial", network, **{"from": "pool"}), network) == {"head": 1}


def test_partial_of_a_backbone_whose_stages_have_no_parameters_trains_the_head(
    backbones: dict[str, Backbone],
) -> None:
    small = backbones["tiny"]
    network = Backbone("bare", small.stages[-1:], small.head, PREPROCESSING)
    assert rates(ask("partial", network), network) == {"head": 1}


@pytest.mark.parametrize(
    ("backbone", "order"), [("resnet50", RESNET), ("efficientnet_lite0", EFFICIENTNET)]
)
def test_gradual_lets_one_stage_more_join_at_each_epoch_named(
    backbones: dict[str, Backbone], backbone: str, order: tuple[str, ...]
) -> None:
    network = backbones[backbone]
    for epoch, joined in ((1, 0), (2, 0), (3, 1), (4, 2), (5, 2), (7, 2), (8, 3), (99, 3)):
        answer = ask("gradual", network, epoch, at=[3, 4, 8], stage_decay=0.5)
        expected = halving(*order[len(order) - joined :])
        assert rates(answer, network) == expected, epoch


def test_gradual_asked_again_in_any_order_gives_the_same(backbones: dict[str, Backbone]) -> None:
    network = backbones["tiny"]
    first = {epoch: ask("gradual", network, epoch, at=[2, 5]) for epoch in range(1, 9)}
    assert first == {epoch: ask("gradual", network, epoch, at=[2, 5]) for epoch in range(8, 0, -1)}
    assert [epoch for epoch in range(2, 9) if first[epoch] != first[epoch - 1]] == [2, 5]


def test_gradual_may_reach_every_stage_but_no_further(backbones: dict[str, Backbone]) -> None:
    network = backbones["resnet50"]
    at = [2, 3, 4, 5, 6]
    everything = rates(ask("finetune", network, stage_decay=0.5), network)
    assert rates(ask("gradual", network, 6, at=at, stage_decay=0.5), network) == everything
    with pytest.raises(
        UsageError,
        match=r"6 epochs, but resnet50 has only 5 stages with parameters: stem, layer1, .*layer4\.",
    ):
        ask("gradual", network, at=[*at, 7])


def test_gradual_without_epochs_is_freeze(backbones: dict[str, Backbone]) -> None:
    network = backbones["tiny"]
    assert rates(ask("gradual", network, 9, at=[]), network) == {"head": 1}


# What is refused


@pytest.mark.parametrize(
    ("backbone", "word", "message"),
    [
        ("resnet50", "layr4", "Did you mean 'layer4'? There are: stem, layer1, layer2"),
        ("efficientnet_lite0", "stage9", "Did you mean 'stage"),
        ("efficientnet_lite0", "zzz", "has no such stage. There are: stem, stage1"),
        ("tiny", "", "has no such stage. There are: first, second, pool."),
    ],
)
def test_partial_from_an_unknown_stage_is_refused_with_the_nearest_and_all_names(
    backbones: dict[str, Backbone], backbone: str, word: str, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        ask("partial", backbones[backbone], **{"from": word})
    assert str(caught.value).startswith(f"strategy.from = {word!r}: {backbone} has no such stage.")
    assert message in str(caught.value)


@pytest.mark.parametrize("at", ["[1, 3]", "[3, 3]", "[4, 3]", "[2.5]", "3", "soon"])
def test_epochs_of_gradual_that_make_no_sense_are_refused(at: str) -> None:
    raw = configuration.merge(
        {"dataset": "tiny", "backbone": "tiny", "strategy": "gradual"},
        configuration.parse_assignment(f"strategy.at={at}"),
    )
    with pytest.raises(UsageError, match=r"^strategy\.at"):
        configuration.resolve(raw, load_plugins(objects=[tiny]))


@pytest.mark.parametrize("setting", ["strategy.from=layer4", "strategy.from_stage=layer4"])
def test_from_is_written_as_the_user_knows_it(setting: str) -> None:
    plugins = load_plugins(objects=[tiny])
    raw = {"dataset": "tiny", "backbone": "tiny", "strategy": "partial"}
    assignment = configuration.parse_assignment(setting)
    resolved = configuration.resolve(configuration.merge(raw, assignment), plugins)
    assert resolved.to_mapping()["strategy"]["from"] == "layer4"
    assert configuration.resolve(resolved.to_mapping(), plugins) == resolved
    # The default is of the backbone, so nothing is written.
    assert "from" not in configuration.resolve(raw, plugins).to_mapping()["strategy"]


def test_an_unknown_stage_on_the_command_line_is_one_line_and_leaves_nothing(
    msft: Msft, tmp_path: Path
) -> None:
    result = msft("run", *TINY, "--strategy", "partial", "--set", "strategy.from=secnd")
    refused(result, "Did you mean 'second'? There are: first, second, pool.")
    assert len(result.stderr.splitlines()) == 1
    assert list((tmp_path / "work").iterdir()) == []


def test_more_epochs_than_stages_on_the_command_line_is_one_line_and_leaves_nothing(
    msft: Msft, tmp_path: Path
) -> None:
    result = msft("run", *TINY, "--strategy", "gradual", "--set", "strategy.at=[2, 3, 40]")
    refused(result, "strategy.at = [2, 3, 40] names 3 epochs", "2 stages with parameters")
    assert len(result.stderr.splitlines()) == 1
    assert list((tmp_path / "work").iterdir()) == []


def test_a_misspelt_from_is_told_by_the_name_that_users_know(msft: Msft) -> None:
    result = msft("run", *TINY, "--strategy", "partial", "--set", "strategy.form=second")
    refused(result, "unknown setting strategy.form (of partial). Did you mean 'from'?")


# What a run does


class Watch:
    """Every tensor of the network, before the first epoch and after each."""

    def __init__(self) -> None:
        self.seen: list[dict[str, np.ndarray]] = []

    def _look(self, run: msft_core.Run) -> None:
        cells = [*(stage.cell for stage in run.backbone.stages), run.backbone.head]
        self.seen.append(
            {p.name: p.asnumpy().copy() for cell in cells for p in cell.get_parameters()}
        )

    @hookimpl
    def on_run_start(self, run: msft_core.Run) -> None:
        self._look(run)

    @hookimpl
    def on_epoch_end(self, run: msft_core.Run) -> None:
        self._look(run)

    def changed(self, epoch: int) -> set[str]:
        """Names of the tensors that this epoch changed, the moving statistics included."""
        before, after = self.seen[epoch - 1], self.seen[epoch]
        return {name for name in before if not np.array_equal(before[name], after[name])}

    def of(self, *parts: str) -> set[str]:
        """Names of all tensors of these parts."""
        return {name for name in self.seen[0] if name.split(".")[0] in parts}


def watched(out: Path, epochs: int, **strategy: Any) -> tuple[Watch, RecordingReporter, Path]:
    watch, reporter = Watch(), RecordingReporter()
    report = msft_core.run(
        config(strategy=strategy, training={"epochs": epochs}),
        plugins=[tiny, watch],
        out=out,
        reporter=reporter,
    )
    return watch, reporter, report.folder


def test_a_partial_run_leaves_all_before_the_stage_bit_identical(tmp_path: Path) -> None:
    watch, _, folder = watched(tmp_path / "run", 2, name="partial")

    assert watch.changed(1) == watch.changed(2) == watch.of("second", "head")
    for name in watch.of("first"):
        np.testing.assert_array_equal(
            parameters(folder / "last.ckpt")[name], watch.seen[0][name], err_msg=name
        )
    assert any(name.endswith("moving_mean") for name in watch.of("first"))


def test_in_a_gradual_run_a_stage_stays_bit_identical_until_it_joins(tmp_path: Path) -> None:
    watch, reporter, _ = watched(tmp_path / "run", 4, name="gradual", learning_rate=0.02, at=[2, 4])

    moved = [{name.split(".")[0] for name in watch.changed(epoch)} for epoch in (1, 2, 3, 4)]
    assert moved == [{"head"}, {"second", "head"}, {"second", "head"}, {"first", "second", "head"}]
    assert len([line for line in reporter.infos if line.startswith("Strategy gradual")]) == 3
    assert reporter.warnings == []


def test_a_gradual_run_too_short_for_its_epochs_says_so(tmp_path: Path) -> None:
    _, reporter, _ = watched(tmp_path / "run", 2, name="gradual", learning_rate=0.02, at=[2, 5])
    assert reporter.warnings == [
        "strategy.at: no stage joins at [5], because the run has 2 epochs."
    ]

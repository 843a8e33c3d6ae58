"""What frozen means, what an optimizer keeps, and the shape of a learning rate."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msft_core import (
    Backbone,
    OptimizerSpec,
    ParameterGroup,
    Preprocessing,
    Trainable,
    TrainingError,
)
from msft_core.data.mindspore_pipeline import MindSporePipeline
from msft_core.data.pipeline import Batch, Recipe
from msft_core.data.views import Augmentation
from msft_core.stages import Chain, Dropout
from msft_core.system.device import Runtime
from msft_core.testing import tiny
from msft_core.training.losses import mean_loss, softmax
from msft_core.training.schedules import Schedule
from msft_core.training.state import TrainState
from msft_core.training.step import drive_dropout
from msft_core.training.trainer import Trainer

HEAD = ("head.weight", "head.bias")


class Noise:
    """Random images of two classes, the same each time."""

    def __init__(self, batches: tuple[int, ...] = (8, 8, 5)) -> None:
        self.batches = batches

    def steps(self) -> int:
        return len(self.batches)

    def epoch(self, number: int, skip: int = 0) -> Iterator[Batch]:
        random = np.random.default_rng(number)
        for count in self.batches:
            labels = random.integers(0, 2, count).astype(np.int32)
            images = random.standard_normal((count, 3, 16, 16), np.float32)
            images += labels[:, None, None, None].astype(np.float32)
            yield Batch(images, labels, np.arange(count))


def backbone() -> Backbone:
    ms.set_seed(0)
    made = tiny.build_backbone("tiny", 2, tiny.TinyBackboneSettings())
    assert made is not None
    return made


def trainer(graph: bool = False) -> Trainer:
    return Trainer(TrainState(backbone()), "tiny", 2, Runtime("cpu", graph=graph, sink=False))


def trainable(*names: str, **options: object) -> Trainable:
    spec = OptimizerSpec("momentum", learning_rate=0.05, momentum=0.9)
    return Trainable((ParameterGroup(names),), spec, **options)  # type: ignore[arg-type]


def values(one: Trainer) -> dict[str, np.ndarray]:
    return {name: p.asnumpy().copy() for name, p in one.state.parameters.items()}


def changed(one: Trainer, before: dict[str, np.ndarray]) -> set[str]:
    return {n for n, value in values(one).items() if not np.array_equal(value, before[n])}


def train(one: Trainer, *epochs: int) -> None:
    for epoch in epochs:
        one.train_epoch(Noise(), epoch, lambda: None)


@pytest.mark.parametrize("graph", [False, True])
def test_only_what_was_selected_changes_moving_statistics_included(graph: bool) -> None:
    one = trainer(graph)
    one.select(trainable(*HEAD), 3, 2)
    before = values(one)
    train(one, 1, 2)
    assert changed(one, before) == set(HEAD)


def test_a_stage_in_which_something_trains_updates_its_own_moving_statistics_only() -> None:
    one = trainer()
    one.select(trainable("second.1.gamma", "second.1.beta"), 3, 1)
    before = values(one)
    train(one, 1)
    assert changed(one, before) == {
        "second.1.gamma",
        "second.1.beta",
        "second.1.moving_mean",
        "second.1.moving_variance",
    }


def test_a_frozen_batch_norm_in_a_stage_that_trains_keeps_its_statistics() -> None:
    one = trainer()
    one.select(trainable("second.0.weight", *HEAD), 3, 1)
    before = values(one)
    train(one, 1)
    assert changed(one, before) == {"second.0.weight", *HEAD}


def test_tutorial_batch_norm_updates_statistics_of_frozen_stages() -> None:
    one = trainer()
    one.select(trainable(*HEAD, batch_norm="batch"), 3, 1)
    before = values(one)
    train(one, 1)
    moving = {n for n in one.state.parameters if "moving" in n}
    assert changed(one, before) == {*HEAD, *moving}


def test_a_frozen_stage_stays_in_evaluation_mode_whatever_set_train_says() -> None:
    one = trainer()
    one.select(trainable("second.0.weight"), 3, 1)
    one.network.set_train(True)
    first, second, pool = (stage.cell for stage in one.backbone.stages)
    images = ms.Tensor(np.random.default_rng(0).standard_normal((4, 3, 16, 16), np.float32))
    assert not any(cell.training for _, cell in first.cells_and_names())
    assert not pool.training
    assert second.training
    # The stage ends in dropout, which would make two passes differ.
    np.testing.assert_array_equal(first(images).asnumpy(), first(images).asnumpy())


def test_a_stage_that_trains_again_leaves_evaluation_mode() -> None:
    one = trainer()
    one.select(trainable(*HEAD), 3, 2)
    train(one, 1)
    one.select(trainable("first.0.weight", "first.1.gamma", *HEAD), 3, 2)
    before = values(one)
    train(one, 2)
    assert {"first.0.weight", "first.1.gamma", "first.1.moving_mean"} <= changed(one, before)


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_optimizer_state_of_what_goes_on_training_is_kept(name: str) -> None:
    """Two epochs with a pointless new selection in between equal two epochs in one go."""
    spec = OptimizerSpec(name, learning_rate=0.01)  # type: ignore[arg-type]
    whole, halved = trainer(), trainer()
    for one in (whole, halved):
        one.select(Trainable((ParameterGroup(HEAD),), spec), 3, 2)
        train(one, 1)
    halved.select(Trainable((ParameterGroup(HEAD),), spec), 3, 2)
    for one in (whole, halved):
        train(one, 2)
    for parameter in HEAD:
        np.testing.assert_array_equal(values(whole)[parameter], values(halved)[parameter])


def test_a_new_learning_rate_takes_effect_though_state_is_kept() -> None:
    one = trainer()
    one.select(trainable(*HEAD), 3, 2)
    train(one, 1)
    spec = OptimizerSpec("momentum", learning_rate=1e-12, momentum=0.9)
    one.select(Trainable((ParameterGroup(HEAD),), spec), 3, 2)
    before = values(one)["head.weight"]
    train(one, 2)
    np.testing.assert_allclose(values(one)["head.weight"], before, atol=1e-9)


def test_a_rate_factor_scales_a_groups_steps() -> None:
    moved = []
    for factor in (1.0, 10.0):
        one = trainer()
        spec = OptimizerSpec("momentum", learning_rate=1e-4, momentum=0.0)
        one.select(Trainable((ParameterGroup(HEAD, factor),), spec), 1, 1)
        before = values(one)["head.weight"]
        one.train_epoch(Noise((8,)), 1, lambda: None)
        moved.append(values(one)["head.weight"] - before)
    np.testing.assert_allclose(moved[1], 10 * moved[0], rtol=1e-2, atol=1e-6)


def test_weight_decay_spares_biases_and_norms() -> None:
    moved = {}
    names = ("second.0.weight", "second.1.gamma", *HEAD)
    for decay in (0.0, 0.5):
        one = trainer()
        spec = OptimizerSpec("momentum", learning_rate=0.1, momentum=0.0, weight_decay=decay)
        one.state.parameters["head.bias"].set_data(ms.Tensor(np.ones(2, np.float32)))
        one.select(Trainable((ParameterGroup(names),), spec), 1, 1)
        before = values(one)
        one.train_epoch(Noise((8,)), 1, lambda: None)
        moved[decay] = {name: values(one)[name] - before[name] for name in names}
        start = before
    for name in ("head.bias", "second.1.gamma"):
        np.testing.assert_array_equal(moved[0.5][name], moved[0.0][name])
    for name in ("head.weight", "second.0.weight"):
        np.testing.assert_allclose(
            moved[0.5][name] - moved[0.0][name], -0.1 * 0.5 * start[name], atol=1e-6
        )


def sink_on_the_host(fn: Any, dataset: Any, sink_size: int, jit_config: Any = None) -> Any:
    """What ``mindspore.data_sink`` does, without a device that could hold the data."""

    def process() -> Any:
        batches = dataset.create_tuple_iterator(num_epochs=1)
        outputs = [fn(*batch) for batch in itertools.islice(batches, sink_size)]
        assert len(outputs) == sink_size
        return outputs[-1]

    return process


def sunk_pipeline() -> MindSporePipeline:
    recipe = Recipe(
        preprocessing=Preprocessing(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        augmentation=Augmentation(),
        seed=0,
        batch_size=4,
        shuffle=True,
        drop_remainder=True,
        workers=1,
    )
    return MindSporePipeline(tiny.table(8), recipe)


def test_sink_mode_trains_a_whole_epoch_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the path is tried: no device with a sink is at hand here."""
    monkeypatch.setattr(ms, "data_sink", sink_on_the_host)
    one = Trainer(TrainState(backbone()), "tiny", 2, Runtime("ascend", graph=False, sink=True))
    one.select(trainable(*HEAD), 4, 2)
    before = values(one)
    result = one.train_epoch(sunk_pipeline(), 1, lambda: None)
    assert result.steps == 4
    assert np.isfinite(result.loss)
    assert changed(one, before) == set(HEAD)


def test_a_loss_that_is_not_a_number_is_found_at_the_epoch_in_sink_mode(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ms, "data_sink", sink_on_the_host)
    one = Trainer(TrainState(backbone()), "tiny", 2, Runtime("ascend", graph=False, sink=True))
    one.select(trainable(*HEAD), 4, 2)
    one.state.parameters["head.weight"].set_data(ms.Tensor(np.full((2, 8), np.inf, np.float32)))
    with pytest.raises(TrainingError, match="the loss is nan at the end of epoch 1"):
        one.train_epoch(sunk_pipeline(), 1, lambda: None)


def test_a_chain_keeps_its_parts_parameter_names() -> None:
    made = backbone()
    names = [p.name for stage in made.stages for p in stage.cell.get_parameters()]
    assert [p.name for p in Chain([s.cell for s in made.stages]).get_parameters()] == names


@pytest.mark.parametrize("graph", [False, True])
def test_dropout_alone_is_the_same_for_one_seed_and_keeps_the_mean(graph: bool) -> None:
    ones = ms.Tensor(np.ones((24, 1280), np.float32))

    def draw(seed: int) -> np.ndarray:
        ms.set_seed(seed)
        cell = Dropout(p=0.2)
        cell.set_train(True)

        def call(x: ms.Tensor) -> ms.Tensor:
            return cell(x)

        call = ms.jit(call) if graph else call
        return np.stack([call(ones).asnumpy() for _ in range(20)])

    first = draw(0)
    np.testing.assert_array_equal(draw(0), first)
    assert len({mask.tobytes() for mask in [*first, *draw(1)]}) == 40
    assert set(np.unique(first)) == {np.float32(0), np.float32(1.25)}
    assert first.mean() == pytest.approx(1, abs=0.01)


def masks(
    seed: int, step: int, layers: int = 2, first: int = 0, images: int = 32
) -> list[np.ndarray]:
    """What each dropout layer of a network keeps of ones at a step of a run."""
    network = Chain([Dropout(p=0.5) for _ in range(layers)])
    clock, first_image = drive_dropout(network, seed)
    clock.set_data(ms.Tensor(step, ms.int32))
    first_image.set_data(ms.Tensor(first, ms.int32))
    network.set_train(True)
    ones = ms.Tensor(np.ones((images, 500), np.float32))
    return [part(ones).asnumpy() > 0 for part in network.parts]


def test_a_process_drops_what_one_process_alone_would_drop_of_its_images() -> None:
    for whole, part in zip(masks(3, 5), masks(3, 5, first=20, images=12), strict=True):
        np.testing.assert_array_equal(part, whole[20:])


def test_masks_of_another_seed_step_layer_or_image_have_nothing_in_common() -> None:
    kept = [*masks(0, 0), *masks(0, 1), *masks(1, 0), *masks(0, 1000)]
    kept += [np.roll(kept[0], 1, axis=0), np.roll(kept[0], 1, axis=1)]
    for one, other in itertools.combinations(kept, 2):
        agree = (one == other).mean()  # of 16,000 values: a standard deviation is 0.004
        assert agree == pytest.approx(0.5, abs=0.03)
    for one in kept:
        assert one.mean() == pytest.approx(0.5, abs=0.02)
        assert one.mean(axis=0).std() == pytest.approx(0.5 / 32**0.5, rel=0.2)


def test_a_mask_comes_back_with_its_step_whatever_ran_before() -> None:
    for one, other in zip(masks(3, 17), masks(3, 17), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("graph", [False, True])
def test_training_that_starts_at_a_later_step_draws_the_masks_of_that_step(graph: bool) -> None:
    """The second epoch, trained by itself, is the second epoch of a run that was not stopped."""
    whole, later = trainer(graph), trainer(graph)
    everything = trainable(*(n for n in whole.state.parameters if "moving" not in n))
    everything = Trainable(everything.groups, OptimizerSpec("momentum", 0.05, momentum=0.0))
    whole.select(everything, 3, 2)
    train(whole, 1)
    for name, parameter in later.state.parameters.items():
        parameter.set_data(whole.state.parameters[name].value())
    later.state.step = whole.state.step
    later.select(everything, 3, 2)
    train(whole, 2)
    train(later, 2)
    for name, value in values(whole).items():
        np.testing.assert_array_equal(values(later)[name], value)


def test_the_step_that_dropout_reads_is_in_no_list_of_parameters() -> None:
    one = trainer()
    one.select(trainable(*HEAD), 3, 1)
    train(one, 1)
    names = {p.name for p in one.network.get_parameters()}
    assert names == set(one.state.parameters)
    assert not any("step" in name or "calls" in name for name in names)


@pytest.mark.parametrize("graph", [False, True])
def test_parameters_keep_their_names_where_some_join_with_an_adam_of_their_own(
    graph: bool,
) -> None:
    """MindSpore renames all parameters of a Cell in which two have one name."""
    one = trainer(graph)
    names = list(one.state.parameters)
    spec = OptimizerSpec("adam", learning_rate=0.01)
    chosen: tuple[str, ...] = ()
    for epoch, joining in enumerate((HEAD, ("second.0.weight",), ("first.0.weight",)), start=1):
        chosen += joining
        one.select(Trainable((ParameterGroup(chosen),), spec), 3, 4)
        before = values(one)
        train(one, epoch)
        assert set(chosen) <= changed(one, before)
        assert [parameter.name for parameter in one.state.parameters.values()] == names
    assert len(one.state.optimizers) == 3
    one.select(Trainable((ParameterGroup(HEAD),), spec), 3, 4)
    train(one, 4)
    assert len(one.state.optimizers) == 1


@pytest.mark.parametrize("graph", [False, True])
def test_a_parameter_that_joins_late_takes_the_first_steps_of_a_fresh_adam(graph: bool) -> None:
    joining = "second.0.weight"

    def step_of(one: Trainer, epoch: int) -> np.ndarray:
        # Only this one moves, so that the gradient is the same in both.
        spec = OptimizerSpec("adam", learning_rate=0.01)
        groups = (ParameterGroup(HEAD, 0.0), ParameterGroup((joining,)))
        one.select(Trainable(groups, spec), 1, 60)
        before = values(one)[joining]
        one.train_epoch(Noise((8,)), epoch, lambda: None)
        return values(one)[joining] - before

    fresh = trainer(graph)
    expected = step_of(fresh, 50)
    late = trainer(graph)
    spec = OptimizerSpec("adam", learning_rate=0.01)
    late.select(Trainable((ParameterGroup(HEAD, 0.0),), spec), 1, 60)
    for epoch in range(1, 50):
        late.train_epoch(Noise((8,)), epoch, lambda: None)
    np.testing.assert_allclose(step_of(late, 50), expected, rtol=1e-4, atol=1e-7)
    # A fresh Adam's first step is the learning rate in the direction of the gradient.
    moved = np.abs(expected[np.abs(expected) > 1e-4])
    assert np.median(moved) == pytest.approx(0.01, rel=0.01)


def test_dropout_does_nothing_in_evaluation_mode() -> None:
    cell = Dropout(p=0.9)
    cell.set_train(False)
    ones = ms.Tensor(np.ones((2, 3), np.float32))
    np.testing.assert_array_equal(cell(ones).asnumpy(), ones.asnumpy())


@given(
    epochs=st.integers(1, 30),
    steps=st.integers(1, 20),
    warmup=st.floats(0, 5),
    schedule=st.sampled_from(["constant", "cosine"]),
)
def test_a_rate_rises_over_the_warmup_and_never_again(
    epochs: int, steps: int, warmup: float, schedule: str
) -> None:
    spec = OptimizerSpec(
        "momentum",
        0.1,
        schedule=schedule,
        warmup_epochs=warmup,  # type: ignore[arg-type]
    )
    rates = Schedule(spec, steps, epochs).rates()
    assert len(rates) == steps * epochs
    assert all(0 <= rate <= 0.1 + 1e-12 for rate in rates)
    after = rates[int(np.ceil(warmup * steps)) :]
    assert all(one >= two - 1e-12 for one, two in itertools.pairwise(after))
    if not warmup:
        assert rates[0] == pytest.approx(0.1)


@given(st.lists(st.lists(st.floats(-50, 50), min_size=3, max_size=3), min_size=1, max_size=8))
def test_softmax_and_loss_agree_with_the_definition(rows: list[list[float]]) -> None:
    logits = np.asarray(rows, np.float32)
    labels = np.arange(len(rows)) % 3
    probabilities = softmax(logits)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    exact = np.exp(logits.astype(np.float64))
    exact /= exact.sum(axis=1, keepdims=True)
    expected = -np.log(exact[np.arange(len(rows)), labels]).mean()
    assert mean_loss(logits, labels) == pytest.approx(expected, rel=1e-6, abs=1e-9)

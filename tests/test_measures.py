"""Figures of predictions against scikit-learn's, and their intervals against a plain bootstrap."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as sklearn

from msft_core import DataError, Predictions
from msft_core.runs.comparison import compare_hits
from msft_core.runs.figures import loss_of
from msft_core.runs.intervals import accuracy_interval, estimates, interval, intervals, resampled
from msft_core.runs.measures import FIGURES, measure

SKLEARN = tuple(name for name in FIGURES if name != "calibration_error")


def predictions(labels: list[int] | np.ndarray, probabilities: object) -> Predictions:
    values = np.asarray(probabilities, np.float32)
    ids = tuple(f"{number}.jpg" for number in range(len(values)))
    classes = tuple(f"class {number}" for number in range(values.shape[1]))
    return Predictions(ids, np.asarray(labels, np.int64), values, classes)


def drawn(images: int, classes: int, *, seed: int = 0, skill: float = 1.5) -> Predictions:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, images)
    logits = random.normal(size=(images, classes))
    logits[np.arange(images), labels] += skill
    values = np.exp(logits)
    return predictions(labels, values / values.sum(axis=1, keepdims=True))


@st.composite
def any_predictions(draw: st.DrawFn) -> Predictions:
    """Few images, few classes, many equal scores: classes without images, and certain ones."""
    images, classes = draw(st.integers(1, 12)), draw(st.integers(2, 5))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=images, max_size=images))
    weights = draw(
        st.lists(
            st.lists(st.sampled_from([0, 1, 2, 7]), min_size=classes, max_size=classes),
            min_size=images,
            max_size=images,
        )
    )
    values = np.asarray(weights, np.float64) + 1e-4 * draw(st.sampled_from([1, 1000]))
    return predictions(labels, values / values.sum(axis=1, keepdims=True))


def by_sklearn(one: Predictions) -> dict[str, float | None]:
    """What scikit-learn says, of the classes that have images."""
    labels, scores, predicted = one.labels, one.probabilities, one.predicted
    classes, there = range(scores.shape[1]), np.unique(labels)
    precision, recall, f1, _ = sklearn.precision_recall_fscore_support(
        labels, predicted, labels=there, average="macro", zero_division=0
    )
    aurocs = [
        sklearn.roc_auc_score(labels == label, scores[:, label])
        for label in ([1] if len(classes) == 2 else there)
        if 0 < (labels == label).sum() < len(labels)
    ]
    return {
        "accuracy": sklearn.accuracy_score(labels, predicted),
        "loss": sklearn.log_loss(labels, scores, labels=classes),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "auroc": float(np.mean(aurocs)) if aurocs else None,
    }


@settings(deadline=None, max_examples=60)
@given(any_predictions())
def test_every_figure_is_scikit_learns(one: Predictions) -> None:
    measures = measure(one)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = by_sklearn(one)

    for name, value in expected.items():
        # scikit-learn takes the mean of a float32 loss in float32.
        assert measures.figures[name] == pytest.approx(value, abs=1e-6 if name == "loss" else 1e-12)
    assert np.array_equal(
        measures.confusion,
        sklearn.confusion_matrix(one.labels, one.predicted, labels=range(len(one.classes))),
    )
    assert measures.confusion.dtype == np.int64
    assert [c.count for c in measures.per_class] == measures.confusion.sum(axis=1).tolist()
    assert [c.predicted for c in measures.per_class] == measures.confusion.sum(axis=0).tolist()


def test_the_loss_of_a_finished_run_is_the_one_that_is_measured() -> None:
    one = predictions([0, 1, 1], [[0.0, 1.0], [0.2, 0.8], [1.0, 0.0]])
    assert loss_of(one) == measure(one).loss


def test_with_images_of_all_classes_the_figures_are_what_scikit_learn_gives_by_default() -> None:
    one = drawn(200, 4)
    measures = measure(one)
    assert measures.auroc == pytest.approx(
        sklearn.roc_auc_score(one.labels, one.probabilities, multi_class="ovr"), abs=1e-12
    )
    assert measures.f1 == pytest.approx(
        sklearn.f1_score(one.labels, one.predicted, average="macro"), abs=1e-12
    )
    assert measures.recall == pytest.approx(
        sklearn.balanced_accuracy_score(one.labels, one.predicted), abs=1e-12
    )
    two = drawn(60, 2)
    assert measure(two).auroc == sklearn.roc_auc_score(two.labels, two.probabilities[:, 1])


def test_the_roc_curve_ends_at_the_corners_and_holds_the_auroc() -> None:
    measures = measure(drawn(100, 3))
    for label, of_class in enumerate(measures.per_class):
        curve = measures.roc_curve(label)
        assert curve is not None
        x, y = curve.false_positive_rate, curve.true_positive_rate
        assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
        assert sklearn.auc(x, y) == pytest.approx(of_class.auroc)


def test_the_calibration_error_is_the_weighted_gap_between_accuracy_and_confidence() -> None:
    # Three images at 0.9, two of them right; one at 0.6 in another bin, wrong.
    one = predictions([0, 0, 1, 1], [[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.6, 0.4]])
    measures = measure(one)

    assert measures.calibration_error == pytest.approx(3 / 4 * (0.9 - 2 / 3) + 1 / 4 * 0.6)
    filled = {b.count: (b.confidence, b.accuracy) for b in measures.calibration if b.count}
    assert filled[3] == pytest.approx((0.9, 2 / 3))
    assert filled[1] == pytest.approx((0.6, 0))
    assert len(measures.calibration) == 15
    assert sum(b.count for b in measures.calibration) == 4


def test_a_perfectly_certain_and_right_classifier_has_no_calibration_error() -> None:
    measures = measure(predictions([0, 1, 1], np.eye(2)[[0, 1, 1]]))
    assert measures.calibration_error == 0
    assert measures.calibration[-1].count == 3
    assert measures.mistakes.tolist() == []


def test_mistakes_come_surest_first_and_hits_least_sure_first() -> None:
    one = predictions([0, 0, 0, 1, 1], [[0.4, 0.6], [0.9, 0.1], [0.1, 0.9], [0.3, 0.7], [0.2, 0.8]])
    measures = measure(one)
    assert measures.mistakes.tolist() == [2, 0]
    assert measures.hits.tolist() == [3, 4, 1]


def test_a_class_without_images_has_no_recall_and_does_not_lower_the_means() -> None:
    one = predictions([0, 0, 1, 1], [[0.8, 0.1, 0.1]] * 2 + [[0.1, 0.8, 0.1]] * 2)
    measures = measure(one)
    absent = measures.per_class[2]

    assert (absent.count, absent.recall, absent.f1, absent.auroc) == (0, None, None, None)
    assert measures.recall == measures.f1 == measures.auroc == 1
    assert measures.roc_curve(2) is None


def test_one_image_is_measured_and_has_no_auroc() -> None:
    one = predictions([1], [[0.2, 0.8]])
    assert measure(one).accuracy == 1
    found = intervals(one)
    assert found["auroc"].value is None
    assert found["auroc"].low is None
    assert found["loss"].low == pytest.approx(found["loss"].value)


def test_more_classes_than_images_are_measured() -> None:
    one = drawn(20, 1000)
    found = intervals(one, 50)
    assert found["auroc"].value == pytest.approx(measure(one).auroc)
    assert len(measure(one).per_class) == 1000


def test_no_images_and_probabilities_that_are_not_finite_are_refused() -> None:
    nothing = predictions([], np.zeros((0, 2)))
    broken = predictions([0, 1], [[math.nan, math.nan], [0.5, 0.5]])
    for compute in (measure, intervals, lambda one: interval(one, lambda _: 0.0)):
        with pytest.raises(DataError, match="no images"):
            compute(nothing)
        with pytest.raises(DataError, match="1 of 2 images are not finite"):
            compute(broken)


# Intervals


def figures_of(one: Predictions) -> Mapping[str, float]:
    figures = measure(one).figures
    return {name: math.nan if value is None else value for name, value in figures.items()}


@settings(deadline=None, max_examples=6)
@given(any_predictions())
def test_many_resamples_at_once_give_what_each_gives_alone(one: Predictions) -> None:
    """The quick computation against ``measure`` of the same resamples."""
    quick, slow = intervals(one, 30), estimates(one, figures_of, 30)
    for name in FIGURES:
        if name == "accuracy" and quick[name].value in (0, 1):
            continue  # it has Clopper and Pearson's interval
        assert quick[name].undefined == slow[name].undefined
        for end in ("value", "low", "high"):
            assert getattr(quick[name], end) == pytest.approx(
                getattr(slow[name], end), abs=1e-9, nan_ok=True
            ), name


@pytest.mark.parametrize("classes", [2, 7])
def test_intervals_are_those_of_a_bootstrap_of_ten_thousand(classes: int) -> None:
    one = drawn(300, classes)
    found = intervals(one)
    random, right = np.random.default_rng(123), one.predicted == one.labels
    loss = -np.log(one.probabilities[np.arange(300), one.labels].astype(float))
    recalls = []
    rows = random.integers(0, 300, (10_000, 300))
    for row in rows:
        true = np.bincount(one.labels[row], minlength=classes)
        hits = np.bincount(one.labels[row][right[row]], minlength=classes)
        recalls.append((hits[true > 0] / true[true > 0]).mean())
    plain = {
        "accuracy": right[rows].mean(axis=1),
        "loss": loss[rows].mean(axis=1),
        "recall": np.asarray(recalls),
    }
    for name, values in plain.items():
        ends = np.percentile(values, (2.5, 97.5))
        assert (found[name].low, found[name].high) == pytest.approx(tuple(ends), abs=0.005), name


def test_intervals_hold_the_figure_of_all_images_in_most_samples() -> None:
    """95 % intervals: of 40 samples some miss the true accuracy, but few."""
    truth = measure(drawn(20_000, 3, seed=99)).accuracy
    held = 0
    for seed in range(40):
        one = intervals(drawn(150, 3, seed=seed), 500)["accuracy"]
        assert one.low is not None
        assert one.high is not None
        held += one.low <= truth <= one.high
    assert 34 <= held <= 40


def test_an_accuracy_without_mistakes_or_without_hits_has_the_exact_interval() -> None:
    """A bootstrap of images that are all right would say that the accuracy is surely 100 %."""
    for hits in (0, 48):
        exact = binomtest(hits, 48).proportion_ci()
        found = accuracy_interval(np.full(48, bool(hits)))
        assert found == pytest.approx((exact.low, exact.high))


@pytest.mark.parametrize("right", [0, 30, 40, 3_999, 4_000])
def test_evaluate_compare_and_report_have_one_interval_of_an_accuracy(right: int) -> None:
    images = 4_000 if right > 40 else 40
    hits = np.arange(images) < right
    one = predictions(np.where(hits, 0, 1), [[0.75, 0.25]] * images)
    found = intervals(one)["accuracy"]
    assert (found.low, found.high) == pytest.approx(accuracy_interval(hits), abs=1e-12)
    score = compare_hits({"a": hits})[0]["a"]
    assert score.interval == accuracy_interval(hits)
    assert found.low < found.high


def test_the_same_predictions_have_the_same_intervals() -> None:
    assert intervals(drawn(80, 3)) == intervals(drawn(80, 3))


def test_the_resamples_do_not_depend_on_how_many_are_drawn_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = drawn(40, 3)
    at_once = intervals(one, 200)
    monkeypatch.setattr("msft_core.runs.intervals._CHUNK", 130)
    assert intervals(one, 200) == at_once
    assert [rows.shape for rows in resampled(40, 8)] == [(3, 40), (3, 40), (2, 40)]


def test_a_functions_figures_are_resampled_with_ids_and_classes() -> None:
    one = drawn(30, 2)
    asked: list[Predictions] = []

    def figures(given: Predictions) -> dict[str, float]:
        asked.append(given)
        return {"share": float((given.labels == 1).mean()), "images": len(given.ids)}

    found = estimates(one, figures, 100)

    assert len(asked) == 101
    assert asked[0] is one
    assert all(len(given.ids) == 30 and given.classes == one.classes for given in asked)
    assert set(asked[1].ids) < set(one.ids)
    for index, name in enumerate(asked[1].ids):
        assert asked[1].labels[index] == one.labels[one.ids.index(name)]
    assert found["images"].low == found["images"].high == 30
    low, high = found["share"].low, found["share"].high
    assert low is not None
    assert high is not None
    assert low < found["share"].value < high


def test_a_figure_that_many_resamples_lack_gets_no_interval() -> None:
    # With one image of the second class, a third of the resamples have none of it.
    one = predictions([0] * 9 + [1], [[0.7, 0.3]] * 9 + [[0.4, 0.6]])
    found = intervals(one, 500)["auroc"]
    assert found.value == 1
    assert (found.low, found.high) == (None, None)
    assert 0.25 < found.undefined / found.resamples < 0.45


def test_a_figure_that_few_resamples_lack_keeps_its_interval_and_says_how_many() -> None:
    one = drawn(40, 2)
    once = [0]

    def figures(given: Predictions) -> dict[str, float]:
        once[0] += 1
        return {} if once[0] == 7 else {"one": math.nan if once[0] == 9 else 1.0}

    found = estimates(one, figures, 100)["one"]
    assert found.undefined == 2
    assert found.low == 1


def test_large_predictions_get_fewer_resamples_of_the_auroc_and_all_of_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("msft_core.runs.intervals._AUROC_BUDGET", 300 * 100 * 3)
    found = intervals(drawn(100, 3), 1000)
    assert found["auroc"].resamples == 300
    assert found["loss"].resamples == 1000

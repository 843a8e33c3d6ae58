"""Features that are stored in float16: `cache.dtype`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import msft_core
from msft_core import DatasetSplits, UsageError, hookimpl
from msft_core.config import merge
from msft_core.engine.evaluate import evaluate as evaluate_run
from msft_core.features.rounding import halved, require_digits, rounded
from msft_core.features.segments import load_segment
from msft_core.images import MemoryTable
from msft_core.runs.predictions_file import read_predictions
from msft_core.system.cache_folder import cache_dir
from msft_core.testing import RecordingReporter, tiny
from msft_core.types import RunReport

HALF = {"cache": {"dtype": "float16"}}


class Outcome:
    """A run with frozen stages, and what it said."""

    def __init__(self, out: Path, *plugins: object, **sections: Any) -> None:
        config: dict[str, Any] = {
            "dataset": "tiny",
            "backbone": "tiny",
            "strategy": {"name": "freeze", "learning_rate": 0.01},
            "training": {"epochs": 2, "batch_size": 8, "views": 1},
            "runtime": {"mode": "pynative"},
            "without": ["figures", "report"],
        }
        self.reporter = RecordingReporter()
        self.report: RunReport = msft_core.run(
            merge(config, sections), plugins=[tiny, *plugins], out=out, reporter=self.reporter
        )
        self.computed = sum(total for label, total in self.reporter.totals if " of " in label)
        self.losses = [record.train["loss"] for record in self.report.history]


Run = Callable[..., Outcome]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    count = iter(range(100))
    return lambda *plugins, **sections: Outcome(tmp_path / str(next(count)), *plugins, **sections)


def spaces() -> dict[str, tuple[int, int]]:
    """For each dtype in the cache, the bytes of a feature, and how many features there are."""
    found: dict[str, tuple[int, int]] = {}
    for path in (cache_dir() / "features").rglob("*.rows"):
        segment, _, (_, dtype) = load_segment(path)
        count = found.get(dtype.name, (0, 0))[1] + len(segment.crcs)
        found[dtype.name] = (segment.feature_bytes, count)
    return found


class Bright:
    """The tiny backbone with a last stage that gives large features of bright pictures."""

    def __init__(self, factor: float, white: bool = False) -> None:
        self.factor, self.white = factor, white

    @hookimpl
    def build_dataset(self) -> DatasetSplits:
        """The tiny one; its second validation picture may be white."""
        val = tiny.table(4, start=1000)
        blobs = list(val.blobs)
        if self.white:
            blobs[1] = white()
        return DatasetSplits(
            tiny.CLASSES, tiny.table(8), MemoryTable(val.ids, val.labels, tuple(blobs))
        )

    @hookimpl
    def build_backbone(self, name: str, num_classes: int, settings: Any) -> Any:
        """Features times a factor; or, with a white picture, its features alone."""
        import mindspore as ms
        from mindspore import nn

        factor, from_ = self.factor, 0.9 if self.white else -1e9

        class First(nn.Cell):
            def __init__(self, cell: nn.Cell) -> None:
                super().__init__(auto_prefix=False)
                self.cell = cell

            def construct(self, x: Any) -> Any:
                bright = (x.mean(axis=(1, 2, 3), keep_dims=True) > from_).astype(ms.float32)
                return self.cell(x) * (1 + bright * (factor - 1))

        made: Any = tiny.build_backbone(name, num_classes, settings)
        first = replace(made.stages[0], cell=First(made.stages[0].cell))
        return replace(made, stages=(first, *made.stages[1:]))


def white() -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (32, 24), "white").save(file, "PNG")
    return file.getvalue()


def test_float16_halves_the_bytes_is_computed_once_and_shares_nothing_with_float32(
    run: Run,
) -> None:
    whole = run()
    first, second = run(**HALF), run(**HALF)
    ((bytes_of_32, count_32), (bytes_of_16, count_16)) = (
        spaces()["float32"],
        spaces()["float16"],
    )
    assert (bytes_of_16, count_16) == (bytes_of_32 / 2, count_32)
    assert whole.computed == first.computed == 24
    assert second.computed == 0
    assert second.reporter.warnings == first.reporter.warnings == []
    assert second.losses == first.losses
    # Rounded, as the losses show, but not by much.
    assert first.losses != whole.losses
    np.testing.assert_allclose(first.losses, whole.losses, rtol=1e-3)
    # The description, and so the key, of float32 is that of before there was a choice.
    told = [json.loads(path.read_text()) for path in (cache_dir() / "features").rglob("space.json")]
    assert sorted(str(one.pop("dtype", None)) for one in told) == ["None", "float16"]
    assert told[0] == told[1]


def test_evaluate_rounds_as_the_run_did_so_its_probabilities_are_the_same_to_the_bit(
    run: Run,
) -> None:
    folder = run(**HALF).report.folder
    of_run = read_predictions(folder / "predictions.csv")
    found = evaluate_run(folder, objects=[tiny], reporter=RecordingReporter()).measures.predictions
    assert np.array_equal(found.probabilities, of_run.probabilities)
    in_float32 = read_predictions(run().report.folder / "predictions.csv")
    assert not np.array_equal(in_float32.probabilities, of_run.probabilities)


def test_a_run_is_not_resumed_with_another_dtype(run: Run) -> None:
    folder = run(**HALF).report.folder
    longer: dict[str, Any] = {"training": {"epochs": 3}}
    with pytest.raises(UsageError, match=r"begun with cache\.dtype = 'float16', not 'float32'"):
        msft_core.resume(
            folder,
            {**longer, "cache": {"dtype": "float32"}},
            plugins=[tiny],
            reporter=RecordingReporter(),
        )
    report = msft_core.resume(
        folder,
        {**longer, "cache": {"limit_gb": 5.0}},
        plugins=[tiny],
        reporter=RecordingReporter(),
    )
    assert len(report.history) == 3


def test_features_that_float16_cannot_hold_are_refused_before_the_run_begins(
    run: Run, tmp_path: Path
) -> None:
    for factor, says in ((1e7, "float16 ends at 65504"), (1e-7, "lose digits in float16")):
        assert run(Bright(factor)).computed == 24
        with pytest.raises(UsageError, match=f"of the frozen stages .* {says}") as refused:
            run(Bright(factor), **HALF)
        assert "--set cache.dtype=float32" in str(refused.value)
        assert refused.value.report is None
    assert "float16" not in spaces()


def test_a_single_picture_whose_features_float16_cannot_hold_ends_the_run_in_a_line(
    run: Run,
) -> None:
    with pytest.raises(UsageError, match="float16 ends at 65504") as ended:
        run(Bright(1e7, white=True), **HALF)
    assert ended.value.report is not None
    assert ended.value.report.status == "failed"
    assert spaces()["float16"][1] == 16  # the training pictures; nothing infinite


def test_values_are_off_by_at_most_half_a_thousandth_and_infinity_is_no_overflow() -> None:
    features = np.random.default_rng(0).normal(size=(4, 100)).astype(np.float32)
    half = halved(features, "first")
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, features, rtol=2**-11, atol=2**-25)
    assert np.array_equal(rounded(features), half.astype(np.float32))
    features[0, 0], features[1, 1] = np.inf, np.nan  # training on them is refused elsewhere
    assert np.array_equal(halved(features, "first"), features.astype(np.float16), equal_nan=True)
    assert not halved(np.zeros((2, 3), np.float32), "first").any()
    assert rounded(np.float32([1e6, 1.0])).tolist() == [1e6, 1.0]
    for small in (1e-6, 1e-30):
        with pytest.raises(UsageError, match="lose digits"):
            require_digits(np.full((2, 3), small, np.float32), "first")
    require_digits(np.zeros((2, 3), np.float32), "first")
    require_digits(features, "first")

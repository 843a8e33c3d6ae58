"""What a checkpoint of a run says of the classifier in it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import msft_core
from msft_core import Preprocessing, WeightsError
from msft_core.runs.checkpoints import FORMAT, describe_checkpoint
from msft_core.testing import RecordingReporter, tiny
from msft_core.weights import Checkpoint, read_checkpoint

PREPROCESSING = Preprocessing(16, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), interpolation="bicubic")


def of_0_3_0(**changes: str) -> Checkpoint:
    """As msft 0.3.0 wrote it: format 1, without the backbone's settings."""
    metadata = {
        "msft": "1",
        "backbone": "resnet50",
        "dialect": "zoo",
        "strategy": "freeze",
        "classes": json.dumps(["狗", "狼"], ensure_ascii=False),
        "preprocessing": json.dumps(asdict(PREPROCESSING)),
        **changes,
    }
    return Checkpoint({"x": np.zeros(1)}, metadata, Path("best.ckpt"))


def test_a_run_writes_the_format_and_the_backbones_settings(tmp_path: Path) -> None:
    report = msft_core.run(
        {
            "dataset": "tiny",
            "backbone": {"name": "tiny", "width": 5},
            "strategy": "freeze",
            "training": {"epochs": 1, "batch_size": 6},
            "callback": {"figures": {"enabled": False}},
        },
        plugins=[tiny],
        out=tmp_path / "run",
        reporter=RecordingReporter(),
    )
    reporter = RecordingReporter()
    for name in ("best.ckpt", "last.ckpt"):
        info = describe_checkpoint(read_checkpoint(report.folder / name), reporter)
        assert info.format == FORMAT == 2
        assert info.settings["width"] == 5
        assert (info.backbone, info.strategy, info.classes) == ("tiny", "freeze", tiny.CLASSES)
        assert info.preprocessing == Preprocessing(16, (0.5,) * 3, (0.5,) * 3)
    assert reporter.infos == []


def test_a_checkpoint_of_0_3_0_opens_with_defaults_and_says_so() -> None:
    reporter = RecordingReporter()
    info = describe_checkpoint(of_0_3_0(), reporter)
    assert (info.backbone, info.dialect, info.classes) == ("resnet50", "zoo", ("狗", "狼"))
    assert info.preprocessing == PREPROCESSING
    assert info.settings == {}
    (line,) = reporter.infos
    assert "0.3.0" in line
    assert "default settings of resnet50" in line


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        (Checkpoint({}, {}, Path("x.ckpt")), "x.ckpt: .*msft"),
        (of_0_3_0(msft="99"), "newer msft"),
        (of_0_3_0(msft="one"), "damaged"),
        (of_0_3_0(classes="["), "damaged"),
        (of_0_3_0(preprocessing="{}"), "damaged"),
    ],
)
def test_what_is_no_checkpoint_of_msft_is_one_clear_line(
    checkpoint: Checkpoint, message: str
) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        describe_checkpoint(checkpoint, RecordingReporter())
    assert "\n" not in str(caught.value)

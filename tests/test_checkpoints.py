"""What a checkpoint of a run says of the classifier in it."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import msft_core
from msft_core import Preprocessing, WeightsError
from msft_core.runs.checkpoints import (
    FORMAT,
    CheckpointInfo,
    describe_checkpoint,
    load_parameters,
    save_checkpoint,
)
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
            "without": ["figures", "report"],
        },
        plugins=[tiny],
        out=tmp_path / "run",
        reporter=RecordingReporter(),
    )
    reporter = RecordingReporter()
    for name in ("best.ckpt", "last.ckpt"):
        info = describe_checkpoint(read_checkpoint(report.folder / name), reporter)
        assert info.format == FORMAT == 3
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


def parameters() -> dict[str, Any]:
    """Parameters of every kind that a network may have."""
    import mindspore as ms

    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 400)).astype(np.float32)
    tensors = {
        "conv.weight": ms.Tensor(values),
        "重み": ms.Tensor(values[:, :2]),
        "half": ms.Tensor(values.astype(np.float16)),
        "brain": ms.Tensor(values).astype(ms.bfloat16),
        "double": ms.Tensor(values.astype(np.float64)),
        "count": ms.Tensor(7, ms.int64),
        "mask": ms.Tensor(values > 0),
        "one": ms.Tensor(np.array([4], np.int32)),
        "nan": ms.Tensor(np.array([np.nan, -0.0, np.inf], np.float32)),
    }
    return {name: ms.Parameter(tensor, name=name) for name, tensor in tensors.items()}


def state_of(parameters: dict[str, Any]) -> Any:
    """As much of a train state as a checkpoint needs."""
    return SimpleNamespace(parameters=parameters)


@pytest.mark.parametrize("slice_kb", [512 * 1024, 1])
def test_a_checkpoint_has_the_bytes_that_mindspore_would_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slice_kb: int
) -> None:
    import mindspore as ms

    monkeypatch.setattr("mindspore.train.serialization.SLICE_SIZE", slice_kb)
    monkeypatch.setattr("msft_core.weights.formats.ckpt._SLICE", slice_kb * 1024)
    made = parameters()
    info = CheckpointInfo("tiny", "", "freeze", ("狗", "狼" * 200), PREPROCESSING)
    path = save_checkpoint(tmp_path / "ours.ckpt", state_of(made), info)
    values = [{"name": name, "data": value} for name, value in sorted(made.items())]
    theirs = tmp_path / "theirs.ckpt"
    ms.save_checkpoint(values, str(theirs), append_dict=info.to_metadata())
    ms.save_checkpoint([], str(tmp_path / "first.ckpt"), append_dict={"msft_checksum": "crc32"})
    expected = (tmp_path / "first.ckpt").read_bytes() + theirs.read_bytes()
    checksum = b"crc_num" + zlib.crc32(expected).to_bytes(10, "big")
    assert path.read_bytes() == expected + checksum
    for check in (True, False):
        loaded = ms.load_checkpoint(str(path), crc_check=check)
        assert loaded["conv.weight"].asnumpy().tobytes() == made["conv.weight"].asnumpy().tobytes()


def test_no_flipped_bit_and_no_lost_byte_of_a_checkpoint_goes_unnoticed(tmp_path: Path) -> None:
    import mindspore as ms

    made = {"head.weight": ms.Parameter(ms.Tensor(np.arange(6, dtype=np.float32)), name="w")}
    info = CheckpointInfo("tiny", "", "freeze", ("a", "b"), PREPROCESSING)
    path = save_checkpoint(tmp_path / "best.ckpt", state_of(made), info)
    content = path.read_bytes()
    metadata = read_checkpoint(path).metadata
    assert metadata["backbone"] == "tiny"
    assert not [name for name in metadata if "checksum" in name]
    # One bit of each third byte, and all of those that say that there is a checksum.
    bits = {8 * place + place % 8 for place in range(0, len(content), 3)}
    bits |= {*range(8 * 80), *range(8 * (len(content) - 20), 8 * len(content))}
    for bit in sorted(bits):
        broken = bytearray(content)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        with pytest.raises(WeightsError):
            read_checkpoint(path)
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(WeightsError):
            read_checkpoint(path)
    for length in (len(content) - 17, len(content) - 10, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(WeightsError):
            read_checkpoint(path)
    path.write_bytes(content)
    assert read_checkpoint(path).arrays["head.weight"].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_checkpoint_of_an_earlier_msft_has_no_checksum_and_opens(tmp_path: Path) -> None:
    import mindspore as ms

    strings = CheckpointInfo("tiny", "", "freeze", ("a", "b"), PREPROCESSING).to_metadata()
    path = tmp_path / "best.ckpt"
    values = [{"name": "w", "data": ms.Tensor(np.ones(3, np.float32))}]
    ms.save_checkpoint(values, str(path), append_dict=strings)
    assert read_checkpoint(path).arrays["w"].tolist() == [1, 1, 1]


def test_loading_gives_back_every_bit_and_leaves_alone_what_has_its_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mindspore as ms

    made = parameters()
    info = CheckpointInfo("tiny", "", "freeze", ("狗", "狼"), PREPROCESSING)
    path = save_checkpoint(tmp_path / "best.ckpt", state_of(made), info)
    before = {name: (value.dtype, value.asnumpy().tobytes()) for name, value in made.items()}
    for name in ("conv.weight", "half", "brain", "count", "mask", "nan"):
        made[name].set_data(ms.ops.zeros_like(made[name]))
    set_names = []
    plain = ms.Parameter.set_data

    def noting(self: Any, *arguments: Any, **named: Any) -> Any:
        set_names.append(self.name)
        return plain(self, *arguments, **named)

    monkeypatch.setattr(ms.Parameter, "set_data", noting)
    load_parameters(path, state_of(made))
    after = {name: (value.dtype, value.asnumpy().tobytes()) for name, value in made.items()}
    assert after == before
    assert set(set_names) == {"conv.weight", "half", "brain", "count", "mask", "nan"}

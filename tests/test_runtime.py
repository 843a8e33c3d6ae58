"""The device, the oneDNN guard, workers."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from msft_core import DeviceError
from msft_core.config import RuntimeSettings
from msft_core.system import collector, device, onednn
from msft_core.testing import RecordingReporter
from msft_core.training.compilation import in_graph_mode

WITH_AVX512 = "flags : fpu avx2 avx512f avx512dq\n"
SLOW = "2.10.0"


@pytest.fixture
def cpuinfo(tmp_path: Path) -> Path:
    """A CPU with AVX-512."""
    path = tmp_path / "cpuinfo"
    path.write_text(WITH_AVX512)
    return path


def test_the_guard_is_set_and_said_where_it_is_needed(cpuinfo: Path) -> None:
    environment: dict[str, str] = {}
    reporter = RecordingReporter()
    assert onednn.cap(environment, reporter, version=SLOW, cpuinfo=cpuinfo)
    assert environment == {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    assert len(reporter.infos) == 1


def test_a_users_own_choice_of_instruction_set_stays(cpuinfo: Path) -> None:
    environment = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}
    assert not onednn.cap(environment, RecordingReporter(), version=SLOW, cpuinfo=cpuinfo)
    assert environment == {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}


def test_the_guard_is_left_out_where_the_cpu_has_no_avx512(cpuinfo: Path) -> None:
    cpuinfo.write_text("flags : fpu avx2\n")
    environment: dict[str, str] = {}
    assert not onednn.cap(environment, RecordingReporter(), version=SLOW, cpuinfo=cpuinfo)
    assert environment == {}


@pytest.mark.parametrize(
    ("version", "slow"),
    [("2.7.0", False), ("2.8.0", False), ("2.9.0", True), ("2.10.0", True), ("2.11.0", False)],
)
def test_only_the_measured_releases_are_held_back(version: str, slow: bool) -> None:
    assert onednn.mindspore_is_slow_with_avx512(version) is slow


def test_the_cpus_flags_are_read(cpuinfo: Path) -> None:
    assert onednn.cpu_has_avx512(cpuinfo)
    cpuinfo.write_text("flags : fpu avx2\n")
    assert not onednn.cpu_has_avx512(cpuinfo)
    assert not onednn.cpu_has_avx512(cpuinfo.with_name("missing"))


def test_workers_are_clamped_to_the_cpus_and_it_is_said() -> None:
    reporter = RecordingReporter()
    assert device.clamp_workers(None, reporter) == device.cpu_count()
    assert device.clamp_workers(None, reporter, cpus=4) == 4
    assert device.clamp_workers(3, reporter, cpus=4) == 3
    assert device.clamp_workers(0, reporter, cpus=4) == 0
    assert reporter.infos == []
    assert device.clamp_workers(8, reporter, cpus=4) == 4
    assert "8" in reporter.infos[0]


@pytest.mark.parametrize("name", ["gpu", "ascend"])
def test_a_device_that_is_not_there_is_one_clear_line(name: str) -> None:
    with pytest.raises(DeviceError, match=f"--device {name}: .*--device cpu") as caught:
        device.prepare(RuntimeSettings(device=name), RecordingReporter())  # type: ignore[arg-type]
    assert len(str(caught.value).splitlines()) == 1


def test_a_process_that_has_computed_already_can_still_run() -> None:
    import mindspore as ms

    ms.ops.matmul(ms.Tensor([[1.0]]), ms.Tensor([[1.0]])).asnumpy()
    for _ in range(2):
        assert device.prepare(RuntimeSettings(device="cpu"), RecordingReporter()).device == "cpu"


def test_sink_mode_on_a_cpu_is_refused() -> None:
    with pytest.raises(DeviceError, match="no dataset sink mode on a CPU"):
        device.prepare(RuntimeSettings(device="cpu", sink=True), RecordingReporter())


def test_pynative_is_chosen_on_a_cpu_and_graph_mode_on_request() -> None:
    reporter = RecordingReporter()
    assert not device.prepare(RuntimeSettings(device="cpu"), reporter).graph
    assert device.prepare(RuntimeSettings(device="cpu", mode="graph"), reporter).graph


def test_graphs_as_deep_as_the_optimizer_of_a_large_network_compile() -> None:
    """MindSpore stops at 1000 calls inside one another; an optimizer has two for a parameter."""
    from mindspore import Tensor, nn

    device.prepare(RuntimeSettings(), RecordingReporter())

    class Deep(nn.Cell):
        def nested(self, x: Tensor, calls: int) -> Tensor:
            return x if calls == 0 else self.nested(x, calls - 1)

        def construct(self, x: Tensor) -> Tensor:
            return self.nested(x, 1200)

    assert in_graph_mode(Deep(), Tensor([1.0])).asnumpy() == [1.0]


def test_the_collector_rests_during_an_import_and_is_on_afterwards() -> None:
    frozen = gc.get_freeze_count()

    def fails() -> None:
        with collector.imports_only():
            assert not gc.isenabled()
            raise ImportError

    with pytest.raises(ImportError):
        fails()
    assert gc.isenabled()
    # This process is not msft's own: what is garbage one day is collected.
    assert gc.get_freeze_count() == frozen


def test_a_collector_that_the_user_has_switched_off_stays_off() -> None:
    gc.disable()
    try:
        with collector.imports_only():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_command_leaves_imported_modules_out_of_later_collections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(collector, "process_is_ours", True)
    try:
        with collector.imports_only():
            pass
        assert gc.get_freeze_count() > 1000
    finally:
        gc.unfreeze()

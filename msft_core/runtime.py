"""The device, and the environment MindSpore needs, set before it is imported."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import tempfile
import warnings
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msft_core.config import RuntimeSettings
from msft_core.errors import DeviceError
from msft_core.types import Reporter

# oneDNN as built into these releases runs every convolution but 1x1 stride 1 on a reference kernel
# where the CPU has AVX-512: about 90 times slower (a 64->64 3x3 convolution on 8x56x56, 2,500 ms
# against 27). 2.7 and 2.8 do not. The value is oneDNN's own name for the newest instruction set
# that it may use.
_SLOW_AVX512_FROM, _SLOW_AVX512_BEFORE = (2, 9), (2, 11)
_ONEDNN_CAP = ("ONEDNN_MAX_CPU_ISA", "AVX2")
_onednn: dict[str, bool] = {"capped": False, "released": False}


@dataclass(frozen=True)
class Runtime:
    """What was chosen.

    Args:
        device: cpu, gpu or ascend.
        graph: compile steps into graphs; else PyNative.
        sink: feed whole epochs to the device at once.
        may_compile: even where ``graph`` is not chosen, compile what gains by it.
    """

    device: str
    graph: bool
    sink: bool
    may_compile: bool = False


def prepare(settings: RuntimeSettings, reporter: Reporter) -> Runtime:
    """Choose the device, set the environment, then import MindSpore and point it there.

    Raises:
        DeviceError: the device asked for is not there.
    """
    device = _detect_device() if settings.device == "auto" else settings.device
    if device == "cpu":
        guard_onednn(os.environ, reporter)
    # Its warnings are about itself; errors still come through. A user's own level stays.
    os.environ.setdefault("GLOG_v", "3")
    # A graph that does not compile is dumped; without this, into the working directory.
    os.environ.setdefault("MS_OM_PATH", tempfile.gettempdir())
    runtime = Runtime(
        device=device,
        graph=settings.mode == "graph" or (settings.mode == "auto" and device != "cpu"),
        sink=(device != "cpu") if settings.sink is None else settings.sink,
        may_compile=settings.mode != "pynative",
    )
    if runtime.sink and device == "cpu":
        raise DeviceError("runtime.sink = true: MindSpore has no dataset sink mode on a CPU.")
    _select(device)
    return runtime


def guard_onednn(environment: MutableMapping[str, str], reporter: Reporter) -> bool:
    """Keep oneDNN off AVX-512 on releases of MindSpore where that is slow, and say so.

    Returns: whether the variable was set; a user's own value stays.
    """
    variable, value = _ONEDNN_CAP
    if variable in environment or _onednn["released"]:
        return False
    if not (mindspore_is_slow_with_avx512() and cpu_has_avx512()):
        return False
    environment[variable] = value
    _onednn["capped"] = True
    reporter.info(f"{variable}={value} is set: this MindSpore is slow with AVX-512.")
    return True


def release_onednn(environment: MutableMapping[str, str]) -> None:
    """Take the variable back, for engines that carry a oneDNN of their own.

    MindSpore's reads it at its first convolution and never again; so one is run first. A user's
    own value stays.
    """
    if _onednn["capped"]:
        from mindspore import ops

        one = ops.ones((1, 1, 3, 3))
        ops.conv2d(one, one).asnumpy()
        environment.pop(_ONEDNN_CAP[0], None)
        _onednn.update(capped=False, released=True)


def mindspore_is_slow_with_avx512(version: str | None = None) -> bool:
    """Whether this release (the installed one by default) has the slow convolutions."""
    version = version or importlib.metadata.version("mindspore")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    return _SLOW_AVX512_FROM <= numbers < _SLOW_AVX512_BEFORE


def cpu_has_avx512(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether Linux lists AVX-512 among the CPU's flags; False where there is no such list."""
    try:
        return "avx512f" in cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def cpu_count() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def clamp_workers(asked: int | None, reporter: Reporter) -> int:
    """Decoding threads: one a CPU by default, never more; MindSpore raises above that."""
    cpus = cpu_count()
    if asked is None:
        return cpus
    if asked > cpus:
        reporter.info(f"data.workers = {asked}: this machine has {cpus} CPUs, so {cpus} are used.")
    return min(asked, cpus)


def versions() -> dict[str, str]:
    """Versions that decide a run's figures, for ``environment.json``."""
    names = ("msft", "mindspore", "numpy", "pillow", "pluggy", "pydantic", "matplotlib")
    return {"python": sys.version.split()[0]} | {n: importlib.metadata.version(n) for n in names}


def _detect_device() -> str:
    return "ascend" if Path("/dev/davinci_manager").exists() else "cpu"


def _select(device: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mindspore as ms
    target = {"cpu": "CPU", "gpu": "GPU", "ascend": "Ascend"}[device]
    try:
        # Steps are compiled one by one where `graph` asks for it, so the context is PyNative.
        ms.set_context(mode=ms.PYNATIVE_MODE)
        # Once something has run, as in a notebook, setting even the same device is an error.
        if ms.get_context("device_target") != target:
            ms.set_device(target)
        # Its optimizers are compiled with two calls inside one another for each parameter of a
        # group with a rate of its own; the default of 1000 is enough for some 490 of them, and
        # DenseNet-201 has 600.
        ms.set_recursion_limit(10_000)
        _try_out(ms)
    except Exception as error:
        raise DeviceError(
            f"--device {device}: MindSpore {ms.__version__} cannot use it here "
            f"({str(error).strip().splitlines()[0]}). Try --device cpu."
        ) from error


def _try_out(ms: Any) -> None:
    ms.Tensor([1.0], ms.float32) + 1

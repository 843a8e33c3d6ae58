"""The device, and the environment MindSpore needs, set before it is imported."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msft_core.config import RuntimeSettings
from msft_core.errors import DeviceError
from msft_core.system import onednn
from msft_core.types import Reporter


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
        onednn.cap(os.environ, reporter)
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


def cpu_count() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def clamp_workers(asked: int | None, reporter: Reporter, cpus: int | None = None) -> int:
    """Decoding threads: one a CPU by default, never more; MindSpore raises above that.

    Args:
        asked: None where the user did not say.
        reporter: told where it is less.
        cpus: that this process may use; looked up by default.
    """
    cpus = cpus or cpu_count()
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

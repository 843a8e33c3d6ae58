"""Choose the device, and set the environment that MindSpore needs before it is imported."""

from __future__ import annotations

import atexit
import functools
import importlib.metadata
import os
import shutil
import sys
import tempfile
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msft_core.config import RuntimeSettings
from msft_core.errors import DeviceError
from msft_core.system import collector, onednn
from msft_core.system.ranks import ALONE, Ranks
from msft_core.types import Reporter

MINDSPORE = threading.RLock()
"""Held while MindSpore computes, since compiling changes its mode for the whole process: a
classifier may predict in one thread while a run trains in another."""


@dataclass(frozen=True)
class Runtime:
    """The chosen device and modes.

    Args:
        device: cpu, gpu or ascend.
        graph: compile steps into graphs; otherwise use PyNative mode.
        sink: feed whole epochs to the device at once.
        may_compile: without ``graph``, still compile the parts that run faster compiled.
    """

    device: str
    graph: bool
    sink: bool
    may_compile: bool = False


def prepare(settings: RuntimeSettings, reporter: Reporter, ranks: Ranks = ALONE) -> Runtime:
    """Choose the device, set the environment, then import MindSpore and point it there.

    Args:
        settings: say which device.
        reporter: told what was changed.
        ranks: the place of this process among those that train together.

    Raises:
        DeviceError: MindSpore cannot use the device here.
    """
    device = _detect_device() if settings.device == "auto" else settings.device
    if device == "cpu":
        onednn.cap(os.environ, reporter)
    # MindSpore's warnings concern only MindSpore itself. Errors are still shown. A level that the
    # user has set stays.
    os.environ.setdefault("GLOG_v", "3")
    # A graph that does not compile is dumped; without this, into the working directory.
    if "MS_OM_PATH" not in os.environ:
        os.environ["MS_OM_PATH"] = _private_folder()
    runtime = Runtime(
        device=device,
        graph=settings.mode == "graph" or (settings.mode == "auto" and device != "cpu"),
        sink=bool(settings.sink),
        may_compile=settings.mode != "pynative",
    )
    if runtime.sink and device == "cpu":
        raise DeviceError(
            "runtime.sink = true: MindSpore has no dataset sink mode on a CPU. Remove the setting."
        )
    if ranks.size > 1:
        from msft_core.system.group import set_mindspore_variables  # imports NumPy

        set_mindspore_variables(ranks)
    _select(device)
    return runtime


def cpu_count() -> int:
    """Number of CPUs that this process may use."""
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
        reporter.info(f"data.workers = {asked} exceeds the {cpus} CPUs: msft uses {cpus} threads.")
    return min(asked, cpus)


def versions() -> dict[str, str]:
    """Versions that decide a run's results, for ``environment.json``."""
    names = ("msft", "mindspore", "numpy", "pillow", "pluggy", "pydantic", "matplotlib")
    return {"python": sys.version.split()[0]} | {name: _version_of(name) for name in names}


# Each look parses the package's metadata, with the whole description in it. Every checkpoint and
# every state asks for them: without the cache it was a third of the time of a tiny run.
_version_of = functools.cache(importlib.metadata.version)


def _private_folder() -> str:
    """A temporary folder that only this user can read; removed when the process ends."""
    folder = tempfile.mkdtemp(prefix="msft-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _detect_device() -> str:
    return "ascend" if Path("/dev/davinci_manager").exists() else "cpu"


def _select(device: str) -> None:
    with collector.imports_only(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mindspore as ms
    target = {"cpu": "CPU", "gpu": "GPU", "ascend": "Ascend"}[device]
    try:
        with MINDSPORE:
            _choose(ms, target)
    except Exception as error:
        raise DeviceError(
            f"--device {device}: MindSpore {ms.__version__} cannot use it here "
            f"({str(error).strip().splitlines()[0]}). Try --device cpu."
        ) from error


def _choose(ms: Any, target: str) -> None:
    # `graph` compiles each step by itself, so the context stays in PyNative mode.
    ms.set_context(mode=ms.PYNATIVE_MODE)
    # After the first operator, as in a notebook, setting even the same device is an error.
    if ms.get_context("device_target") != target:
        ms.set_device(target)
    # A compiled optimizer nests two calls for each parameter of a group with its own rate. The
    # default limit of 1000 is enough for about 490 parameters, and DenseNet-201 has 600.
    ms.set_recursion_limit(10_000)
    _try_out(ms)


def _try_out(ms: Any) -> None:
    ms.Tensor([1.0], ms.float32) + 1

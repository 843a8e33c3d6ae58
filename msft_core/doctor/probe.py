"""Import MindSpore in another process, and measure its speed there."""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from msft_core.config import RuntimeSettings
from msft_core.errors import DeviceError, first_line
from msft_core.system import device as runtime
from msft_core.system.console import PlainReporter

PROBE_SECONDS = 60.0
"""How long MindSpore may take to be imported and to compute a few convolutions."""

CHILD = "import sys; sys.path[:] = sys.argv[1:]; from msft_core.doctor.probe import probe; probe()"
"""The code that the other process runs. Its arguments are this process's module path."""

WORK = 2 * 8 * 56 * 56 * 64 * 64 * 9
"""Floating-point operations of the convolution: 3x3, 64 to 64 channels, on 8x56x56."""

SIDE = round((WORK / 2) ** (1 / 3))
"""Side of two square matrices whose product needs the same number of operations."""

NOT_IMPORTED = "MindSpore cannot be imported here"


class Prober(Protocol):
    """A function like ``run_probe``, as the checks call it."""

    def __call__(self, *, without: str = "") -> Mapping[str, Any]:
        """Measure, without an environment variable."""


def run_probe(
    *, without: str = "", code: str = CHILD, seconds: float = PROBE_SECONDS
) -> dict[str, Any]:
    """Start another process that prepares MindSpore as a run would, and times a convolution.

    Args:
        without: an environment variable to take away.
        code: what the other process runs; its arguments are this one's module path.
        seconds: how long it may take.

    Returns: the values that ``probe`` printed, and ``failed`` if it did not finish.
    """
    environment = {key: text for key, text in os.environ.items() if key != without}
    command = [sys.executable, "-c", code, *sys.path]
    failed = ""
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        told = done.stdout
        if done.returncode:
            last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            failed = ": ".join([f"the process ended with status {done.returncode}", *last])
    except subprocess.TimeoutExpired as expired:
        told = expired.stdout or b""
        failed = f"the process did not come to an end within {seconds:.0f} s"
    found: dict[str, Any] = {"failed": failed} if failed else {}
    for line in told.decode("utf-8", "replace").splitlines():
        # The last line may be cut off if the process was stopped.
        if line.startswith("{") and line.endswith("}"):
            found.update(json.loads(line))
    return found


def probe() -> None:
    """Runs in the other process. Prints each result at once, as a line with a JSON object.

    ``mindspore`` is the version. ``device`` is the device that a run would use, and ``said`` the
    message of a run about it. ``product`` and ``convolution`` are the seconds of each call on a
    CPU. ``import_error`` and ``device_error`` say why the process ends early.
    """
    # MindSpore's own output goes to standard error.
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(**values: object) -> None:
        print(json.dumps(values), file=told, flush=True)

    said = io.StringIO()
    try:
        chosen = runtime.prepare(RuntimeSettings(), PlainReporter(out=said, err=said))
    except DeviceError as error:
        tell(mindspore=importlib.metadata.version("mindspore"), device_error=str(error))
        return
    except Exception as error:
        tell(import_error=first_line(error))
        return
    import mindspore as ms
    import numpy as np

    tell(mindspore=ms.__version__, device=chosen.device, said=said.getvalue().strip())
    if chosen.device != "cpu":
        return
    rng = np.random.default_rng(0)
    one, other = rng.random((2, SIDE, SIDE), np.float32)
    images = ms.Tensor(rng.random((8, 64, 56, 56), np.float32))
    kernels = ms.Tensor(rng.random((64, 64, 3, 3), np.float32))
    for times in call_times(lambda: one @ other):
        tell(product=times)
    for times in call_times(
        lambda: ms.ops.conv2d(images, kernels, pad_mode="pad", padding=1).asnumpy()
    ):
        tell(convolution=times)


def call_times(
    compute: Callable[[], object], clock: Callable[[], float] = time.perf_counter
) -> Iterator[list[float]]:
    """Yield the seconds of each call so far. Makes a few calls, and fewer if they are slow.

    The first call also does preparations, so it is left out as soon as there is a second one.
    """
    started = clock()
    times: list[float] = []
    while len(times) < 8 and clock() - started < 10:
        before = clock()
        compute()
        times.append(clock() - before)
        yield times[1:] or times


def why_not_imported(probed: Mapping[str, Any]) -> str:
    """Why the other process could not import MindSpore; empty if it could."""
    if "mindspore" in probed:
        return ""
    return str(probed.get("import_error") or probed.get("failed") or "the process printed nothing")

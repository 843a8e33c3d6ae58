"""MindSpore, in another process: there it is imported, and its speed is measured."""

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
"""What the other process runs, with this one's module path."""

WORK = 2 * 8 * 56 * 56 * 64 * 64 * 9
"""Floating-point operations of the convolution: 3x3, 64 to 64 channels, on 8x56x56."""

SIDE = round((WORK / 2) ** (1 / 3))
"""Of the two square matrices whose product is as much work."""

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

    Returns: what ``probe`` told, and ``failed`` where it did not come to its end.
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
        # A line may be cut where the process was stopped.
        if line.startswith("{") and line.endswith("}"):
            found.update(json.loads(line))
    return found


def probe() -> None:
    """What the other process does. Prints JSON objects, one a line, as soon as each is known.

    ``mindspore`` is its version, ``device`` what a run would compute on, ``said`` what a run would
    say of that; ``product`` and ``convolution`` are seconds of each call on a CPU.
    ``import_error`` and ``device_error`` say why it ends early.
    """
    # What MindSpore prints goes to standard error.
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
    """Seconds of each call up to now; a few calls, fewer where they are slow.

    The first call also prepares, so it is left out as soon as there is another.
    """
    started = clock()
    times: list[float] = []
    while len(times) < 8 and clock() - started < 10:
        before = clock()
        compute()
        times.append(clock() - before)
        yield times[1:] or times


def why_not_imported(probed: Mapping[str, Any]) -> str:
    """The reason that the other process gave; empty where it imported MindSpore."""
    if "mindspore" in probed:
        return ""
    return str(probed.get("import_error") or probed.get("failed") or "it said nothing")

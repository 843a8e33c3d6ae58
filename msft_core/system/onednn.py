"""oneDNN as built into MindSpore: how to keep it fast on a CPU with AVX-512.

The one place that knows of the environment variable: set before MindSpore's first convolution,
which reads it, and taken back after it for other engines.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import MutableMapping
from pathlib import Path

from msft_core.types import Reporter

# oneDNN as built into these releases runs every convolution but 1x1 stride 1 on a reference kernel
# where the CPU has AVX-512: about 90 times slower (a 64->64 3x3 convolution on 8x56x56, 2,500 ms
# against 27). 2.7 and 2.8 do not. The value is oneDNN's own name for the newest instruction set
# that it may use.
_SLOW_AVX512_FROM, _SLOW_AVX512_BEFORE = (2, 9), (2, 11)

VARIABLE, _VALUE = "ONEDNN_MAX_CPU_ISA", "AVX2"

CPUINFO = Path("/proc/cpuinfo")
"""Where Linux lists a CPU's flags."""

_state: dict[str, bool] = {"capped": False, "released": False}


def cap(
    environment: MutableMapping[str, str],
    reporter: Reporter,
    *,
    version: str | None = None,
    cpuinfo: Path = CPUINFO,
) -> bool:
    """Keep oneDNN off AVX-512 on releases of MindSpore where that is slow, and say so.

    Args:
        environment: to be changed.
        reporter: told where it was.
        version: of MindSpore; the installed one by default.
        cpuinfo: where Linux lists the CPU's flags.

    Returns: whether the variable was set; a user's own value stays.
    """
    if VARIABLE in environment or _state["released"]:
        return False
    if not (mindspore_is_slow_with_avx512(version) and cpu_has_avx512(cpuinfo)):
        return False
    environment[VARIABLE] = _VALUE
    _state["capped"] = environment is os.environ
    reporter.info(f"{VARIABLE}={_VALUE} is set: this MindSpore is slow with AVX-512.")
    return True


def release(environment: MutableMapping[str, str] = os.environ) -> None:
    """Take the variable back, for engines that carry a oneDNN of their own.

    MindSpore's reads it at its first convolution and never again: call this after one. A user's
    own value stays.
    """
    if _state["capped"]:
        environment.pop(VARIABLE, None)
        _state.update(capped=False, released=True)


def mindspore_is_slow_with_avx512(version: str | None = None) -> bool:
    """Whether this release (the installed one by default) has the slow convolutions."""
    version = version or importlib.metadata.version("mindspore")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    return _SLOW_AVX512_FROM <= numbers < _SLOW_AVX512_BEFORE


def cpu_has_avx512(cpuinfo: Path = CPUINFO) -> bool:
    """Whether Linux lists AVX-512 among the CPU's flags; False where there is no such list."""
    try:
        return "avx512f" in cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False

"""Keep oneDNN, which is built into MindSpore, fast on a CPU with AVX-512.

Only this module knows the environment variable. It is set before MindSpore's first convolution,
which reads it. After that it is removed, for the sake of other engines.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import MutableMapping
from pathlib import Path

from msft_core.types import Reporter

# In these releases, on a CPU with AVX-512, oneDNN runs every convolution except 1x1 with stride 1
# on a reference kernel. That is about 90 times slower (a 64->64 3x3 convolution on 8x56x56 takes
# 2,500 ms instead of 27). MindSpore 2.7 and 2.8 do not have this flaw. The value is oneDNN's name
# for the newest instruction set that it may use.
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
    reporter.info(f"msft sets {VARIABLE}={_VALUE}: this MindSpore is slow with AVX-512.")
    return True


def release(environment: MutableMapping[str, str] = os.environ) -> None:
    """Remove the variable, for engines with their own oneDNN.

    MindSpore reads it at its first convolution and never again. So call this after a convolution. A
    value that the user has set stays.
    """
    if _state["capped"]:
        environment.pop(VARIABLE, None)
        _state.update(capped=False, released=True)


def mindspore_is_slow_with_avx512(version: str | None = None) -> bool:
    """Whether this release of MindSpore (by default the installed one) has slow convolutions."""
    version = version or importlib.metadata.version("mindspore")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    return _SLOW_AVX512_FROM <= numbers < _SLOW_AVX512_BEFORE


def cpu_has_avx512(cpuinfo: Path = CPUINFO) -> bool:
    """Whether Linux lists AVX-512 among the CPU's flags; False where there is no such list."""
    try:
        return "avx512f" in cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False

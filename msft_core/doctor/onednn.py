"""Check whether a convolution has the speed of oneDNN's fast kernels."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from msft_core.doctor import probe
from msft_core.doctor.findings import Finding
from msft_core.doctor.versions import bounds_text, requirement_of
from msft_core.system.onednn import VARIABLE

SLOW_BELOW = 0.03
"""A convolution is a problem if its speed is below this fraction of a matrix product's speed. On 2
cores of an AMD EPYC the fraction is 0.31 to 0.38 with oneDNN's fast kernels (AVX, AVX2), and 0.003
to 0.004 with its reference kernel. The limit is the geometric mean of the two."""

FASTER = 1.5
"""If a convolution is this many times faster without the user's ONEDNN_MAX_CPU_ISA, say so."""


def check_convolution(probed: Mapping[str, Any], run_probe: probe.Prober) -> Iterator[Finding]:
    """The measured convolution, also without a user's own choice of instructions.

    Args:
        probed: what was measured with it.
        run_probe: measures without it.
    """
    name = "convolution"
    if "mindspore" not in probed:
        yield Finding(name, "problem", f"not measured: {probe.NOT_IMPORTED}", "see versions")
        return
    if "device" not in probed:
        yield Finding(name, "problem", "not measured: the device cannot be used", "see device")
        return
    if probed["device"] != "cpu":
        yield Finding(name, "ok", f"not measured: a run here computes on {probed['device']}")
        return
    measured = _Speed.of(probed)
    own = os.environ.get(VARIABLE)
    # Only a user's own value can be worse than what msft would choose.
    unset = _Speed.of(run_probe(without=VARIABLE)) if own is not None else None
    value = {
        "gflops": measured.convolution,
        "product_gflops": measured.product,
        "fraction": measured.fraction,
        "slow_below": SLOW_BELOW,
    }
    if unset:
        value["gflops_without_own"] = unset.convolution
    set_to = f"{VARIABLE}={own}, set by you" if own is not None else str(probed["said"])
    set_to = f" ({set_to.rstrip('.')})" if set_to else ""
    found = f"{measured}; {SLOW_BELOW:.0%} or more is normal"
    if "failed" in probed:
        found = f"{measured}: {probed['failed']}"
    if unset and (unset.convolution or 0) > FASTER * (measured.convolution or 0):
        yield Finding(
            name,
            "problem" if measured.is_slow else "note",
            found + set_to,
            f"unset {VARIABLE}: without it a convolution reaches {unset.convolution:.3g} GFLOP/s",
            value,
        )
    elif measured.is_slow or "failed" in probed:
        advice = _what_helps_oneDNN(probed, slow=measured.is_slow)
        yield Finding(name, "problem", found + set_to, advice, value)
    else:
        yield Finding(name, "ok", found + set_to, value=value)


@dataclass(frozen=True)
class _Speed:
    """GFLOP/s of a convolution and of a matrix product; None if there is no result."""

    convolution: float | None
    product: float | None

    @classmethod
    def of(cls, probed: Mapping[str, Any]) -> _Speed:
        def gflops(work: float, name: str) -> float | None:
            return work / statistics.median(probed[name]) / 1e9 if name in probed else None

        return cls(gflops(probe.WORK, "convolution"), gflops(2 * probe.SIDE**3, "product"))

    @property
    def fraction(self) -> float | None:
        return self.convolution / self.product if self.convolution and self.product else None

    @property
    def is_slow(self) -> bool:
        return self.fraction is None or self.fraction < SLOW_BELOW

    def __str__(self) -> str:
        if self.convolution is None or self.product is None or self.fraction is None:
            return "a 3x3 convolution gave no result"
        return (
            f"{self.convolution:.3g} GFLOP/s in a 3x3 convolution, {self.fraction:.1%} of the "
            f"{self.product:.3g} in a matrix product"
        )


def _what_helps_oneDNN(probed: Mapping[str, Any], *, slow: bool) -> str:
    capped = VARIABLE in os.environ or VARIABLE in probed["said"]
    if slow and not capped:
        return f"set {VARIABLE}=AVX2 in the environment and run msft doctor again"
    bounds = bounds_text(requirement_of("mindspore").specifier)
    return (
        "if no other program uses the CPUs, install another MindSpore "
        f"{bounds} than {probed['mindspore']}"
    )

"""Check the device, the CPUs and the memory, and a container's limits on them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msft_core.doctor.findings import Finding
from msft_core.doctor.probe import NOT_IMPORTED
from msft_core.files import size_text

LOW_MEMORY_BYTES = 4e9
"""Free memory below which a run with the default settings may run out of memory."""


def check_device(probed: Mapping[str, Any]) -> Iterator[Finding]:
    """The device that a run uses here."""
    if "device" in probed:
        yield Finding("auto", "ok", f"a run here computes on {probed['device']}")
    elif "device_error" in probed:
        yield Finding("auto", "problem", probed["device_error"], "run with --device cpu")
    else:
        yield Finding("auto", "problem", NOT_IMPORTED, "see versions")


def check_cpus(cpus: int, quota: float | None) -> Iterator[Finding]:
    """How many CPUs there are, and may be used at a time.

    Args:
        cpus: that this process may use.
        quota: see ``cpu_quota``.
    """
    value = {"cpus": cpus, "quota": quota}
    found = f"{cpus} usable of {os.cpu_count()}"
    if quota is None or quota >= cpus:
        yield Finding("cpus", "ok", found, value=value)
    else:
        yield Finding(
            "cpus",
            "note",
            f"{found}, but this container may use {quota:.4g} at a time; msft decodes on {cpus}",
            f"run with --set data.workers={max(1, int(quota))}",
            value,
        )


def check_memory(limit: int | None) -> Iterator[Finding]:
    """How much memory is free.

    Args:
        limit: see ``memory_limit``.
    """
    sizes = [size for size in (_physical_memory(), limit) if size]
    if not sizes:
        return
    total, available = min(sizes), _available_memory()
    free = min(total, available or total)
    found = f"{size_text(free)} free of {size_text(total)}"
    value = {"bytes": total, "free_bytes": free}
    if free >= LOW_MEMORY_BYTES:
        yield Finding("memory", "ok", found, value=value)
    else:
        advice = (
            "finetuning a ResNet-50 with batch size 24 takes 3.7 GB: close other programs, or run "
            "with a smaller --batch-size"
        )
        yield Finding("memory", "note", found, advice, value)


def cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """How many CPUs a container may use at a time; None if there is no limit.

    Args:
        root: root folder of Linux's control groups, version 1 or 2.
    """
    limit = _read(root / "cpu.max").split()  # version 2
    if not limit:
        limit = [_read(root / f"cpu/cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    quota, period = (int(n) if n.isdigit() else 0 for n in (*limit, "", "")[:2])
    return quota / period if quota and period else None


def memory_limit(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Memory that a container may use, bytes; None if there is no limit. ``root``: as above."""
    text = _read(root / "memory.max") or _read(root / "memory/memory.limit_in_bytes")
    return int(text) if text.strip().isdigit() else None


def _physical_memory() -> int | None:
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _available_memory() -> int | None:
    match = re.search(r"^MemAvailable:\s*(\d+) kB", _read(Path("/proc/meminfo")), re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""

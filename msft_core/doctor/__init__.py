"""The checks of ``msft doctor``. A finding says what was found, if it is right, and what to do.

There is one file for each subject. Importing this package imports neither MindSpore nor NumPy.
MindSpore runs in another process (``probe.py``).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from msft_core.doctor import disk, machine, network, onednn, plugins, probe, versions
from msft_core.doctor.findings import Check, Finding
from msft_core.system.cache_folder import cache_dir
from msft_core.system.device import cpu_count

__all__ = ["Check", "Finding", "checks"]


def checks(
    *,
    modules: Sequence[str] = (),
    without: Sequence[str] = (),
    offline: bool = False,
    run_probe: probe.Prober = probe.run_probe,
) -> list[Check]:
    """All checks in the order of the output. A check runs only when its findings are asked for.

    Args:
        modules: as with ``--plugin``.
        without: as with ``--without``.
        offline: leave the network out.
        run_probe: measures MindSpore in another process.
    """
    probed = functools.cache(run_probe)
    loaded = functools.cache(lambda: plugins.load(modules, without))
    measuring = "importing MindSpore and measuring a convolution"
    listed = [
        Check("versions", "python", versions.check_python),
        Check("versions", "msft", versions.check_msft),
        Check("versions", "packages", versions.check_packages),
        Check("versions", "mindspore", lambda: versions.check_mindspore(probed()), measuring),
        Check("device", "auto", lambda: machine.check_device(probed())),
        Check("device", "cpus", lambda: machine.check_cpus(cpu_count(), machine.cpu_quota())),
        Check("device", "memory", lambda: machine.check_memory(machine.memory_limit())),
        Check(
            "oneDNN",
            "convolution",
            lambda: onednn.check_convolution(probed(), run_probe),
            measuring,
        ),
        Check("plugins", "plugins", lambda: plugins.check_plugins(loaded()), "loading plugins"),
        Check("cache", "folder", disk.check_cache_folder),
        Check("cache", "size", disk.check_cache_size, "reading the cache folder"),
        Check("disk", "cache", lambda: disk.check_disk("cache", cache_dir())),
        Check(
            "disk", "working directory", lambda: disk.check_disk("working directory", Path.cwd())
        ),
        Check(
            "network", "urls", lambda: network.check_network(loaded()), "asking for each known URL"
        ),
    ]
    return [check for check in listed if not (offline and check.subject == "network")]

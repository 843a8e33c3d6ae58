"""What ``msft doctor`` looks at: what was found, whether it is right, and what to do if it is not.

Importing this module imports neither MindSpore nor NumPy; MindSpore runs in another process.
"""

from __future__ import annotations

import functools
import importlib.metadata
import io
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from msft_core import compat, runtime
from msft_core.cache import cache_dir
from msft_core.config import CacheSettings, RuntimeSettings
from msft_core.errors import DeviceError, PluginError, UsageError, first_line
from msft_core.plugins import PluginInfo, Plugins
from msft_core.reporter import PlainReporter
from msft_core.types import Component, Context

PROBE_SECONDS = 60.0
"""How long MindSpore may take to be imported and to compute a few convolutions."""

CHILD = "import sys; sys.path[:] = sys.argv[1:]; from msft_core import doctor; doctor.probe()"
"""What the other process runs, with this one's module path."""

SLOW_BELOW = 0.03
"""A convolution that reaches less of a matrix product's speed than this is a problem. On 2 cores
of an AMD EPYC it reaches 0.31 to 0.38 on oneDNN's fast kernels (AVX, AVX2), 0.003 to 0.004 on its
reference kernel: this is the geometric mean."""

FASTER = 1.5
"""A user's own ONEDNN_MAX_CPU_ISA is told where a convolution is so much faster without it."""

URL_SECONDS = 5.0
"""How long a URL may take to answer."""

URLS_AT_ONCE = 32
"""How many URLs are asked for at the same time."""

URLS_ON_A_HOST = 8
"""How many URLs of one host are asked for: a plugin may list hundreds of networks."""

LOW_MEMORY_BYTES = 4e9
"""Free memory below which a run with the default settings may end for want of it."""

LOW_BYTES, TOO_LOW_BYTES = 5e9, 0.5e9
"""Free space below which a disk is worth a note, and a problem."""

_ISA = "ONEDNN_MAX_CPU_ISA"
_WORK = 2 * 8 * 56 * 56 * 64 * 64 * 9
"""Floating-point operations of the convolution: 3x3, 64 to 64 channels, on 8x56x56."""
_SIDE = round((_WORK / 2) ** (1 / 3))
"""Of the two square matrices whose product is as much work."""
_WHY = {"numpy": "MindSpore 2.10 prints tracebacks with NumPy 2"}

Status = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Args:
        name: of what was looked at.
        status: ``problem`` is what keeps msft from working as it should, ``note`` is worth knowing.
        found: one line.
        advice: what to do about it, one line.
        value: the measured numbers.
    """

    name: str
    status: Status
    found: str
    advice: str = ""
    value: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One thing to look at.

    Args:
        subject: the section it belongs to.
        name: what its failure is listed under.
        find: looks.
        doing: what the user reads meanwhile, where it takes its time.
    """

    subject: str
    name: str
    find: Callable[[], Iterable[Finding]]
    doing: str = ""

    def findings(self, *, verbose: bool = False) -> list[Finding]:
        """What it finds; that it fails is a finding too.

        Args:
            verbose: print the traceback of a check that fails on standard error.
        """
        found: list[Finding] = []
        try:
            for finding in self.find():
                found.append(finding)
        except (Exception, SystemExit) as error:
            if verbose:
                traceback.print_exc()
            broken = f"this check failed: {first_line(error)}"
            found.append(Finding(self.name, "problem", broken, "--verbose shows where"))
        return found


def checks(
    *, modules: Sequence[str] = (), without: Sequence[str] = (), offline: bool = False
) -> list[Check]:
    """Everything to look at, in the order of the output. Nothing is done before it is asked.

    Args:
        modules: as with ``--plugin``.
        without: as with ``--without``.
        offline: leave the network out.
    """
    probed = functools.cache(run_probe)
    loaded = functools.cache(lambda: _load(modules, without))
    measuring = "importing MindSpore and measuring a convolution"
    listed = [
        Check("versions", "python", _check_python),
        Check("versions", "msft", _check_msft),
        Check("versions", "packages", _check_packages),
        Check("versions", "mindspore", lambda: _check_mindspore(probed()), measuring),
        Check("device", "auto", lambda: _check_device(probed())),
        Check("device", "cpus", _check_cpus),
        Check("device", "memory", _check_memory),
        Check("oneDNN", "convolution", lambda: _check_convolution(probed()), measuring),
        Check("plugins", "plugins", lambda: _check_plugins(loaded()), "loading plugins"),
        Check("cache", "folder", _check_cache_folder),
        Check("cache", "size", _check_cache_size, "reading the cache folder"),
        Check("disk", "cache", lambda: _check_disk("cache", cache_dir())),
        Check("disk", "working directory", lambda: _check_disk("working directory", Path.cwd())),
        Check("network", "urls", lambda: _check_network(loaded()), "asking for each known URL"),
    ]
    return [check for check in listed if not (offline and check.subject == "network")]


# Versions


@dataclass(frozen=True)
class _Requirement:
    """A line of msft's own metadata: ``numpy<2,>=1.26; extra == "x"``."""

    package: str
    bounds: str
    condition: str

    @property
    def pip(self) -> str:
        return f'pip install "{self.package}{self.bounds}"'

    def allows(self, version: str) -> bool:
        return all(_is_within(version, bound) for bound in self.bounds.split(",") if bound)


def _requirements() -> list[_Requirement]:
    found = []
    for line in importlib.metadata.requires("msft") or ():
        if match := re.fullmatch(r"([\w.-]+)(?:\[.*?\])?\s*([^;]*?)\s*(?:;\s*(.*))?", line):
            package, bounds, condition = match.groups()
            found.append(_Requirement(package.lower(), _lower_first(bounds), condition or ""))
    return found


def _lower_first(bounds: str) -> str:
    return ",".join(sorted(re.split(r"\s*,\s*", bounds), reverse=True))


def _is_within(version: str, bound: str) -> bool:
    """Whether a version has a bound such as ``<2.11``. What follows the numbers does not count."""
    match = re.fullmatch(r"(>=|<=|==|!=|>|<)\s*([\w.]+)", bound)
    if not match:
        raise ValueError(f"{bound!r} is no bound of a version")
    mine, other = _numbers(version), _numbers(match[2])
    return {
        ">=": mine >= other,
        "<=": mine <= other,
        "==": mine == other,
        "!=": mine != other,
        ">": mine > other,
        "<": mine < other,
    }[match[1]]


def _numbers(version: str) -> tuple[int, ...]:
    numbers = re.match(r"\d+(\.\d+)*", version)
    parts = [int(part) for part in numbers[0].split(".")] if numbers else []
    while parts and not parts[-1]:
        parts.pop()
    return tuple(parts)


def _check_python() -> Iterator[Finding]:
    version = platform.python_version()
    bounds = _lower_first(importlib.metadata.metadata("msft")["Requires-Python"] or "")
    right = all(_is_within(version, bound) for bound in bounds.split(",") if bound)
    yield Finding(
        "python",
        "ok" if right else "problem",
        f"{version} (supported: {bounds})",
        "" if right else f"make an environment with a Python {bounds}",
    )


def _check_msft() -> Iterator[Finding]:
    version = importlib.metadata.version("msft")
    yield Finding("msft", "ok", f"{version}, plugin API {compat.API_VERSION}")


def _check_packages() -> Iterator[Finding]:
    for requirement in _requirements():
        if not requirement.condition and requirement.package != "mindspore":
            yield _check_package(requirement)
    for requirement in _requirements():
        if re.fullmatch(r"extra == ['\"]openvino['\"]", requirement.condition):
            yield _check_package(requirement, extra="openvino")


def _check_package(requirement: _Requirement, extra: str = "") -> Finding:
    name, bounds = requirement.package, requirement.bounds
    why = f" ({_WHY[name]})" if name in _WHY else ""
    try:
        version = importlib.metadata.version(name) or ""
    except importlib.metadata.PackageNotFoundError:
        if extra:
            found = f"not installed; it is optional, and comes with {_pip_extra(extra)}"
            return Finding(name, "ok", found)
        return Finding(name, "problem", "not installed", requirement.pip)
    if requirement.allows(version):
        return Finding(name, "ok", f"{version} (supported: {bounds})")
    if extra:
        found = f"{version}, msft supports {bounds}; it is optional"
        return Finding(name, "note", found, _pip_extra(extra))
    return Finding(name, "problem", f"{version}, msft needs {bounds}{why}", requirement.pip)


def _pip_extra(extra: str) -> str:
    return f'pip install "msft[{extra}]"'


def _check_mindspore(probed: Mapping[str, Any]) -> Iterator[Finding]:
    requirement = next(r for r in _requirements() if r.package == "mindspore")
    finding = _check_package(requirement)
    if finding.status == "ok" and (reason := _why_not_imported(probed)):
        yield Finding(
            "mindspore",
            "problem",
            f"{finding.found}, but importing it fails: {reason}",
            f"{requirement.pip} --force-reinstall",
        )
    else:
        yield finding


# The device


def _check_device(probed: Mapping[str, Any]) -> Iterator[Finding]:
    if "device" in probed:
        yield Finding("auto", "ok", f"a run here computes on {probed['device']}")
    elif "device_error" in probed:
        yield Finding("auto", "problem", probed["device_error"], "run with --device cpu")
    else:
        yield Finding("auto", "problem", _NOT_IMPORTED, "see versions")


def _check_cpus() -> Iterator[Finding]:
    cpus, quota = runtime.cpu_count(), cpu_quota()
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


def _check_memory() -> Iterator[Finding]:
    sizes = [size for size in (_physical_memory(), memory_limit()) if size]
    if not sizes:
        return
    total, available = min(sizes), _available_memory()
    free = min(total, available or total)
    found = f"{_size(free)} free of {_size(total)}"
    value = {"bytes": total, "free_bytes": free}
    if free >= LOW_MEMORY_BYTES:
        yield Finding("memory", "ok", found, value=value)
    else:
        advice = (
            "finetuning a ResNet-50 with a batch of 24 takes 3.7 GB: end other programs, or run "
            "with a smaller --batch-size"
        )
        yield Finding("memory", "note", found, advice, value)


def cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """How many CPUs a container may use at a time; None where there is no limit.

    Args:
        root: of Linux's control groups, version 1 or 2.
    """
    limit = _read(root / "cpu.max").split()  # version 2
    if not limit:
        limit = [_read(root / f"cpu/cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    quota, period = (int(n) if n.isdigit() else 0 for n in (*limit, "", "")[:2])
    return quota / period if quota and period else None


def memory_limit(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that a container may use; None where there is no limit. ``root``: as above."""
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


# MindSpore, in another process


def run_probe(*, without: str = "") -> dict[str, Any]:
    """Start another process that prepares MindSpore as a run would, and times a convolution.

    Args:
        without: an environment variable to take away.

    Returns: what ``probe`` told, and ``failed`` where it did not come to its end.
    """
    environment = {key: text for key, text in os.environ.items() if key != without}
    command = [sys.executable, "-c", CHILD, *sys.path]
    failed = ""
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
        told = done.stdout
        if done.returncode:
            last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            failed = ": ".join([f"the process ended with status {done.returncode}", *last])
    except subprocess.TimeoutExpired as expired:
        told = expired.stdout or b""
        failed = f"the process did not come to an end within {PROBE_SECONDS:.0f} s"
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
    one, other = rng.random((2, _SIDE, _SIDE), np.float32)
    images = ms.Tensor(rng.random((8, 64, 56, 56), np.float32))
    kernels = ms.Tensor(rng.random((64, 64, 3, 3), np.float32))
    for times in _times(lambda: one @ other):
        tell(product=times)
    for times in _times(
        lambda: ms.ops.conv2d(images, kernels, pad_mode="pad", padding=1).asnumpy()
    ):
        tell(convolution=times)


def _times(compute: Callable[[], object]) -> Iterator[list[float]]:
    """Seconds of each call up to now; a few calls, fewer where they are slow.

    The first call also prepares, so it is left out as soon as there is another.
    """
    started = time.perf_counter()
    times: list[float] = []
    while len(times) < 8 and time.perf_counter() - started < 10:
        before = time.perf_counter()
        compute()
        times.append(time.perf_counter() - before)
        yield times[1:] or times


_NOT_IMPORTED = "MindSpore cannot be imported here"


def _why_not_imported(probed: Mapping[str, Any]) -> str:
    if "mindspore" in probed:
        return ""
    return str(probed.get("import_error") or probed.get("failed") or "it said nothing")


# oneDNN


def _check_convolution(probed: Mapping[str, Any]) -> Iterator[Finding]:
    name = "convolution"
    if "mindspore" not in probed:
        yield Finding(name, "problem", f"not measured: {_NOT_IMPORTED}", "see versions")
        return
    if "device" not in probed:
        yield Finding(name, "problem", "not measured: there is no device", "see device")
        return
    if probed["device"] != "cpu":
        yield Finding(name, "ok", f"not measured: a run here computes on {probed['device']}")
        return
    measured = _Speed.of(probed)
    own = os.environ.get(_ISA)
    # Only a user's own value can be worse than what msft would choose.
    unset = _Speed.of(run_probe(without=_ISA)) if own is not None else None
    value = {
        "gflops": measured.convolution,
        "product_gflops": measured.product,
        "fraction": measured.fraction,
        "slow_below": SLOW_BELOW,
    }
    if unset:
        value["gflops_without_own"] = unset.convolution
    set_to = f"{_ISA}={own}, set by you" if own is not None else str(probed["said"])
    set_to = f" ({set_to.rstrip('.')})" if set_to else ""
    found = f"{measured}; {SLOW_BELOW:.0%} and more is right"
    if "failed" in probed:
        found = f"{measured}: {probed['failed']}"
    if unset and (unset.convolution or 0) > FASTER * (measured.convolution or 0):
        yield Finding(
            name,
            "problem" if measured.is_slow else "note",
            found + set_to,
            f"unset {_ISA}: without it a convolution makes {unset.convolution:.3g} GFLOP/s here",
            value,
        )
    elif measured.is_slow or "failed" in probed:
        advice = _what_helps_oneDNN(probed, slow=measured.is_slow)
        yield Finding(name, "problem", found + set_to, advice, value)
    else:
        yield Finding(name, "ok", found + set_to, value=value)


@dataclass(frozen=True)
class _Speed:
    """GFLOP/s of a convolution and of a matrix product; None where there is no result."""

    convolution: float | None
    product: float | None

    @classmethod
    def of(cls, probed: Mapping[str, Any]) -> _Speed:
        def gflops(work: float, name: str) -> float | None:
            return work / statistics.median(probed[name]) / 1e9 if name in probed else None

        return cls(gflops(_WORK, "convolution"), gflops(2 * _SIDE**3, "product"))

    @property
    def fraction(self) -> float | None:
        return self.convolution / self.product if self.convolution and self.product else None

    @property
    def is_slow(self) -> bool:
        return self.fraction is None or self.fraction < SLOW_BELOW

    def __str__(self) -> str:
        if self.convolution is None or self.product is None or self.fraction is None:
            return "no result of a 3x3 convolution"
        return (
            f"{self.convolution:.3g} GFLOP/s in a 3x3 convolution, {self.fraction:.1%} of the "
            f"{self.product:.3g} in a matrix product"
        )


def _what_helps_oneDNN(probed: Mapping[str, Any], *, slow: bool) -> str:
    capped = _ISA in os.environ or _ISA in probed["said"]
    if slow and not capped:
        return f"set {_ISA}=AVX2 in the environment and run msft doctor again"
    bounds = next(r.bounds for r in _requirements() if r.package == "mindspore")
    return (
        "if nothing else keeps the CPUs busy, install another MindSpore "
        f"{bounds} than {probed['mindspore']}"
    )


# Plugins


@dataclass(frozen=True)
class _Loaded:
    """The plugins that could be loaded, and what is wrong with those that were asked for."""

    plugins: Plugins | None
    refused: Sequence[PluginError]
    misnamed: str = ""


def _load(modules: Sequence[str], without: Sequence[str]) -> _Loaded:
    refused: list[PluginError] = []
    while True:
        left_out = [*without, *(error.plugin for error in refused)]
        try:
            return _Loaded(Plugins.load(modules=modules, without=left_out), refused)
        except PluginError as error:
            refused.append(error)
        except UsageError as error:
            # The second of two given plugins of one name cannot be left out by its name.
            return _Loaded(None, refused, "" if refused else str(error))


def _check_plugins(loaded: _Loaded) -> Iterator[Finding]:
    for error in loaded.refused:
        advice = "mend it, or leave out the --plugin (or MSFT_PLUGINS) that names it"
        hook = f"hook {error.hook}: " if error.hook else ""
        yield Finding(error.plugin, "problem", f"broken: {hook}{error.message}", advice)
    if loaded.misnamed:
        advice = "msft plugins lists the names; MSFT_WITHOUT counts too"
        yield Finding("--without", "problem", loaded.misnamed, advice)
    if loaded.plugins is None:
        return
    infos, refused = loaded.plugins.infos, [error.plugin for error in loaded.refused]
    usable = [info for info in infos if info.status == "ok"]
    blocked = [i.name for i in infos if i.status == "blocked" and i.name not in refused]
    count = sum(len(info.components) for info in usable)
    found = f"{len(usable)} plugins with {count} components"
    found += f"; left out: {', '.join(blocked)}" if blocked else ""
    seconds = round(sum(info.seconds for info in infos), 3)
    value = {"plugins": len(usable), "components": count, "seconds": seconds}
    yield Finding("loaded", "ok", found, value=value)
    for info in infos:
        if info.status == "broken":
            found = f"broken ({info.origin}): {info.problem}"
            yield Finding(info.name, "problem", found, _what_helps_plugin(info))
        for warning in info.warnings:
            advice = f"tell its authors, or leave it out: --without {info.name}"
            yield Finding(info.name, "note", warning, advice, {"seconds": round(info.seconds, 3)})
    for component in _components(loaded.plugins):
        try:
            loaded.plugins.component(component.kind, component.name)
        except UsageError as error:
            said, _, advice = str(error).rpartition(": ")
            yield Finding(f"{component.kind} {component.name}", "problem", said, advice)


def _what_helps_plugin(info: PluginInfo) -> str:
    package = info.origin.split()[0]
    # The second of two installed plugins of one name has its entry point in its name.
    if " " in info.name:
        return f"uninstall one of the two: pip uninstall {package}"
    return f"pip install --upgrade {package}, or leave it out: --without {info.name}"


def _components(plugins: Plugins) -> list[Component]:
    return [component for info in plugins.infos for component in info.components]


# The cache and the disks


def _check_cache_folder() -> Iterator[Finding]:
    folder = cache_dir()
    chosen = " (MSFT_CACHE)" if os.environ.get("MSFT_CACHE") else ""
    try:
        # Where it is not there yet, a run makes it.
        with tempfile.TemporaryFile(dir=_existing(folder)):
            pass
    except OSError as error:
        found = f"{folder}{chosen} cannot be written: {error.strerror or error}"
        advice = "set MSFT_CACHE to a folder that can be written"
        yield Finding("folder", "problem", found, advice)
    else:
        yield Finding("folder", "ok", f"{folder}{chosen} can be written")


def _check_cache_size() -> Iterator[Finding]:
    from msft_core.store import LEFTOVER_SECONDS

    folder = cache_dir()
    sizes: Counter[str] = Counter()
    leftovers: dict[Path, int] = {}
    for path, status in _files_below(folder):
        part = path.relative_to(folder).parts[0]
        sizes[part] += status.st_size
        if _is_unfinished(part, path) and time.time() - status.st_mtime > LEFTOVER_SECONDS:
            leftovers[path] = status.st_size
    limit = CacheSettings().limit_gb * 1e9
    features, downloads = sizes.pop("features", 0), sizes.pop("downloads", 0)
    yield Finding(
        "features",
        "ok",
        f"{_size(features)}; runs keep it below {_size(limit)} (cache.limit_gb)",
        value={"bytes": features, "limit_bytes": round(limit)},
    )
    yield Finding("downloads", "ok", _size(downloads), value={"bytes": downloads})
    yield Finding("all else", "ok", _size(sizes.total()), value={"bytes": sizes.total()})
    if leftovers:
        size = sum(leftovers.values())
        yield Finding(
            "unfinished",
            "note",
            f"{len(leftovers)} unfinished files of runs that were killed, {_size(size)}",
            f"delete them, such as {min(leftovers)}",
            {"files": len(leftovers), "bytes": size},
        )


def _files_below(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """What vanishes meanwhile, or cannot be read, is not there."""
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            try:
                yield path, path.lstat()
            except OSError:
                continue


def _is_unfinished(part: str, path: Path) -> bool:
    """As the store and pooch name what they are writing."""
    if part == "features":
        return path.name.startswith(".") and path.suffix == ".tmp"
    return part == "downloads" and re.fullmatch(r"tmp\w+", path.name) is not None


def _check_disk(name: str, folder: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(_existing(folder)).free
    found, value = f"{_size(free)} free for {folder}", {"free_bytes": free}
    if free >= LOW_BYTES:
        yield Finding(name, "ok", found, value=value)
        return
    needs = {
        "cache": "downloads and stored features go there: set MSFT_CACHE to a folder on a larger "
        "disk, or see msft cache clear",
        "working directory": "a run's two checkpoints go there, 0.2 GB of a ResNet-50: make room, "
        "or run with --out on a larger disk",
    }
    yield Finding(name, "problem" if free < TOO_LOW_BYTES else "note", found, needs[name], value)


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _size(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


# The network


def _check_network(loaded: _Loaded) -> Iterator[Finding]:
    from msft_core.downloads import cached_path

    if loaded.plugins is None:
        yield Finding("urls", "note", "not asked for: the plugins are not known", "see plugins")
        return
    users: dict[str, list[Component]] = {}
    for component in _components(loaded.plugins):
        for url in component.urls:
            if url.startswith(("http://", "https://")):
                users.setdefault(url, []).append(component)
    if not users:
        yield Finding("urls", "ok", "no plugin downloads anything")
        return
    context = Context(0, cache_dir(), PlainReporter(quiet=True))
    users, left_out = _few_on_each_host(users)
    answers = ask_all(list(users))
    for host, count in left_out.items():
        yield Finding(host, "ok", f"{count} more URLs there are not asked for, being so many")
    for url in sorted(users, key=lambda url: (urlsplit(url).netloc, list(users).index(url))):
        reason, seconds = answers[url]
        value = {
            "seconds": round(seconds, 3),
            "for": sorted({f"{c.kind} {c.name}" for c in users[url]}),
        }
        if not reason:
            yield Finding(url, "ok", "can be downloaded", value=value)
        elif cached_path(url, context).is_file():
            yield Finding(url, "ok", f"{reason}, but it is in the cache already", value=value)
        else:
            yield Finding(url, "note", reason, _what_helps_network(users[url]), value)


def _few_on_each_host(
    users: Mapping[str, list[Component]],
) -> tuple[dict[str, list[Component]], dict[str, int]]:
    """The first URLs of each host, and how many are left out: one answers much as the others do."""
    kept: dict[str, list[Component]] = {}
    hosts: Counter[str] = Counter()
    for url, components in users.items():
        host = urlsplit(url).netloc
        hosts[host] += 1
        if hosts[host] <= URLS_ON_A_HOST:
            kept[url] = components
    left_out = {h: count - URLS_ON_A_HOST for h, count in hosts.items() if count > URLS_ON_A_HOST}
    return kept, left_out


def ask_all(urls: Sequence[str]) -> dict[str, tuple[str, float]]:
    """Ask for each URL, many at the same time.

    Returns: by URL why it cannot be downloaded, empty where it can, and the seconds that took.
    """
    from msft_core.downloads import why_unreachable

    answers = dict.fromkeys(urls, (f"no answer within {URL_SECONDS:.4g} s", URL_SECONDS))

    def ask(url: str) -> None:
        started = time.monotonic()
        try:
            reason = why_unreachable(url)
        except Exception as error:
            reason = first_line(error)
        answers[url] = (reason, time.monotonic() - started)

    for first in range(0, len(urls), URLS_AT_ONCE):
        together = urls[first : first + URLS_AT_ONCE]
        # Looking up a name has no time limit, so a thread may outlive the wait.
        threads = [threading.Thread(target=ask, args=(url,), daemon=True) for url in together]
        deadline = time.monotonic() + URL_SECONDS
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    return dict(answers)


def _what_helps_network(users: Sequence[Component]) -> str:
    options = {"dataset": "--data-dir DIR", "backbone": "--weights FILE"}
    giving = sorted({options[c.kind] for c in users if c.kind in options})
    by_hand = f"download it elsewhere and give {' or '.join(giving)}" if giving else "try later"
    return (
        f"{by_hand}; behind a proxy set HTTPS_PROXY; training from a folder with weights from a "
        "file needs no network"
    )

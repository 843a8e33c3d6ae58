"""Check whether Python and the packages have the versions that msft's metadata asks for."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator, Mapping
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from msft_core.doctor.findings import Finding
from msft_core.doctor.probe import why_not_imported
from msft_core.plugins import compat

_WHY = {"numpy": "MindSpore 2.10 prints tracebacks with NumPy 2"}


def check_python() -> Iterator[Finding]:
    """The version of this Python."""
    version = platform.python_version()
    supported = SpecifierSet(importlib.metadata.metadata("msft")["Requires-Python"] or "")
    bounds = bounds_text(supported)
    # A Python built from a checkout has a version such as "3.12.1+".
    right = _is_within(version.rstrip("+"), supported)
    yield Finding(
        "python",
        "ok" if right else "problem",
        f"{version} (supported: {bounds})",
        "" if right else f"create an environment with a Python {bounds}",
    )


def check_msft() -> Iterator[Finding]:
    """The version of msft, which a bug report should name. Always ``ok``."""
    version = importlib.metadata.version("msft")
    yield Finding("msft", "ok", f"{version}, plugin API {compat.API_VERSION}")


def check_packages() -> Iterator[Finding]:
    """All packages that msft needs except MindSpore, and OpenVINO."""
    for requirement in _requirements():
        if requirement.name != "mindspore":
            yield _check_package(requirement)
    for requirement in _requirements("openvino"):
        yield _check_package(requirement, extra="openvino")


def check_mindspore(probed: Mapping[str, Any]) -> Iterator[Finding]:
    """MindSpore's version, and whether it can be imported."""
    requirement = requirement_of("mindspore")
    finding = _check_package(requirement)
    if finding.status == "ok" and (reason := why_not_imported(probed)):
        yield Finding(
            "mindspore",
            "problem",
            f"{finding.found}, but importing it fails: {reason}",
            f"{_pip(requirement)} --force-reinstall",
        )
    else:
        yield finding


def requirement_of(package: str) -> Requirement:
    """msft's requirement for a package."""
    return next(r for r in _requirements() if r.name == package)


def bounds_text(bounds: SpecifierSet) -> str:
    """The bounds as text, with the lower one first: ``>=2.10,<2.11``."""
    return ",".join(sorted(map(str, bounds), reverse=True))


def _requirements(extra: str = "") -> list[Requirement]:
    """The packages that msft always needs, or those that an extra adds."""

    def applies(requirement: Requirement, extra: str) -> bool:
        marker = requirement.marker
        return marker is None or marker.evaluate({"extra": extra})

    every = [Requirement(line) for line in importlib.metadata.requires("msft") or ()]
    if not extra:
        return [each for each in every if applies(each, "")]
    return [each for each in every if applies(each, extra) and not applies(each, "")]


def _check_package(requirement: Requirement, extra: str = "") -> Finding:
    name, bounds = requirement.name, bounds_text(requirement.specifier)
    why = f" ({_WHY[name]})" if name in _WHY else ""
    pip = f'pip install "msft[{extra}]"' if extra else _pip(requirement)
    try:
        version = importlib.metadata.version(name) or ""
    except importlib.metadata.PackageNotFoundError:
        if extra:
            return Finding(name, "ok", f"not installed; it is optional: {pip}")
        return Finding(name, "problem", "not installed", pip)
    if _is_within(version, requirement.specifier):
        return Finding(name, "ok", f"{version} (supported: {bounds})")
    if extra:
        return Finding(name, "note", f"{version}, msft supports {bounds}; it is optional", pip)
    return Finding(name, "problem", f"{version}, msft needs {bounds}{why}", pip)


def _is_within(version: str, bounds: SpecifierSet) -> bool:
    """Whether a version is within the bounds. Suffixes do not count: 2.10.0rc1 is like 2.10.0."""
    try:
        return bounds.contains(Version(version).base_version)
    except InvalidVersion:
        return False  # for example if the package's metadata is damaged


def _pip(requirement: Requirement) -> str:
    return f'pip install "{requirement.name}{bounds_text(requirement.specifier)}"'

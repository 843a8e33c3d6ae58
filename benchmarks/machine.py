"""What the figures depend on besides the code."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.commands import environment

_OURS = ("msft", "mindspore", "numpy", "pillow", "openvino", "mindcv")
_ASK_TORCH = """
import json, torch, torchvision
print(json.dumps({"torch": torch.__version__, "torchvision": torchvision.__version__,
                  "torch threads": torch.get_num_threads()}))
"""


def describe() -> dict[str, Any]:
    """CPU, cores, system and our versions."""
    from msft_core.system.device import cpu_count

    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in _OURS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "cpu": _cpu_model(),
        "cores": cpu_count(),
        "platform": platform.platform(),
        "versions": versions,
    }


def torch_versions(python: str) -> dict[str, Any] | None:
    """Of PyTorch as an interpreter has it, or None."""
    asked = subprocess.run(
        [python, "-c", _ASK_TORCH], env=environment(), capture_output=True, text=True, check=False
    )
    return None if asked.returncode else dict(json.loads(asked.stdout))


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()

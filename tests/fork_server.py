"""The process that fork_kit.py forks. It reads requests from a socket until that is closed.

A request is a JSON object with the descriptors of standard output and standard error beside it; the
answers are two numbers, the process id of the fork and its exit status.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import runpy
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NOT_IMPORTED = ("msft_core.__main__", "msft_core.testing")
"""msft's modules that run msft or import pytest."""
OTHERS = (
    "jinja2", "matplotlib.backends.backend_agg", "mindspore.dataset.vision", "pooch", "pytest",
    "sklearn.metrics",
)  # fmt: skip
"""What msft imports inside functions."""

_LONGEST = 1 << 20


def _import_what_programs_import() -> dict[str, str]:
    """Import it. Returns the variables that this set in the environment."""
    before = dict(os.environ)
    for package in ("msft_core", "msft_plugins"):
        folders = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(folders, f"{package}."):
            if not module.name.startswith(NOT_IMPORTED):
                importlib.import_module(module.name)
    for name in OTHERS:
        importlib.import_module(name)
    return {name: text for name, text in os.environ.items() if before.get(name) != text}


def _serve(line: socket.socket) -> dict[str, Any]:
    """Fork for each request. Returns, in each fork, what is asked for."""
    while True:
        message, streams, _, _ = socket.recv_fds(line, _LONGEST, 2)
        if not message:
            os._exit(0)
        pid = os.fork()
        if pid == 0:
            line.close()
            for number, stream in enumerate(streams, 1):
                os.dup2(stream, number)
                os.close(stream)
            return dict(json.loads(message))
        for stream in streams:
            os.close(stream)
        line.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        line.send(str(os.waitstatus_to_exitcode(status)).encode())


def _module_path(env: Mapping[str, str]) -> list[str]:
    return [str(Path(name).absolute()) for name in env.get("PYTHONPATH", "").split(":") if name]


def _run(arguments: Sequence[str], cwd: str, env: Mapping[str, str], path: Sequence[str]) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    first = cwd if arguments[0] in ("-m", "-c") else str(Path(arguments[0]).absolute().parent)
    sys.path[:] = [first, *_module_path(env), *path]
    importlib.invalidate_caches()
    if arguments[0] == "-m":
        sys.argv[:] = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] == "-c":
        sys.argv[:] = ["-c", *arguments[2:]]
        exec(arguments[1], vars(sys.modules["__main__"]))
    else:
        sys.argv[:] = arguments
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    known = [*_module_path(os.environ), str(Path(__file__).parent)]
    own_path = [name for name in sys.path if name not in known]
    by_imports = _import_what_programs_import()
    gc.collect()
    gc.freeze()
    asked = _serve(socket.socket(fileno=int(sys.argv[1])))
    # The fork ends as any program does: with the exit functions, and with what is raised.
    _run(asked["arguments"], asked["cwd"], {**by_imports, **asked["env"]}, own_path)

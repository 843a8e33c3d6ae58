"""Files from strangers: what must not be used to read them, and who may write into the cache."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from image_kit import encode, picture

from msft_core import images
from msft_core.system.cache_folder import who_else_may_write
from msft_core.testing import MsftRun, RecordingReporter

ROOT = Path(__file__).parent.parent

# The cache folder


@pytest.fixture
def cache(msft_cache: Path) -> Path:
    msft_cache.chmod(0o755)
    (msft_cache / "features").mkdir()
    return msft_cache


def test_a_cache_of_this_user_alone_is_nothing_to_tell(cache: Path) -> None:
    assert who_else_may_write() == ""


@pytest.mark.parametrize("name", ["", "features"])
def test_a_cache_that_all_may_write_is_told(cache: Path, name: str) -> None:
    (cache / name).chmod(0o777)
    assert f"all users may write into {cache / name}".rstrip("/") in who_else_may_write()


def test_the_private_group_of_a_user_is_nothing_to_tell(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import grp
    import pwd

    cache.chmod(0o775)
    user, group = pwd.getpwuid(os.geteuid()), cache.stat().st_gid

    def of(name: str, members: list[str]) -> None:
        entry = grp.struct_group((name, "x", group, members))
        monkeypatch.setattr(grp, "getgrgid", lambda number: entry)
        own = pwd.struct_passwd((user.pw_name, "x", user.pw_uid, group, "", "/", "/bin/sh"))
        monkeypatch.setattr(pwd, "getpwuid", lambda number: own)

    of(user.pw_name, [])
    assert who_else_may_write() == ""
    of(user.pw_name, ["mallory"])
    assert "a group may write into" in who_else_may_write()
    of("users", [])
    assert "a group may write into" in who_else_may_write()


def test_a_cache_of_another_user_is_told(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: cache.stat().st_uid + 1)
    if cache.stat().st_uid == 0:
        assert who_else_may_write() == ""  # root may change everything anyway
        os.chown(cache, 12345, -1)
        monkeypatch.setattr(os, "geteuid", lambda: 12346)
    assert "belongs to another user" in who_else_may_write()


def test_a_run_warns_once(cache: Path, msft_run: MsftRun, msft_reporter: RecordingReporter) -> None:
    cache.chmod(0o777)
    msft_run(training={"epochs": 1, "batch_size": 8})
    told = [line for line in msft_reporter.warnings if "may write into" in line]
    assert len(told) == 1
    assert f"chmod -R go-w {cache}" in told[0]


# What lint refuses

FORBIDDEN = [
    "import pickle",
    "from pickle import loads",
    "import marshal",
    "import shelve",
    "import dill",
    "import cloudpickle",
    "import joblib",
    "import yaml",
    "import torch\ntorch.load('x')",
    "import mindspore as ms\nms.load_checkpoint('x')",
    "from mindspore import load_checkpoint",
    "import numpy as np\nnp.load('x', allow_pickle=True)",
    "import numpy as np\nnp.load('x')",
    "import os\nos.system('x')",
    "eval('1')",
    "exec('1')",
    "import tarfile\ntarfile.open('x').extractall()",
    "import tempfile\ntempfile.mktemp()",
]


def test_lint_refuses_what_runs_code_from_a_file() -> None:
    told = {}
    for number, code in enumerate(FORBIDDEN):
        folder = ("msft_core", "plugins/msft_plugins")[number % 2]
        done = subprocess.run(
            [sys.executable, "-m", "ruff", "check", "--output-format=concise", "--no-cache",
             "--stdin-filename", str(ROOT / folder / "some.py"), "-"],
            input=f"{code}\n",
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        told[code] = done.stdout
    passed = [code for code, said in told.items() if "some.py:" not in said]
    assert not passed


def test_the_product_uses_none_of_it_but_where_it_says_why() -> None:
    allowed = []
    for folder in ("msft_core", "plugins"):
        for path in (ROOT / folder).rglob("*.py"):
            for line in path.read_text(encoding="utf-8").splitlines():
                if "noqa: TID251" in line or "noqa: S" in line:
                    allowed.append((path.relative_to(ROOT).as_posix(), line))
    assert all(" - " in line for _, line in allowed), allowed
    assert len(allowed) <= 7, allowed


# Images


def test_large_images_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_LARGE_PIXELS", 100)
    data, inside, most = encode(picture()), 0, 0
    lock = threading.Lock()
    load = images.upright_rgb

    def watched(image: object) -> object:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        threading.Event().wait(0.02)
        with lock:
            inside -= 1
        return load(image)  # type: ignore[arg-type]

    monkeypatch.setattr(images, "upright_rgb", watched)
    threads = [threading.Thread(target=images.decode, args=(data,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_more_memory_than_there_is_is_said_in_a_line(msft_run: MsftRun) -> None:
    from msft_core import MsftError, hookimpl

    class Exhausts:
        @hookimpl
        def list_components(self) -> list[object]:
            return []

    with pytest.raises(MsftError, match=r"there is too little memory .* Try a smaller"):
        msft_run([Exhausts], backbone={"name": "tiny", "image_size": 10**8})

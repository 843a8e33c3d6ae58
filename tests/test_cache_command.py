"""``msft cache``: what is stored, how big it is, and how to be rid of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Msft

from msft_core.features.store import FeatureStore, key_of

RESNET = {"backbone": "resnet50", "stages": ["stem", "layer1"], "extractor": "MindSpore"}
LITE = {"backbone": "efficientnet_lite0", "stages": ["stem"], "extractor": "fast 1.0"}
USED = datetime(2025, 3, 4, 5, 6, tzinfo=timezone.utc)


@pytest.fixture
def cache() -> Path:
    return Path(os.environ["MSFT_CACHE"])


def fill(cache: Path, description: dict[str, Any], rows: int) -> str:
    """A space with so many rows of 10 kB; its key."""
    space = FeatureStore(cache / "features", 10**12).open(description)
    with space.writer() as writer:
        for number in range(rows):
            writer.add([number.to_bytes(16, "little")], np.zeros((1, 2500), np.float32))
    space.close()
    for path in space.folder.iterdir():
        os.utime(path, (USED.timestamp(),) * 2)
    return space.folder.name


def printed(result: subprocess.CompletedProcess[str]) -> list[str]:
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout.splitlines()


def refused(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 2, result.stdout
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_an_empty_cache_is_listed(msft: Msft, cache: Path) -> None:
    assert printed(msft("cache")) == [
        f"features in {cache / 'features'}",
        "features: 0.0 MB",
        "other files, which `msft cache clear` keeps: 0.0 MB",
    ]
    assert printed(msft("cache", "clear")) == ["freed 0.0 MB"]
    assert list(cache.iterdir()) == []


def test_what_is_stored_is_listed_with_size_and_last_use(msft_process: Msft, cache: Path) -> None:
    resnet, lite = fill(cache, RESNET, 1200), fill(cache, LITE, 30)
    unknown = fill(cache, {"stages": []}, 1)
    (cache / "downloads").mkdir()
    (cache / "downloads" / "weights.ckpt").write_bytes(bytes(2_000_000))
    (cache / "other").write_bytes(bytes(500_000))
    first, *spaces, total, others = printed(msft_process("cache", env={"TZ": "UTC"}))
    assert first == f"features in {cache / 'features'}"
    used = "last used 2025-03-04 05:06"
    assert sorted(spaces) == sorted(
        [
            f"    {resnet[:8]}  resnet50 to layer1 by MindSpore  1,200 features  12.0 MB  {used}",
            f"    {lite[:8]}  efficientnet_lite0 to stem by fast 1.0  30 features  0.3 MB  {used}",
            f"    {unknown[:8]}  unknown  1 features  0.0 MB  {used}",
        ]
    )
    assert total == "features: 12.3 MB"
    assert others == "other files, which `msft cache clear` keeps: 2.5 MB"


def test_gigabytes_are_shown_as_such(msft: Msft, cache: Path) -> None:
    folder = cache / "features" / fill(cache, RESNET, 1)
    with (folder / "sparse.rows").open("wb") as file:
        file.truncate(3_210_000_000)
    assert "features: 3.21 GB" in printed(msft("cache"))


def test_the_listing_as_json(msft: Msft, cache: Path) -> None:
    key = fill(cache, RESNET, 3)
    (cache / "other").write_bytes(b"12345")
    value = json.loads("\n".join(printed(msft("cache", "--json"))))
    size = sum(path.stat().st_size for path in (cache / "features" / key).iterdir())
    assert value == {
        "folder": str(cache / "features"),
        "spaces": [
            {
                "key": key,
                "description": RESNET,
                "rows": 3,
                "bytes": size,
                "last_used": USED.isoformat(),
            }
        ],
        "bytes": size,
        "other_bytes": 5,
    }


def test_clear_takes_all_features_and_nothing_else(msft: Msft, cache: Path) -> None:
    fill(cache, RESNET, 100)
    fill(cache, LITE, 100)
    (cache / "downloads").mkdir()
    (cache / "downloads" / "weights.ckpt").write_bytes(b"weights")
    assert printed(msft("cache", "clear")) == ["freed 2.0 MB"]
    assert list((cache / "features").iterdir()) == []
    assert (cache / "downloads" / "weights.ckpt").read_bytes() == b"weights"


def test_clear_takes_the_features_named_by_the_beginning_of_a_key(msft: Msft, cache: Path) -> None:
    resnet, lite, other = (fill(cache, each, 100) for each in (RESNET, LITE, {"backbone": "b"}))
    assert printed(msft("cache", "clear", resnet[:8], lite.upper())) == ["freed 2.0 MB"]
    assert [path.name for path in (cache / "features").iterdir()] == [other]


def test_clear_says_what_it_leaves(msft: Msft, cache: Path) -> None:
    space = FeatureStore(cache / "features", 10**12).open(RESNET)
    with space.writer() as writer:
        writer.add([bytes(16)], np.zeros((1, 250_000), np.float32))
        freed, left = printed(msft("cache", "clear"))
    assert freed == "freed 0.0 MB"
    assert left.startswith("1.0 MB not removed: a run is writing these features")
    assert len(space.read([bytes(16)])) == 1


@pytest.mark.parametrize("key", ["zz", "", "12345678 "])
def test_an_unknown_key_clears_nothing(key: str, msft: Msft, cache: Path) -> None:
    known = fill(cache, RESNET, 1)
    line = refused(msft("cache", "clear", known, key))
    assert f"no features have the key {key!r}" in line
    assert printed(msft("cache"))[1].startswith(f"    {known[:8]}  resnet50")


def test_an_ambiguous_key_clears_nothing(msft: Msft, cache: Path) -> None:
    by_digit: dict[str, list[dict[str, Any]]] = {}
    for number in range(17):
        description = {"backbone": str(number)}
        by_digit.setdefault(key_of(description)[0], []).append(description)
    digit, twins = next((digit, each) for digit, each in by_digit.items() if len(each) > 1)
    keys = [fill(cache, description, 1) for description in twins]
    line = refused(msft("cache", "clear", digit))
    assert f"{len(keys)} keys begin with {digit!r}: give more characters of " in line
    assert all(key in line for key in sorted(keys)[:1]) or len(keys) > 3
    assert {path.name for path in (cache / "features").iterdir()} == set(keys)


def test_a_damaged_store_is_listed_and_cleared(msft: Msft, cache: Path) -> None:
    folder = cache / "features" / fill(cache, RESNET, 2)
    (folder / "space.json").write_text('{"stages": 3')
    next(folder.glob("*.rows")).write_bytes(bytes(100_000))
    listing = printed(msft("cache"))
    assert listing[1].startswith(f"    {folder.name[:8]}  unknown  0 features  0.1 MB  last used ")
    assert printed(msft("cache", "clear")) == ["freed 0.1 MB"]
    assert not folder.exists()


def test_neither_mindspore_nor_matplotlib_is_imported(cache: Path) -> None:
    fill(cache, RESNET, 1)
    code = (
        "import sys\nfrom msft_core.cli import app\n"
        "try: app(['cache'], prog_name='msft')\nexcept SystemExit: pass\n"
        "heavy = {'mindspore', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert len(printed(result)) == 4


def test_help_does_not_import_numpy() -> None:
    code = (
        "import sys\nfrom msft_core.cli import app\n"
        "try: app(['cache', '--help'], prog_name='msft')\nexcept SystemExit: pass\n"
        "sys.exit(str({'numpy', 'mindspore'} & set(sys.modules) or ''))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stderr.strip() == ""
    assert "clear" in result.stdout

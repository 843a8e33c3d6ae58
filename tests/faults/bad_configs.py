"""Bad configurations: files, flags and ``--set``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from bad_kit import TINY, Case, Place, unique

MEGABYTE = 1_000_000


def refused(name: str, make: Callable[[Place], list[str]], says: str, expected: Any) -> Case:
    return Case("configurations", name, make, expected, says)


def setting(key: str, value: str, says: str, expected: Any = "refused") -> Case:
    """A case of ``--set``."""
    name = f"{key} = {value}"
    return refused(name, lambda place: place.run_tiny("--set", f"{key}={value}"), says, expected)


def file(name: str, content: str | bytes, says: str, expected: Any = "refused") -> Case:
    """A case of a configuration file."""

    def make(place: Place) -> list[str]:
        path = place.inputs / "config.toml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return [*place.run(*TINY[:2], "--config", path), "--batch-size", "8"]

    return refused(f"file: {name}", make, says, expected)


def flag(name: str, *arguments: object, says: str, expected: Any = "refused") -> Case:
    """A case of options."""
    return refused(f"option: {name}", lambda place: place.run_tiny(*arguments), says, expected)


def values() -> Iterator[Case]:
    batch = "training.batch_size = "
    for value in ("0", "-1", "1.5", "many", "[1]", "1e99", "nan", "true", '""', "65537"):
        yield setting("training.batch_size", value, batch)
    yield setting("training.batch_size", "65536", "exceeds the 16 training images", "trains")
    for value in ("0", "-3", "none", "2.5"):
        yield setting("training.epochs", value, "training.epochs = ")
    yield setting("training.seed", "-1", "training.seed = -1")
    yield setting("training.seed", "4294967296", "training.seed = 4294967296")
    yield setting("training.views", "-1", "training.views = -1")
    yield setting("strategy.learning_rate", "-1", "strategy.learning_rate = -1")
    yield setting("strategy.learning_rate", "nan", "strategy.learning_rate = nan")
    yield setting("strategy.learning_rate", "inf", "learning_rate = inf")
    yield setting("strategy.learning_rate", "1e30", "Try a smaller learning rate", "fails")
    yield setting("strategy.learning_rate", "1e-30", "", "trains")
    yield setting("data.crop_scale", "[0, 1]", "data.crop_scale.0 = 0")
    yield setting("data.crop_scale", "[1, 0.5]", "the first number must not exceed the second")
    yield setting("data.crop_scale", "[0.5]", "data.crop_scale")
    yield setting("data.crop_scale", "[0.5, nan]", "data.crop_scale")
    yield setting("data.crop_ratio", "[1, inf]", "data.crop_ratio")
    yield setting("data.flip", "2", "data.flip = 2")
    yield setting("data.flip", "nan", "data.flip = nan")
    yield setting("data.workers", "-1", "data.workers = -1")
    yield setting("data.workers", "100000", "exceeds the", "trains")
    yield setting("data.pipeline", "fast", "data.pipeline = 'fast'")
    yield setting("runtime.device", "tpu", "runtime.device = 'tpu'")
    yield setting("runtime.mode", "[]", "runtime.mode = []")
    yield setting("cache.limit_gb", "-1", "cache.limit_gb = -1")
    yield setting("cache.limit_gb", "nan", "cache.limit_gb = nan")
    yield setting("cache.limit_gb", "0", "", "trains")
    yield setting("backbone.image_size", "0", "preprocessing.size = 0 must be a number of pixels")
    yield setting("backbone.image_size", "100000000", "there is too little memory")
    yield flag("image_size beyond a built-in backbone's", "--backbone", "efficientnet_lite0",
               "--set", "backbone.image_size=9999", says="backbone.image_size = 9999")  # fmt: skip


def keys() -> Iterator[Case]:
    yield setting("trainig.epochs", "1", "unknown setting 'trainig'. Did you mean 'training'?")
    yield setting("training.epoch", "1", "unknown setting training.epoch. Did you mean 'epochs'?")
    yield setting("training", "1", "training must be a section")
    yield setting("training.epochs.more", "1", "training.epochs = ")
    yield setting("dataset.nothing", "1", "unknown setting dataset.nothing")
    yield setting("callback.best.metric", "x", "unknown callback 'best'")
    yield setting("callback", "1", "callback must be a section")
    yield setting("callback.best_checkpoint", "1", "callback.best_checkpoint must be a section")
    yield setting("callback.best_checkpoint.metric", "beauty", "beauty", "fails")
    yield setting("__class__", "1", "unknown setting '__class__'")
    yield setting("dataset.name", "[1]", "no dataset '[1]'")
    yield setting("plugins", "1", "plugins must be a list of names")
    yield setting("plugins", "[1]", "plugins must be a list of names")
    yield setting("plugins", '["no.such.module"]', "no.such.module")
    yield setting("without", '["nothing"]', "nothing")
    yield flag("--set without =", "--set", "training.epochs", says="write it as key=value")
    yield flag("--set with an empty key", "--set", "=1", says="write it as key=value")
    yield flag("--set with an empty part", "--set", "a..b=1", says="write it as key=value")
    yield flag("--epochs that is no number", "--epochs", "many", says="Invalid value")
    yield flag("an unknown option", "--epoks", "3", says="No such option")
    yield flag("--backbone that is not there", "--backbone", "resnet51", says="Did you mean")
    yield flag("--strategy that is not there", "--strategy", "frezze", says="Did you mean")
    yield flag("--weights for a backbone without", "--weights", "x", says="unknown setting")
    yield flag("--without what the run needs", "--without", "strategies", says="strategy")
    yield refused("option: --out in a file", out_in_a_file, "cannot be written", "refused")
    yield refused("option: --out that is not empty", out_not_empty, "already exists", "refused")
    yield flag("--config that is not there", "--config", "no.toml", says="No such file")
    yield flag("--config that is a folder", "--config", "/", says="Is a directory")
    yield flag("--plugin that is not there", "--plugin", "nowhere.py", says="nowhere.py")
    yield flag("--lr nan", "--lr", "nan", says="strategy.learning_rate = nan")


def out_in_a_file(place: Place) -> list[str]:
    (place.out.parent / "file").write_text("")
    return place.run_tiny("--out", place.out.parent / "file" / "x")


def out_not_empty(place: Place) -> list[str]:
    (place.out.parent / "other").mkdir()
    (place.out.parent / "other" / "notes.txt").write_text("")
    return place.run_tiny("--out", place.out.parent / "other")


HEAD = 'dataset = "tiny"\nbackbone = "tiny"\n'


def files() -> Iterator[Case]:
    not_toml = "is not valid TOML"
    yield file("empty", "", "no dataset is chosen")
    yield file("zeros", bytes(100), not_toml)
    yield file("noise", bytes(range(128, 256)), not_toml)
    yield file("JSON", '{"dataset": "tiny"}', not_toml)
    yield file("YAML", "dataset: tiny\n", not_toml)
    yield file("not UTF-8", b'dataset = "t\xff"', "no dataset")
    yield file("UTF-16", HEAD.encode("utf-16"), not_toml)
    yield file("with a byte order mark", b"\xef\xbb\xbf" + HEAD.encode(), "", "trains")
    yield file("with line ends of Windows", HEAD.replace("\n", "\r\n"), "", "trains")
    yield file("a key twice", HEAD + "[training]\nepochs = 1\nepochs = 2\n", not_toml)
    yield file("a section twice", HEAD + "[training]\nepochs = 1\n[training]\n", not_toml)
    yield file("cut in a text", 'dataset = "ti', not_toml)
    yield file("a value of 1 MB", f'dataset = "{"x" * MEGABYTE}"', "no dataset 'xxx")
    yield file("a key of 1 MB", HEAD + f"{'x' * MEGABYTE} = 1\n", "unknown setting 'xxx")
    yield file("a setting of 1 MB", HEAD + f'[training]\nseed = "{"9" * MEGABYTE}"\n',
               "training.seed = '999")  # fmt: skip
    yield file(
        "a number of 100,000 digits",
        HEAD + f"[training]\nseed = {'9' * 100_000}\n",
        "is not valid TOML",
    )
    yield file("a name that is a class of 1 MB", HEAD + f'[callback."{"x" * MEGABYTE}"]\n',
               "unknown callback 'xxx")  # fmt: skip
    yield file("lists nested 10,000 deep", "a = " + "[" * 10_000 + "]" * 10_000, "nested")
    yield file("tables nested 10,000 deep", "a" + ".a" * 10_000 + " = 1\n", "nested")
    yield file("tables nested 200 deep", HEAD + "training" + ".a" * 200 + " = 1\n", "nested")
    yield file("10,000 unknown keys", "\n".join(f"k{n} = 1" for n in range(10_000)), "unknown")
    yield file("dates", HEAD + "[training]\nseed = 2026-11-28\n", "training.seed = ")
    yield file("a list of sections", HEAD + "[[training]]\nseed = 1\n", "training must be a")
    yield file("numbers of other bases", HEAD + "[training]\nseed = 0x1\n", "", "trains")


def all_cases() -> Iterator[Case]:
    for part in (values, keys, files):
        yield from part()


CASES = unique(all_cases())

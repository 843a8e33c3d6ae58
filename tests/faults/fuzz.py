"""Fuzz every reader of files from outside: ``python tests/faults/fuzz.py --minutes 10 [READER]``.

A reader gets valid files that were changed. It must give a value or one of msft's errors, within
10 s and 500 MB. The process may neither crash nor hang. Needs no network, and runs no training.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import io
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(path) for path in (HERE, HERE.parent) if str(path) not in sys.path]

import numpy as np  # noqa: E402
from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from mutations import changed, footer, rebuilt  # noqa: E402

SECONDS = 10
"""A single file that takes longer hangs its reader."""

MEGABYTES = 500
"""The memory that a single file of some kB may add."""

LONGEST = 20_000
"""Characters of a message."""

EXAMPLES = 500
"""Files between two seeds."""


@dataclass
class Reader:
    """Reads one kind of file.

    Args:
        name: what the command line calls it.
        files: a strategy of changed files.
        read: reads a file. Whatever it raises besides ``errors`` is a bug.
        errors: msft's own.
        sound: valid files, which must be read.
    """

    name: str
    files: st.SearchStrategy[bytes]
    read: Callable[[Path], object]
    errors: tuple[type[BaseException], ...]
    sound: list[bytes]


def written(folder: Path, write: Callable[[Path], object]) -> bytes:
    path = folder / "sample"
    write(path)
    content = path.read_bytes()
    path.unlink()
    return content


def weights(folder: Path) -> list[Reader]:
    """Checkpoints of each format."""
    from bad_checkpoints import WRITERS, mindspore
    from pth_writer import Storages, pickled

    from msft_core.errors import WeightsError
    from msft_core.runs.checkpoints import CheckpointInfo, describe_checkpoint
    from msft_core.testing import RecordingReporter
    from msft_core.types import Preprocessing
    from msft_core.weights import read_checkpoint

    arrays = {"a.weight": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.ones(2, "f4")}
    readers = []
    for suffix, writer in WRITERS.items():
        sound = written(folder, lambda path, writer=writer: writer(path, arrays))  # type: ignore[misc]
        samples = [sound]
        if suffix == ".ckpt":
            samples.append(sound[:-17])  # without the checksum, which finds each change
        if suffix == ".pth":
            storages = Storages()
            value = {name: storages.array(array) for name, array in arrays.items()}

            def zipped(content: bytes, data: Any = storages.data) -> bytes:
                buffer = io.BytesIO()
                with zipfile.ZipFile(buffer, "w") as archive:
                    archive.writestr("archive/data.pkl", content)
                    for key, flat in data.items():
                        archive.writestr(f"archive/data/{key}", flat.tobytes())
                return buffer.getvalue()

            files = changed(samples) | changed([pickled(value)]).map(zipped)
        elif suffix == ".safetensors":
            size = int.from_bytes(sound[:8], "little")
            text, rest = sound[8 : 8 + size].decode(), sound[8 + size :]

            def with_length(value: Any, rest: bytes = rest) -> bytes:
                header = json.dumps(value).encode()
                return len(header).to_bytes(8, "little") + header + rest

            files = changed(samples) | rebuilt(text, with_length)
        else:
            files = changed(samples)
        name = suffix.replace(" before 1.6", "-legacy")
        readers.append(Reader(name, files, read_checkpoint, (WeightsError,), [sound]))

    how = Preprocessing(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    metadata = CheckpointInfo("tiny", "", "finetune", ("a", "b"), how).to_metadata()

    def own(values: dict[str, str]) -> bytes:
        return written(folder, lambda path: mindspore(path, arrays, values))

    def with_metadata(value: dict[str, Any]) -> bytes:
        return own({str(key).encode("ascii", "replace").decode(): item if isinstance(item, str)
                    else json.dumps(item) for key, item in value.items()})  # fmt: skip

    def describe(path: Path) -> object:
        return describe_checkpoint(read_checkpoint(path), RecordingReporter())

    values = {k: json.loads(v) if v.startswith(("[", "{")) else v for k, v in metadata.items()}
    files = changed([own(metadata)[:-17]]) | rebuilt(json.dumps(values), with_metadata)
    readers.append(Reader("best.ckpt", files, describe, (WeightsError,), [own(metadata)]))
    return readers


def images(folder: Path) -> list[Reader]:
    """Images of each format."""
    from bad_images import FORMATS, with_exif
    from image_kit import encode, picture
    from PIL import Image

    from msft_core.data.views import evaluation_view
    from msft_core.images import ImageError, decode, inspect_image
    from msft_core.types import Preprocessing

    small = picture(40, 30)
    sound = [encode(small, kind) for kind in FORMATS]
    sound += [encode(small.convert(mode), kind) for mode, kind in (
        ("CMYK", "JPEG"), ("L", "JPEG"), ("P", "PNG"), ("1", "PNG"), ("RGBA", "PNG"),
        ("RGBA", "WEBP"), ("P", "TIFF"), ("CMYK", "TIFF"), ("P", "BMP"))]  # fmt: skip
    sound += [with_exif(6), encode(small, progressive=True)]
    sound += [encode(small, "TIFF", compression=one) for one in ("tiff_lzw", "jpeg", "packbits")]
    sound.append(encode(Image.fromarray(np.full((30, 40), 4000, np.uint16)), "PNG"))
    with contextlib.suppress(OSError, KeyError):
        sound.append(encode(small, "AVIF"))
    with contextlib.suppress(ImportError):
        import pillow_heif

        buffer = io.BytesIO()
        pillow_heif.from_pillow(small).save(buffer, quality=90)
        sound.append(buffer.getvalue())
    preprocessing = Preprocessing(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

    def read(path: Path) -> object:
        data = path.read_bytes()
        inspect_image(data)
        decode(data)
        return evaluation_view(data, preprocessing)

    return [Reader("image", changed(sound), read, (ImageError,), sound)]


def archives(folder: Path) -> list[Reader]:
    """The zip file of the dataset canidae."""
    from bad_archives import GOOD, zipped

    from msft_core import DataError
    from msft_plugins.canidae.unpack import unpack

    target = folder / "unpacked" / "images"
    few = dict(list(GOOD.items())[:3])
    sound = [zipped(few), zipped(few, method=zipfile.ZIP_DEFLATED), zipped({"a/b.txt": b"b" * 99})]

    def read(path: Path) -> None:
        unpack(path, target)

    # An OSError becomes a DataError in locate.py.
    return [Reader("zip", changed(sound), read, (DataError, OSError), sound)]


def configurations(folder: Path) -> list[Reader]:
    """``config.toml``."""
    from msft_core import config
    from msft_core.errors import UsageError
    from msft_core.plugins.loading import load_plugins
    from msft_core.testing import tiny

    plugins = load_plugins(objects=[tiny])
    raw = {"dataset": "tiny", "backbone": "tiny", "training": {"epochs": 3}}
    whole = config.resolve(raw, plugins).to_toml().encode()
    short = (
        b'dataset = "folder"\n[training]\nepochs = 3\nbatch_size = 8 # few\n[data]\nflip = 0.5\n'
    )

    def read(path: Path) -> None:
        raw = config.read_toml(path)
        for key in ("plugins", "without"):
            raw.pop(key, None)
        config.resolve(raw, plugins)

    files = changed([whole, short])
    return [Reader("config.toml", files, read, (UsageError,), [whole])]


def run_folders(folder: Path) -> list[Reader]:
    """The files of a run folder, each changed beside the others."""
    from test_compare import write_run

    from msft_core.errors import MsftError
    from msft_core.runs.record import read_record

    run = folder / "run"
    write_run(run)
    readers = []
    for name in ("metrics.jsonl", "environment.json", "classes.json", "predictions.csv"):
        sound = (run / name).read_bytes()
        files = changed([sound])
        if name == "metrics.jsonl":
            lines = sound.decode().splitlines()
            files |= rebuilt(json.dumps([json.loads(line) for line in lines]), as_lines)
        elif name.endswith(".json"):
            files |= rebuilt(sound.decode(), lambda value: json.dumps(value).encode())

        def read(path: Path, name: str = name, sound: bytes = sound) -> object:
            (run / name).write_bytes(path.read_bytes())
            try:
                record = read_record(run)
                return [record.status, record.trained, record.seconds, record.curve("accuracy")]
            finally:
                (run / name).write_bytes(sound)

        readers.append(Reader(name, files, read, (MsftError,), [sound]))
    return readers


def as_lines(value: Any) -> bytes:
    lines = value if isinstance(value, list) else [value]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def cached(folder: Path) -> list[Reader]:
    """Files in the cache: features, notes of checked images, and of downloads."""
    from msft_core.data.memory import CheckMemory
    from msft_core.downloads import _Failed, _read_pin
    from msft_core.features.segments import (
        DAMAGE,
        FileIO,
        count_features,
        finish_segment,
        load_segment,  # fmt: skip
    )

    def segment(path: Path) -> None:
        with FileIO(str(path), "x+") as file:
            features = np.arange(24, dtype=np.float32).tobytes()
            file.write(features)
            crcs = np.array([zlib.crc32(features[i : i + 32]) for i in (0, 32, 64)], np.uint32)
            finish_segment(file, ((8,), np.dtype("<f4")), bytes(range(48)), crcs)

    sound = written(folder, segment)
    length = int.from_bytes(sound[-12:-8], "little")
    trailer, before = sound[-16 - length : -16].decode(), sound[: -16 - length]

    def with_footer(value: Any) -> bytes:
        text = json.dumps(value).encode()
        return before + text + footer(text, zlib.crc32(text), b"msftrows")

    def read_segment(path: Path) -> object:
        count_features(path)
        found, keys, _ = load_segment(path)
        return [found.read(i, 1) for i in range(min(len(found.crcs), 10))] if keys else None

    pin = json.dumps({"url": "https://example.org/a", "sha256": "0" * 64}).encode()
    digest = "00" * 16

    def memory_file(path: Path) -> bytes:
        notes = CheckMemory(path)
        note = HERE / "fuzz.py"
        notes.note_file(str(note), note.stat(), digest)
        return note.read_bytes()

    checked = folder / "checked"
    memory_file(checked)
    names = ("files",)

    def read_memory(path: Path) -> object:
        checked.mkdir(exist_ok=True)
        for name in names:
            (checked / name).write_bytes(path.read_bytes())
        return CheckMemory(checked).digest_of(str(HERE / "fuzz.py"))

    return [
        Reader("features", changed([sound]) | rebuilt(trailer, with_footer), read_segment,
               (*DAMAGE, OSError), [sound]),
        Reader("checked images", changed([bytes(96), bytes(range(240))]), read_memory, (),
               [bytes(96)]),
        Reader("pin", changed([pin]) | rebuilt(pin.decode(), lambda v: json.dumps(v).encode()),
               _read_pin, (_Failed,), [pin]),
    ]  # fmt: skip


def states(folder: Path) -> list[Reader]:
    """``state/`` of a run that can go on."""
    from msft_core.errors import UsageError
    from msft_core.runs import state

    place = state.StateFolder(folder / "resumed")
    place.path.mkdir(parents=True)
    arrays = {"parameters": {"w": np.arange(6, dtype=np.float32)}, "best": {"p": np.ones(3)}}
    fields = {
        "phase": "end", "epoch": 1, "step": 2,
        "part": {"steps": 0, "loss": 0.0, "images": 0, "seconds": 0.0},
        "history": [{"epoch": 1, "train": {"loss": 0.5}, "val": {"accuracy": 0.5}}],
        "stop_reason": "", "joined": {"w": 1}, "trains": "x", "data": {"train": "x"},
        "weights": "x", "config": {"training": {"epochs": 3}},
        "feed": {"views": 1, "engine": "", "asks": False}, "seconds": 1.5, "warnings": ["w"],
        "best": {"path": "best.ckpt", "epoch": 1, "value": 0.5, "metric": "accuracy",
                 "identity": "x"},
        "plugins": {"best_checkpoint": {"stale": 0}},
    }  # fmt: skip
    from dataclasses import fields as fields_of

    from msft_core.training.progress import PartOfEpoch

    known = {one.name for one in fields_of(PartOfEpoch)}
    part: Any = fields["part"]
    fields["part"] = {key: value for key, value in part.items() if key in known}
    place.write(fields, arrays)
    index = place.path / "state.json"
    sound = index.read_bytes()
    files_of = {path.name: path.read_bytes() for path in place.path.glob("*.safetensors")}

    def with_digest(value: Any) -> bytes:
        text = state._canonical(value)
        return f'{{"digest": "{state._digest(text)}",\n"state": {text}}}\n'.encode()

    def read(path: Path) -> None:
        index.write_bytes(path.read_bytes())
        place.read_arrays(place.read())

    def read_arrays(path: Path) -> None:
        index.write_bytes(sound)
        name = sorted(files_of)[-1]
        (place.path / name).write_bytes(path.read_bytes())
        try:
            place.read_arrays(place.read())
        finally:
            (place.path / name).write_bytes(files_of[name])

    text = json.dumps(json.loads(sound)["state"])
    array = files_of[sorted(files_of)[-1]]
    return [
        Reader("state.json", changed([sound]) | rebuilt(text, with_digest), read, (UsageError,),
               [sound]),
        Reader("arrays of a state", changed([array]), read_arrays, (UsageError,), [array]),
    ]  # fmt: skip


PARTS = (weights, images, archives, configurations, run_folders, cached, states)


class Fuzzing:
    """Gives files to a reader for some time.

    Args:
        folder: for the files.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "input"
        self.files, self.refused, self.slowest, self.largest = 0, 0, 0.0, 0
        self.failed: tuple[bytes, str] | None = None
        """The shortest file that was not read as it should be, and the traceback."""

    def run(self, reader: Reader, seconds: float, first_seed: int = 0) -> str:
        """Fuzz. Returns what went wrong; empty if nothing did."""
        for content in reader.sound:
            self.path.write_bytes(content)
            reader.read(self.path)
        end = time.monotonic() + seconds
        number = first_seed
        while time.monotonic() < end:
            try:
                self._block(reader, end, number)
            except Exception:
                if self.failed is None:
                    raise
                return self.failed[1]
            number += 1
        return ""

    def _block(self, reader: Reader, end: float, number: int) -> None:
        @seed(number)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        )
        @given(content=reader.files)
        def check(content: bytes) -> None:
            if time.monotonic() < end:
                self._one(reader, content)

        check()

    def _one(self, reader: Reader, content: bytes) -> None:
        self.path.write_bytes(content)
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        before, began = megabytes(), time.monotonic()
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        self.files += 1
        try:
            try:
                reader.read(self.path)
            except reader.errors as error:
                self.refused += 1
                said = str(error)
                assert len(said) < LONGEST, f"a message of {len(said)} characters"
            self._measure(before, began)
        except Exception:
            if self.failed is None or len(content) < len(self.failed[0]):
                self.failed = content, traceback.format_exc()
            raise
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _measure(self, before: int, began: float) -> None:
        more = megabytes() - before
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.largest = max(self.largest, more)
        assert more < MEGABYTES, f"{more} MB"


def megabytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1000


def main() -> int:
    """Fuzz the readers that are named, or all, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", metavar="READER")
    parser.add_argument("--minutes", type=float, default=1.0, help="for each reader")
    parser.add_argument("--seed", type=int, default=0, help="another one gives other files")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    import mindspore  # noqa: F401 - reserves addresses, which the limit must not count

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 2_000_000_000
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    folder = Path(tempfile.mkdtemp(prefix="msft-fuzz-"))
    os.environ["MSFT_CACHE"] = str(folder / "cache")
    failed = 0
    for part in PARTS:
        for reader in part(folder):
            if given.readers and reader.name not in given.readers:
                continue
            fuzzing = Fuzzing(folder)
            problem = fuzzing.run(reader, 60 * given.minutes, given.seed)
            print(
                f"{reader.name}: {fuzzing.files} files, {fuzzing.refused} refused, the slowest "
                f"{fuzzing.slowest:.2f} s, {fuzzing.largest} MB more at most"
                + (f"; FAILED\n{problem}" if problem else ""),
                flush=True,
            )
            failed += bool(problem)
            if problem:
                kept = Path(tempfile.gettempdir()) / f"msft-fuzz-{reader.name.replace(' ', '-')}"
                kept.write_bytes(fuzzing.failed[0] if fuzzing.failed else b"")
                print(f"The file: {kept}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Bad files of weights, and bad checkpoints of msft."""

from __future__ import annotations

import functools
import json
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from bad_kit import TINY, Case, Place, unique
from image_kit import encode, picture
from pth_writer import Call, Global, Storages, pickled, write_arrays, write_legacy, write_zip

PLUGIN = Path(__file__).parent / "weighted.py"
AGAIN = "download or copy it again"
Arrays = dict[str, Any]


@functools.cache
def names_and_shapes() -> dict[str, tuple[int, ...]]:
    """Of the tiny network without its head."""
    from msft_core.testing import tiny

    backbone: Any = tiny.build_backbone("tiny", 2, tiny.TinyBackboneSettings())
    cells = [stage.cell for stage in backbone.stages]
    return {p.name: tuple(p.shape) for cell in cells for p in cell.get_parameters()}


def arrays() -> Arrays:
    """Weights that fit."""
    draw = np.random.default_rng(1)
    return {name: draw.uniform(0.1, 0.2, shape).astype(np.float32)
            for name, shape in names_and_shapes().items()}  # fmt: skip


def safetensors(path: Path, tensors: Mapping[str, Any]) -> None:
    header, data = {}, b""
    for name, array in tensors.items():
        kind = {"f": "F", "i": "I", "u": "U"}[array.dtype.kind] + str(array.dtype.itemsize * 8)
        start, data = len(data), data + array.tobytes()
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [start, len(data)]}
    path.write_bytes(with_header(json.dumps(header).encode(), data))


def with_header(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def mindspore(path: Path, tensors: Mapping[str, Any], metadata: Any = None) -> None:
    from msft_core.weights.formats import ckpt

    kinds = {"float32": "Float32", "float16": "Float16", "int8": "Int8", "int32": "Int32"}
    kinds["float64"] = "Float64"
    saved = [ckpt.Saved(name, kinds[array.dtype.name], array) for name, array in tensors.items()]
    ckpt.write(path, saved, metadata or {})


WRITERS: dict[str, Callable[[Path, Arrays], Any]] = {
    ".ckpt": mindspore,
    ".safetensors": safetensors,
    ".pth": write_arrays,
    ".pth before 1.6": functools.partial(write_arrays, legacy=True),
}


def weights(
    name: str, write: Callable[[Path], object], says: str, expected: Any = "refused"
) -> Case:
    """A case of ``--weights``. The name begins with the format."""

    def make(place: Place) -> list[str]:
        path = place.inputs / f"weights{name.split()[0]}"
        content = write(path)
        if isinstance(content, bytes):
            path.write_bytes(content)
        given = [*TINY[:4], "--plugin", PLUGIN, "--backbone", "weighted", "--weights", path]
        return place.run(*given)

    return Case("checkpoints", name, make, expected, says)


def of_each_format() -> Iterator[Case]:
    for kind, writer in WRITERS.items():

        def case(
            name: str,
            change: Callable[[Arrays], object],
            says: str,
            expected: Any = "refused",
            kind: str = kind,
            writer: Any = writer,
        ) -> Case:
            def write(path: Path) -> None:
                tensors = arrays()
                change(tensors)
                writer(path, tensors)

            return weights(f"{kind} {name}", write, says, expected)

        yield case("that is sound", lambda tensors: None, "", "trains")
        for quarter in (1, 2, 3):
            yield weights(f"{kind} cut after {quarter} of 4 quarters",
                          functools.partial(cut, writer, quarter), "download or copy")  # fmt: skip
        yield case(
            "with NaN", put("first.0.weight", np.nan), "there is NaN or infinity in first.0.weight"
        )
        yield case(
            "with infinity",
            put("first.0.weight", np.inf),
            "there is NaN or infinity in first.0.weight",
        )
        yield case("of another shape", shaped("first.0.weight"), "shapes do not fit the network")
        yield case("with a tensor missing", lambda tensors: tensors.pop("first.0.weight"),
                   "Missing in the file: first.0.weight")  # fmt: skip
        yield case("with a tensor too many", lambda tensors: tensors.update(more=np.ones(3)),
                   "unknown to the network: more")  # fmt: skip
        yield case("of whole numbers", typed("first.0.weight", np.int32), "int32")
        yield case("of double precision", typed("first.0.weight", np.float64), "", "trains")
        yield case("of no tensor", lambda tensors: tensors.clear(), "no tensors")


def cut(writer: Any, quarter: int, path: Path) -> bytes:
    writer(path, arrays())
    content = path.read_bytes()
    return content[: quarter * len(content) // 4]


def put(name: str, value: float) -> Callable[[Arrays], object]:
    return lambda tensors: tensors[name].flat.__setitem__(0, value)


def shaped(name: str) -> Callable[[Arrays], object]:
    return lambda tensors: tensors.update({name: tensors[name][:, :, :2]})


def typed(name: str, dtype: Any) -> Callable[[Arrays], object]:
    return lambda tensors: tensors.update({name: tensors[name].astype(dtype)})


def of_ckpt() -> Iterator[Case]:
    def sound(path: Path) -> bytes:
        mindspore(path, arrays())
        return path.read_bytes()[:-17]  # without its checksum

    def twice(path: Path) -> bytes:
        return 2 * sound(path)

    def longer(path: Path) -> bytes:
        content = bytearray(sound(path))
        content[1:3] = b"\xff\x7f"
        return bytes(content)

    def shape(path: Path) -> bytes:
        return sound(path).replace(b"\x08\x04\x08\x03", b"\x08\x7f\x08\x03", 1)

    yield weights(".ckpt with every name twice", twice, "named twice")
    yield weights(".ckpt whose first length lies", longer, AGAIN)
    yield weights(".ckpt whose shape lies", shape, AGAIN)
    yield weights(".ckpt with an unknown dtype",
                  lambda path: sound(path).replace(b"Float32", b"Float99"), "Float99")  # fmt: skip
    yield weights(".ckpt that is empty", lambda path: b"", "the file is empty")
    yield weights(".ckpt of zeros", lambda path: bytes(4000), "neither MindSpore's")
    yield weights(".ckpt that is HTML", lambda path: b"<html>404</html>", "neither MindSpore's")
    yield weights(".ckpt that is text", lambda path: b"\nhello\n" * 9, AGAIN)
    yield weights(".ckpt that is a folder", lambda path: path.mkdir(), "this is a folder")
    yield weights(".ckpt that is not there", lambda path: None, "there is no such file")


def of_safetensors() -> Iterator[Case]:
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}

    def header(**fields: Any) -> Callable[[Path], bytes]:
        text = json.dumps({"a": {**tensor, **fields}}).encode()
        return lambda path: with_header(text, bytes(8))

    def raw(text: bytes, data: bytes = bytes(8)) -> Callable[[Path], bytes]:
        return lambda path: with_header(text, data)

    whole = json.dumps(tensor)[1:-1]
    many = json.dumps({f"t{n}": {**tensor, "dtype": "BF16", "shape": [2_000_000],
                                 "data_offsets": [0, 4_000_000]} for n in range(1000)})  # fmt: skip
    damaged = "damaged or cut short"
    yield weights(".safetensors whose header is longer than the file",
                  lambda path: struct.pack("<Q", 1000) + b"{}", "longer than the file")  # fmt: skip
    yield weights(".safetensors whose header has 2^63 bytes",
                  lambda path: struct.pack("<Q", 2**63) + b"{}", "neither MindSpore's")  # fmt: skip
    yield weights(".safetensors with offsets outside", header(data_offsets=[0, 80]), "outside")
    yield weights(".safetensors with offsets reversed", header(data_offsets=[8, 0]), "outside")
    yield weights(".safetensors with negative offsets", header(data_offsets=[-8, 0]), "outside")
    yield weights(".safetensors with offsets of text", header(data_offsets=["0", "8"]), damaged)
    yield weights(".safetensors with a shape that lies", header(shape=[3]), damaged)
    yield weights(".safetensors with a negative shape", header(shape=[-1]), "invalid shape")
    yield weights(".safetensors with a shape of fractions", header(shape=[2.0]), "invalid shape")
    yield weights(".safetensors with an unknown dtype", header(dtype="F8_E4M3"), "F8_E4M3")
    yield weights(".safetensors with a name twice",
                  raw(f'{{"a": {{{whole}}}, "a": {{{whole}}}}}'.encode()), "twice")  # fmt: skip
    yield weights(".safetensors, 1000 tensors over the same data",
                  raw(many.encode(), bytes(4_000_000)), "overlap")  # fmt: skip
    yield weights(".safetensors that is no JSON", raw(b"{" + bytes(50)), damaged)
    yield weights(".safetensors that is a list", raw(b'{"a": [1]}'), damaged)
    yield weights(".safetensors nested 100,000 deep", raw(b'{"a":' * 100_000), damaged)
    yield weights(".safetensors with a header of 30 MB", raw(b'{"a":' + b"{}," * 10_000_000),
                  "header is longer than")  # fmt: skip
    yield weights(".safetensors with metadata of numbers",
                  raw(b'{"__metadata__": 3}'), damaged)  # fmt: skip


def of_pth() -> Iterator[Case]:
    def value(content: Any, legacy: bool = False) -> Callable[[Path], object]:
        writer = write_legacy if legacy else write_zip
        return lambda path: writer(path, content, Storages())

    def tensor(*arguments: Any, **more: Any) -> Callable[[Path], object]:
        def write(path: Path) -> None:
            storages = Storages()
            made = storages.tensor(np.zeros(4, np.float32), *arguments, **more)
            write_zip(path, {"a": made}, storages)

        return write

    def member_twice(path: Path) -> None:
        write_arrays(path, arrays())
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("archive/data/0", bytes(432))

    def compressed(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", pickled({}) + bytes(10_000_000))

    def long_pickle(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02" + b"}" * 40_000_000 + b".")

    def colliding(path: Path) -> None:
        # Not as a dictionary, which would take as long here.
        keys = [pickled(number * (2**61 - 1))[2:-1] + b"N" for number in range(200_000)]
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02}(" + b"".join(keys) + b"u.")

    call = Call(Global("os", "system"), ("touch stray",))
    yield weights(".pth that calls os.system", value({"a": call}), "the file asks for 'os.system'")
    yield weights(".pth before 1.6 that calls os.system", value({"a": call}, legacy=True),
                  "the file asks for 'os.system'")  # fmt: skip
    yield weights(".pth that asks for eval", value({"a": Global("builtins", "eval")}),
                  "the file asks for 'builtins.eval'")  # fmt: skip
    yield weights(".pth that is a network, not its weights",
                  value(Global("torchvision.models.resnet", "ResNet")), "state_dict()")  # fmt: skip
    yield weights(".pth that is a list", value([1, 2]), "other than a dictionary")
    yield weights(".pth with a stride outside", tensor((2, 2), (100, 1)), "outside its data")
    yield weights(".pth with a negative stride", tensor((2, 2), (-1, 1)), "do not fit together")
    yield weights(".pth with a storage that lies", tensor((2,), (1,), count=10**9), "larger than")
    yield weights(".pth expanded to 4 TB", tensor((10**6, 10**6), (0, 0)), "many times larger")
    yield weights(".pth with a member twice", member_twice, "twice")
    yield weights(".pth that is compressed", compressed, "compressed zip")
    yield weights(".pth with a pickle of 40 MB", long_pickle, "longer than")
    yield weights(".pth with 200,000 keys of one hash", colliding, "a dictionary has a key")
    yield weights(".pth with a pickle of one byte", lambda path: b"\x80", AGAIN)
    yield weights(".pth that is another zip file", other_zip, "not a PyTorch checkpoint")


def other_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "hello")


def of_msft() -> Iterator[Case]:
    """Checkpoints of msft with other metadata, given to ``msft predict``."""

    def case(
        name: str, says: str, expected: Any = "refused", drop: str = "", **fields: Any
    ) -> Case:
        def make(place: Place) -> list[str]:
            from msft_core.runs.checkpoints import CheckpointInfo
            from msft_core.types import Preprocessing

            how = Preprocessing(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
            info = CheckpointInfo("tiny", "", "finetune", ("a", "b"), how)
            tensors = arrays() | {"head.weight": np.ones((2, 8), np.float32)}
            tensors["head.bias"] = np.zeros(2, np.float32)
            metadata = {**info.to_metadata(), **fields}
            metadata.pop(drop, None)
            mindspore(place.inputs / "best.ckpt", tensors, metadata)
            (place.inputs / "a.jpg").write_bytes(encode(picture()))
            return ["predict", *TINY[:2], str(place.inputs / "best.ckpt"),
                    str(place.inputs / "a.jpg")]  # fmt: skip

        return Case("checkpoints", f"best.ckpt {name}", make, expected, says)

    how = {"size": 16, "mean": [0.5] * 3, "std": [0.5] * 3}
    damaged = "its metadata is damaged"
    yield case("that is sound", "", "works")
    yield case("of another program", "not a checkpoint of msft", drop="msft")
    yield case("of a newer msft", "written by a newer msft", msft="99")
    yield case("whose format is no number", damaged, msft="three")
    yield case("without classes", damaged, drop="classes")
    yield case("with classes that are no list", damaged, classes='"ab"')
    yield case("with a class that is a number", damaged, classes="[1, 2]")
    yield case("with no class", "", classes="[]")
    yield case("with three classes for two outputs", "shapes do not fit", classes='["a","b","c"]')
    yield case("with a class twice", "", classes='["a","a"]')
    yield case("with broken JSON", damaged, preprocessing="{")
    yield case("nested 100,000 deep", damaged, settings="[" * 100_000)
    yield case("with an image size of 0", damaged, preprocessing=json.dumps({**how, "size": 0}))
    yield case("with an image size of 10^9", damaged,
               preprocessing=json.dumps({**how, "size": 10**9}))  # fmt: skip
    yield case("with a standard deviation of 0", damaged,
               preprocessing=json.dumps({**how, "std": [0.0] * 3}))  # fmt: skip
    yield case("with a mean of NaN", damaged,
               preprocessing=json.dumps({**how, "mean": [float("nan")] * 3}))  # fmt: skip
    yield case("with a batch size of 10^9", damaged, evaluation='{"batch_size": 1000000000}')
    yield case("with a backbone that is not installed", "is not installed", backbone="unheard-of")
    yield case("with unknown settings", "unknown setting", settings='{"depth": 3}')
    yield case("with settings that are no section", damaged, settings="3")


def all_cases() -> Iterator[Case]:
    for part in (of_each_format, of_ckpt, of_safetensors, of_pth, of_msft):
        yield from part()


CASES = unique(all_cases())

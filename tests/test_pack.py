"""``msft pack`` and the dataset ``packed``."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Msft
from image_kit import picture, write_classes

from msft_core.data.checking import check_images
from msft_core.engine import pack as packing
from msft_core.errors import DataError, MsftError, UsageError
from msft_core.files import content_digest
from msft_core.folders import read_splits
from msft_core.images import ImageError
from msft_core.packs import PackedTable, read_pack
from msft_core.testing import MsftRun, RecordingReporter

SHARD = "shard-00000.mindrecord"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, no val folder, and a file that is no image."""
    folder = tmp_path_factory.mktemp("data") / "folder"
    write_classes(folder, {"cats": 14, "dogs": 12})
    (folder / "cats" / "broken.jpg").write_text("no image")
    return folder


def pack(folder: Path, out: Path, **how: Any) -> RecordingReporter:
    reporter = RecordingReporter()
    packing.pack(folder, out, reporter=reporter, **how)
    return reporter


@pytest.fixture(scope="module")
def packed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSFT_CACHE", str(out.parent / "cache"))
        pack(folder, out)
    return out


@pytest.fixture
def copied(packed: Path, tmp_path: Path) -> Path:
    """A pack that a test may damage; the shard itself is shared until it is written to."""
    out = tmp_path / "copy"
    out.mkdir()
    for path in packed.iterdir():
        if path.suffix != ".mindrecord":
            (out / path.name).write_bytes(path.read_bytes())
    (out / SHARD).symlink_to(packed / SHARD)
    return out


def test_a_run_on_a_pack_is_the_run_on_its_folder(
    folder: Path, packed: Path, msft_run: MsftRun
) -> None:
    def metrics(dataset: str, data_dir: Path) -> tuple[list[Any], str]:
        report = msft_run(
            dataset={"name": dataset, "data_dir": str(data_dir)},
            strategy="finetune",
            training={"epochs": 2, "batch_size": 8},
        )
        lines = (report.folder / "metrics.jsonl").read_text().splitlines()
        of_epochs = [json.loads(line) for line in lines]
        predictions = (report.folder / "predictions.csv").read_text()
        return [(line["train"], line["val"]) for line in of_epochs], predictions

    assert metrics("packed", packed) == metrics("folder", folder)


def test_a_pack_has_the_images_of_the_folder_in_their_order(folder: Path, packed: Path) -> None:
    splits, original = read_pack(packed), read_splits(folder)
    assert splits.classes == original.classes
    for name in ("train", "val"):
        table, files = getattr(splits, name), getattr(original, name)
        kept = [i for i, one in enumerate(files.ids) if not one.endswith("broken.jpg")]
        assert table.ids == [files.ids[i] for i in kept]
        assert table.labels == [files.labels[i] for i in kept]
        # In any order, and after a pickle.
        again = pickle.loads(pickle.dumps(table))
        for place in reversed(range(len(kept))):
            assert table.read(place) == files.read(kept[place]) == again.read(place)
    assert len(splits.train.ids) + len(splits.val.ids) == 26
    assert any("1 images did not decode" in note for note in splits.notes)
    skipped = (packed / "skipped.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in skipped] == ["cats/broken.jpg"]


def test_mindspore_reads_the_shards_by_itself(packed: Path) -> None:
    import mindspore.dataset as ds

    splits = read_pack(packed)
    columns = ["id", "split", "label", "digest", "image"]
    order = [20, 3, 25, 3]
    data = ds.MindDataset(str(packed / SHARD), columns, sampler=ds.SubsetSampler(order))
    rows = list(data.create_dict_iterator(num_epochs=1, output_numpy=True))
    assert len(rows) == len(order)
    for number, row in zip(order, rows, strict=True):
        first = len(splits.train.ids)
        split, index = ("train", number) if number < first else ("val", number - first)
        table = getattr(splits, split)
        assert (str(row["id"]), str(row["split"])) == (table.ids[index], split)
        assert int(row["label"]) == table.labels[index]
        assert row["image"].tobytes() == table.read(index)
        assert str(row["digest"]) == content_digest(table.read(index))


def test_packed_images_are_not_decoded_again_unless_another_pillow_reads_them(
    packed: Path,
) -> None:
    def refuse(data: bytes) -> object:
        raise ImageError("decoded")

    table = read_pack(packed).train
    assert isinstance(table, PackedTable)
    found = check_images(table, workers=1, reporter=RecordingReporter(), decode=refuse)
    assert len(found.kept) == len(table.ids)
    assert found.digests[3] == content_digest(table.read(3))
    other = replace(table, releases="pillow-0")
    found = check_images(other, workers=1, reporter=RecordingReporter(), decode=refuse)
    assert len(found.skipped) == len(table.ids)


def test_an_interrupted_pack_goes_on_with_the_shards_that_lack(
    folder: Path, tmp_path: Path, msft_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "out", packing._write_shard
    written: list[int] = []

    def interrupted(out: Path, number: int, *rest: Any) -> Any:
        if number == 1:
            raise KeyboardInterrupt
        written.append(number)
        return real(out, number, *rest)

    size = sum(path.stat().st_size + 300 for path in folder.rglob("*.jpg")) // 2 + 1000
    monkeypatch.setattr(packing, "_write_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack(folder, out, shard_bytes=size)
    with pytest.raises(DataError, match=r"not complete: run the same `msft pack` again"):
        read_pack(out)
    assert not [path for path in out.iterdir() if path.name.startswith(".")]

    monkeypatch.setattr(packing, "_write_shard", real)
    before = (out / SHARD).stat().st_mtime_ns
    reporter = pack(folder, out, shard_bytes=size)
    assert written == [0]
    assert (out / SHARD).stat().st_mtime_ns == before
    assert any("1 of 2 shards are there already" in line for line in reporter.infos)
    splits = read_pack(out)
    files = read_splits(folder).val
    assert splits.val.read(0) == files.read(list(files.ids).index(splits.val.ids[0]))
    assert sorted(path.suffix for path in out.iterdir()) == sorted(
        [".mindrecord", ".db"] * 2 + [".npz", ".json", ".jsonl"]
    )
    assert any("has these images already" in line for line in pack(folder, out).infos)


def test_a_shard_that_is_not_what_was_written_is_refused(
    folder: Path, tmp_path: Path, msft_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mindspore.mindrecord import FileWriter

    real = FileWriter.write_raw_data

    def altered(self: Any, records: list[dict[str, Any]], *rest: Any) -> Any:
        records[5]["image"] = records[5]["image"][:-1] + b"?"
        return real(self, records, *rest)

    monkeypatch.setattr(FileWriter, "write_raw_data", altered)
    with pytest.raises(MsftError, match="is not what was written to it"):
        pack(folder, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_changed_byte_is_found_when_the_image_is_read(packed: Path, copied: Path) -> None:
    table = read_pack(packed).train
    assert isinstance(table, PackedTable)
    content = bytearray((packed / SHARD).read_bytes())
    content[int(table.index.offsets[2]) + 5] ^= 1
    (copied / SHARD).unlink()
    (copied / SHARD).write_bytes(content)
    damaged = read_pack(copied).train
    assert damaged.read(1) == table.read(1)
    with pytest.raises(ImageError, match=f"{SHARD} is damaged there"):
        damaged.read(2)


def test_a_pack_that_is_not_whole_is_refused_in_one_line(copied: Path, tmp_path: Path) -> None:
    def refusal(path: Path) -> str:
        with pytest.raises(DataError) as caught:
            read_pack(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    index, manifest = (copied / "index.npz").read_bytes(), (copied / "pack.json").read_bytes()
    (copied / "index.npz").write_bytes(index[:-50])
    assert "index.npz is damaged" in refusal(copied)
    (copied / "index.npz").unlink()
    assert "index.npz cannot be read" in refusal(copied)
    (copied / "index.npz").write_bytes(index)

    for bad in (b"", b"[]", b"{}", manifest.replace(b'"val": ', b'"val": -'), b"\xff"):
        (copied / "pack.json").write_bytes(bad)
        assert "is damaged: pack the images again" in refusal(copied)
    (copied / "pack.json").write_bytes(manifest.replace(b'"format": 1', b'"format": 2'))
    assert "install a newer msft" in refusal(copied)
    (copied / "pack.json").write_bytes(manifest)

    shard = (copied / SHARD).resolve()
    (copied / SHARD).unlink()
    assert f"{SHARD} cannot be read" in refusal(copied)
    (copied / SHARD).write_bytes(shard.read_bytes()[:1000])
    assert "has 1000 bytes" in refusal(copied)

    (tmp_path / "empty").mkdir()
    assert "there is no pack in" in refusal(tmp_path / "empty")
    assert "there is no folder" in refusal(tmp_path / "nowhere")


def test_other_images_are_not_mixed_into_a_pack(
    folder: Path, copied: Path, tmp_path: Path, msft_cache: Path
) -> None:
    before = (copied / "pack.json").read_bytes()
    with pytest.raises(UsageError, match="has a pack of other images"):
        pack(folder, copied, split_seed=1)
    assert (copied / "pack.json").read_bytes() == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"has other files, such as thesis\.txt"):
        pack(folder, tmp_path / "other")
    with pytest.raises(UsageError, match="is a file"):
        pack(folder, tmp_path / "other" / "thesis.txt")


def test_the_command_packs_a_folder_to_train_on(folder: Path, tmp_path: Path, msft: Msft) -> None:
    done = msft("pack", folder, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert f"--dataset packed --data-dir {tmp_path / 'out'}" in done.stdout
    assert "broken.jpg" in done.stderr
    refused = msft(
        "run", "--plugin", "msft_core.testing.tiny", "--dataset", "packed", "--backbone", "tiny"
    )
    assert refused.returncode == 2
    assert "msft pack DIR OUT" in refused.stderr


def test_an_image_larger_than_mindrecords_usual_page_is_packed(
    tmp_path: Path, msft_cache: Path
) -> None:
    write_classes(tmp_path / "data", {"cats": 2, "dogs": 2})
    large = picture(3400, 3400)
    large.save(tmp_path / "data" / "cats" / "large.bmp")
    pack(tmp_path / "data", tmp_path / "out", split_seed=1)
    splits = read_pack(tmp_path / "out")
    sizes = {
        name: len(table.read(index))
        for table in (splits.train, splits.val)
        for index, name in enumerate(table.ids)
    }
    assert sizes["cats/large.bmp"] > 32 << 20
    assert len(sizes) == 5

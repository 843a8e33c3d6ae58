"""The command line, as a user meets it: one process a command."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import EAGER, TINY, Msft
from image_kit import encode, picture, scene, write_classes
from strangers import python_path

from msft_core.images import decode

VERSION = version("msft")
FOLDER = (
    "run", "--dataset", "folder", "--plugin", "msft_core.testing.tiny", "--backbone", "tiny",
    "--batch-size", 4, *EAGER,
)  # fmt: skip
Help = Callable[..., str]
QUICK = ("--epochs", 1, "--set", "callback.figures.enabled=false", "--out", "out")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """train and val, two classes, four and two pictures each."""
    root = tmp_path / "photos"
    for split, count in (("train", 4), ("val", 2)):
        for number, name in enumerate(("cats", "dogs")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{i}.jpg").write_bytes(encode(scene(number, i, count)))
    return root


def refused(result: subprocess.CompletedProcess[str], *expected: str) -> None:
    """Exit status 2, one or two clear lines, no traceback, nothing written."""
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert 1 <= len(lines) <= 2, result.stderr
    assert lines[0].startswith("error: ")
    assert "Traceback" not in result.stderr
    for words in expected:
        assert words in result.stderr


def test_help_imports_neither_mindspore_nor_numpy_nor_matplotlib() -> None:
    code = (
        "import sys\nfrom msft_core.cli import app\n"
        "try: app(['--help'], prog_name='msft')\nexcept SystemExit: pass\n"
        "heavy = {'mindspore', 'numpy', 'matplotlib', 'PIL', 'pooch', 'pluggy', 'rich'};"
        "sys.exit(str(sorted(heavy & set(sys.modules))) if heavy & set(sys.modules) else 0)"
    )
    for arguments in (["--help"], ["run", "--help"], ["--version"]):
        result = subprocess.run(
            [sys.executable, "-c", code.replace("['--help']", repr(arguments))],
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        assert "msft" in result.stdout


COMMANDS = (
    "", "run", "check", "fetch", "doctor", "plugins", "plugins show", "plugins new", "cache",
    "cache clear", "compare",
)  # fmt: skip


@pytest.fixture
def help_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Help:
    """What ``--help`` of a command prints into a pipe, at a width of the terminal."""
    from msft_core.cli import app

    def run(command: str, columns: int = 80) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        with pytest.raises(SystemExit) as end:
            app([*command.split(), "--help"], prog_name="msft")
        assert end.value.code == 0
        return capsys.readouterr().out

    return run


def groups(text: str) -> dict[str, list[str]]:
    """The names that each group of a help text lists, by its title."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            names = found.setdefault(line[:-1], [])
        elif found and line[:2] == "  " and line[2:3].strip():
            names.append(line.split()[0])
    return found


def test_help_lists_the_commands_in_groups(help_of: Help) -> None:
    assert groups(help_of("")) == {
        "Train": ["run", "check", "fetch", "pack"],
        "Use a trained classifier": ["predict", "evaluate", "report", "compare", "export"],
        "Inspect and maintain": ["doctor", "plugins", "cache"],
        "Options": ["--version", "--help"],
        "Shell completion": ["--install-completion", "--show-completion"],
    }


def test_help_of_a_run_lists_the_options_in_groups(help_of: Help) -> None:
    assert groups(help_of("run")) == {
        "What to train": ["--dataset", "--data-dir", "--backbone", "--weights"],
        "How to train": ["--strategy", "--epochs", "--batch-size", "--lr", "--seed"],
        "Where to compute": ["--device", "--extractor", "--processes"],
        "Several hosts": ["--nodes", "--node-rank", "--master-addr", "--master-port"],
        "Settings": ["--config", "--set"],
        "Plugins": ["--plugin", "--without", "--trace"],
        "Output": ["--out", "--resume", "--quiet", "--verbose"],
        "Other options": ["--help"],
    }


@pytest.mark.parametrize("columns", [80, 60])
def test_help_fits_the_terminal_in_plain_text(help_of: Help, columns: int) -> None:
    for command in COMMANDS:
        text = help_of(command, columns)
        assert max(map(len, text.splitlines())) < columns, command
        assert text.isascii(), command
        assert "\033" not in text
        assert "..." not in text.split("\n\n", 1)[1], f"{command}: a line is cut off"


def test_every_switch_is_plain(help_of: Help, msft: Msft) -> None:
    for command in COMMANDS:
        assert "--no-" not in help_of(command), command
    result = msft("check", "--no-verbose", ".")
    assert result.returncode == 2
    assert "No such option: --no-verbose" in result.stderr


def test_help_of_a_run_shows_the_defaults_of_the_settings(help_of: Help) -> None:
    from msft_core import config
    from msft_core.plugins.loading import load_plugins

    settled = config.resolve({"dataset": "sample"}, load_plugins())
    text = " ".join(help_of("run").split())
    for option, default in (
        ("--backbone", settled.backbone.name),
        ("--strategy", settled.strategy.name),
        ("--epochs", settled.training.epochs),
        ("--batch-size", settled.training.batch_size),
        ("--seed", settled.training.seed),
        ("--device", settled.runtime.device),
    ):
        of_option = text.split(f" {option} ")[1].split(" --")[0]
        assert f"[default: {default}]" in of_option


def test_plugins_lists_all_of_them_without_importing_mindspore(msft: Msft) -> None:
    result = msft("plugins")
    assert result.returncode == 0
    for words in (
        "folder",
        f"msft {VERSION}",
        "ok",
        "hooks: ",
        "dataset sample:",
        "backbone resnet50:",
        "strategy freeze:",
        "callback best_checkpoint:",
        "metric accuracy:",
    ):
        assert words in result.stdout
    code = (
        "import sys; from msft_core.plugins.loading import load_plugins; load_plugins();"
        "sys.exit('mindspore' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_plugins_shows_what_is_blocked(msft: Msft) -> None:
    result = msft("plugins", "--without", "sample")
    assert f"sample  {VERSION}  (msft {VERSION})  blocked" in result.stdout


def test_a_run_prints_the_lines_that_users_of_the_tutorial_know(msft: Msft) -> None:
    result = msft("run", *TINY, "--epochs", 2, "--out", "out")
    assert result.returncode == 0, result.stderr
    for words in (
        "Epoch 1/2",
        "Epoch 2/2",
        "train Loss: ",
        "val Acc: ",
        "epoch time: ",
        "per step time: ",
        "End training, the best accuracy is: ",
        "the best accuracy epoch is ",
    ):
        assert words in result.stdout
    assert "Exception ignored" not in result.stderr
    assert result.stderr == ""


def test_quiet_prints_nothing(msft: Msft) -> None:
    result = msft("run", *TINY, "--quiet", *QUICK)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_run_folder_is_made_under_runs_by_default(msft: Msft, tmp_path: Path) -> None:
    assert msft("run", *TINY, *QUICK[:-2]).returncode == 0
    assert len(list((tmp_path / "work" / "runs").glob("*-tiny-finetune"))) == 1


def test_flags_win_over_the_file_and_set_wins_over_flags(msft: Msft, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('dataset = "tiny"\nbackbone = "tiny"\n[training]\nepochs = 9\nseed = 9\n')
    result = msft(
        "run",
        "--config",
        file,
        "--plugin",
        "msft_core.testing.tiny",
        *QUICK,
        "--seed",
        8,
        "--set",
        "training.seed=7",
    )
    assert result.returncode == 0, result.stderr
    written = (tmp_path / "work" / "out" / "config.toml").read_text()
    assert "epochs = 1\n" in written
    assert "seed = 7\n" in written


def test_the_written_configuration_runs_again_from_anywhere(msft: Msft, tmp_path: Path) -> None:
    assert msft("run", *TINY, *QUICK).returncode == 0
    again = msft("run", "--config", "out/config.toml", "--out", "out/again")
    assert again.returncode == 0, again.stderr
    out = tmp_path / "work" / "out"
    assert (out / "best.ckpt").read_bytes() == (out / "again" / "best.ckpt").read_bytes()


def test_an_unknown_component_is_refused_with_a_suggestion(msft: Msft) -> None:
    refused(msft("run", "--dataset", "canida"), "no dataset 'canida'. Did you mean 'canidae'?")


def test_an_unknown_setting_is_refused_with_a_suggestion(msft: Msft) -> None:
    refused(
        msft("run", *TINY, "--set", "training.batchsize=3"),
        "unknown setting training.batchsize. Did you mean 'batch_size'?",
    )


EXTRACTORS = """
from msft_core import Component, hookimpl

@hookimpl
def list_components():
    return [Component("extractor", name, "for tests") for name in ("quick", "thorough")]

@hookimpl
def build_feature_extractor():
    print("asked for an extractor")
"""


def test_an_extractor_is_chosen_by_name(msft: Msft, tmp_path: Path) -> None:
    plugin = tmp_path / "extractors.py"
    plugin.write_text(EXTRACTORS)
    run = ("run", *TINY, "--plugin", plugin, "--strategy", "freeze", *QUICK)
    result = msft(*run, "--extractor", "quick")
    assert result.returncode == 0, result.stderr
    assert "asked for an extractor" in result.stdout
    written = (tmp_path / "work" / "out" / "config.toml").read_text()
    assert "[extractor.quick]\nenabled = true\n" in written
    assert "[extractor.thorough]\nenabled = false\n" in written
    (tmp_path / "c.toml").write_text("[extractor.thorough]\nenabled = true\n")
    only_one = "only one extractor may be enabled, not "
    for other in (
        ("--set", "extractor.thorough.enabled=true"),
        ("--config", tmp_path / "c.toml"),
    ):
        refused(msft(*run[:-2], "--extractor", "quick", *other), only_one)


def test_an_unknown_extractor_is_refused_with_a_suggestion(msft: Msft) -> None:
    refused(
        msft("run", *TINY, "--extractor", "openvin"),
        "unknown extractor 'openvin'. Did you mean 'openvino'?",
    )
    refused(msft("run", *TINY, "--extractor", ""), "unknown extractor ''.")


def test_a_dataset_is_asked_for(msft: Msft) -> None:
    refused(msft("run"), "no dataset is chosen: give --dataset NAME.", "sample")


def test_a_missing_configuration_file_is_refused(msft: Msft) -> None:
    refused(msft("run", "--config", "no.toml"), "cannot read configuration no.toml: No such file")


def test_a_missing_folder_is_refused(msft: Msft) -> None:
    refused(msft(*FOLDER, "--data-dir", "nowhere"), "nowhere")


def test_the_folder_dataset_asks_for_its_folder(msft: Msft) -> None:
    refused(msft(*FOLDER), "--data-dir")


def test_an_empty_class_is_refused(msft: Msft, photos: Path) -> None:
    (photos / "train" / "empty").mkdir()
    refused(msft(*FOLDER, "--data-dir", photos), "empty")


def test_one_class_only_is_refused(msft: Msft, photos: Path) -> None:
    for split in ("train", "val"):
        for path in sorted((photos / split / "dogs").iterdir()):
            path.unlink()
        (photos / split / "dogs").rmdir()
    refused(msft(*FOLDER, "--data-dir", photos), "class")


def test_a_class_that_only_val_has_is_refused(msft: Msft, photos: Path) -> None:
    extra = photos / "val" / "wolves"
    extra.mkdir()
    (extra / "0.jpg").write_bytes(encode(picture()))
    refused(msft(*FOLDER, "--data-dir", photos), "wolves")


def test_files_that_are_no_images_are_left_out_counted_and_listed(
    msft: Msft, photos: Path, tmp_path: Path
) -> None:
    cats = photos / "train" / "cats"
    good = encode(picture())
    (cats / "gif.jpg").write_bytes(encode(picture(), "GIF"))
    (cats / "anim.gif").write_bytes(encode(picture(), "GIF"))
    (cats / "half.jpg").write_bytes(good[: len(good) // 2])
    (cats / "zero.jpg").write_bytes(b"")
    (cats / "note.txt").write_text("remember the milk")
    result = msft(*FOLDER, "--data-dir", photos, *QUICK)
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("warning: 5 images do not decode and are skipped, the first")
    skipped = [
        json.loads(line)
        for line in (tmp_path / "work" / "out" / "skipped.jsonl").read_text().splitlines()
    ]
    assert {Path(line["path"]).name for line in skipped} == {
        "gif.jpg",
        "anim.gif",
        "half.jpg",
        "zero.jpg",
        "note.txt",
    }
    refused(
        msft(*FOLDER, "--data-dir", photos, "--set", "data.strict=true"),
        "5 images do not decode",
    )


def test_unusual_images_train(msft: Msft, photos: Path) -> None:
    import numpy as np
    from PIL import Image

    cats, image = photos / "train" / "cats", picture()
    exif = Image.Exif()
    exif[274] = 6
    deep = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    (cats / "cmyk.jpg").write_bytes(encode(image.convert("CMYK")))
    (cats / "deep.png").write_bytes(encode(deep, "PNG"))
    (cats / "palette.png").write_bytes(encode(image.convert("P"), "PNG"))
    (cats / "grey.jpg").write_bytes(encode(image.convert("L")))
    (cats / "web.webp").write_bytes(encode(image, "WEBP"))
    (cats / "turned.jpg").write_bytes(encode(image, exif=exif))
    for pipeline in ("keyed", "mindspore"):
        result = msft(
            *FOLDER,
            "--data-dir",
            photos,
            *QUICK[:-1],
            f"out/{pipeline}",
            "--set",
            f"data.pipeline={pipeline}",
        )
        assert result.returncode == 0, result.stderr
        assert "14 training and 4 validation images" in result.stdout
        assert result.stderr == ""


def test_an_output_folder_that_cannot_be_written_is_refused(msft: Msft, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    refused(msft("run", *TINY, "--out", tmp_path / "file" / "run"), "cannot be written", "file/run")


def test_a_faulty_plugin_that_is_not_needed_is_one_warning(msft: Msft, tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text("1 / 0\n")
    info = tmp_path / "faulty-3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 3\n")
    (info / "entry_points.txt").write_text("[msft]\nfaulty = faulty\n")
    path = {"PYTHONPATH": python_path(tmp_path)}
    result = msft("run", *TINY, *QUICK, env=path)
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines() == [
        "warning: plugin 'faulty' (faulty 3) is broken and not used: "
        "import failed, ZeroDivisionError: division by zero"
    ]
    listed = msft("plugins", env=path)
    assert "faulty  3  (faulty 3)  broken: import failed, ZeroDivisionError" in listed.stdout
    assert msft("run", *TINY, *QUICK[:-1], "out/2", "--without", "faulty", env=path).stderr == ""


def test_a_faulty_plugin_that_was_asked_for_is_refused(msft: Msft, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "from msft_core import hookimpl\n@hookimpl\ndef oops(): pass\n"
    )
    refused(
        msft("run", *TINY, "--plugin", tmp_path / "bad.py"),
        "bad.py",
        "hook oops: oops is not a hook of msft.",
    )


def test_check_says_that_a_good_folder_is_good(msft: Msft, photos: Path) -> None:
    result = msft("check", photos)
    assert (result.returncode, result.stderr) == (0, "")
    assert "train: 8 images (cats 4, dogs 4)" in result.stdout
    assert "Every image decodes" in result.stdout


def test_check_names_what_does_not_decode_and_what_is_there_twice(msft: Msft, photos: Path) -> None:
    (photos / "train" / "cats" / "bad.jpg").write_bytes(b"nonsense")
    twin = (photos / "train" / "dogs" / "1.jpg").read_bytes()
    (photos / "val" / "cats" / "twin.jpg").write_bytes(twin)
    again = encode(decode((photos / "train" / "cats" / "3.jpg").read_bytes()), quality=60)
    (photos / "val" / "cats" / "again.jpg").write_bytes(again)
    result = msft("check", photos)
    assert result.returncode == 1
    assert "val/cats/again.jpg looks like train/cats/3.jpg" in result.stderr
    assert "1 images do not decode, 1 are in both splits, 1 of val look like" in result.stdout
    assert "warning: train/cats/bad.jpg: " in result.stderr
    assert "val/cats/twin.jpg is the same image as train/dogs/1.jpg" in result.stderr


def test_check_refuses_a_folder_that_is_not_there(msft: Msft) -> None:
    refused(msft("check", "nowhere"), "nowhere")


def test_fetch_refuses_what_it_does_not_know(msft: Msft) -> None:
    refused(msft("fetch", "canide"), "no dataset or backbone 'canide'. Did you mean 'canidae'?")


def test_fetch_says_where_there_is_nothing_to_download(msft: Msft) -> None:
    result = msft("fetch", "sample")
    assert (result.returncode, result.stdout) == (0, "sample: nothing to download\n")


def test_fetch_takes_a_plugin_that_is_given_and_leaves_one_out(msft: Msft, tmp_path: Path) -> None:
    (tmp_path / "birds.py").write_text(
        "from msft_core import Component, hookimpl\n"
        "fetch = lambda settings, context: [context.cache_dir / 'birds.zip']\n"
        "@hookimpl\n"
        "def list_components():\n"
        "    return [Component('dataset', 'birds', 'birds', fetch=fetch)]\n"
    )
    result = msft("fetch", "birds", "--plugin", tmp_path / "birds.py")
    assert result.stdout.startswith("birds: "), result.stderr
    assert result.stdout.endswith("birds.zip\n")
    refused(msft("fetch", "canidae", "--without", "canidae"), "no dataset or backbone 'canidae'")


SLOW_EPOCHS = """
import time
from msft_core import hookimpl

@hookimpl(trylast=True)
def on_epoch_end(epoch, run):
    print("epoch", epoch, "is kept", flush=True)
    if epoch == 2:
        while True:
            time.sleep(0.05)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_says_where_the_best_is_and_exits_130(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "slow.py").write_text(SLOW_EPOCHS)
    process = subprocess.Popen(
        [sys.executable, "-m", "msft_core", "run", *map(str, TINY), "--plugin", "slow.py",
         "--epochs", "3", "--out", "out"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 2 is kept"):
            break
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[0] == "interrupted."
    assert "out/best.ckpt (epoch " in errors
    assert len((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()) == 1
    assert not list((tmp_path / "out").glob(".*"))


def test_a_run_killed_at_any_moment_leaves_no_broken_checkpoint(tmp_path: Path) -> None:
    from msft_core.weights import read_checkpoint

    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    for delay in (0.0, 0.05, 0.15):
        out = tmp_path / f"out{delay}"
        process = subprocess.Popen(
            [sys.executable, "-m", "msft_core", "run", *map(str, TINY), "--epochs", "400",
             "--set", "callback.figures.enabled=false", "--out", str(out)],
            cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Epoch 2/"):
                break
        time.sleep(delay)
        process.kill()
        process.communicate()
        assert read_checkpoint(out / "best.ckpt").arrays
        if (out / "last.ckpt").exists():  # it is written at most every 30 s
            assert read_checkpoint(out / "last.ckpt").arrays
        for line in (out / "metrics.jsonl").read_text().splitlines():
            json.loads(line)


def test_a_folder_given_as_an_argument_is_answered_with_the_options_for_it(msft: Msft) -> None:
    result = msft("run", "photos")
    assert result.returncode == 2
    assert "msft run --dataset folder --data-dir photos" in result.stderr


def test_a_data_dir_alone_means_the_dataset_folder(msft: Msft) -> None:
    result = msft("run", "--data-dir", "nowhere")
    assert result.returncode == 2
    assert result.stderr.startswith("error: there is no folder nowhere")


def test_check_names_twenty_files_and_counts_the_rest(msft: Msft, tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"a": 30, "b": 30})
    shutil.copytree(tmp_path / "train", tmp_path / "val")
    result = msft("check", tmp_path)
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "warning: ... and 40 more of this kind"

"""A run that was interrupted goes on as if nothing had happened."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from conftest import Msft

from msft_core import MsftError, Run, UsageError, hookimpl, resume
from msft_core.plugins.checks import problem_of
from msft_core.runs.state import StateFolder, digest_of
from msft_core.testing import HookRecorder, MsftRun, RecordingReporter, assert_resumes, tiny
from msft_core.testing.resuming import differences
from msft_core.testing.tiny import picture
from msft_core.training import trainer
from msft_core.training.losses import mean_loss

FOUR = {"epochs": 4, "batch_size": 8}
PYNATIVE: dict[str, Any] = {
    "training": {"epochs": 2, "batch_size": 8},
    "runtime": {"mode": "pynative"},
}


class Interrupts(RecordingReporter):
    """Sends a signal to this process at a step of training, or when a line is printed."""

    def __init__(self, epoch: int, step: int, number: int = signal.SIGINT) -> None:
        super().__init__()
        self._at, self._number = (epoch, step), number

    @contextmanager
    def progress(
        self, description: str, total: int | None = None, unit: str = ""
    ) -> Iterator[Callable[[int], None]]:
        """See ``Reporter``."""
        epoch, step = self._at
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if description.startswith(f"epoch {epoch}/") and done == step:
                signal.raise_signal(self._number)

        yield advance


class Stops:
    """Ctrl-C in a hook."""

    def __init__(self, hook: str, epoch: int = 0) -> None:
        self._hook, self._epoch = hook, epoch

    @hookimpl
    def on_run_start(self) -> None:
        if self._hook == "on_run_start":
            raise KeyboardInterrupt

    @hookimpl(trylast=True)
    def on_epoch_end(self, epoch: int) -> None:
        if (self._hook, self._epoch) == ("on_epoch_end", epoch):
            raise KeyboardInterrupt

    @hookimpl
    def on_run_end(self) -> None:
        if self._hook == "on_run_end":
            raise KeyboardInterrupt


def interrupted(
    folder: Path,
    out: Path,
    reporter: RecordingReporter,
    plugins: tuple[object, ...] = (),
    **how: Any,
) -> Path:
    """The folder of a run that ended by an interruption."""
    with pytest.raises(KeyboardInterrupt):
        MsftRun(folder, HookRecorder(), reporter)(plugins, out=out, **how)
    return out


STRATEGIES: dict[str, dict[str, Any]] = {
    "freeze": {"strategy": "freeze"},
    "finetune": {"strategy": "finetune"},
    "gradual-adam": {"strategy": {"name": "gradual", "at": [2, 3], "optimizer": "adam"}},
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_run_interrupted_anywhere_ends_like_one_that_nobody_disturbed(
    name: str, tmp_path: Path, msft_cache: Path
) -> None:
    how = {**STRATEGIES[name], "training": FOUR, "runtime": {"mode": "auto"}}
    quiet = MsftRun(tmp_path, HookRecorder(), RecordingReporter())
    whole = quiet((), out=tmp_path / "whole", **how).folder

    # Within an epoch; in the callbacks of another; at the very end.
    run = interrupted(tmp_path, tmp_path / "run", Interrupts(2, 1), **how)
    for reporter, plugins in (
        (RecordingReporter(), (Stops("on_epoch_end", 3),)),
        (RecordingReporter(), (Stops("on_run_end"),)),
    ):
        with pytest.raises(KeyboardInterrupt):
            MsftRun(tmp_path, HookRecorder(), reporter).resume(run, plugins)
    report = quiet.resume(run)

    assert report.status == "completed"
    assert differences(whole, run) == []
    assert [record.epoch for record in report.history] == [1, 2, 3, 4]


class InterruptsFeatures(RecordingReporter):
    """Ctrl-C while the features of the first epoch are computed."""

    @contextmanager
    def progress(
        self, description: str, total: int | None = None, unit: str = ""
    ) -> Iterator[Callable[[int], None]]:
        """See ``Reporter``."""
        if "view 1" in description:
            signal.raise_signal(signal.SIGINT)
        yield lambda count: None


@pytest.mark.parametrize("when", ["features", "on_run_start"])
def test_a_run_interrupted_before_its_first_step_goes_on_too(
    when: str, tmp_path: Path, msft_run: MsftRun, msft_reporter: RecordingReporter
) -> None:
    in_features = when == "features"
    run = interrupted(
        tmp_path,
        tmp_path / "run",
        InterruptsFeatures() if in_features else RecordingReporter(),
        () if in_features else (Stops("on_run_start"),),
        strategy="freeze",
        training={"epochs": 1, "batch_size": 8},
        runtime={"mode": "auto"},
    )
    assert (run / "last.ckpt").is_file()
    assert msft_run.resume(run).status == "completed"
    assert msft_reporter.infos[0].endswith("step 1 of the epoch (0 steps are done)")


# What is refused, and what may change


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on images of a folder that was interrupted within its second of three epochs."""
    place = tmp_path_factory.mktemp("stopped")
    for split, count in (("train", 8), ("val", 4)):
        for label, name in enumerate(("blue", "red")):
            folder = place / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}.jpg").write_bytes(picture(label, number + 100 * len(split)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSFT_CACHE", str(place / "cache"))
        interrupted(
            place,
            place / "run",
            Interrupts(2, 1),
            dataset={"name": "folder", "data_dir": str(place / "photos")},
            strategy={"name": "finetune", "schedule": "constant", "warmup_epochs": 0},
            training={"epochs": 3, "batch_size": 8},
            runtime={"mode": "pynative"},
        )
    return place


@pytest.fixture
def place(stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, with its images, in another place."""
    copy = tmp_path / "moved"
    shutil.copytree(stopped, copy)
    monkeypatch.setenv("MSFT_CACHE", str(copy / "cache"))
    return copy


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def arrays(place: Path) -> Path:
    return next((place / "run" / "state").glob("network-*"))


def edit_state(place: Path, **changes: Any) -> None:
    path = place / "run" / "state" / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_config(place: Path) -> None:
    path = place / "run" / "config.toml"
    path.write_text(path.read_text().replace("batch_size = 8", "batch_size = 4"))


def repaint(place: Path) -> None:
    (place / "photos" / "train" / "red" / "3.jpg").write_bytes(picture(0, 999))


DAMAGE: list[tuple[str, Callable[[Path], object], dict[str, Any], str]] = [
    (
        "another rate",
        lambda p: None,
        {"strategy": {"learning_rate": 0.5}},
        "strategy.learning_rate",
    ),
    ("another seed", lambda p: None, {"training": {"seed": 5}}, "training.seed = 0, not 5"),
    ("another strategy", lambda p: None, {"strategy": {"name": "freeze"}}, "strategy.name"),
    ("too few epochs", lambda p: None, {"training": {"epochs": 1}}, "in epoch 2 already"),
    ("another image", repaint, {}, "the training images are not those"),
    (
        "an image less",
        lambda p: (p / "photos" / "val" / "red" / "1.jpg").unlink(),
        {},
        "the validation images are not those that {run} was begun with (7, not 8)",
    ),
    (
        "another best.ckpt",
        lambda p: shutil.copy(p / "run" / "last.ckpt", p / "run" / "best.ckpt"),
        {},
        "is not the best checkpoint that the run wrote after epoch 1",
    ),
    ("config.toml edited", edit_config, {}, "training.batch_size = 8, not 4"),
    ("a section that is a number", lambda p: None, {"training": 3}, "training"),
    ("a flipped bit in the arrays", lambda p: flip(arrays(p)), {}, "is damaged or missing"),
    ("arrays gone", lambda p: arrays(p).unlink(), {}, "is damaged or missing"),
    (
        "a flipped bit in state.json",
        lambda p: flip(p / "run" / "state" / "state.json"),
        {},
        "state.json is damaged",
    ),
    ("an empty state.json", lambda p: edit_state(p, state={}), {}, "state.json is damaged"),
    (
        "no state/ any more",
        lambda p: shutil.rmtree(p / "run" / "state"),
        {},
        "no state/ to go on from",
    ),
    ("no run folder", lambda p: (p / "run" / "config.toml").unlink(), {}, "this is no run folder"),
    ("nothing there", lambda p: shutil.rmtree(p / "run"), {}, "there is no such run folder"),
]


@pytest.mark.parametrize(("spoil", "changes", "said"), [d[1:] for d in DAMAGE], ids=lambda v: "")
def test_a_run_that_cannot_go_on_as_it_was_is_refused_and_stays_as_it_is(
    place: Path,
    msft_run: MsftRun,
    spoil: Callable[[Path], object],
    changes: dict[str, Any],
    said: str,
) -> None:
    spoil(place)
    before = contents(place / "run")
    with pytest.raises(UsageError) as refused:
        msft_run.resume(
            place / "run", **{"dataset": {"data_dir": str(place / "photos")}, **changes}
        )
    assert said.format(run=place / "run") in str(refused.value)
    assert "\n" not in str(refused.value)
    assert contents(place / "run") == before


def test_images_run_folder_and_workers_may_move_and_epochs_be_added(
    place: Path, stopped: Path, msft_run: MsftRun
) -> None:
    here = {"data_dir": str(place / "photos")}
    report = msft_run.resume(place / "run", dataset=here, data={"workers": 0})
    assert report.status == "completed"
    longer = msft_run.resume(place / "run", dataset=here, training={"epochs": 4})
    assert [record.epoch for record in longer.history] == [1, 2, 3, 4]

    whole = msft_run(
        dataset={"name": "folder", **here},
        strategy={"name": "finetune", "schedule": "constant", "warmup_epochs": 0},
        training={"epochs": 4, "batch_size": 8},
        runtime={"mode": "pynative"},
    )
    assert differences(whole.folder, place / "run") == []
    # Whoever resumes again asks for the new number of epochs.
    again = msft_run.resume(place / "run").history
    assert [record.epoch for record in again] == [1, 2, 3, 4]


def test_a_best_checkpoint_that_was_replaced_or_damaged_is_not_taken_for_the_runs(
    place: Path, msft_run: MsftRun
) -> None:
    best = place / "run" / "best.ckpt"
    msft_run.resume(place / "run", dataset={"data_dir": str(place / "photos")})
    content = best.read_bytes()
    for spoil in (
        lambda: flip(best),
        lambda: best.write_bytes(b"nothing"),
        best.unlink,
    ):
        best.write_bytes(content)
        spoil()
        with pytest.raises(UsageError, match="is not the best checkpoint that the run wrote"):
            msft_run.resume(place / "run", training={"epochs": 5})


def test_the_command_says_first_where_it_goes_on_and_that_a_complete_run_is_complete(
    place: Path, msft: Msft
) -> None:
    resumed = ("run", "--resume", place / "run", "--data-dir", place / "photos")
    resumed += ("--plugin", "msft_core.testing.tiny")  # the run had it as an object
    refused = msft(*resumed, "--out", "elsewhere")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)

    done = msft(*resumed)
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0]
    assert first.endswith("epoch 2 of 3, step 2 of the epoch (3 steps are done)")
    log = (place / "run" / "log.txt").read_text()
    assert "interrupted." in log
    assert first in log

    again = msft(*resumed)
    assert again.returncode == 0
    assert "is complete: 3 epochs" in again.stdout
    assert len(again.stdout.splitlines()) == 1


def test_more_epochs_under_a_cosine_are_said_to_be_another_schedule(
    tmp_path: Path, msft_run: MsftRun, msft_reporter: RecordingReporter
) -> None:
    how = {"strategy": {"name": "freeze", "schedule": "cosine"}, "runtime": {"mode": "pynative"}}
    run = msft_run(**how, training={"epochs": 1, "batch_size": 8})
    msft_run.resume(run.folder, training={"epochs": 2})
    assert any("it is another schedule" in line for line in msft_reporter.warnings)


def test_a_run_of_adam_with_parameters_that_joined_later_takes_more_epochs(
    tmp_path: Path, msft_run: MsftRun
) -> None:
    how = {
        "strategy": {"name": "gradual", "at": [2], "optimizer": "adam", "schedule": "constant"},
        "runtime": {"mode": "pynative"},
    }
    run = msft_run(**how, training={"epochs": 2, "batch_size": 8}).folder
    msft_run.resume(run, training={"epochs": 3})
    whole = msft_run(**how, training={"epochs": 3, "batch_size": 8}).folder
    assert differences(whole, run) == []


# Killed at a moment, which a copy of the folder stands for


class Copies(RecordingReporter):
    """Copies the run folder at each step of training, as a kill would leave it."""

    def __init__(self, run: Path, to: Path) -> None:
        super().__init__()
        self._run, self._to, self.copies = run, to, list[Path]()

    @contextmanager
    def progress(
        self, description: str, total: int | None = None, unit: str = ""
    ) -> Iterator[Callable[[int], None]]:
        """See ``Reporter``."""

        def advance(count: int) -> None:
            if description.startswith("epoch "):
                copy = self._to / str(len(self.copies))
                shutil.copytree(self._run, copy)
                self.copies.append(copy)

        yield advance


def test_a_state_is_saved_within_an_epoch_and_a_killed_run_goes_on_from_it(
    tmp_path: Path, msft_cache: Path
) -> None:
    reporter = Copies(tmp_path / "run", tmp_path / "copies")
    how: dict[str, Any] = {
        "training": {"epochs": 2, "batch_size": 4, "save_minutes": 1e-9},
        "runtime": {"mode": "pynative"},
    }
    whole = MsftRun(tmp_path, HookRecorder(), reporter)((), out=tmp_path / "run", **how)
    states = [StateFolder(copy) for copy in reporter.copies]
    assert not states[0].exists()  # killed in the first step
    assert [(s.read().epoch, s.read().part.steps) for s in states[1:]] == [
        (0, 1),
        (0, 2),
        (0, 3),
        (1, 0),
        (1, 1),
        (1, 2),
        (1, 3),
    ]
    for copy in (reporter.copies[0], reporter.copies[2], reporter.copies[4]):
        MsftRun(tmp_path, HookRecorder(), RecordingReporter()).resume(copy)
        assert differences(whole.folder, copy) == []


def test_a_second_ctrl_c_in_the_middle_of_a_step_leaves_the_state_before_it(
    tmp_path: Path, msft_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken_into(logits: Any, labels: Any) -> float:
        if len(seen) == 3:  # the second step of epoch 2: its update has been made
            raise KeyboardInterrupt
        seen.append(labels)
        return mean_loss(logits, labels)

    seen: list[Any] = []
    how: dict[str, Any] = {
        "training": {"epochs": 2, "batch_size": 8},
        "runtime": {"mode": "pynative"},
        "callback": {"best_checkpoint": {"enabled": False}},
    }
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "mean_loss", broken_into)
        interrupted(tmp_path, tmp_path / "run", RecordingReporter(), **how)
    saved = StateFolder(tmp_path / "run").read()
    assert (saved.epoch, saved.part.steps, saved.phase) == (1, 0, "end")


def test_a_second_ctrl_c_in_the_very_first_step_leaves_a_run_that_begins_anew(
    tmp_path: Path, msft_run: MsftRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken_into(logits: Any, labels: Any) -> float:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "mean_loss", broken_into)
        interrupted(tmp_path, tmp_path / "run", RecordingReporter(), **PYNATIVE)
    assert not (tmp_path / "run" / "state").exists()
    assert msft_run.resume(tmp_path / "run").status == "completed"


def test_a_ctrl_c_between_the_last_step_and_the_end_of_the_first_epoch_loses_no_callback(
    tmp_path: Path, msft_run: MsftRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rate(self: trainer.Trainer, epoch: int, steps: int) -> float:
        signal.raise_signal(signal.SIGINT)
        return before(self, epoch, steps)

    before = trainer.Trainer._rate_after
    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "_rate_after", rate)
        interrupted(tmp_path, tmp_path / "run", RecordingReporter(), **PYNATIVE)
    assert StateFolder(tmp_path / "run").read().phase == "trained"
    history = msft_run.resume(tmp_path / "run").history
    assert [bool(record.val) for record in history] == [True, True]


def test_a_best_checkpoint_of_interrupted_callbacks_is_not_taken_for_an_earlier_one(
    tmp_path: Path, msft_run: MsftRun
) -> None:
    by_loss = {"best_checkpoint": {"metric": "loss"}}
    stops = (Stops("on_epoch_end", 2),)
    run = interrupted(
        tmp_path, tmp_path / "run", RecordingReporter(), stops, callback=by_loss, **PYNATIVE
    )
    with pytest.raises(MsftError, match="is not the best checkpoint of epoch 1"):
        msft_run.resume(run, callback={"best_checkpoint": {"enabled": False}})
    best = msft_run.resume(run, callback={"best_checkpoint": {"enabled": True}}).best
    assert best is not None
    assert best.epoch == 2


class CopiesAtTheEnd:
    """Copies the run folder before other plugins act on the end of the run."""

    def __init__(self, to: Path) -> None:
        self._to = to

    @hookimpl(tryfirst=True)
    def on_run_end(self, run: Run) -> None:
        shutil.copytree(run.folder, self._to)


class Metrics:
    """Two metrics, not in the order of the alphabet."""

    @hookimpl
    def compute_metrics(self) -> dict[str, float]:
        return {"zeta": 0.3, "alpha": 0.7}


def test_pictures_of_a_run_killed_before_they_were_drawn_are_those_of_one_that_was_not(
    tmp_path: Path, msft_run: MsftRun
) -> None:
    figures = {"figures": {"enabled": True, "dpi": 50, "train_images": 1, "predictions": 1}}
    plugins = (Metrics(), CopiesAtTheEnd(tmp_path / "killed"))
    whole = msft_run(plugins, callback=figures, **PYNATIVE).folder
    assert not (tmp_path / "killed" / "curves.png").exists()
    msft_run.resume(tmp_path / "killed", (Metrics(),))
    for name in ("train_batch.png", "curves.png", "predictions.png", "confusion_matrix.png"):
        assert (tmp_path / "killed" / name).read_bytes() == (whole / name).read_bytes()
    assert differences(whole, tmp_path / "killed") == []


# Plugins that remember


class Counts:
    """Counts epochs, and keeps what it counted, or forgets it."""

    def __init__(self, keeps: bool) -> None:
        self._keeps, self._epochs, self._losses = keeps, 0, np.zeros(0)

    @hookimpl
    def on_epoch_end(self, run: Run) -> None:
        self._epochs += 1
        self._losses = np.append(self._losses, run.evaluate()["loss"])
        run.record("counted", self._epochs)
        run.record("mean_loss", self._losses.mean())

    @hookimpl
    def save_state(self) -> dict[str, Any] | None:
        return {"epochs": self._epochs, "losses": self._losses} if self._keeps else None

    @hookimpl
    def load_state(self, run: Run, state: dict[str, Any]) -> None:
        assert run.resumed
        self._epochs, self._losses = state["epochs"], state["losses"]


def test_a_plugin_gets_back_what_it_kept() -> None:
    assert_resumes(lambda: [Counts(keeps=True)], **PYNATIVE)


def test_a_plugin_that_has_not_got_its_state_back_does_not_lose_it(tmp_path: Path) -> None:
    def run(reporter: RecordingReporter | None = None) -> MsftRun:
        return MsftRun(tmp_path, HookRecorder(), reporter or RecordingReporter())

    folder = interrupted(
        tmp_path, tmp_path / "run", Interrupts(2, 1), (Counts(keeps=True),), **PYNATIVE
    )
    with pytest.raises(KeyboardInterrupt):
        run().resume(folder, (Counts(keeps=True), Stops("on_run_start")))
    history = run().resume(folder, (Counts(keeps=True),)).history
    assert [record.extra["counted"] for record in history] == [1, 2]


class CountsFromTheStart:
    """Has nothing to save before its ``on_run_start``."""

    @hookimpl
    def on_run_start(self) -> None:
        self._epochs = 0

    @hookimpl
    def save_state(self, run: Run) -> dict[str, Any]:
        return {"epochs": self._epochs}

    @hookimpl
    def load_state(self, state: dict[str, Any]) -> None:
        self._epochs = state["epochs"]


def test_a_run_interrupted_before_a_plugins_on_run_start_goes_on(
    tmp_path: Path, msft_run: MsftRun
) -> None:
    # Plugin objects are called from the last one on.
    plugins = (CountsFromTheStart(), Stops("on_run_start"))
    run = interrupted(tmp_path, tmp_path / "run", RecordingReporter(), plugins, **PYNATIVE)
    assert StateFolder(run).exists()
    assert msft_run.resume(run, plugins[:1]).status == "completed"


class HasNoRoom:
    """Its state cannot be saved within an epoch."""

    def __init__(self) -> None:
        self.within = False

    @hookimpl
    def save_state(self) -> None:
        if self.within:
            raise OSError(28, "No space left on device")


def test_a_ctrl_c_whose_state_cannot_be_saved_says_so(
    tmp_path: Path, msft_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def within(signal_number: int) -> None:
        plugin.within = True
        raise_signal(signal_number)

    plugin, reporter, raise_signal = HasNoRoom(), Interrupts(2, 1), signal.raise_signal
    monkeypatch.setattr(signal, "raise_signal", within)
    interrupted(tmp_path, tmp_path / "run", reporter, (plugin,), **PYNATIVE)
    assert any("No space left" in line for line in reporter.warnings)


def test_plugins_of_the_run_stay_and_missing_ones_are_named(
    tmp_path: Path, msft_run: MsftRun, msft_reporter: RecordingReporter
) -> None:
    of_run, more = tmp_path / "of_run.py", tmp_path / "more.py"
    for path in (of_run, more):
        path.write_text(
            "from msft_core import hookimpl\n\n\n@hookimpl\ndef on_epoch_end(epoch, run):\n"
            f"    run.record({path.stem!r}, epoch)\n"
        )
    run = interrupted(
        tmp_path, tmp_path / "run", Interrupts(2, 1), (str(of_run), Metrics()), **PYNATIVE
    )
    history = resume(run, {"plugins": [str(more)]}, plugins=[tiny], reporter=msft_reporter).history
    assert dict(history[1].extra) == {"of_run": 2, "more": 2}
    assert any("'Metrics' took part in the run so far" in w for w in msft_reporter.warnings)


def test_the_kit_finds_a_plugin_that_forgets() -> None:
    with pytest.raises(AssertionError, match=r"epoch 2: counted is 1\.0, not 2\.0"):
        assert_resumes(lambda: [Counts(keeps=False)], **PYNATIVE)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (3, "returned int, not a mapping"),
        ({1: 2}, "the key 1, which must be text"),
        ({"a": object()}, "'a' is object"),
        ({"a": [np.zeros(1)]}, "'a' holds ndarray"),
        ({"a": np.array(["x"])}, "not of numbers"),
        ({"a": {"b": {1, 2}}}, "'a' holds set"),
        ({"a": np.float32(1)}, "'a' is float32"),
    ],
)
def test_a_state_that_would_not_come_back_equal_is_refused(state: object, said: str) -> None:
    assert said in problem_of("save_state", state)


def test_a_state_of_texts_numbers_and_arrays_is_taken() -> None:
    state = {"a": [1, 2.5, None, "x", {"b": [True]}], "c": np.zeros((2, 0), np.int8), "d": np.e}
    assert problem_of("save_state", state) == ""


def test_what_a_plugin_keeps_may_have_its_bytes_in_the_other_order(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    values = np.arange(3, dtype=">f4")
    folder.write({}, {"plugins": {"a": values}})
    (path,) = folder.path.glob("plugins-*.safetensors")
    (written,) = safetensors.numpy.load_file(path).values()
    assert np.array_equal(written, values)
    assert digest_of({"a": written}) in path.name

"""Bad states: the folder ``state/`` of a run that ``msft run --resume`` goes on with.

A forged state has digests that fit, as only somebody makes it who wants to.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from bad_checkpoints import with_header
from bad_kit import Case, NotHere, Place, unique

PLUGIN = Path(__file__).parent / "remembers.py"
DAMAGED = "state.json is damaged ... the run cannot go on; begin a new one."
MISSING = "is damaged or missing ... the run cannot go on; begin a new one."
NONE = "no state/ to go on from"
MEGABYTE = "x" * 1_000_000

PARAMETER = "parameter/head.weight"


# A run that was interrupted, and what becomes of it


@functools.cache
def trained(interrupted: bool, seed: int = 0) -> Path:
    """The folder of a run of two epochs of two steps, interrupted in the second or not."""
    from msft_core import run
    from msft_core.testing import RecordingReporter

    class Interrupts(RecordingReporter):
        @contextmanager
        def progress(
            self, description: str, total: int | None = None, unit: str = ""
        ) -> Iterator[Callable[[int], None]]:
            def advance(count: int) -> None:
                if interrupted and description.startswith("epoch 2/"):
                    signal.raise_signal(signal.SIGINT)

            yield advance

    out = Path(tempfile.mkdtemp()) / "run"
    with suppress(KeyboardInterrupt):
        run(
            {
                "plugins": ["msft_core.testing.tiny", str(PLUGIN)],
                "without": ["report", "figures"],
                "dataset": "tiny",
                "backbone": "tiny",
                "strategy": {"name": "finetune", "optimizer": "adam"},
                "training": {"epochs": 2, "batch_size": 8, "seed": seed},
                "runtime": {"mode": "pynative"},
            },
            out=out,
            reporter=Interrupts(),
        )
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def case(
    name: str,
    spoil: Callable[[Path], object],
    says: str = DAMAGED,
    expected: Any = "refused",
    check: Callable[[Place], str] | None = None,
) -> Case:
    """A run that goes on with a state that was spoilt in its folder."""
    before: dict[str, bytes] = {}

    def make(place: Place) -> list[str]:
        shutil.copytree(trained(interrupted=True), place.out)
        spoil(place.out)
        before.clear()
        before.update(contents(place.out) if expected == "refused" else {})
        return ["run", "--resume", str(place.out)]

    def end(place: Place) -> str:
        if expected == "refused" and contents(place.out) != before:
            return "the run folder has changed"
        if expected == "trains":
            from msft_core.testing.resuming import differences

            return "; ".join(differences(trained(interrupted=False), place.out))
        return ""

    return Case("states", name, make, expected, says, check=check or end)


# Ways to spoil a state


def index(run: Path) -> Path:
    return run / "state" / "state.json"


def arrays(run: Path, group: str = "network") -> Path:
    return next((run / "state").glob(f"{group}-*.safetensors"))


def written(content: bytes) -> Callable[[Path], object]:
    return lambda run: index(run).write_bytes(content)


def cut(which: Callable[[Path], Path], quarter: int) -> Callable[[Path], object]:
    def spoil(run: Path) -> None:
        content = which(run).read_bytes()
        which(run).write_bytes(content[: quarter * len(content) // 4])

    return spoil


def replaced(which: Callable[[Path], Path], make: Callable[[Path], object]) -> Any:
    def spoil(run: Path) -> None:
        path = which(run)
        path.unlink()
        make(path)

    return spoil


def pipe(path: Path) -> None:
    os.mkfifo(path)


def edited(change: Callable[[dict[str, Any]], object], *, seal: bool = True) -> Any:
    """Change what ``state.json`` says; with a digest that fits."""

    def spoil(run: Path) -> None:
        from msft_core.files import content_digest

        whole = json.loads(index(run).read_text())
        change(whole["state"])
        if seal:
            whole["digest"] = content_digest(json.dumps(whole["state"]).encode())
        index(run).write_text(json.dumps(whole))

    return spoil


def fields(**values: Any) -> Any:
    """Fields of ``state.json`` with other values, and a digest that fits. Dots are ``__``."""

    def change(state: dict[str, Any]) -> None:
        for key, value in values.items():
            *parents, last = key.split("__")
            item = functools.reduce(lambda inner, part: inner[part], parents, state)
            item[last] = value

    return edited(change)


def forged(change: Callable[[dict[str, Any]], object], group: str = "network") -> Any:
    """Change arrays, with digests that fit."""

    def spoil(run: Path) -> None:
        from safetensors.numpy import load_file, save_file

        from msft_core.runs.state import digest_of

        old = arrays(run, group)
        values = {key: value.copy() for key, value in load_file(old).items()}
        change(values)
        old.unlink()
        digest = digest_of(values)
        save_file(values, old.with_name(f"{group}-{digest}.safetensors"))
        edited(lambda state: state["arrays"].update({group: digest}))(run)

    return spoil


def put(name: str, value: float) -> Callable[[dict[str, Any]], object]:
    """Put a value into the first array whose name holds ``name``."""

    def change(values: dict[str, Any]) -> None:
        found = next(key for key in sorted(values) if name in key)
        values[found].reshape(-1)[0] = value

    return change


def made(name: str, make: Callable[[Any], Any]) -> Callable[[dict[str, Any]], object]:
    def change(values: dict[str, Any]) -> None:
        values[name] = np.ascontiguousarray(make(values[name]))

    return change


# The cases


def of_the_index() -> Iterator[Case]:
    yield case("that is sound", lambda run: None, "", "trains")
    for quarter in (1, 2, 3):
        yield case(f"state.json cut after {quarter} of 4 quarters", cut(index, quarter))
    yield case("state.json of zero bytes", written(b""))
    yield case("state.json of zeros", written(bytes(1000)))
    yield case("state.json that is a web page", written(b"<!DOCTYPE html><html></html>"))
    yield case("state.json in UTF-16", lambda run: index(run).write_text(
        index(trained(interrupted=True)).read_text(), encoding="utf-16"))  # fmt: skip
    yield case("state.json that is a list", written(b"[]"))
    yield case("state.json without a state", written(b'{"digest": ""}'))
    yield case("state.json nested 100,000 deep", written(b"[" * 100_000))
    yield case("state.json with a number of 10,000 digits",
               written(b'{"digest": "", "state": ' + b"9" * 10_000 + b"}"))  # fmt: skip
    yield case("state.json with a text of 1 MB",
               written(json.dumps({"digest": MEGABYTE, "state": MEGABYTE}).encode()))  # fmt: skip
    yield case("state.json with the digest of another",
               edited(lambda state: state.update(step=1), seal=False))  # fmt: skip
    yield case("no state.json", lambda run: index(run).unlink(), NONE)
    yield case("no state/", lambda run: shutil.rmtree(run / "state"), NONE)
    yield case("state.json that is a pipe", replaced(index, pipe), NONE)
    yield case("state.json that is a folder", replaced(index, Path.mkdir), NONE)


def of_the_arrays() -> Iterator[Case]:
    for quarter in (1, 2, 3):
        yield case(f"arrays cut after {quarter} of 4 quarters", cut(arrays, quarter), MISSING)
    for name, content in {
        "of zero bytes": b"",
        "with a header that is longer than the file": b"\xff" * 8,
        "with a tensor outside the file": with_header(
            b'{"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}', bytes(4)
        ),
        "with a shape that lies": with_header(
            b'{"a": {"dtype": "F32", "shape": [1000000000], "data_offsets": [0, 4]}}', bytes(4)
        ),
        "with a name twice": with_header(
            b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},'
            b' "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
            bytes(4),
        ),
        "with a header nested 100,000 deep": with_header(b"[" * 100_000),
    }.items():
        yield case(f"arrays {name}", replaced(arrays, functools.partial(_write, content)), MISSING)
    yield case("no arrays of the network", lambda run: arrays(run).unlink(), MISSING)
    yield case("no arrays of the best", lambda run: arrays(run, "best").unlink(), MISSING)
    yield case("no arrays of plugins", lambda run: arrays(run, "plugins").unlink(), MISSING)
    yield case("arrays that are a pipe", replaced(arrays, pipe), MISSING)
    yield case("arrays that lead to /dev/zero",
               replaced(arrays, lambda path: path.symlink_to("/dev/zero")), MISSING)  # fmt: skip
    yield case("arrays that are a link in a circle",
               replaced(arrays, lambda path: path.symlink_to(path)), MISSING)  # fmt: skip
    yield case("arrays of another group",
               lambda run: shutil.copy(arrays(run, "best"), arrays(run)), MISSING)  # fmt: skip


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def of_forged_indices() -> Iterator[Case]:
    def state(name: str, says: str = "", expected: Any = "refused", **values: Any) -> Case:
        told = f"state.json is damaged ... {says}" if not says.startswith("= ") else says[2:]
        return case(f"forged: {name}", fields(**values), told if says else "", expected)

    yield state("epoch -1", "epoch: ", epoch=-1)
    yield state("epoch 10^9", "its history is not that of its epochs", epoch=10**9)
    yield state("step -1", "step: ", step=-1)
    yield state("step 2^40", "step: ", step=2**40)
    yield state("a step too many", "= 1 epochs and 1 steps of 2 are not 4 steps", step=4)
    yield state("more steps of the epoch than it has", "= 1 epochs and 9 steps of 2",
                part__steps=9, part__images=72, step=11)  # fmt: skip
    yield state("steps without images", "its epochs do not fit together", part__images=0)
    yield state("a sum of losses that is NaN", "part.loss_sum: ", part__loss_sum=float("nan"))
    yield state("a time that is infinite", "seconds: ", seconds=float("inf"))
    yield state("an unknown phase", "phase: ", phase="nowhere")
    yield state("another phase", "its epochs do not fit together", phase="end")
    yield case("forged: a history of another epoch",
               edited(lambda state: state["history"][0].update(epoch=7)),
               "state.json is damaged ... its history is not that of its epochs")  # fmt: skip
    yield state("a best value that is NaN", "its best value is NaN", best__value=float("nan"))
    yield state("a best checkpoint that leads to /dev/zero", "= is not the best checkpoint",
                best__path="/dev/zero")  # fmt: skip
    yield state("a best checkpoint elsewhere", "= is not the best checkpoint",
                best__path="../../../../../../../../etc/hostname")  # fmt: skip
    yield state("a best checkpoint with a name of 1 MB", "best.", best__path=MEGABYTE)
    yield state("a parameter that trained before the run", "joined.", joined={"head.weight": -3})
    yield state("a parameter that trains in 100 epochs", "yet to come", joined={"head.weight": 99})
    yield state("a parameter that is not there", "= a parameter that the network does not have",
                joined={MEGABYTE: 1})  # fmt: skip
    yield state("no digests of the images", "= the class names are not those", data={})
    yield state("digests that are no texts", "data.", data={"train": [1]})
    yield state("other weights", "= the weights are not those", weights="0" * 32)
    yield state("a strategy that trains something else", "= no longer trains what it trained",
                trains="0" * 32)  # fmt: skip
    yield state("no configuration", "= was begun with ... leave that out", config={})
    yield state("a configuration that is a text", "config: ", config=MEGABYTE)
    yield state("a configuration with texts of 1 MB", "= was begun with ... leave that out",
                config={MEGABYTE: {MEGABYTE: MEGABYTE}})  # fmt: skip
    yield state("a configuration nested 900 deep", "= was begun with ... leave that out",
                config=nested(900))  # fmt: skip
    yield state("10^9 stored views", "= 1000000000 stored views, not 4", feed__views=10**9)
    yield state("views that are stored by another engine", "= it would not be the same run",
                feed__engine="OpenVINO")  # fmt: skip
    yield state("a newer format", "= written by a newer msft (format 2", format=2)
    yield state("format 0", "format: ", format=0)
    yield state("a format that is a text", "format: ", format="one")
    yield state("fields that no msft knows", "", "trains", more=MEGABYTE)
    yield state("no arrays", "= no longer trains what it trained", arrays={})
    yield state("arrays that are a path", "arrays.", arrays={"../../etc": "0" * 64})
    yield state("a digest that is a path", "arrays.", arrays={"network": "../" * 30})
    yield state("warnings that are no texts", "warnings.", warnings=[[1]])
    yield state("plugins that are a list", "plugins: ", plugins=[1])
    yield case("forged: without its step", edited(lambda state: state.pop("step")),
               "state.json is damaged ... step: ")  # fmt: skip
    yield case("forged: without plugins",
               edited(lambda state: (state.pop("plugins"), state["arrays"].pop("plugins"))),
               "", "trains", check=lambda place: "")  # fmt: skip
    yield case("forged: without a value that a plugin kept",
               edited(lambda state: [kept.clear() for kept in state["plugins"].values()]),
               "hook load_state: KeyError: 'count'", "fails")  # fmt: skip


def nested(depth: int) -> Any:
    return functools.reduce(lambda inner, _: {"a": inner}, range(depth), {"a": 1})


def of_forged_arrays() -> Iterator[Case]:
    def with_arrays(
        name: str, change: Callable[[dict[str, Any]], object], says: str, group: str = "network"
    ) -> Case:
        return case(f"forged: {name}", forged(change, group), says)

    nan = "the state has NaN or infinity in"
    yield with_arrays("NaN in a parameter", put(PARAMETER, np.nan), f"{nan} {PARAMETER}")
    yield with_arrays("infinity in a parameter", put(PARAMETER, -np.inf), f"{nan} {PARAMETER}")
    yield with_arrays("NaN in a moving average", put("moving_var", np.nan), f"{nan} parameter/")
    yield with_arrays("NaN in a slot of the optimizer", put("optimizer0/moment1", np.nan),
                      f"{nan} optimizer0/")  # fmt: skip
    yield with_arrays("infinity in a slot of the optimizer", put("optimizer0/moment2", np.inf),
                      f"{nan} optimizer0/")  # fmt: skip
    other = "it is of another network"
    yield with_arrays("a parameter of another shape", made(PARAMETER, lambda a: a[:1]), other)
    yield with_arrays("a parameter of another rank", made(PARAMETER, np.ravel), other)
    for kind in (np.float64, np.float16, np.int32):
        name = f"a parameter in {np.dtype(kind).name}"
        yield with_arrays(name, made(PARAMETER, lambda a, kind=kind: a.astype(kind)), other)
    yield with_arrays("a parameter missing", lambda values: values.pop(PARAMETER),
                      "no longer trains what it trained")  # fmt: skip
    yield with_arrays("a parameter too many", lambda values: values.update(more=np.ones(3)),
                      "no longer trains what it trained")  # fmt: skip
    best = "the predictions in the state do not fit the images"
    for name, change in {
        "NaN in the best predictions": put("val/probabilities", np.nan),
        "best predictions of other classes": made("val/probabilities", lambda a: a[:, :1]),
        "best predictions of less images": made("val/probabilities", lambda a: a[:1]),
        "best predictions of images before the first": put("val/indices", -1),
        "best predictions of images after the last": put("val/indices", 10**9),
        "best predictions of images by halves": made("val/indices", lambda a: a + 0.5),
        "best predictions without images": lambda values: values.pop("val/indices"),
    }.items():
        yield with_arrays(name, change, best, "best")
    yield with_arrays("arrays of plugins with another name",
                      lambda values: values.update(x=np.ones(2)),
                      "the arrays of plugins in the state are damaged", "plugins")  # fmt: skip


def of_folders() -> Iterator[Case]:
    def linked(run: Path) -> None:
        place = elsewhere(run)
        shutil.move(run / "state", place)
        (place / "mine.safetensors").write_bytes(b"")
        (run / "state").symlink_to(place)

    def of_another_run(run: Path) -> None:
        shutil.rmtree(run / "state")
        shutil.copytree(trained(interrupted=True, seed=1) / "state", run / "state")

    def files_linked(run: Path) -> None:
        place = elsewhere(run)
        shutil.copytree(run / "state", place)
        for path in (index(run), arrays(run)):
            path.unlink()
            path.symlink_to(place / path.name)

    def link(name: str) -> Callable[[Path], object]:
        def spoil(run: Path) -> None:
            (run / name).unlink(missing_ok=True)
            elsewhere(run).write_text("mine")
            (run / name).symlink_to(elsewhere(run))

        return spoil

    def still_mine(place: Place) -> str:
        return "" if elsewhere(place.out).read_text() == "mine" else "it wrote elsewhere"

    def unreadable(run: Path) -> None:
        if os.geteuid() == 0:
            raise NotHere("root reads everything")
        index(run).chmod(0)

    yield case("state/ that is a link", linked, "state is a link: put the folder")
    yield case("state/ of another run", of_another_run, "training.seed = 1, not 0")
    yield case("files in state/ that are links", files_linked, "", "trains")
    yield case("state.json that may not be read", unreadable, "cannot be read")
    yield case("log.txt that is a link out of the run folder", link("log.txt"),
               "log.txt cannot be written", "trains", check=still_mine)  # fmt: skip
    yield case(".lock that is a link out of the run folder", link(".lock"),
               "", "trains", check=still_mine)  # fmt: skip


def elsewhere(run: Path) -> Path:
    return run.parent.parent / "inputs" / "elsewhere"


def all_cases() -> Iterator[Case]:
    for part in (of_the_index, of_the_arrays, of_forged_indices, of_forged_arrays, of_folders):
        yield from part()


CASES = unique(all_cases())

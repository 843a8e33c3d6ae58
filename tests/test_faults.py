"""Packages that are at fault, each in its own way: named, and no harm to anything else."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import strangers
from fork_kit import Forks

from msft_core import MsftError, Run, RunReport, hookimpl
from msft_core.testing import MsftRun, RecordingReporter
from msft_core.weights import read_checkpoint

PACKAGE = r"plugin 'bad' \(stranger_bad 1\.2\)"

LISTED = """
from msft_core import *
from msft_core.testing import tiny

@hookimpl
def list_components():
    return [Component(kind, "bad", "") for kind in ("dataset", "backbone", "strategy")]
"""
"""The head of a package whose components are all called ``bad``."""

DATASET = {"dataset": "bad"}
BACKBONE = {"backbone": "bad"}
STRATEGY = {"strategy": "bad"}
FROZEN = {"strategy": "freeze"}
EAGER = {"runtime": {"mode": "pynative"}}
"""Nothing is compiled, which takes longer than all else of these runs."""


@dataclass(frozen=True)
class Fault:
    """A package at fault.

    Args:
        source: of its module.
        says: pattern of the line that a user sees.
        using: what of it a run asks for; where it is empty, every run meets the fault.
        at: ``load``, ``refused`` (before the run begins), or ``run`` (after the first epoch).
    """

    source: str
    says: str
    using: dict[str, Any] = field(default_factory=dict)
    at: str = "refused"


def raising(hook: str, using: dict[str, Any], at: str = "refused", when: str = "True") -> Fault:
    """A package that raises in a hook."""
    arguments = "epoch" if "epoch" in when else ""
    body = f"    if {when}: raise RuntimeError('out of order')"
    source = f"{LISTED}\n@hookimpl\ndef {hook}({arguments}):\n{body}\n"
    return Fault(source, f"{PACKAGE}, hook {hook}: RuntimeError: out of order", using, at)


def giving(hook: str, value: str, says: str, using: dict[str, Any], at: str = "refused") -> Fault:
    """A package whose hook answers with something else than the contract says."""
    source = f"{LISTED}\n@hookimpl\ndef {hook}(): return {value}\n"
    return Fault(source, f"{PACKAGE}, hook {hook}: {says}", using, at)


def network(cells: str, says: str, at: str = "run") -> Fault:
    """A package whose backbone is a tiny one with a wrong part."""
    source = f"""{LISTED}
@hookimpl
def build_backbone(num_classes):
    from dataclasses import replace
    from mindspore import nn, ops
    class Cell(nn.Cell):
        def construct(self, x):
            return ops.reshape(x, (-1, 7))
    class Twice(nn.Cell):
        def construct(self, x):
            return x, x
    good = tiny.build_backbone("tiny", num_classes, tiny.TinyBackboneSettings())
    return replace(good, {cells})
"""
    return Fault(source, f"{PACKAGE}, hook build_backbone: {says}", BACKBONE, at)


FAULTS = {
    "raises at import": Fault("1 / 0", "import failed, ZeroDivisionError", at="load"),
    "exits at import": Fault("import sys; sys.exit(3)", "import failed, SystemExit: 3", at="load"),
    "misspells a hook": Fault(
        "from msft_core import hookimpl\n@hookimpl\ndef on_epoch_ended(): pass",
        "on_epoch_ended is not a hook of msft. Did you mean 'on_epoch_end'?",
        at="load",
    ),
    "names an argument wrongly": Fault(
        "from msft_core import hookimpl\n@hookimpl\ndef on_epoch_end(number): pass",
        "on_epoch_end has no argument 'number'; its arguments are epoch, run",
        at="load",
    ),
    "claims a taken name": Fault(
        "from msft_core import Component, hookimpl\n@hookimpl\ndef list_components():\n"
        "    return [Component('strategy', 'freeze', '')]",
        "list_components lists the strategy 'freeze', which plugin 'strategies' already offers",
        at="load",
    ),
    "needs a newer API": Fault(
        f"msft_api = '9.9'\n{LISTED}", "it needs plugin API 9.9, but this msft has", at="load"
    ),
    "needs a name that is not there yet": Fault(
        "from msft_core import Future", r"ImportError.*this msft has plugin API", at="load"
    ),
    "is slow to import": Fault(
        f"import time; time.sleep(1.1)\n{LISTED}", r"loading it takes \d\.\d s", at="slow"
    ),
    "raises in list_components": Fault(
        "from msft_core import hookimpl\n@hookimpl\ndef list_components(): raise OSError('disk')",
        "list_components raised OSError: disk",
        at="load",
    ),
    "raises in build_dataset": raising("build_dataset", DATASET),
    "raises in build_backbone": raising("build_backbone", BACKBONE),
    "raises in select_trainable": raising("select_trainable", STRATEGY),
    "raises in build_feature_extractor": raising("build_feature_extractor", FROZEN),
    "raises in compute_metrics": raising("compute_metrics", {}, at="begun"),
    "raises in on_run_start": raising("on_run_start", {}, at="begun"),
    "raises in on_epoch_end": raising("on_epoch_end", {}, at="run", when="epoch == 2"),
    "raises in on_run_end": raising("on_run_end", {}, at="run"),
    "exits in on_epoch_end": Fault(
        f"{LISTED}\n@hookimpl(trylast=True)\ndef on_epoch_end(): raise SystemExit(4)",
        f"{PACKAGE}, hook on_epoch_end: SystemExit: 4",
        at="run",
    ),
    "gives no splits": giving(
        "build_dataset", "[1]", "returned list, not a DatasetSplits", DATASET
    ),
    "gives a label without a class": giving(
        "build_dataset",
        "DatasetSplits(('a', 'b'), *2 * [tiny.MemoryTable(('x',), (2,), (b'',))])".replace(
            "tiny.MemoryTable", "__import__('msft_core.images').images.MemoryTable"
        ),
        "train has a label outside 0 to 1",
        DATASET,
    ),
    "gives no backbone": giving(
        "build_backbone", "'net'", "returned str, not a Backbone", BACKBONE
    ),
    "gives no trainable": giving(
        "select_trainable", "7", "returned int, not a Trainable", STRATEGY
    ),
    "selects what is not there": giving(
        "select_trainable",
        "Trainable((ParameterGroup(('heat.weight',)),), OptimizerSpec('adam', 0.1))",
        "the network has no parameter 'heat.weight'. Did you mean 'head.weight'?",
        STRATEGY,
    ),
    "gives no extractor": giving(
        "build_feature_extractor", "3", "returned int, not a FeatureExtractor", FROZEN
    ),
    "extracts another shape": giving(
        "build_feature_extractor",
        "FeatureExtractor(lambda images: images, 'mine', 0.1)",
        r"compute returned shape \(\d+, 3, 16, 16\), but MindSpore computes",
        FROZEN,
        at="begun",
    ),
    "raises while extracting": giving(
        "build_feature_extractor",
        "FeatureExtractor(lambda images: 1 / 0, 'mine', 0.1)",
        "ZeroDivisionError",
        FROZEN,
        at="begun",
    ),
    "gives no metrics": giving(
        "compute_metrics", "0.5", "returned float, not a mapping", {}, "begun"
    ),
    "gives a metric that is no number": giving(
        "compute_metrics", "{'x': 'high'}", "returned str for 'x', not a number", {}, "begun"
    ),
    "gives another class count": network(
        "head=nn.Dense(8, 5)",
        r"the network returned logits \(\d, 5\) for \d images; with num_classes = 2 they must be",
        "refused",
    ),
    "gives another shape": network(
        "head=nn.SequentialCell([good.head, Cell()])", "the network (failed|returned)",
        "refused",
    ),
    "gives two tensors": network(
        "stages=(*good.stages, Stage('twice', Twice()))", "the network (failed|returned)", "refused"
    ),
    "does not fit together": network(
        "stages=good.stages[:-2]", "the network (failed|returned)", "refused"
    ),
    "has no stages at all and a head without parameters": network(
        "stages=(), head=nn.ReLU()", "the head has no parameters", "refused"
    ),
}  # fmt: skip
"""``at`` is also ``begun`` (the run has begun, no epoch is done) and ``slow`` (a warning only)."""

MAIN = """
import functools
from msft_core import doctor
probed = {
    "mindspore": "2.10.0", "device": "cpu", "said": "", "product": [0.01], "convolution": [0.01],
}
doctor.checks = functools.partial(doctor.checks, run_probe=lambda **_: probed)
from msft_core.cli import main
main()
"""


class Witness:
    """Sees how the run ended."""

    def __init__(self) -> None:
        self.reports: list[RunReport] = []

    @hookimpl
    def on_run_end(self, run: Run, report: RunReport) -> None:
        self.reports.append(report)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Install a package at fault."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", strangers.python_path(folder))
    yield lambda fault: strangers.install(folder, "bad", dedent(fault.source))
    sys.modules.pop("stranger_bad", None)


@pytest.fixture
def command(forks: Forks, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line; what doctor measures is left out."""
    return functools.partial(forks.python, "-c", MAIN, cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_package_at_fault_is_named_and_nothing_else_is_harmed(
    name: str,
    package: Any,
    msft_run: MsftRun,
    msft_reporter: RecordingReporter,
    command: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    fault = FAULTS[name]
    package(fault)

    # The commands go on, and tell what is known. Only loading can hinder them.
    listing = command("plugins")
    assert listing.returncode == 0, listing.stderr
    assert "stranger_bad 1.2" in listing.stdout
    if fault.at in ("load", "slow"):
        assert command("--help").returncode == 0
        doctor = command("doctor", "--offline")
        assert doctor.returncode == (1 if fault.at == "load" else 0), doctor.stdout
        for result in (listing, doctor):
            assert_says(result.stdout, fault.says)
            assert "Traceback" not in result.stderr

    # A run that does not need it is as ever.
    unrelated: dict[str, Any] = (
        {} if fault.using or fault.at in ("load", "slow") else {"without": ["bad"]}
    )
    assert msft_run(**EAGER, **unrelated).status == "completed"
    if fault.at in ("load", "slow"):
        assert_says("\n".join(msft_reporter.warnings), fault.says)
        assert any("plugin 'bad' (stranger_bad 1.2)" in line for line in msft_reporter.warnings)
        return

    # A run that needs it ends with the package and the hook in a line.
    witness = Witness()
    with pytest.raises(MsftError, match=fault.says) as caught:
        msft_run([witness], **EAGER, training={"epochs": 2, "batch_size": 8}, **fault.using)
    assert len(str(caught.value).splitlines()) == 1
    report = caught.value.report
    if fault.at == "refused":
        assert report is None
        assert witness.reports == []
        return
    assert report is not None
    assert [seen.folder for seen in witness.reports] == [report.folder]
    if fault.at == "run":
        assert report.best is not None
        assert report.best.path.is_file()
        assert "head.weight" in read_checkpoint(report.best.path).arrays


def assert_says(text: str, pattern: str) -> None:
    """What is said matches, wherever a line was folded."""
    assert re.search(pattern, " ".join(text.split())), text


def trainable(**changes: Any) -> str:
    """Source of a Trainable of the head, but for some fields."""
    group = "ParameterGroup(('head.weight',){})".format(
        "".join(f", {k}={v}" for k, v in changes.items() if k in ("rate_factor", "weight_decay"))
    )
    groups = changes.get("groups", f"({changes.get('group', group)},)")
    spec = changes.get("spec", "OptimizerSpec('adam', 0.1)")
    return f"Trainable({groups}, {spec}, {changes.get('batch_norm', repr('frozen_eval'))})"


def of_strategy(says: str, **changes: Any) -> Fault:
    return giving("select_trainable", trainable(**changes), f".*{says}", STRATEGY)


def of_dataset(says: str, changes: str) -> Fault:
    table = "tiny.table(2)"
    splits = (
        f"DatasetSplits(**{{'classes': ('a', 'b'), 'train': {table}, 'val': {table}, {changes}}})"
    )
    return giving("build_dataset", splits, f".*{says}", DATASET)


def of_preprocessing(says: str, changes: str) -> Fault:
    fields = f"**{{'size': 16, 'mean': 3 * (0.5,), 'std': 3 * (0.5,), {changes}}}"
    return network(f"preprocessing=Preprocessing({fields})", f".*{says}", "refused")


WRONG_FIELDS = {
    "schedule": of_strategy(
        "optimizer.schedule = 'cos' must be 'constant' or 'cosine'. Did you mean 'cosine'",
        spec="OptimizerSpec('adam', 0.1, schedule='cos')",
    ),
    "optimizer": of_strategy(
        "optimizer.name = 'sgd' must be 'momentum' or 'adam'", spec="OptimizerSpec('sgd', 0.1)"
    ),
    "batch norm": of_strategy("batch_norm = 'eval' must be 'frozen_eval'", batch_norm="'eval'"),
    "factor": of_strategy("rate_factor = -1 must be a number, 0 or above", rate_factor=-1),
    "rate": of_strategy("optimizer.learning_rate = -0.1", spec="OptimizerSpec('adam', -0.1)"),
    "text rate": of_strategy("learning_rate = '0.1' must", spec="OptimizerSpec('adam', '0.1')"),
    "decay": of_strategy("weight_decay = 'no' of a group must be", weight_decay="'no'"),
    "generator": of_strategy("groups must be a tuple", groups="(x for x in ())"),
    "group": of_strategy("groups contains a str, not a ParameterGroup", group="'head.weight'"),
    "names": of_strategy(
        "names = 'head.weight' must be a tuple", group="ParameterGroup('head.weight')"
    ),
    "no spec": of_strategy("optimizer is a str, not an OptimizerSpec", spec="'adam'"),
    "class twice": of_dataset("names a class twice", "'classes': ('a', 'a')"),
    "classes text": of_dataset("classes = 'ab' must be a tuple", "'classes': 'ab'"),
    "classes set": of_dataset("must be a tuple of class names", "'classes': {'a', 'b'}"),
    "notes": of_dataset("notes = 'one' must be a tuple", "'notes': 'one'"),
    "no table": of_dataset("train is a tuple without ids", "'train': ()"),
    "ids": of_dataset(
        "val has an id that is not text",
        "'val': __import__('msft_core.images').images.MemoryTable((1,), (0,), (b'',))",
    ),
    "labels": of_dataset(
        "val has a label that is not an integer",
        "'val': __import__('msft_core.images').images.MemoryTable(('x',), ('a',), (b'',))",
    ),
    "scale": of_preprocessing("must be on a scale of 0 to 1", "'mean': (123.0, 117.0, 104.0)"),
    "no spread": of_preprocessing("must be on a scale of 0 to 1", "'std': (0.0, 1.0, 1.0)"),
    "one mean": of_preprocessing("mean = 0.5 must be three numbers", "'mean': 0.5"),
    "crop": of_preprocessing("crop_fraction = 87.5 must be above 0", "'crop_fraction': 87.5"),
    "interpolation": of_preprocessing(
        "interpolation = 'cubic' must be 'bilinear' or 'bicubic'. Did you mean 'bicubic'",
        "'interpolation': 'cubic'",
    ),
    "size": of_preprocessing(r"size = \(16, 16\) must be a number", "'size': (16, 16)"),
    "bare cells": network(
        "stages=tuple(s.cell for s in good.stages)", "stages contains a SequentialCell", "refused"
    ),
    "stage twice": network(
        "stages=(Stage('pool', nn.ReLU()), *good.stages)", "stage names must be unique", "refused"
    ),
    "stage head": network(
        "stages=(*good.stages, Stage('head', nn.ReLU()))",
        "stage names must be unique .* 'head'",
        "refused",
    ),
}


@pytest.mark.parametrize("name", WRONG_FIELDS)
def test_a_wrong_field_of_an_answer_is_refused_before_the_run_begins(
    name: str, package: Any, msft_run: MsftRun
) -> None:
    fault = WRONG_FIELDS[name]
    package(fault)
    with pytest.raises(MsftError, match=fault.says) as caught:
        msft_run(**EAGER, **fault.using)
    assert caught.value.report is None

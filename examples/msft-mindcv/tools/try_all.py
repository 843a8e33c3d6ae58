"""Try each of mindcv's classifiers through this plugin, and write what came of it.

    python tools/try_all.py --seconds 200        # as often as it takes; goes on where it stopped
    python tools/try_all.py --only resnet18 vit_b_32_224
    python tools/try_all.py --report             # TRIED.md and models.json anew

For each network: build it with random weights; compare the logits of two images with those of
mindcv's own network with the same weights; do one step of training (cross-entropy, momentum) with
two images. On a CPU, in PyNative mode. The networks are tried in a process of their own, which is
begun again after one that crashes, hangs or leaves much memory behind.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import make_table
import run_families

CLASSES = 10
BATCH = 2
MODEL_SECONDS = 240
"""A network that takes longer is given up."""

WORKER_BYTES = 8e9
"""A process that has grown so large is replaced before the next network."""

LARGE = re.compile(
    r"x3$|_h_|huge|xlarge|large|_l_|_l\d*$|_xl$|_m\d\d|m36|m48|b[4-7]$|269|200|154|152|48$|w48"
    r"|b3$|b2|\d\dgf|base|_d\d|\d{3}_64x4d|vgg|107|131|pnasnet|384|448"
)
"""Names of networks that are tried late."""

HUGE = re.compile(
    r"huge|large$|_h_|_l_(16|32|p)|cait_m|b[67]$|v2_x?l$|32gf|269|repmlp_[dl]|repvgg_b3|m48|volo_d[45]"
)
"""Of networks that are tried last."""


def main() -> None:
    """Try, or report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no more after")
    parser.add_argument("--only", nargs="+", default=[], help="these, again if need be")
    parser.add_argument("--again", action="store_true", help="those without success")
    parser.add_argument("--report", action="store_true", help="write TRIED.md and models.json")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work()
    elif arguments.report:
        make_table.main()
        report()
    else:
        try_each(arguments.only or names(again=arguments.again), arguments.seconds)


def names(*, again: bool) -> list[str]:
    """Those without a result, small ones first."""
    done = {
        name
        for name, r in make_table.read_tried().items()
        if not (again and (r["problem"] or "unfinished" in r))
    }
    left = [name for name in make_table.classifiers() if name not in done]
    return sorted(left, key=lambda name: (bool(HUGE.search(name)), bool(LARGE.search(name)), name))


def try_each(chosen: list[str], seconds: float) -> None:
    """Have a worker try them one after another, and append a line for each."""
    end = time.monotonic() + seconds
    worker: subprocess.Popen[str] | None = None
    for number, name in enumerate(chosen, 1):
        if time.monotonic() > end:
            print(f"{len(chosen) - number + 1} left")
            break
        worker = worker or start()
        result = ask(worker, name)
        if result.pop("end"):
            worker.kill()
            worker.wait()
            worker = None
        with make_table.TRIED.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
        print(number, json.dumps(result), flush=True)
    if worker:
        worker.kill()
        worker.wait()


def start() -> subprocess.Popen[str]:
    """A process that tries what it is told on its standard input."""
    return subprocess.Popen(
        [sys.executable, __file__, "--worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # As msft does: some convolutions take a hundredth of the time so on newer CPUs. And
        # MindSpore's log is left out.
        env={"ONEDNN_MAX_CPU_ISA": "AVX2", "GLOG_v": "4", **os.environ},
    )


def ask(worker: subprocess.Popen[str], name: str) -> dict[str, Any]:
    """What came of one network; ``end`` where the process cannot be used for another."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    begun = time.monotonic()
    with contextlib.suppress(BrokenPipeError):
        worker.stdin.write(name + "\n")
        worker.stdin.flush()
    if not select.select([worker.stdout], [], [], MODEL_SECONDS)[0]:
        return {"name": name, "problem": "", "unfinished": True, "end": True}
    elif line := worker.stdout.readline():
        result: dict[str, Any] = json.loads(line)
        result["end"] = result.pop("bytes") > WORKER_BYTES
        return result
    else:
        problem = f"the process ended with status {worker.wait()}"
    seconds = round(time.monotonic() - begun, 1)
    return {"name": name, "problem": problem, "seconds": seconds, "end": True}


# In the worker


def work() -> None:
    """Answer each name on standard input with a line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print does not mix with the answers
    import mindspore as ms

    ms.set_context(mode=ms.PYNATIVE_MODE, device_target="CPU")
    for line in sys.stdin:
        name, begun = line.strip(), time.monotonic()
        result: dict[str, Any] = {"name": name, "problem": ""}
        try:
            result |= attempt(name)
        except Exception as error:
            result["problem"] = in_one_line(error)
        result["seconds"] = round(time.monotonic() - begun, 1)
        status = Path("/proc/self/status").read_text(encoding="ascii")
        result["bytes"] = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]
        answers.write(json.dumps(result) + "\n")
        answers.flush()


def attempt(name: str) -> dict[str, Any]:
    """Build, compare, train."""
    import mindcv
    import mindspore as ms
    import msft_mindcv
    import numpy as np
    from mindspore import Tensor, nn, ops
    from msft_mindcv.table import every_model, models

    from msft_core import Context
    from msft_core.stages import Chain, learned_names

    model = every_model()[name]
    ms.set_seed(0)
    images = np.random.default_rng(0).normal(size=(BATCH, 3, model.size, model.size))
    x, labels = Tensor(images.astype(np.float32)), Tensor(np.arange(BATCH, dtype=np.int32))
    plain = mindcv.create_model(name, num_classes=CLASSES)
    plain.set_train(False)
    plain(x).asnumpy()  # one that mindcv itself cannot run ends here

    models()[model.component] = model  # also one that failed before
    context = Context(0, Path(), Quiet())
    settings = msft_mindcv.MindcvSettings(weights="none")
    backbone = msft_mindcv.build_backbone(model.component, CLASSES, settings, context)
    assert backbone is not None
    cells = [*(stage.cell for stage in backbone.stages), backbone.head]
    network = Chain(cells)
    parameters = {parameter.name: parameter for parameter in network.get_parameters()}
    result: dict[str, Any] = {
        "stages": [stage.name for stage in backbone.stages],
        "parameters": sum(
            int(np.prod(p.shape)) for cell in cells[:-1] for p in cell.get_parameters()
        ),
        "size": backbone.preprocessing.size,
    }

    network.set_train(False)
    logits = network(x).asnumpy()
    for parameter in plain.get_parameters():
        if parameter.name in parameters:
            parameter.set_data(parameters[parameter.name])
    expected = plain(x).asnumpy()
    del plain
    result["shape"] = list(logits.shape)
    result["difference"] = float(np.abs(logits - expected).max() / np.abs(expected).max())
    if logits.shape != (BATCH, CLASSES) or not result["difference"] < 1e-4:
        raise ValueError(f"logits {logits.shape} differ by {result['difference']:.1e}")

    learned = [n for cell in cells for n in learned_names(cell)]
    trainable = [parameters[n] for n in learned]
    optimizer = nn.Momentum(trainable, 0.01, 0.9)
    network.set_train(True)

    def loss_of(x: Tensor, labels: Tensor) -> Tensor:
        return ops.cross_entropy(network(x), labels)

    loss, gradients = ms.value_and_grad(loss_of, None, trainable)(x, labels)
    idle = [n for n, g in zip(learned, gradients, strict=True) if not np.any(g.asnumpy())]
    optimizer(gradients)
    result["loss"] = float(loss.asnumpy())
    result["idle"] = idle[:5]
    if not np.isfinite(result["loss"]):
        raise ValueError(f"the loss is {result['loss']}")
    if not all(np.isfinite(p.asnumpy()).all() for p in trainable):
        raise ValueError("a weight is not a number after one step")
    return result


class Quiet:
    """A reporter that says nothing."""

    def info(self, message: str) -> None:
        """Say nothing."""

    def warning(self, message: str) -> None:
        """Say nothing."""

    @contextlib.contextmanager
    def progress(self, description: str, total: int | None = None, unit: str = "") -> Iterator[Any]:
        """Show nothing."""
        yield lambda done: None


def in_one_line(error: BaseException) -> str:
    """An error in one line; MindSpore's run over many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" -\t")]
    return f"{type(error).__name__}: {' '.join(lines)[:200]}" if lines else type(error).__name__


# The report


def report() -> None:
    """Write ``TRIED.md``."""
    tried = make_table.read_tried()
    everything = make_table.classifiers()
    unfinished = [name for name in everything if "unfinished" in tried.get(name, {})]
    for name in unfinished:
        del tried[name]
    done = [tried[name] for name in everything if name in tried]
    fine = [r for r in done if not r["problem"]]
    failed = [r for r in done if r["problem"]]
    left = [name for name in everything if name not in tried]
    lines = [
        "# What was tried",
        "",
        "Written by `tools/try_all.py --report`; mindcv 0.3.0, MindSpore 2.10.0, a CPU of two",
        "cores.",
        "",
        f"Of {len(everything)} classifiers {len(done)} were tried: {len(fine)} run, "
        f"{len(failed)} do not. {len(left) or 'None'} were not tried.",
        "",
        "## Forward and one step of training",
        "",
        "Random weights, two images, PyNative mode. The difference is between the logits here and",
        "those of mindcv's own network with the same weights: the largest, relative to the largest",
        "logit. The loss is that of the training step; all weights were finite after it.",
        "Parameters are without the classifier; the seconds are of all of it.",
        "",
        *table(
            ("backbone", "image", "parameters", "stages", "difference", "loss", "seconds"),
            (
                (
                    f"`mindcv/{r['name']}`",
                    r["size"],
                    f"{r['parameters'] / 1e6:.1f} M",
                    len(r["stages"]),
                    f"{r['difference']:.0e}" if r["difference"] else "0",
                    f"{r['loss']:.2f}",
                    r["seconds"],
                )
                for r in fine
            ),
        ),
        "",
        "## Do not run, so are not offered",
        "",
        *table(("network", "why"), ((r["name"], r["problem"]) for r in failed)),
    ]
    if left:
        lines += [
            "",
            "## Not tried",
            "",
            f"Offered, and said to be untried: {', '.join(left)}.",
        ]
    if unfinished:
        lines += [
            "",
            f"Of these, given up after {MODEL_SECONDS} s: {', '.join(unfinished)}.",
        ]
    if runs := run_families.read_runs():
        lines += [
            "",
            "## One `msft run` each",
            "",
            "Two steps and an evaluation on drawn pictures, `finetune`, by the command line",
            "(`tools/run_families.py`). A training step that MindSpore cannot compile runs in",
            "PyNative mode.",
            "",
            *table(
                ("backbone", "came of it", "training step", "seconds"),
                (
                    (
                        f"`mindcv/{r['name']}`",
                        r["problem"] or "completed",
                        "compiled" if r["compiled"] else "PyNative",
                        r.get("seconds", ""),
                    )
                    for r in runs
                ),
            ),
        ]
    (make_table.FOLDER / "TRIED.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def table(header: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    """Lines of a Markdown table."""
    for row in (header, ("---",) * len(header), *rows):
        yield "| " + " | ".join(str(cell).replace("|", "/") for cell in row) + " |"


if __name__ == "__main__":
    main()

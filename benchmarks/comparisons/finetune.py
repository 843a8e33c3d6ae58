"""A step of fine-tuning all of ResNet-50."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.outcome import Entry, Measurement, Outcome, alternate, times_faster
from benchmarks.plan import Plan
from benchmarks.turns import Worker


def compare(plan: Plan) -> Outcome:
    """msft's own trainer, PyTorch and mindcv."""
    sizes = (plan.batch, plan.size)
    commands = {
        "msft": plan.module("ours.step", *sizes, "auto"),
        "msft in PyNative": plan.module("ours.step", *sizes, "pynative"),
        "PyTorch by default": plan.torch("torch_step", *sizes, "default"),
        "PyTorch at its best": plan.torch("torch_step", *sizes, "best"),
        "mindcv": plan.module("peers.mindcv_step", *sizes),
    }
    with ExitStack() as open_workers:
        workers = [open_workers.enter_context(Worker(command)) for command in commands.values()]
        entries = [_entry(name, worker) for name, worker in zip(commands, workers, strict=True)]
        # A first step compiles and allocates; so may a second.
        alternate(entries, plan.steps, warm_up=2)
        for entry, worker in zip(entries, workers, strict=True):
            entry.measurement.peak_mb.append(worker.peak_mb)
    ours, pynative, default, best, mindcv = (entry.measurement for entry in entries)
    return Outcome(
        f"fine-tuning step, batch {plan.batch}",
        [ours, pynative, default, best, mindcv],
        [
            times_faster(ours, default, 1.05),
            times_faster(ours, pynative),
            times_faster(ours, best),
            times_faster(ours, mindcv),
        ],
    )


def _entry(name: str, worker: Worker) -> Entry:
    return Entry(Measurement(name, "ms"), lambda: 1000 * worker.turn("step"))

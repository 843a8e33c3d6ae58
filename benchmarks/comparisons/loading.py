"""Input pipelines: from files to batches, with the same crops and as many workers."""

from __future__ import annotations

from benchmarks.outcome import RATE, Entry, Measurement, Outcome, alternate, times_faster
from benchmarks.plan import Plan
from benchmarks.turns import Worker
from msft_core.config import DataSettings


def compare(plan: Plan) -> Outcome:
    """Images a second of an epoch of training images."""
    arguments = (plan.photographs, plan.size, plan.batch, plan.cores)
    least_area = DataSettings().crop_scale[0]
    with (
        Worker(plan.module("ours.loader", *arguments)) as ours,
        Worker(plan.torch("torch_loader", *arguments, least_area)) as theirs,
    ):

        def entry(name: str, worker: Worker, task: str) -> Entry:
            measurement = Measurement(name, RATE)
            return Entry(measurement, lambda: plan.train / worker.turn(task))

        rows = [
            (
                entry(f"keyed, workers: {workers}", ours, f"keyed {workers}"),
                entry(f"mindspore, workers: {workers}", ours, f"mindspore {workers}"),
                entry(f"torchvision, workers: {workers}", theirs, str(workers)),
            )
            for workers in range(1, plan.cores + 1)
        ]
        alternate([entry for row in rows for entry in row], plan.steps, warm_up=1)
    targets = []
    for keyed, mindspore, torchvision in rows:
        peer = torchvision.measurement
        targets.append(times_faster(keyed.measurement, peer, 1.0))
        targets.append(times_faster(mindspore.measurement, peer, 1.5))
    return Outcome("input pipeline", [e.measurement for row in rows for e in row], targets)

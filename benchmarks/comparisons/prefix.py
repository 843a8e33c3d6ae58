"""The frozen part of ResNet-50 forward, on MindSpore and on OpenVINO, in one process."""

from __future__ import annotations

from benchmarks.outcome import RATE, Entry, Measurement, Outcome, alternate, times_faster
from benchmarks.plan import Plan
from benchmarks.turns import Worker

BATCH = 16
"""``msft_core.features.BATCH``; ``ours.prefix`` sees to that, since importing
it would bring MindSpore into this process."""


def compare(plan: Plan) -> Outcome:
    """Images a second of each engine."""
    engines = ("mindspore", "openvino float32", "openvino bfloat16")
    with Worker(plan.module("ours.prefix", BATCH, plan.size)) as worker:

        def entry(engine: str) -> Entry:
            return Entry(Measurement(engine, RATE), lambda: BATCH / worker.turn(engine))

        entries = [entry(engine) for engine in engines]
        alternate(entries, plan.steps, warm_up=2)
    mindspore, float32, bfloat16 = (entry.measurement for entry in entries)
    return Outcome(
        f"frozen part forward, batch {BATCH}",
        [mindspore, float32, bfloat16],
        [times_faster(float32, mindspore), times_faster(bfloat16, mindspore, 2.5)],
    )

"""Peak memory of a run on few and on many pictures."""

from __future__ import annotations

from benchmarks.outcome import Measurement, Outcome, Target, alternate
from benchmarks.pictures import draw_pictures
from benchmarks.plan import Plan
from benchmarks.runs import ColdAndWarm, sets

SIZE = 32
"""Reduced, as is the network: what grows with the number of pictures does not depend on it."""


def compare(plan: Plan) -> Outcome:
    """VmHWM of ``msft run`` on the one and the other number of pictures, a fifth of them val."""
    runs = [_run(plan, count) for count in (plan.few, plan.many)]
    alternate([run.entries()[0] for run in runs], plan.repeats)
    peaks = []
    for run in runs:
        peak = Measurement(run.cold.name, "MB", run.cold.peak_mb, missing=run.cold.missing)
        peaks.append(peak)
    few, many = (peak.median for peak in peaks)
    ratio = many / few if few and many else None
    return Outcome(
        "peak memory of freeze, EfficientNet-Lite0 at 32 pixels, 1 view, 2 epochs",
        [*peaks, *(run.cold for run in runs)],
        [Target(f"{peaks[1].name}, by {peaks[0].name}", ratio, 1.10, below=True)],
    )


def _run(plan: Plan, count: int) -> ColdAndWarm:
    val = count // 5
    folder = draw_pictures(plan.work / "memory" / str(count), count - val, val)
    arguments = [
        "--dataset", "folder", "--data-dir", folder, "--backbone", "efficientnet_lite0",
        "--weights", "none", "--strategy", "freeze", "--epochs", 2,
        *sets(f"backbone.image_size={SIZE}", "training.views=1"),
    ]  # fmt: skip
    return ColdAndWarm(f"{count:,} pictures", plan.work / f"memory-{count}", arguments)

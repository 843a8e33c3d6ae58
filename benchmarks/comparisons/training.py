"""Whole commands, from start to best checkpoint: freeze, and partial from layer4."""

from __future__ import annotations

from benchmarks.commands import ROOT, Finished, run
from benchmarks.outcome import Entry, Measurement, Outcome, Target, alternate, times_faster
from benchmarks.plan import Plan
from benchmarks.runs import ColdAndWarm, sets

MINDSPORE = ("extractor.openvino.enabled=false",)
ONE_VIEW = ("training.views=1",)
OPENVINO = ("extractor.openvino.enabled=true",)
BFLOAT16 = (*OPENVINO, "extractor.openvino.precision=bfloat16")
FROM_LAYER4 = ("strategy.from=layer4",)

FREEZE = {
    "msft, 1 view": (*ONE_VIEW, *MINDSPORE),
    "msft, default views": MINDSPORE,
    "msft, 1 view, openvino float32": (*ONE_VIEW, *OPENVINO),
    "msft, 1 view, openvino bfloat16": (*ONE_VIEW, *BFLOAT16),
    "msft, default views, openvino bfloat16": BFLOAT16,
}
PARTIAL = {
    "msft, 1 view": (*FROM_LAYER4, *ONE_VIEW, *MINDSPORE),
    "msft, 1 view, openvino bfloat16": (*FROM_LAYER4, *ONE_VIEW, *BFLOAT16),
}
"""What is measured, with its settings."""

WARM_SECONDS = 15.0
"""The same run again, with another learning rate, is to take less."""


def compare_freeze(plan: Plan) -> Outcome:
    """Only the head trains."""
    ours = [_ours(plan, name, "freeze", settings) for name, settings in FREEZE.items()]
    default = _torch(plan, "PyTorch as in its tutorial", "default", "fc")
    best = _torch(plan, "PyTorch at its best, not cached", "best", "fc")
    cached = _torch(plan, "PyTorch at its best, hand-cached, 1 view", "cached", "fc")
    outcome = _compare(plan, "freeze", ours, {default: 20, best: 8, cached: None})
    warm = [
        Target(both.warm.name, both.warm.median, WARM_SECONDS, below=True, unit="s")
        for both in ours
    ]
    return Outcome(outcome.title, outcome.measurements, [*outcome.targets, *warm])


def compare_partial(plan: Plan) -> Outcome:
    """The last stage and the head train."""
    ours = [_ours(plan, name, "partial", settings) for name, settings in PARTIAL.items()]
    default = _torch(plan, "PyTorch by default", "default", "layer4")
    best = _torch(plan, "PyTorch at its best, not cached", "best", "layer4")
    return _compare(plan, "partial from layer4", ours, {default: 3, best: None})


def _compare(
    plan: Plan, what: str, ours: list[ColdAndWarm], peers: dict[Entry, float | None]
) -> Outcome:
    entries = [entry for both in ours for entry in both.entries()]
    alternate([*entries, *peers], plan.repeats)
    return Outcome(
        f"{what}, whole command from start to best checkpoint, {plan.epochs} epochs",
        [entry.measurement for entry in (*entries, *peers)],
        [
            times_faster(both.cold, peer.measurement, bound)
            for peer, bound in peers.items()
            for both in ours
        ],
    )


def _ours(plan: Plan, name: str, strategy: str, settings: tuple[str, ...]) -> ColdAndWarm:
    arguments = [
        "--dataset", "folder", "--data-dir", plan.photographs, "--backbone", "resnet50",
        "--weights", "none", "--strategy", strategy, "--epochs", plan.epochs,
        "--batch-size", plan.batch, *sets(f"backbone.image_size={plan.size}", *settings),
    ]  # fmt: skip
    return ColdAndWarm(name, plan.work / strategy / name, arguments)


def _torch(plan: Plan, name: str, variant: str, train: str) -> Entry:
    command = plan.torch(
        "torch_train", "--data", plan.photographs, "--out", plan.work / "best.pt",
        "--variant", variant, "--train", train, "--epochs", plan.epochs, "--batch", plan.batch,
        "--size", plan.size, "--workers", plan.cores,
    )  # fmt: skip

    def once() -> Finished:
        return run(command, ROOT)

    return Entry(Measurement(name, "s"), once)

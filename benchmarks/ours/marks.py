"""A plugin that says how far a run has got: ``msft run --plugin benchmarks/ours/marks.py``.

It uses nothing but the hooks that every plugin has, and answers for nobody.
"""

from __future__ import annotations

from msft_core import hookimpl

_said: set[str] = set()


def _mark(what: str) -> None:
    if what not in _said:  # some hooks are called before each epoch
        _said.add(what)
        print(f"mark: {what}", flush=True)


@hookimpl
def build_dataset() -> None:
    """The first hook after MindSpore was imported."""
    _mark("MindSpore imported")


@hookimpl
def build_backbone() -> None:
    """The images have been checked by now."""
    _mark("images checked")


@hookimpl
def select_trainable(epoch: int) -> None:
    """The network has been made by now, or the epoch before is over."""
    _mark("network made" if epoch == 1 else "first epoch evaluated")


@hookimpl(tryfirst=True)
def on_run_start() -> None:
    """The run folder stands."""
    _mark("run begun")


@hookimpl(tryfirst=True)
def on_epoch_end(epoch: int) -> None:
    """An epoch is trained, and not evaluated yet."""
    if epoch == 1:
        _mark("first epoch trained")


@hookimpl(tryfirst=True)
def on_run_end() -> None:
    """The best checkpoint is written."""
    _mark("all epochs done")

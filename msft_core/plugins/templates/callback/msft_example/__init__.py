"""The callback ``example``: adds a line to a CSV file after each epoch."""

from __future__ import annotations

import csv

from msft_core import Component, Run, Settings, hookimpl
from pydantic import Field

msft_api = "0.4"


class ExampleSettings(Settings):
    """``callback.example.*``; msft adds ``enabled``."""

    file: str = Field("epochs.csv", min_length=1, description="name of the file")
    digits: int = Field(6, ge=1, le=17, description="significant digits of the numbers")


@hookimpl
def list_components() -> list[Component]:
    """The components of this plugin. Keep it fast: import heavy modules only where needed."""
    summary = "a CSV line after each epoch"
    return [Component("callback", "example", summary, ExampleSettings)]


@hookimpl(trylast=True)  # after callbacks that may change the numbers it writes
def on_epoch_end(epoch: int, run: Run) -> None:
    """Write the losses and every metric of the validation images."""
    settings: ExampleSettings = run.settings("callback", "example")
    figures = {"train_loss": run.history[-1].train["loss"]}
    # msft evaluates at most once per epoch, however many callbacks ask.
    figures.update((f"val_{name}", value) for name, value in run.evaluate("val").items())
    path = run.folder / settings.file
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if epoch == 1:
            writer.writerow(["epoch", *figures])
        writer.writerow([epoch, *(f"{value:.{settings.digits}g}" for value in figures.values())])

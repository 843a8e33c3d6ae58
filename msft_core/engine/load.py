"""Open a finished run as a classifier: ``msft_core.load``."""

from __future__ import annotations

from pathlib import Path

from msft_core.runs.classifier import Classifier


def load(run: str | Path) -> Classifier:
    """Open a finished run."""
    raise NotImplementedError

"""What a comparison says, as people read it: the same in the terminal and on the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

_BLOCKS = "▁▂▃▄▅▆▇█"

_NO_BREAK = "\u00a0"


def percents(interval: tuple[float, float]) -> str:
    """``86.0 to 98.0``, per cent."""
    return _NO_BREAK.join((f"{100 * interval[0]:.1f}", "to", f"{100 * interval[1]:.1f}"))


def points(difference: float) -> str:
    """A difference of two shares in percentage points: ``+2.0``, ``-4.0``, ``0.0``."""
    text = f"{100 * difference:+.1f}"
    return "0.0" if float(text) == 0 else text


def points_between(interval: tuple[float, float]) -> str:
    """``-6.0 to +10.0``."""
    return _NO_BREAK.join((points(interval[0]), "to", points(interval[1])))


def p_figure(p_value: float) -> str:
    """``0.55``, ``0.012``, ``< 0.001``."""
    if p_value < 0.001:
        return f"<{_NO_BREAK}0.001"
    digits = max(2, 1 - math.floor(math.log10(p_value)))
    return f"{p_value:.{digits}f}"


def p_text(p_value: float) -> str:
    """``p = 0.55``, ``p = 0.012``, ``p < 0.001``."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_figure(p_value)}"


def setting_text(value: Any) -> str:
    """A setting as TOML has it; ``-`` for one that is not there."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(setting_text, value))}]"
    return str(value) or '""'


def sparkline(values: Sequence[float], low: float, high: float, width: int = 24) -> str:
    """Values as a line of blocks; of more values than ``width`` the last of each group.

    A value that is not a number is a space.
    """
    groups = min(width, len(values))
    shown = [values[(group + 1) * len(values) // groups - 1] for group in range(groups)]
    return "".join(_block(value, low, high) for value in shown)


def _block(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return " "
    share = (value - low) / (high - low) if high > low else 1.0
    return _BLOCKS[round(share * (len(_BLOCKS) - 1))]

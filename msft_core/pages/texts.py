"""Numbers as people read them. A number and its unit stay on one line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

_BLOCKS = "▁▂▃▄▅▆▇█"

_NO_BREAK = "\u00a0"


def number(value: int) -> str:
    """``1,234``."""
    return f"{value:,}"


def counted(value: int, one: str, many: str = "") -> str:
    """``3 images``, ``1 image``."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def percent(share: float) -> str:
    """``95.8 %``. Only all is 100 %, and only nothing is 0 %."""
    text = f"{100 * share:.1f}"
    if text == "100.0":
        return f"100{_NO_BREAK}%" if share >= 1 else f"over 99.9{_NO_BREAK}%"
    if text == "0.0":
        return f"0{_NO_BREAK}%" if share <= 0 else f"under 0.1{_NO_BREAK}%"
    return f"{text}{_NO_BREAK}%"


def whole_percent(share: float) -> str:
    """``96 %``, for axes and shades."""
    return f"{100 * share:.0f}{_NO_BREAK}%"


def duration(seconds: float) -> str:
    """``0.05 s``, ``12.3 s``, ``4 min 05 s``, ``2 h 03 min``."""
    if seconds < 60:
        return f"{seconds:.2f}{_NO_BREAK}s" if seconds < 1 else f"{seconds:.1f}{_NO_BREAK}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s".replace(" ", _NO_BREAK)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min".replace(" ", _NO_BREAK)


def percents(interval: tuple[float, float]) -> str:
    """``86.0 to 98.0 %``."""
    low, high = interval
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def points(difference: float) -> str:
    """A difference of two shares in percentage points: ``+2.0``, ``-4.0``, ``0.0``."""
    text = f"{100 * difference:+.1f}"
    return "0.0" if float(text) == 0 else text


def p_text(p_value: float) -> str:
    """``p = 0.55``, ``p = 0.012``, ``p < 0.001``."""
    if p_value < 0.001:
        return "p < 0.001"
    digits = max(2, 1 - math.floor(math.log10(p_value)))
    return f"p = {p_value:.{digits}f}"


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

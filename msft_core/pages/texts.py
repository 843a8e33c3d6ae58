"""Numbers as people read them."""

from __future__ import annotations


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
        return "100 %" if share >= 1 else "over 99.9 %"
    if text == "0.0":
        return "0 %" if share <= 0 else "under 0.1 %"
    return f"{text} %"


def duration(seconds: float) -> str:
    """``0.05 s``, ``12.3 s``, ``4 min 05 s``, ``2 h 03 min``."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min"

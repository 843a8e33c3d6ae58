"""Numbers as people read them. A number and its unit stay on one line."""

from __future__ import annotations

import unicodedata

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
    if seconds < 59.95:
        return f"{seconds:.2f}{_NO_BREAK}s" if seconds < 1 else f"{seconds:.1f}{_NO_BREAK}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s".replace(" ", _NO_BREAK)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min".replace(" ", _NO_BREAK)


def short(name: str, width: int) -> str:
    """A name that is not wider than so many letters: its middle is left out.

    The middle, since names often differ at the beginning or at the end. A Chinese character counts
    as two letters.
    """
    if _width(name) <= width:
        return name
    tail = 2 * width // 5
    kept = ""
    for character in reversed(name):
        if _width(character + kept) > tail:
            break
        kept = character + kept
    head = ""
    for character in name:
        if _width(head + character) + _width(kept) > width - 1:
            break
        head += character
    return f"{head}…{kept}"


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)

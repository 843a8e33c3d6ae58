"""How all figures look: colours, fonts, a sheet with a heading, text that fits. Saves a figure.

All positions are in inches, so that nothing overlaps and the content decides a figure's size. In
all figures blue means right and red means wrong.

Importing this module imports matplotlib.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findSystemFonts, fontManager

from msft_core.files import write_atomically
from msft_core.system.console import printable

RIGHT = "#1f5fa8"

WRONG = "#c62828"

INK = "#222222"

MUTED = "#6b6b6b"

PALE = "#eeeeee"

METRIC_COLOURS = (RIGHT, "#d07a00", "#2e8b57", "#8e5ea2", "#4fa3c7", "#8c6d46")

# Fonts with Chinese characters. The first installed one is used for class names.
CJK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Heiti SC",
    "STHeiti",
    "SimHei",
    "Noto Sans CJK JP",
    "Arial Unicode MS",
    "Droid Sans Fallback",
)

Inches = float

MARGIN: Inches = 0.25

NARROWEST: Inches = 5.6

CAPTION = 8.5  # points

DETAIL = 9.0
FILE = 7.0

LINE: Inches = 1.25 * CAPTION / 72

DPI = 110  # for measuring text; widths in inches hardly depend on it


# What the files of such fonts are called: matplotlib's own list of fonts may be older than they.
_CJK_FILE = re.compile(
    r"(noto(sans|serif).*(cjk|sc)|sourcehansans|wqy|msyh|pingfang|simhei|heiti|hiragino|"
    r"droidsansfallback|arialuni)",
    re.IGNORECASE,
)


@lru_cache
def font_families() -> tuple[str, ...]:
    """DejaVu Sans, which comes with matplotlib, and the first Chinese font that is installed."""
    found = _chinese_fonts()
    if not found:
        for path in sorted(findSystemFonts()):
            if _CJK_FILE.match(Path(path).name):
                try:
                    fontManager.addfont(path)
                except Exception:  # a broken font file is as good as none
                    continue
        found = _chinese_fonts()
    return ("DejaVu Sans", *found[:1])


def _chinese_fonts() -> list[str]:
    installed = {font.name for font in fontManager.ttflist}
    return [name for name in CJK_FONTS if name in installed]


def lacks_font(names: Sequence[str]) -> bool:
    """Whether a name has Chinese or similar characters, and no installed font can draw them."""
    return len(font_families()) == 1 and any(
        "\u2e80" <= char <= "\uffef" for name in names for char in name
    )


@contextmanager
def house_style() -> Iterator[None]:
    """Use msft's style for every figure instead of the user's matplotlibrc. Hide font warnings."""
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    look: dict[str, Any] = {
        "font.family": list(font_families()),
        "font.size": 9,
        "text.color": INK,
        "text.parse_math": False,  # a class may be called "$5"
        "axes.edgecolor": "#b0b0b0",
        "axes.labelcolor": MUTED,
        "axes.labelsize": 9,
        "axes.linewidth": 0.8,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "legend.fontsize": 8.5,
        "legend.frameon": False,
    }
    with warnings.catch_warnings(), style.context(["default", look]):
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def save(figure: Figure, path: Path, dpi: int) -> Path:
    """Write a PNG atomically. The same figure always gives the same bytes."""

    drawn = io.BytesIO()  # Pillow would not say why it cannot write a file
    with house_style():
        figure.savefig(drawn, format="png", dpi=dpi, metadata={"Software": None})
    return write_atomically(path, lambda beside: beside.write_bytes(drawn.getbuffer()))


def sheet(width: Inches, body: Inches, title: str, details: Sequence[str]) -> Figure:
    """A figure with a heading, and a free height of ``body`` below it."""
    heading = 0.62 + 0.18 * len(details)
    height = body + heading
    figure = Figure(figsize=(width, height))
    x = MARGIN / width
    figure.text(x, 1 - 0.2 / height, title, fontsize=13, weight="bold", va="top")
    figure.text(
        x,
        1 - 0.47 / height,
        "\n".join(details),
        fontsize=DETAIL,
        color=MUTED,
        va="top",
        linespacing=1.3,
    )
    return figure


def place(figure: Figure, left: Inches, bottom: Inches, width: Inches, height: Inches) -> Axes:
    """Axes at a place of a figure, all in inches."""
    full_width, full_height = figure.get_size_inches()
    return figure.add_axes(
        (left / full_width, bottom / full_height, width / full_width, height / full_height)
    )


@lru_cache(maxsize=4096)
def fitting(template: str, name: str, width: Inches, size: float) -> str:
    """``template`` with the name. The middle of the name is left out if the width requires it.

    The middle, since names often differ at the beginning or at the end.
    """
    name = printable(name).replace("\n", " ").replace("\t", " ")
    text = template.format(name)
    last_word = len(re.split("[ _-]", name)[-1])
    for keep in range(len(name) - 1, 1, -1):
        if text_width(text, size) <= width:
            break
        tail = last_word if last_word <= keep // 2 else 2 * keep // 5
        head = name[: keep - tail].rstrip(" _-")
        text = template.format(f"{head}…{name[len(name) - tail :]}")
    return text


def text_width(text: str, size: float) -> Inches:
    """The width of a text in a size in points."""
    font = FontProperties(family=list(font_families()), size=size)
    width, _, _ = _renderer().get_text_width_height_descent(text, font, False)
    return float(width) / DPI


@lru_cache
def _renderer() -> Any:
    return RendererAgg(1, 1, DPI)  # type: ignore[no-untyped-call]

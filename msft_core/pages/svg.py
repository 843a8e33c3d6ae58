"""A matplotlib figure as an SVG element for a page."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping

from markupsafe import Markup
from matplotlib.figure import Figure

_FONT = re.compile(r"font-size: [^;\"]*; font-family: [^;\"]*;? ?|font: [^;\"]*;? ?")
_IDS = re.compile(
    r' id="(?:figure|axes|patch|line2d|text|xtick|ytick|matplotlib\.axis|[A-Za-z]*Collection)_\d+"'
)
_NO_TURN = re.compile(r' transform="rotate\(-0 [^"]*"')
_NOTHING = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def inline(figure: Figure, variables: Mapping[str, str]) -> Markup:
    """Draw a figure for a page: without names of its own fonts, and with the page's colours.

    Args:
        figure: made and drawn with ``svg.fonttype`` "none" and a salt that no other chart of the
            page has, since the salt makes the ids of markers and clips.
        variables: for each colour of the figure, as "#rrggbb", what stands there on the page.
    """
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata=_NOTHING)
    text = file.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = _IDS.sub("", text).replace("xlink:href", "href")
    width, height = (72 * inches for inches in figure.get_size_inches())
    opening = f'<svg viewBox="0 0 {width:.0f} {height:.0f}" aria-hidden="true">'
    text = re.sub(r"^<svg[^>]*>", opening, text, count=1)
    text = _NO_TURN.sub("", _FONT.sub("", text))
    for colour, variable in variables.items():
        text = text.replace(colour, variable)
    text = re.sub(r"\s+", " ", re.sub(r">\s+<", "><", text))
    return Markup(text)

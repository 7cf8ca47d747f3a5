"""Figures as SVG text that stands inside a page and takes on its light or dark theme."""

import io
import re
import warnings
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter, ScalarFormatter

# Colours that stand for the page's own: they are replaced by its variables.
INK, SOFT, LINE, BLUE, ORANGE = "#010101", "#020202", "#030303", "#040404", "#050505"
_OF_THE_PAGE = {INK: "--ink", SOFT: "--soft", LINE: "--line", BLUE: "--blue", ORANGE: "--orange"}
SERIES = ("#4c8fd6", "#e0833b", "#3fa56b", "#b06fd0", "#c9a227", "#d65c7a", "#35a8b5", "#8d8d8d")
"""Legible on white and on black, in the order in which labels take them."""

_STYLE: Any = {
    "svg.hashsalt": "onward",  # the same data gives the same file
    "svg.fonttype": "none",  # the page's own font
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": LINE,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
    "savefig.facecolor": "none",
}
_WIDTH, _HEIGHT = 4.6, 3.3


@dataclass(frozen=True)
class Picture:
    """A figure with what it shows and how to read it."""

    title: str
    caption: str
    svg: str


def canvas(height: float = _HEIGHT) -> Axes:
    """An empty figure of the page's width; `height` is in inches."""
    with mpl.rc_context(_STYLE):
        return Figure(figsize=(_WIDTH, height), layout="constrained").subplots()


def legend(axes: Axes, **options: Any) -> None:  # noqa: ANN401 - matplotlib's own
    """Name the lines, on the page's ground and in its ink."""
    axes.legend(frameon=False, labelcolor=INK, fontsize=9, **options)


def finish(axes: Axes, title: str, caption: str) -> Picture:
    """The figure as an SVG element for a page: no header, no address, no unused name."""
    for axis in (axes.xaxis, axes.yaxis):
        if isinstance(axis.get_major_formatter(), ScalarFormatter | LogFormatter):
            axis.set_major_formatter(_short)
    file = io.StringIO()
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # The page's own font has the glyphs that matplotlib's lacks.
        warnings.filterwarnings("ignore", message="Glyph")
        figure = axes.get_figure(root=True)
        if figure is not None:
            for text in figure.findobj(Text):
                text.set_parse_math(parse_math=False)  # a label's dollars are dollars
            figure.savefig(file, format="svg", dpi=160, metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    start, bracket, rest = svg.partition(">")
    start = re.sub(r' (xmlns(:xlink)?|version|width|height)="[^"]*"', "", start)
    svg = start + bracket + rest
    for colour, variable in _OF_THE_PAGE.items():
        svg = svg.replace(colour, f"var({variable})")
    named = set(re.findall(r'#([^")]+)[")]', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in named else "", svg)
    return Picture(title, caption, svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1))


def _short(value: float, _: float) -> str:
    """A number beside a tick: 250k rather than 250000."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:.6g}"

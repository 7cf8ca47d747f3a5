"""The explanation of one row as an SVG image: a bar for the contribution of each feature."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from service.numbertext import format_number

SVG = "image/svg+xml"

# The image has its own style; nothing is loaded, and no script runs.
SVG_HEADERS = {
    "content-security-policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; "
    "frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
}
# Colors are those of reports; a viewer in dark mode gets the second set.
_STYLE = """
svg { background: #fff; font: 14px system-ui, sans-serif; }
text { fill: #17212b; } .soft { fill: #566472; } .title { font-size: 18px; font-weight: 600; }
.number { font-variant-numeric: tabular-nums; } .end { font-weight: 600; }
.more { fill: #2563a8; } .less { fill: #c8641b; } line { stroke: #98a6b4; }
@media (prefers-color-scheme: dark) {
svg { background: #171e26; } text { fill: #e7ecf1; } .soft { fill: #98a6b4; }
.more { fill: #7db4f0; } .less { fill: #f0a060; } line { stroke: #566472; }
}
"""
_WIDTH, _MARGIN = 760, 24
# Names end and bars begin here; numbers are to the right of the bars.
_NAMES_END, _BARS_START, _BARS_END = 300, 316, 640
_LINE, _STEP, _BAR = 20, 26, 16
_LONGEST_LABEL, _LONGEST_VALUE = 34, 14
_LONGEST_LINE, _LONGEST_TITLE = 100, 70
_MAX_BARS = 40
# XML has no other characters, not even escaped.
_INVALID = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Contributions:
    """What the chart shows."""

    title: str
    quantity: str
    """The explained number: ``value in euros``."""
    reference: str
    """What the row is compared with: ``the training mean``."""
    base: float
    values: Mapping[str, object]
    """The row's value of each feature, as a client sends it."""
    contributions: Mapping[str, float]
    score: float


def draw_contributions(shown: Contributions) -> bytes:
    """Draw the contributions as bars, the largest first, between the base and the result.

    Each bar has the exact number as its title. Of many features the smallest contributions share
    one bar.
    """
    lines = _describe(shown)
    bars = _choose_bars(shown)
    top = _MARGIN + 40 + _LINE * len(lines)
    height = top + _STEP * (len(bars) + 2) + _MARGIN
    root = ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {_WIDTH} {height}",
            "width": str(_WIDTH),
            "height": str(height),
            "role": "img",
        },
    )
    title = _clean(shown.title)
    ET.SubElement(root, "title").text = title
    ET.SubElement(root, "style").text = _STYLE
    _write(root, _MARGIN, _MARGIN + 14, _shorten(title, _LONGEST_TITLE), kind="title")
    for number, line in enumerate(lines):
        _write(root, _MARGIN, _MARGIN + 40 + _LINE * number, line, kind="soft")
    _draw_end(root, top, "base", shown.base)
    _draw_bars(root, top + _STEP, bars)
    _draw_end(root, top + _STEP * (len(bars) + 1), "result", shown.score)
    image: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return image


def _describe(shown: Contributions) -> list[str]:
    sentence = (
        f"The {shown.quantity} is {format_number(shown.score)}: {format_number(shown.base)} for "
        f"{shown.reference}, plus what each value of this row adds (right) or takes away (left)."
    )
    return textwrap.wrap(_clean(sentence), _LONGEST_LINE)


def _choose_bars(shown: Contributions) -> list[tuple[str, float]]:
    """Return the label and the size of each bar, the largest first."""
    order = sorted(shown.contributions, key=lambda name: -abs(shown.contributions[name]))
    drawn = order if len(order) <= _MAX_BARS else order[: _MAX_BARS - 1]
    bars = [
        (f"{name} = {_format_value(shown.values.get(name))}", shown.contributions[name])
        for name in drawn
    ]
    if others := order[len(drawn) :]:
        together = sum(shown.contributions[name] for name in others)
        bars.append((f"{len(others):,} other features", together))
    return bars


def _draw_bars(root: ET.Element, top: int, bars: Sequence[tuple[str, float]]) -> None:
    sizes = [size for _, size in bars]
    largest = max(map(abs, sizes), default=0.0)
    low, high = min(0.0, *sizes), max(0.0, *sizes)
    scale = (_BARS_END - _BARS_START) / (high - low or 1)
    zero = _BARS_START - low * scale
    for number, (label, size) in enumerate(bars):
        y = top + _STEP * number
        group = ET.SubElement(root, "g")
        ET.SubElement(group, "title").text = f"{_clean(label)}: {size!r}"
        _write(group, _NAMES_END, y + 13, _shorten_label(_clean(label)), anchor="end")
        ET.SubElement(
            group,
            "rect",
            {
                "class": "more" if size > 0 else "less",
                "x": f"{zero + min(size, 0) * scale:.1f}",
                "y": str(y),
                "width": f"{abs(size) * scale:.1f}",
                "height": str(_BAR),
            },
        )
        written = f"{_sign(size)}{format_number(size, largest)}"
        _write(group, _WIDTH - _MARGIN, y + 13, written, kind="number", anchor="end")
    ET.SubElement(
        root,
        "line",
        {
            "x1": f"{zero:.1f}",
            "x2": f"{zero:.1f}",
            "y1": str(top - 4),
            "y2": str(top + _STEP * len(bars) - 6),
        },
    )


def _draw_end(root: ET.Element, y: int, name: str, number: float) -> None:
    """Write the base or the result, which have no bar."""
    group = ET.SubElement(root, "g")
    ET.SubElement(group, "title").text = f"{name}: {number!r}"
    _write(group, _NAMES_END, y + 13, name, kind="end", anchor="end")
    _write(group, _WIDTH - _MARGIN, y + 13, format_number(number), kind="number end", anchor="end")


def _write(  # noqa: PLR0913 - position, text and style
    parent: ET.Element, x: int, y: int, text: str, *, kind: str = "", anchor: str = "start"
) -> None:
    attributes = {"x": str(x), "y": str(y), "class": kind, "text-anchor": anchor}
    ET.SubElement(
        parent, "text", {key: value for key, value in attributes.items() if value}
    ).text = text


def _sign(size: float) -> str:
    return "+" if size > 0 else ""


def _format_value(value: object) -> str:
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return str(value).lower()
    return format_number(value) if isinstance(value, float) else str(value)


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _shorten_label(label: str) -> str:
    """Shorten the name of a feature first, since its value says more."""
    name, equals, value = label.rpartition(" = ")
    value = _shorten(value, _LONGEST_VALUE if equals else _LONGEST_LABEL)
    return _shorten(name, _LONGEST_LABEL - len(equals + value)) + equals + value


def _clean(text: str) -> str:
    """Return a text in one line, with a mark for each character that XML cannot contain."""
    return " ".join(_INVALID.sub("\N{REPLACEMENT CHARACTER}", text).split())

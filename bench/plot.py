"""Plot requests per second relative to the floor."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet

from bench.protocols import IMAGE, NATIVE, V1, V1_IMAGE, V2
from bench.results import Results, Server
from bench.servers import FLOOR, OURSELVES

_FILE = Path(__file__).parent / "serving.svg"
_PANELS = (
    ("A", "one row of 2"),
    ("B", "one row of 784"),
    ("C", "256 rows of 2"),
    ("D", "a digit's pixels"),
    ("P", "a digit as PNG"),
)
_OURS = "#2f81f7"
_OTHERS = "#8b949e"
# A gray that is readable on white and on black, because the background is transparent.
_TEXT_COLOR = "#7d8590"
_DRAWN = (NATIVE, V1, V2, IMAGE, V1_IMAGE)


def draw(results: Results) -> None:
    """Write ``serving.svg``: a panel for each request, a bar for each server's best protocol."""
    servers = [it for it in results.servers if it.name != FLOOR]
    with mpl.rc_context(
        {
            "font.size": 9,
            "svg.hashsalt": "onward",
            "text.color": _TEXT_COLOR,
            "axes.edgecolor": _TEXT_COLOR,
            "ytick.color": _TEXT_COLOR,
        }
    ):
        sheet = Sheet(figsize=(10, 0.9 + 0.24 * len(servers)), layout="constrained")
        panels = sheet.subplots(1, len(_PANELS), sharey=True)
        for panel, (request, title) in zip(panels, _PANELS, strict=True):
            _panel(panel, servers, request)
            panel.set_title(f"{request}: {title}", fontsize=9)
        sheet.supxlabel("requests/s, % of an empty ASGI app on the same core", color=_TEXT_COLOR)
        sheet.savefig(_FILE, transparent=True, metadata={"Date": None})


def _panel(panel: Axes, servers: list[Server], request: str) -> None:
    for position, server in enumerate(reversed(servers)):
        share = _best(server, request)
        if share is None:
            panel.text(0, position, " no figure", va="center")
            continue
        ours = server.name == OURSELVES
        panel.barh(position, share * 100, color=_OURS if ours else _OTHERS, height=0.7)
        panel.text(share * 100, position, f" {share * 100:.3g}", va="center", color=_TEXT_COLOR)
    panel.set_yticks(range(len(servers)), [server.name for server in reversed(servers)])
    panel.set_xlim(0, 105)
    panel.tick_params(length=0)
    panel.set_xticks([])
    for edge in ("top", "right", "bottom"):
        panel.spines[edge].set_visible(False)


def _best(server: Server, request: str) -> float | None:
    """The share of its fastest protocol; binary tensors and CSV are only in the tables."""
    shares = [
        figure.share
        for figure in server.figures
        if figure.request == request and figure.protocol in _DRAWN
    ]
    return max(shares, default=None)

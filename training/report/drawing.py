"""Charts as SVG, embedded in the page and colored by its light or dark theme."""

import io
import re
import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter, ScalarFormatter

from service.predictions import predict_labels
from training.data.table import Dataset, Floats, Inputs
from training.learn import FittedModel
from training.recipe.table import Recipe
from training.report.tables import add_unit

# Placeholder colors, replaced by CSS variables of the page.
INK, SOFT, LINE, BLUE, ORANGE = "#010101", "#020202", "#030303", "#040404", "#050505"
_CSS_VARIABLES = {INK: "--ink", SOFT: "--soft", LINE: "--line", BLUE: "--blue", ORANGE: "--orange"}
SERIES = ("#4c8fd6", "#e0833b", "#3fa56b", "#b06fd0", "#c9a227", "#d65c7a", "#35a8b5", "#8d8d8d")
"""Colors of the labels in order, legible on white and on black."""

_STYLE: Any = {
    "svg.hashsalt": "onward",  # the same data gives the same file
    "svg.fonttype": "none",  # the font of the page
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
_STEPS = 200
_MARGIN = 0.08
_MAX_MAP_POINTS = 1500
_PLANE = 2
_FEW_POINTS = 60
# From this number on, an axis counts in thousands; years are below.
_SHORTENED = 10_000


@dataclass(frozen=True)
class Chart:
    """A figure with its title and caption."""

    title: str
    caption: str
    svg: str


def create_axes(height: float = _HEIGHT) -> Axes:
    """Create an empty figure in the width of the page; ``height`` is in inches."""
    with mpl.rc_context(_STYLE):
        return Figure(figsize=(_WIDTH, height), layout="constrained").subplots()


def add_legend(axes: Axes, **options: Any) -> None:  # noqa: ANN401 - matplotlib's own
    """Add a legend in the colors of the page."""
    axes.legend(frameon=False, labelcolor=INK, fontsize=9, **options)


def render_svg(axes: Axes, title: str, caption: str) -> Chart:
    """Render the figure as an SVG element, without header, metadata and unused ids."""
    for axis in (axes.xaxis, axes.yaxis):
        if isinstance(axis.get_major_formatter(), ScalarFormatter | LogFormatter):
            axis.set_major_formatter(partial(_format_tick, axis))
    file = io.StringIO()
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # The font of the page has glyphs that matplotlib lacks.
        warnings.filterwarnings("ignore", message="Glyph")
        figure = axes.get_figure(root=True)
        if figure is not None:
            for text in figure.findobj(Text):
                text.set_parse_math(parse_math=False)  # dollar signs in labels are no math
            figure.savefig(file, format="svg", dpi=160, metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    start, bracket, rest = svg.partition(">")
    start = re.sub(r' (xmlns(:xlink)?|version|width|height)="[^"]*"', "", start)
    svg = start + bracket + rest
    for color, variable in _CSS_VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    named = set(re.findall(r'#([^")]+)[")]', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in named else "", svg)
    return Chart(title, caption, svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1))


def _format_tick(axis: Axis, value: float, _: float) -> str:
    """Format a tick label: 250k instead of 250000, and years as they are."""
    largest = abs(value) if axis.get_scale() == "log" else np.abs(axis.get_view_interval()).max()
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value and largest >= max(size, _SHORTENED):
            return f"{value / size:g}{letter}"
    return f"{value:.6g}"


def draw_prediction_map(recipe: Recipe, data: Dataset, fitted: FittedModel) -> Chart | None:
    """Draw predictions over one number, or decision regions over two; None for other inputs."""
    kinds = {column.feature.type for column in data.columns}
    known = ~np.isnan(data.features).any(axis=1)
    if not kinds.isdisjoint(("category", "datetime", "text")) or not known.any():
        return None
    x, target = data.features[known][:_MAX_MAP_POINTS], data.target[known][:_MAX_MAP_POINTS]
    if not recipe.is_classification and x.shape[1] == 1:
        return _draw_curve(recipe, x[:, 0], target, fitted)
    if recipe.is_classification and x.shape[1] == _PLANE:
        return _draw_regions(recipe, x, target.astype(int), fitted)
    return None


def _draw_curve(recipe: Recipe, x: Inputs, target: Floats, fitted: FittedModel) -> Chart:
    axes = create_axes()
    grid = np.linspace(*_compute_limits(x), _STEPS, dtype=np.float32)
    size = 6 if len(x) < _FEW_POINTS else 3
    axes.plot(x, target, "o", color=SERIES[0], ms=size, label="rows", rasterized=len(x) > _STEPS)
    predictions = fitted.predictor.predict(grid[:, np.newaxis])
    axes.plot(grid, predictions[:, 0], color=ORANGE, lw=1.8, label="prediction")
    axes.set_ylabel(add_unit(recipe.target.name or recipe.target.column, recipe.target.unit))
    _name_axis(axes, recipe, 0)
    add_legend(axes)
    return render_svg(
        axes,
        "Predictions over the input range",
        "The rows of the table, and the prediction over the range of the feature.",
    )


def _draw_regions(recipe: Recipe, x: Inputs, target: Floats, fitted: FittedModel) -> Chart:
    axes = create_axes(height=3.8)
    axes.grid(visible=False)
    (left, right), (low, high) = _compute_limits(x[:, 0]), _compute_limits(x[:, 1])
    across, up = np.meshgrid(np.linspace(left, right, _STEPS), np.linspace(low, high, _STEPS))
    grid = np.column_stack([across.ravel(), up.ravel()]).astype(np.float32)
    chosen = predict_labels(fitted.predictor.predict(grid), fitted.threshold).reshape(across.shape)
    labels = recipe.target.labels
    colors = [SERIES[k % len(SERIES)] for k in range(len(labels))]
    axes.imshow(
        chosen,
        extent=(left, right, low, high),
        origin="lower",
        aspect="auto",
        cmap=ListedColormap([to_rgb(color) for color in colors]),
        vmin=-0.5,
        vmax=len(labels) - 0.5,
        alpha=0.28,
        interpolation="nearest",
    )
    for k, label in enumerate(labels):
        rows = x[target == k]
        axes.plot(rows[:, 0], rows[:, 1], "o", color=colors[k], ms=5, mec=INK, mew=0.5, label=label)
    for k in range(_PLANE):
        _name_axis(axes, recipe, k)
    add_legend(axes, loc="upper center", bbox_to_anchor=(0.5, 1.14), ncols=min(len(labels), 4))
    return render_svg(
        axes,
        "Predictions over the input range",
        "The rows of the table by their true label, and the predicted label of each region.",
    )


def _name_axis(axes: Axes, recipe: Recipe, k: int) -> None:
    feature = recipe.features[k]
    (axes.set_xlabel, axes.set_ylabel)[k](add_unit(feature.name, feature.unit))


def _compute_limits(x: Inputs) -> tuple[float, float]:
    margin = _MARGIN * float(x.max() - x.min() or 1)
    return float(x.min()) - margin, float(x.max()) + margin

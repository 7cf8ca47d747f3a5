"""What a model of one or two numbers has learned, as a picture of its answers."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb

from training.data.table import Dataset, Float32s, Floats
from training.evaluation.metrics import decide
from training.model.predictor import Learned
from training.recipe.table import Recipe
from training.report.drawing import INK, ORANGE, SERIES, Picture, canvas, finish, legend

_STEPS = 200
_MARGIN = 0.08
_MOST_POINTS = 1500
_PLANE = 2
_FEW_POINTS = 60


def learned_map(recipe: Recipe, data: Dataset, learned: Learned) -> Picture | None:
    """A curve over one number, or the regions of two; None where there is nothing to draw."""
    kinds = {column.feature.type for column in data.columns}
    known = ~np.isnan(data.features).any(axis=1)
    if "category" in kinds or not known.any():
        return None
    x, target = data.features[known][:_MOST_POINTS], data.target[known][:_MOST_POINTS]
    if recipe.task == "regression" and x.shape[1] == 1:
        return _curve(recipe, x[:, 0], target, learned)
    if recipe.task != "regression" and x.shape[1] == _PLANE:
        return _regions(recipe, x, target.astype(int), learned)
    return None


def _curve(recipe: Recipe, x: Float32s, target: Floats, learned: Learned) -> Picture:
    axes = canvas()
    asked = np.linspace(*_span(x), _STEPS, dtype=np.float32)
    size = 6 if len(x) < _FEW_POINTS else 3
    axes.plot(x, target, "o", color=SERIES[0], ms=size, label="rows", rasterized=len(x) > _STEPS)
    answers = learned.predictor.predict(asked[:, np.newaxis])
    axes.plot(asked, answers[:, 0], color=ORANGE, lw=1.8, label="answer")
    unit = recipe.target.unit
    name = recipe.target.name or recipe.target.column
    axes.set_ylabel(f"{name} ({unit})" if unit and unit != name else name)
    _name_axis(axes, recipe, 0)
    legend(axes)
    return finish(axes, "What it learned", "The rows of the table, and the answer for every value.")


def _regions(recipe: Recipe, x: Float32s, target: Floats, learned: Learned) -> Picture:
    axes = canvas(height=3.8)
    axes.grid(visible=False)
    (left, right), (low, high) = _span(x[:, 0]), _span(x[:, 1])
    across, up = np.meshgrid(np.linspace(left, right, _STEPS), np.linspace(low, high, _STEPS))
    grid = np.column_stack([across.ravel(), up.ravel()]).astype(np.float32)
    chosen = decide(learned.predictor.predict(grid), learned.threshold).reshape(across.shape)
    labels = recipe.target.labels
    colours = [SERIES[k % len(SERIES)] for k in range(len(labels))]
    axes.imshow(
        chosen,
        extent=(left, right, low, high),
        origin="lower",
        aspect="auto",
        cmap=ListedColormap([to_rgb(colour) for colour in colours]),
        vmin=-0.5,
        vmax=len(labels) - 0.5,
        alpha=0.28,
        interpolation="nearest",
    )
    for k, label in enumerate(labels):
        rows = x[target == k]
        axes.plot(
            rows[:, 0], rows[:, 1], "o", color=colours[k], ms=5, mec=INK, mew=0.5, label=label
        )
    for k in range(_PLANE):
        _name_axis(axes, recipe, k)
    legend(axes, loc="upper center", bbox_to_anchor=(0.5, 1.14), ncols=min(len(labels), 4))
    return finish(
        axes,
        "What it learned",
        "The rows of the table by their true label, and the answer it gives anywhere between them.",
    )


def _name_axis(axes: Axes, recipe: Recipe, k: int) -> None:
    feature = recipe.features[k]
    written = f"{feature.name} ({feature.unit})" if feature.unit else feature.name
    (axes.set_xlabel, axes.set_ylabel)[k](written)


def _span(x: Float32s) -> tuple[float, float]:
    margin = _MARGIN * float(x.max() - x.min() or 1)
    return float(x.min()) - margin, float(x.max()) + margin

"""The report's figures, each as SVG text that needs nothing from outside."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn import metrics
from sklearn.calibration import calibration_curve

from training.evaluate import Ints
from training.fit import History
from training.tabular import Floats

_BLUE, _ORANGE, _GREY = "#2563a8", "#d9772b", "#9aa3ad"
_STYLE: Any = {
    "svg.hashsalt": "onward",  # the same data gives the same file
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e9ec",
    "axes.axisbelow": True,
    "legend.frameon": False,
}
_MOST_POINTS = 3000
_HIDDEN_BELOW = 20
_BINARY = 2


def learning_curves(histories: Sequence[History]) -> str:
    """Loss by epoch; of several networks each is one pair of lines."""
    axes = _axes("Loss by epoch")
    for k, history in enumerate(histories):
        parts = {"training": (history.training, _BLUE), "validation": (history.validation, _ORANGE)}
        for part, (losses, colour) in parts.items():
            if losses:
                epochs = np.arange(1, len(losses) + 1)
                name = part if k == 0 else None
                mark = "o" if len(losses) == 1 else ""
                axes.plot(epochs, losses, colour, lw=1.4, marker=mark, label=name)
    everything = [loss for history in histories for loss in history.training]
    if 0 < _HIDDEN_BELOW * min(everything) < max(everything):
        axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.legend()
    return _svg(axes)


def predicted_and_true(target: Floats, value: Floats, unit: str | None) -> str:
    """Every measured row; on the line the answer is right."""
    axes = _axes("Predicted and true")
    some = _some(len(target))
    axes.scatter(target[some], value[some], s=9, alpha=0.45, color=_BLUE, lw=0, rasterized=True)
    ends = [min(target.min(), value.min()), max(target.max(), value.max())]
    axes.plot(ends, ends, color=_GREY, lw=1, ls="--")
    axes.set_xlabel(f"true ({unit})" if unit else "true")
    axes.set_ylabel("predicted")
    return _svg(axes)


def residuals(target: Floats, value: Floats, unit: str | None) -> str:
    """How the errors are spread: predicted less true, the outer percents left out."""
    axes = _axes("Errors")
    errors = value - target
    low, high = np.quantile(errors, [0.01, 0.99])
    axes.hist(errors, bins=40, range=(low, high) if high > low else None, color=_BLUE, alpha=0.85)
    axes.axvline(0, color=_GREY, lw=1, ls="--")
    axes.set_xlabel(f"predicted less true ({unit})" if unit else "predicted less true")
    axes.set_ylabel("rows")
    return _svg(axes)


def confusion(target: Ints, answered: Ints, labels: Sequence[str]) -> str:
    """Rows by their true label, columns by the answer."""
    counts = metrics.confusion_matrix(target, answered, labels=range(len(labels)))
    axes = _axes("Confusion matrix")
    axes.grid(visible=False)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.15)
    axes.set_xticks(range(len(labels)), labels, rotation=25 if len(labels) > _BINARY else 0)
    axes.set_yticks(range(len(labels)), labels)
    for row, column in np.ndindex(*counts.shape):
        colour = "white" if shares[row, column] > 0.6 else "black"  # noqa: PLR2004 - legible on its cell
        axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=colour)
    axes.set_xlabel("answered")
    axes.set_ylabel("true")
    return _svg(axes)


def roc_curves(target: Ints, shares: Floats, labels: Sequence[str]) -> str:
    """True against false positive rate; of more than two labels, each against the others."""
    axes = _axes("ROC curve")
    for k in _curves(labels):
        fpr, tpr, _ = metrics.roc_curve(target == k, shares[:, k])
        axes.plot(fpr, tpr, lw=1.6, label=f"{labels[k]} (area {metrics.auc(fpr, tpr):.3f})")
    axes.plot([0, 1], [0, 1], color=_GREY, lw=1, ls="--")
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    axes.legend(loc="lower right")
    return _svg(axes)


def precision_recall_curves(target: Ints, shares: Floats, labels: Sequence[str]) -> str:
    """Precision against recall, with the area as average precision."""
    axes = _axes("Precision and recall")
    for k in _curves(labels):
        precision, recall, _ = metrics.precision_recall_curve(target == k, shares[:, k])
        area = metrics.average_precision_score(target == k, shares[:, k])
        axes.plot(recall, precision, lw=1.6, label=f"{labels[k]} (area {area:.3f})")
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.legend(loc="lower left")
    return _svg(axes)


def calibration(target: Ints, shares: Floats, labels: Sequence[str]) -> str:
    """What came true among rows of about the same probability; on the line it is honest."""
    axes = _axes("Calibration")
    for k in _curves(labels):
        bins = min(10, max(2, len(target) // 10))
        true, predicted = calibration_curve(
            target == k, shares[:, k], n_bins=bins, strategy="quantile"
        )
        axes.plot(predicted, true, marker="o", ms=4, lw=1.4, label=labels[k])
    axes.plot([0, 1], [0, 1], color=_GREY, lw=1, ls="--")
    axes.set_xlabel("probability")
    axes.set_ylabel("share that came true")
    axes.legend(loc="upper left")
    return _svg(axes)


def importance_bars(importance: Mapping[str, float], metric: str) -> str:
    """The columns that matter most, by how much worse the model gets without their order."""
    names = sorted(importance, key=lambda name: importance[name])[-15:]
    axes = _axes("Which columns matter", height=max(2.2, 0.32 * len(names) + 1))
    axes.barh(names, [importance[name] for name in names], color=_BLUE)
    axes.set_xlabel(f"rise of {metric} when the column is shuffled")
    return _svg(axes)


def _curves(labels: Sequence[str]) -> list[int]:
    return [1] if len(labels) == _BINARY else list(range(len(labels)))


def _some(rows: int) -> Ints:
    if rows <= _MOST_POINTS:
        return np.arange(rows)
    return np.random.default_rng(0).choice(rows, _MOST_POINTS, replace=False)


def _axes(title: str, height: float = 3.6) -> Axes:
    with mpl.rc_context(_STYLE):
        axes = Figure(figsize=(4.8, height), layout="constrained").subplots()
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    return axes


def _svg(axes: Axes) -> str:
    file = io.StringIO()
    with mpl.rc_context(_STYLE):
        axes.figure.savefig(file, format="svg", dpi=150, metadata={"Date": None})  # type: ignore[union-attr]
    return file.getvalue()

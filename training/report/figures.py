"""Charts of the performance of a model."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator, NullFormatter
from sklearn import metrics
from sklearn.calibration import calibration_curve

from service.bundle.manifest import BINARY
from training.data.table import Floats
from training.evaluation.metrics import compute_calibration_bins
from training.fit import History
from training.model.thresholds import Ints, Truths
from training.report.drawing import (
    BLUE,
    INK,
    ORANGE,
    SERIES,
    SOFT,
    Chart,
    add_legend,
    create_axes,
    render_svg,
)
from training.report.tables import add_unit

_MAX_POINTS = 3000
_FEW_POINTS, _SOME_POINTS = 60, 600
_MAX_CURVES = len(SERIES)
_MAX_LABELS_IN_A_MATRIX = 12
_MAX_NAMES_AT_AN_AXIS = 36
_POINTS_OF_AN_AXIS = 170
_LONGEST_NAME = 22
_MAX_BARS = 15
_FEW_LABELS = 6
_LOG_SCALE_RATIO = 20


def draw_learning_curves(histories: Sequence[History], loss: str) -> Chart:
    """Draw the loss by epoch, with a pair of lines per network."""
    axes = create_axes()
    for k, history in enumerate(histories):
        parts = {"training": (history.training, BLUE), "validation": (history.validation, ORANGE)}
        for part, (losses, color) in parts.items():
            if losses:
                epochs = np.arange(1, len(losses) + 1)
                name = part if k == 0 else None
                mark = "o" if len(losses) == 1 else ""
                axes.plot(epochs, losses, color=color, lw=1.5, marker=mark, ms=4, label=name)
        monitored, best = history.validation or history.training, history.best_epoch
        name = "best epoch" if k == 0 else None
        axes.plot([best + 1], [monitored[best]], "o", color=INK, ms=5, mfc="none", label=name)
    everything = [loss for history in histories for loss in history.training]
    if 0 < _LOG_SCALE_RATIO * min(everything) < max(everything):
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel(loss)
    add_legend(axes)
    many = f" Each of the {len(histories)} networks has a pair of lines." * (len(histories) > 1)
    return render_svg(
        axes,
        "Learning curves",
        "The loss after each epoch. The model has the weights of the best epoch on the validation "
        f"set or, without one, on the training set.{many}",
    )


def draw_predicted_and_true(target: Floats, value: Floats, unit: str | None) -> Chart:
    """Draw predicted against true values of the measured rows."""
    axes = create_axes()
    some = _choose_points(len(target))
    few = len(some) < _FEW_POINTS
    size, alpha = (40, 0.9) if few else (16, 0.55) if len(some) < _SOME_POINTS else (10, 0.4)
    axes.scatter(
        target[some], value[some], s=size, alpha=alpha, color=SERIES[0], lw=0, rasterized=not few
    )
    ends = [min(target.min(), value.min()), max(target.max(), value.max())]
    axes.plot(ends, ends, color=SOFT, lw=1, ls="--")
    axes.set_xlabel(add_unit("true", unit))
    axes.set_ylabel(add_unit("predicted", unit))
    part = f" {len(some):,} of {len(target):,} rows." * (len(some) < len(target))
    return render_svg(
        axes, "Predicted and true values", f"On the dashed line the prediction is correct.{part}"
    )


def draw_residuals(target: Floats, value: Floats, unit: str | None) -> Chart:
    """Draw the distribution of the errors, or each error if there are few rows."""
    axes = create_axes()
    errors = value - target
    if len(errors) < _FEW_POINTS:
        axes.axhline(0, color=SOFT, lw=1, ls="--")
        axes.vlines(target, 0, errors, color=SERIES[0], lw=1.5)
        axes.plot(target, errors, "o", color=SERIES[0], ms=5)
        axes.set_xlabel(add_unit("true", unit))
        axes.set_ylabel(add_unit("error", unit))
        return render_svg(axes, "Errors", "Predicted minus true value of each row.")
    low, high = np.quantile(errors, [0.01, 0.99])
    axes.hist(errors, bins=40, range=(low, high) if high > low else None, color=SERIES[0])
    axes.axvline(0, color=SOFT, lw=1, ls="--")
    axes.set_xlabel(add_unit("error", unit))
    axes.set_ylabel("rows")
    return render_svg(
        axes, "Errors", "Predicted minus true value, without the outermost percent at each end."
    )


def draw_confusion(target: Ints, predicted: Ints, labels: Sequence[str]) -> Chart:
    """Draw the confusion matrix: true labels in rows, predicted labels in columns."""
    counts = metrics.confusion_matrix(target, predicted, labels=range(len(labels)))
    axes = create_axes()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.15, aspect="auto", rasterized=True)
    slant = 0 if len(labels) == BINARY else 25 if len(labels) <= _FEW_LABELS else 90
    if len(labels) <= _MAX_NAMES_AT_AN_AXIS:
        names = [_shorten(label) for label in labels]
        size = min(10.0, _POINTS_OF_AN_AXIS / len(labels))
        axes.set_xticks(range(len(labels)), names, rotation=slant, fontsize=size)
        axes.set_yticks(range(len(labels)), names, fontsize=size)
    if len(labels) <= _MAX_LABELS_IN_A_MATRIX:
        for row, column in np.ndindex(*counts.shape):
            color = "white" if shares[row, column] > 0.6 else "black"  # noqa: PLR2004 - legible on its cell
            axes.text(
                column, row, f"{counts[row, column]:,}", ha="center", va="center", color=color
            )
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return render_svg(axes, "Confusion matrix", "True labels in rows, predicted labels in columns.")


def draw_reliability(series: Mapping[str, tuple[Floats, Truths]]) -> Chart:
    """Draw the reliability diagram: accuracy by confidence, in ten bins.

    Args:
        series: by the name of a line, ``[rows]`` probabilities of the predicted label, and whether
            that label is true.
    """
    axes = create_axes()
    for (name, (confidence, correct)), color in zip(series.items(), SERIES, strict=False):
        confidences, accuracies, shares = np.array(compute_calibration_bins(confidence, correct)).T
        axes.plot(confidences, accuracies, lw=1.3, color=color, label=name)
        axes.scatter(confidences, accuracies, s=10 + 190 * shares, color=color, alpha=0.6, lw=0)
    axes.plot([0, 1], [0, 1], color=SOFT, lw=1, ls="--")
    axes.set_xlabel("probability of the predicted label")
    axes.set_ylabel("accuracy")
    add_legend(axes, loc="upper left")
    return render_svg(
        axes,
        "Calibration",
        "On the dashed line the model is calibrated: the probability equals the accuracy. Larger "
        "points have more predictions.",
    )


def draw_roc_curves(target: Ints, probabilities: Floats, labels: Sequence[str]) -> Chart:
    """Draw ROC curves; for more than two labels, each against the others."""
    axes = create_axes()
    for k, color in _choose_curves(target, labels):
        fpr, tpr, _ = metrics.roc_curve(target == k, probabilities[:, k])
        label = f"{labels[k]} (area {metrics.auc(fpr, tpr):.3f})"
        axes.plot(fpr, tpr, lw=1.7, color=color, label=label)
    axes.plot([0, 1], [0, 1], color=SOFT, lw=1, ls="--")
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    add_legend(axes, loc="lower right")
    return render_svg(
        axes,
        "ROC curve",
        "True against false positive rate for every threshold. "
        f"Random guessing is on the dashed line.{_describe_omitted(labels)}",
    )


def draw_precision_recall_curves(
    target: Ints, probabilities: Floats, labels: Sequence[str]
) -> Chart:
    """Draw precision-recall curves, with the average precision."""
    axes = create_axes()
    for k, color in _choose_curves(target, labels):
        precision, recall, _ = metrics.precision_recall_curve(target == k, probabilities[:, k])
        area = metrics.average_precision_score(target == k, probabilities[:, k])
        label = f"{labels[k]} (area {area:.3f})"
        axes.step(recall, precision, lw=1.7, color=color, label=label, where="post")
        axes.axhline((target == k).mean(), color=color, lw=1, ls=":")
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    add_legend(axes, loc="lower left" if len(labels) <= _FEW_LABELS else "upper right")
    return render_svg(
        axes,
        "Precision and recall",
        "Precision against recall for every threshold. "
        f"Random guessing is on the dotted line.{_describe_omitted(labels)}",
    )


def draw_calibration(target: Ints, probabilities: Floats, labels: Sequence[str]) -> Chart:
    """Draw the calibration curve of each label."""
    axes = create_axes()
    bins = min(10, max(2, len(target) // 10))
    for k, color in _choose_curves(target, labels):
        true, predicted = calibration_curve(
            target == k, probabilities[:, k], n_bins=bins, strategy="quantile"
        )
        axes.plot(predicted, true, marker="o", ms=4, lw=1.5, color=color, label=labels[k])
    axes.plot([0, 1], [0, 1], color=SOFT, lw=1, ls="--")
    axes.set_xlabel("probability")
    axes.set_ylabel("observed frequency")
    add_legend(axes, loc="upper left")
    return render_svg(
        axes,
        "Calibration",
        "Observed frequency against predicted probability; on the dashed line the model is "
        f"calibrated.{_describe_omitted(labels)}",
    )


def draw_importance(importance: Mapping[str, float], metric: str, rows: str) -> Chart:
    """Draw the most important columns by permutation importance."""
    names = sorted(importance, key=lambda name: importance[name])[-_MAX_BARS:]
    axes = create_axes(height=max(1.6, 0.27 * len(names) + 0.8))
    axes.grid(visible=False, axis="y")
    axes.barh(names, [importance[name] for name in names], color=SERIES[0], height=0.7)
    axes.set_xlabel(f"increase of {metric}")
    most = f" The {_MAX_BARS} most important columns." * (len(importance) > _MAX_BARS)
    return render_svg(
        axes,
        "Feature importance",
        f"The increase of the error when the cells of a column are shuffled among {rows}.{most}",
    )


def _choose_curves(target: Ints, labels: Sequence[str]) -> list[tuple[int, str]]:
    """Return the labels to draw with their colors, at most the most frequent ones."""
    if len(labels) == BINARY:
        return [(1, SERIES[0])]
    counts = np.bincount(target, minlength=len(labels))
    drawn = sorted(np.argsort(-counts, kind="stable")[:_MAX_CURVES].tolist())
    return list(zip(drawn, SERIES, strict=False))


def _shorten(label: str) -> str:
    """Shorten a label that would take the space of the chart."""
    return label if len(label) <= _LONGEST_NAME else label[: _LONGEST_NAME - 1] + "…"


def _describe_omitted(labels: Sequence[str]) -> str:
    return f" The {_MAX_CURVES} most frequent labels." * (len(labels) > _MAX_CURVES)


def _choose_points(rows: int) -> Ints:
    if rows <= _MAX_POINTS:
        return np.arange(rows)
    return np.random.default_rng(0).choice(rows, _MAX_POINTS, replace=False)

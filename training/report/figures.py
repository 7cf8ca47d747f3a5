"""The report's figures of how good a model is."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator, NullFormatter
from sklearn import metrics
from sklearn.calibration import calibration_curve

from training.data.table import Floats
from training.evaluation.calibration import Truths
from training.evaluation.metrics import Ints
from training.fit import History
from training.report.drawing import BLUE, INK, ORANGE, SERIES, SOFT, Picture, canvas, finish, legend

_MOST_POINTS = 3000
_FEW_POINTS = 60
_MOST_CURVES = len(SERIES)
_MOST_LABELS_IN_A_MATRIX = 12
_MOST_NAMES_AT_AN_AXIS = 36
_POINTS_OF_AN_AXIS = 170
_LONGEST_NAME = 22
_MOST_BARS = 15
_BINS = 10
_FEW_LABELS = 6
_HIDDEN_BELOW = 20
_BINARY = 2


def learning_curves(histories: Sequence[History], loss: str) -> Picture:
    """Loss by epoch; of several networks each is one pair of lines."""
    axes = canvas()
    for k, history in enumerate(histories):
        parts = {"training": (history.training, BLUE), "validation": (history.validation, ORANGE)}
        for part, (losses, colour) in parts.items():
            if losses:
                epochs = np.arange(1, len(losses) + 1)
                name = part if k == 0 else None
                mark = "o" if len(losses) == 1 else ""
                axes.plot(epochs, losses, color=colour, lw=1.5, marker=mark, ms=4, label=name)
        watched, best = history.validation or history.training, history.best_epoch
        name = "best epoch" if k == 0 else None
        axes.plot([best + 1], [watched[best]], "o", color=INK, ms=5, mfc="none", label=name)
    everything = [loss for history in histories for loss in history.training]
    if 0 < _HIDDEN_BELOW * min(everything) < max(everything):
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel(loss)
    legend(axes)
    many = f" Each of the {len(histories)} networks is one pair of lines." * (len(histories) > 1)
    return finish(
        axes,
        "Learning curves",
        "The loss after each epoch. Where the validation part is watched, the weights of its best "
        f"epoch are kept.{many}",
    )


def predicted_and_true(target: Floats, value: Floats, unit: str | None) -> Picture:
    """Every measured row; on the line the answer is right."""
    axes = canvas()
    some = _some(len(target))
    size, alpha = (26, 0.9) if len(some) < _FEW_POINTS else (8, 0.35)
    axes.scatter(
        target[some], value[some], s=size, alpha=alpha, color=SERIES[0], lw=0, rasterized=True
    )
    ends = [min(target.min(), value.min()), max(target.max(), value.max())]
    axes.plot(ends, ends, color=SOFT, lw=1, ls="--")
    axes.set_xlabel(f"true ({unit})" if unit else "true")
    axes.set_ylabel(f"predicted ({unit})" if unit else "predicted")
    few = f" {len(some):,} of {len(target):,} rows." * (len(some) < len(target))
    return finish(axes, "Predicted and true", f"On the dashed line the answer is right.{few}")


def residuals(target: Floats, value: Floats, unit: str | None) -> Picture:
    """How the errors are spread; a few are shown one by one."""
    axes = canvas()
    errors = value - target
    written = f"error ({unit})" if unit else "error"
    if len(errors) < _FEW_POINTS:
        axes.axhline(0, color=SOFT, lw=1, ls="--")
        axes.vlines(target, 0, errors, color=SERIES[0], lw=1.5)
        axes.plot(target, errors, "o", color=SERIES[0], ms=5)
        axes.set_xlabel(f"true ({unit})" if unit else "true")
        axes.set_ylabel(written)
        return finish(axes, "Errors", "Predicted less true, for each row.")
    low, high = np.quantile(errors, [0.01, 0.99])
    axes.hist(errors, bins=40, range=(low, high) if high > low else None, color=SERIES[0])
    axes.axvline(0, color=SOFT, lw=1, ls="--")
    axes.set_xlabel(written)
    axes.set_ylabel("rows")
    return finish(
        axes, "Errors", "Predicted less true; the outermost percent at each end is left out."
    )


def confusion(target: Ints, answered: Ints, labels: Sequence[str]) -> Picture:
    """Rows by their true label, columns by the answer."""
    counts = metrics.confusion_matrix(target, answered, labels=range(len(labels)))
    axes = canvas()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.15, aspect="auto", rasterized=True)
    slant = 0 if len(labels) == _BINARY else 25 if len(labels) <= _FEW_LABELS else 90
    if len(labels) <= _MOST_NAMES_AT_AN_AXIS:
        names = [_shortened(label) for label in labels]
        size = min(10.0, _POINTS_OF_AN_AXIS / len(labels))
        axes.set_xticks(range(len(labels)), names, rotation=slant, fontsize=size)
        axes.set_yticks(range(len(labels)), names, fontsize=size)
    if len(labels) <= _MOST_LABELS_IN_A_MATRIX:
        for row, column in np.ndindex(*counts.shape):
            colour = "white" if shares[row, column] > 0.6 else "black"  # noqa: PLR2004 - legible on its cell
            axes.text(
                column, row, f"{counts[row, column]:,}", ha="center", va="center", color=colour
            )
    axes.set_xlabel("answered")
    axes.set_ylabel("true")
    return finish(
        axes, "Confusion matrix", "Rows by their true label, and what they were answered."
    )


def reliability(spans: Mapping[str, tuple[Floats, Truths]]) -> Picture:
    """How often answers of about the same probability are right, over ten bins.

    Args:
        spans: by what it is of, ``[answers]`` probabilities of the label answered, and whether
            that label is true.
    """
    axes = canvas()
    for (name, (confidence, right)), colour in zip(spans.items(), SERIES, strict=False):
        place = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
        bins = np.unique(place)
        said = [confidence[place == k].mean() for k in bins]
        came = [right[place == k].mean() for k in bins]
        share = np.array([(place == k).mean() for k in bins])
        axes.plot(said, came, lw=1.3, color=colour, label=name)
        axes.scatter(said, came, s=10 + 190 * share, color=colour, alpha=0.6, lw=0)
    axes.plot([0, 1], [0, 1], color=SOFT, lw=1, ls="--")
    axes.set_xlabel("probability of the label answered")
    axes.set_ylabel("share that was right")
    legend(axes, loc="upper left")
    return finish(
        axes,
        "Calibration",
        "On the dashed line the probability can be taken at its word. The larger a point, the more "
        "answers it stands for.",
    )


def roc_curves(target: Ints, shares: Floats, labels: Sequence[str]) -> Picture:
    """True against false positive rate; of more than two labels, each against the others."""
    axes = canvas()
    for k, colour in _curves(target, labels):
        fpr, tpr, _ = metrics.roc_curve(target == k, shares[:, k])
        label = f"{labels[k]} (area {metrics.auc(fpr, tpr):.3f})"
        axes.plot(fpr, tpr, lw=1.7, color=colour, label=label)
    axes.plot([0, 1], [0, 1], color=SOFT, lw=1, ls="--")
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    legend(axes, loc="lower right")
    return finish(
        axes,
        "ROC curve",
        "What every threshold would find, and at the price of how many false alarms. "
        f"Guessing stays on the dashed line.{_drawn(labels)}",
    )


def precision_recall_curves(target: Ints, shares: Floats, labels: Sequence[str]) -> Picture:
    """Precision against recall, with the area as average precision."""
    axes = canvas()
    for k, colour in _curves(target, labels):
        precision, recall, _ = metrics.precision_recall_curve(target == k, shares[:, k])
        area = metrics.average_precision_score(target == k, shares[:, k])
        label = f"{labels[k]} (area {area:.3f})"
        axes.step(recall, precision, lw=1.7, color=colour, label=label, where="post")
        axes.axhline((target == k).mean(), color=colour, lw=1, ls=":")
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    legend(axes, loc="lower left" if len(labels) <= _FEW_LABELS else "upper right")
    return finish(
        axes,
        "Precision and recall",
        "How many of those it picks are right, against how many of the right ones it picks. "
        f"Guessing stays on the dotted line.{_drawn(labels)}",
    )


def calibration(target: Ints, shares: Floats, labels: Sequence[str]) -> Picture:
    """What came true among rows of about the same probability; on the line it is honest."""
    axes = canvas()
    bins = min(10, max(2, len(target) // 10))
    for k, colour in _curves(target, labels):
        true, predicted = calibration_curve(
            target == k, shares[:, k], n_bins=bins, strategy="quantile"
        )
        axes.plot(predicted, true, marker="o", ms=4, lw=1.5, color=colour, label=labels[k])
    axes.plot([0, 1], [0, 1], color=SOFT, lw=1, ls="--")
    axes.set_xlabel("probability")
    axes.set_ylabel("share that came true")
    legend(axes, loc="upper left")
    return finish(
        axes,
        "Calibration",
        "Of the answers with about this probability, so many came true; on the dashed line "
        f"the probability can be taken at its word.{_drawn(labels)}",
    )


def importance_bars(importance: Mapping[str, float], metric: str, rows: str) -> Picture:
    """The columns that matter most, by how much worse the model gets without their order."""
    names = sorted(importance, key=lambda name: importance[name])[-_MOST_BARS:]
    axes = canvas(height=max(1.6, 0.27 * len(names) + 0.8))
    axes.grid(visible=False, axis="y")
    axes.barh(names, [importance[name] for name in names], color=SERIES[0], height=0.7)
    axes.set_xlabel(f"rise of {metric}")
    most = f" The {_MOST_BARS} that matter most." * (len(importance) > _MOST_BARS)
    return finish(
        axes,
        "Which columns matter",
        f"How much worse the answers get when one column's cells are shuffled among {rows}.{most}",
    )


def _curves(target: Ints, labels: Sequence[str]) -> list[tuple[int, str]]:
    """The labels to draw, the commonest first where there are too many, with their colours."""
    if len(labels) == _BINARY:
        return [(1, SERIES[0])]
    counts = np.bincount(target, minlength=len(labels))
    drawn = sorted(np.argsort(-counts, kind="stable")[:_MOST_CURVES].tolist())
    return list(zip(drawn, SERIES, strict=False))


def _shortened(label: str) -> str:
    """A label for a figure, where a long one would leave no place for what is drawn."""
    return label if len(label) <= _LONGEST_NAME else label[: _LONGEST_NAME - 1] + "…"


def _drawn(labels: Sequence[str]) -> str:
    return f" The {_MOST_CURVES} commonest labels." * (len(labels) > _MOST_CURVES)


def _some(rows: int) -> Ints:
    if rows <= _MOST_POINTS:
        return np.arange(rows)
    return np.random.default_rng(0).choice(rows, _MOST_POINTS, replace=False)

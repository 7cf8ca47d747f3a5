"""What each shipped model must reach: other solvers and libraries, fitted on the same rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import r2_score, roc_auc_score, root_mean_squared_error
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from service.bundle.manifest import ClassesOutput, ImageInput, ValueOutput
from service.bundle.store import Bundle, read_bundle, versions_in
from training.data.sources import Folders, load
from training.data.split import Parts, divide
from training.data.table import (
    Dataset,
    Float32s,
    Floats,
    encode_features,
    encode_target,
    with_target,
)
from training.errors import DataError
from training.evaluation.calibration import error_of, unsure_metrics
from training.evaluation.intervals import bounds
from training.evaluation.metrics import confidence, decide
from training.export.published import Published, open_model
from training.images.sources import load_pictures, split_images
from training.onnx_files import Graph
from training.recipe.loader import parse_image_recipe

_CLOSE = 1e-4
_CLOSE_PROBABILITY = 1e-3
_TESTED_LEVEL = 0.9
_MEBI = 1_000_000
_AT_ONCE = 256
_HALF = 0.5
_RATIO = 3.0


@dataclass(frozen=True)
class Figure:
    """One claim about a model."""

    claim: str
    measured: str
    holds: bool


@dataclass(frozen=True)
class Trial:
    """A published model with the rows it was made and measured on."""

    model: Published
    data: Dataset
    parts: Parts
    models: Path

    @property
    def learned_from(self) -> npt.NDArray[np.intp]:
        """All rows that the test part does not hold, in order."""
        return np.sort(np.concatenate([self.parts.training, self.parts.validation]))

    def answers(self, rows: npt.NDArray[np.intp] | None = None) -> Float32s:
        """What the published graph says to some of the rows, or to all."""
        features = self.data.features if rows is None else self.data.features[rows]
        return self.model.graph.predict(features)

    def ask(self, *row: float) -> float:
        """What the published graph says to one row."""
        return float(self.model.graph.predict(np.array([row], dtype=np.float32))[0, 0])

    def metric(self, name: str) -> float:
        """A metric of the manifest."""
        evaluation = self.model.manifest.evaluation
        return evaluation.metrics[name] if evaluation else float("nan")


def trial_of(model: Published, models: Path, folders: Folders) -> Trial:
    """The model with its table, divided as its recipe says."""
    recipe = model.recipe
    table = with_target(load(recipe.data, folders), recipe.target)
    target = encode_target(table, recipe.target)
    parts = divide(target, recipe.split, recipe.seed, classes=recipe.task != "regression")
    features = encode_features(table, model.columns)
    return Trial(model, Dataset(model.columns, features, target), parts, models)


def _least_squares(trial: Trial) -> Iterator[Figure]:
    x = trial.data.features.astype(np.float64)
    oracle = LinearRegression().fit(x, trial.data.target)
    expected = oracle.predict(x)
    error = np.max(np.abs(trial.answers()[:, 0] - expected) / np.abs(expected))
    yield Figure(
        "predictions equal to the least-squares solution within 1e-4",
        f"{error:.1e}",
        bool(error < _CLOSE),
    )


def _ice_cream(trial: Trial) -> Iterator[Figure]:
    yield from _least_squares(trial)
    yield _asked(trial, "30 °C → 18.846", (30,), 18.846, 0.0005)


def _line(trial: Trial) -> Iterator[Figure]:
    yield from _least_squares(trial)
    yield _asked(trial, "13 → 27", (13,), 27, _CLOSE)
    yield _asked(trial, "-5 → -9", (-5,), -9, _CLOSE)


def _house_price(trial: Trial) -> Iterator[Figure]:
    yield from _least_squares(trial)
    yield _asked(trial, "1650 sq ft, 3 bedrooms → 293,081 dollars", (1650, 3), 293_081, 1)


def _asked(
    trial: Trial, claim: str, row: tuple[float, ...], expected: float, tolerance: float
) -> Figure:
    found = trial.ask(*row)
    return Figure(claim, f"{found:,.3f}", abs(found - expected) <= tolerance)


def _california_linear(trial: Trial) -> Iterator[Figure]:
    x, y, test = trial.data.features, trial.data.target, trial.parts.test
    ridge = make_pipeline(_columns(trial), Ridge(alpha=1.0))
    ridge.fit(x[trial.learned_from], y[trial.learned_from])
    expected = root_mean_squared_error(y[test], ridge.predict(x[test]))
    found = root_mean_squared_error(y[test], trial.answers(test)[:, 0])
    yield Figure(
        f"test RMSE of scikit-learn's ridge, {expected:,.0f}, within 0.1 %",
        f"{found:,.0f}",
        bool(abs(found / expected - 1) < 1e-3),  # noqa: PLR2004 - the claim's own number
    )
    yield from _covered(trial)


def _california_mlp(trial: Trial) -> Iterator[Figure]:
    y, test = trial.data.target, trial.parts.test
    found = root_mean_squared_error(y[test], trial.answers(test)[:, 0])
    expected = root_mean_squared_error(y[test], _boosted(trial, y))
    yield Figure(
        f"test RMSE no worse than gradient boosting's, {expected:,.0f}",
        f"{found:,.0f} ({found / expected - 1:+.1%})",
        bool(found <= expected),
    )
    yield from _covered(trial)


def _king_county(trial: Trial) -> Iterator[Figure]:
    y, test = trial.data.target, trial.parts.test
    found = r2_score(y[test], trial.answers(test)[:, 0])
    raw = r2_score(y[test], _boosted(trial, y))
    log = r2_score(y[test], np.expm1(_boosted(trial, np.log1p(y))))
    for name, expected in (("the price", raw), ("its logarithm", log)):
        yield Figure(
            f"test R² no worse than gradient boosting's on {name}, {expected:.4f}",
            f"{found:.4f}",
            bool(found >= expected),
        )
    yield from _covered(trial)


def _covered(trial: Trial) -> Iterator[Figure]:
    """What the 90 % intervals hold of the test part."""
    output = trial.model.manifest.output
    interval = output.interval if isinstance(output, ValueOutput) else None
    if interval is None:
        return
    level = next(one for one in interval.levels if one.level == _TESTED_LEVEL)
    target = trial.data.target[trial.parts.test]
    low, high = bounds(interval, level, trial.answers(trial.parts.test)[:, 0].astype(np.float64))
    coverage = ((low <= target) & (target <= high)).mean()
    yield Figure(
        "90 % intervals that contain 88 % to 92 % of the test set",
        f"{coverage:.1%}, {(high - low).mean():,.0f} wide on average",
        bool(abs(coverage - _TESTED_LEVEL) <= 0.02),  # noqa: PLR2004 - the claim's own number
    )


def _boosted(trial: Trial, target: Floats) -> Floats:
    """Histogram gradient boosting with its defaults, on every row that is not of the test part."""
    x, rows = trial.data.features, trial.learned_from
    boosting = HistGradientBoostingRegressor(random_state=0).fit(x[rows], target[rows])
    return np.asarray(boosting.predict(x[trial.parts.test]))


def _admission(trial: Trial) -> Iterator[Figure]:
    rows = trial.parts.training
    x, y = trial.data.features[rows].astype(np.float64), trial.data.target[rows]
    oracle = make_pipeline(
        StandardScaler(), LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10)
    )
    expected = oracle.fit(x, y).predict_proba(x)[:, 1]
    error = np.abs(trial.answers(rows)[:, 0] - expected).max()
    yield Figure(
        "probabilities equal to the logistic optimum within 1e-3 on every training row",
        f"{error:.1e}",
        bool(error < _CLOSE_PROBABILITY),
    )


def _admission_mlp(trial: Trial) -> Iterator[Figure]:
    logistic = open_model(trial.models, "admission").manifest.evaluation
    expected = logistic.metrics["accuracy"] if logistic else float("nan")
    found = trial.metric("accuracy")
    claim = f"10-fold accuracy above logistic regression's, {expected:.2f}"
    yield Figure(claim, f"{found:.2f}", found > expected)


def _all_right(trial: Trial) -> Iterator[Figure]:
    right = int((decide(trial.answers(), trial.model.threshold) == trial.data.target).sum())
    rows = len(trial.data.target)
    yield Figure("every row of the table predicted correctly", f"{right} of {rows}", right == rows)


def _iris(trial: Trial) -> Iterator[Figure]:
    found = trial.metric("cross_validated_accuracy")
    yield Figure("10-fold accuracy at least 0.95", f"{found:.4f}", found >= 0.95)  # noqa: PLR2004 - the claim's own number


def _churn(trial: Trial) -> Iterator[Figure]:
    x, y, test = trial.data.features, trial.data.target, trial.parts.test
    pipeline = make_pipeline(_columns(trial), LogisticRegression(max_iter=1000))
    pipeline.fit(x[trial.learned_from], y[trial.learned_from])
    expected = roc_auc_score(y[test], pipeline.predict_proba(x[test])[:, 1])
    found = roc_auc_score(y[test], trial.answers(test)[:, 0])
    yield Figure(
        f"test ROC AUC no worse than a scikit-learn logistic regression pipeline's, {expected:.4f}",
        f"{found:.4f}",
        bool(found >= expected),
    )


def _fruit(trial: Trial) -> Iterator[Figure]:
    yield from _all_right(trial)
    pear = trial.ask(101, 6.3, 7.9)
    yield Figure("101, 6.3, 7.9 → pear", f"pear with {pear:.2f}", pear >= trial.model.threshold)


def _columns(trial: Trial) -> Pipeline:
    """scikit-learn's usual preprocessing of the same columns."""
    words = [k for k, c in enumerate(trial.data.columns) if c.feature.type == "category"]
    numbers = [k for k in range(len(trial.data.columns)) if k not in words]
    filled = SimpleImputer(strategy="median", add_indicator=True)
    return make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), words),
        (make_pipeline(filled, StandardScaler()), numbers),
        sparse_threshold=0,
    )


FIGURES: dict[str, Callable[[Trial], Iterator[Figure]]] = {
    "ice_cream": _ice_cream,
    "line": _line,
    "house_price": _house_price,
    "california_linear": _california_linear,
    "california_mlp": _california_mlp,
    "king_county": _king_county,
    "admission": _admission,
    "admission_mlp": _admission_mlp,
    "xor": _all_right,
    "iris": _iris,
    "iris_perceptron": _all_right,
    "churn": _churn,
    "fruit": _fruit,
    "blobs": _all_right,
}


@dataclass(frozen=True)
class Bar:
    """What a recipe must reach."""

    wrong: float
    """Share of the test images at most."""
    bytes: float | None = None
    """Size of ``model.onnx`` below which it must stay."""
    ratio: float = _RATIO
    """How many times as often wrong as the others unsure answers must be."""


BARS = {
    "digits_sigmoid": Bar(0.03),
    "digits_small": Bar(0.016, ratio=10),
    "digits_mlp": Bar(0.016, ratio=10),
    "digits_conv": Bar(0.012, ratio=10),
    "digits_cnn": Bar(0.003, 2 * _MEBI, ratio=10),
    "fashion_mlp": Bar(0.10),
    "fashion_cnn": Bar(0.06, 4 * _MEBI),
    "cats_dogs": Bar(0.14, 4 * _MEBI),
    "cats_dogs_course": Bar(0.25),
}


def picture_figures(bundle: Bundle, folders: Folders) -> Iterator[Figure]:
    """The claims of a published model of pictures.

    Raises:
        TrainingError: its pictures cannot be had.
    """
    manifest = bundle.manifest
    taken, output, made = manifest.input, manifest.output, manifest.provenance
    if not isinstance(taken, ImageInput) or not isinstance(output, ClassesOutput) or made is None:
        raise DataError(f"{manifest.name} was not trained on pictures here.")
    recipe = parse_image_recipe(made.recipe, f"in the manifest of {manifest.name}")
    _, _, test = split_images(
        load_pictures(recipe.data, recipe.target.labels, taken, folders), recipe
    )
    graph = Graph(bundle.model)
    answers = np.concatenate(
        [
            graph.predict(test.pixels(slice(start, start + _AT_ONCE)))
            for start in range(0, len(test), _AT_ONCE)
        ]
    )
    bar = BARS.get(manifest.name)
    wrong = float((decide(answers, _HALF) != test.target).mean())
    if bar is not None:
        claim = f"error of at most {bar.wrong:.2%} of {len(test):,} test images"
        yield Figure(claim, f"{wrong:.2%}", wrong <= bar.wrong)
        size = manifest.files["model.onnx"].bytes
        if bar.bytes is not None:
            claim = f"smaller than {bar.bytes / _MEBI:g} MB"
            yield Figure(claim, f"{size / _MEBI:.2f} MB", size < bar.bytes)
    if output.calibration is not None:
        before, after = output.calibration.error_before, error_of(answers, test.target)
        claim = f"calibration error no greater than before temperature scaling, {before:.4f}"
        yield Figure(claim, f"{after:.4f}", after <= before)
    if output.unsure_below is not None:
        worth = unsure_metrics(*confidence(test.target, answers, _HALF), output.unsure_below)
        unsure, others = worth.get("wrong[unsure]", np.nan), worth.get("wrong[others]", np.nan)
        ratio = unsure / others if others else np.inf
        measured = (
            f"{ratio:.0f} times: {unsure:.1%} of the {worth['unsure_share']:.1%} unsure, "
            f"{others:.2%} of the others"
        )
        least = bar.ratio if bar else _RATIO
        claim = f"unsure predictions wrong at least {least:g} times as often as the others"
        yield Figure(claim, measured, bool(ratio >= least))


def picture_bundle(models: Path, name: str) -> Bundle | None:
    """The newest version of a model, where it takes pictures.

    Raises:
        BundleError: it breaks the contract.
    """
    bundle = read_bundle(models / name / str(versions_in(models / name)[-1]))
    return bundle if isinstance(bundle.manifest.input, ImageInput) else None

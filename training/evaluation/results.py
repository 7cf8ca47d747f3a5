"""The results page: every published model, compared with other solvers on the same rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import r2_score, roc_auc_score, root_mean_squared_error
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from service.bundle.manifest import ClassesOutput, ImageInput, Manifest, ValueOutput
from service.bundle.store import Bundle, list_versions, read_bundle
from service.bundle.versions import list_model_names
from service.predictions import predict_labels
from training.data.rows import load_rows
from training.data.sources import Folders
from training.data.split import RowSplit
from training.data.table import Dataset, Float32s, Floats, Rows, encode_features
from training.errors import DataError
from training.evaluation.intervals import measure_coverage
from training.evaluation.metrics import compute_calibration_error, measure_low_confidence
from training.evaluation.published import PublishedModel, open_model
from training.images.sources import load_images, split_images
from training.model.thresholds import compute_confidence
from training.onnx_files import Graph
from training.recipe.loader import parse_image_recipe

_CLOSE = 1e-4
_CLOSE_PROBABILITY = 1e-3
_TESTED_LEVEL = 0.9
_MEGABYTE = 1_000_000
_BATCH_SIZE = 256
_RATIO = 3.0

_CALIFORNIA_RMSE = 41_700


@dataclass(frozen=True)
class Check:
    """A claim about a model, and whether the model reaches it."""

    claim: str
    measured: str
    is_reached: bool


@dataclass(frozen=True)
class EvaluatedModel:
    """A published model with its data set and split."""

    model: PublishedModel
    data: Dataset
    parts: RowSplit
    models: Path

    def predict(self, rows: Rows | None = None) -> Float32s:
        """Return the predictions of the published graph for some of the rows, or for all."""
        features = self.data.features if rows is None else self.data.features[rows]
        return self.model.graph.predict(features)

    def predict_one(self, *row: float) -> float:
        """Return the prediction of the published graph for one row."""
        return float(self.model.graph.predict(np.array([row], dtype=np.float32))[0, 0])

    def get_metric(self, name: str) -> float:
        """Return a metric of the manifest."""
        evaluation = self.model.manifest.evaluation
        return evaluation.metrics[name] if evaluation else float("nan")


def render_results(models: Path, folders: Folders, also: Path | None = None) -> str:
    """Compare all published models, and return the page in Markdown.

    Args:
        models: the published models.
        folders: where to find data sets.
        also: a folder of models that are too large to ship.

    Raises:
        TrainingError: a model or its data set cannot be read.
    """
    lines = [_HEAD]
    folders_by_name = dict.fromkeys(list_model_names(models), models)
    if also is not None:
        folders_by_name = dict.fromkeys(list_model_names(also), also) | folders_by_name
    for name, folder in sorted(folders_by_name.items()):
        lines += [_format_check(name, check) for check in _run_checks(folder, name, folders)]
    lines.append(_TRAINING_RUNS)
    for name, folder in sorted(folders_by_name.items()):
        newest = folder / name / str(list_versions(folder / name)[-1])
        lines.append(_format_training_run(read_bundle(newest).manifest))
    return "\n".join(lines) + "\n"


def _run_checks(models: Path, name: str, folders: Folders) -> Iterator[Check]:
    newest = models / name / str(list_versions(models / name)[-1])
    if read_bundle(newest).manifest.provenance is None:
        return  # imported, perhaps under the name of a shipped model
    images = find_image_bundle(models, name)
    if images is not None:
        yield from check_images(images, folders)
    elif name in CHECKS:
        yield from CHECKS[name](load_evaluated_model(open_model(models, name), models, folders))


def _format_check(name: str, check: Check) -> str:
    is_reached = "yes" if check.is_reached else "**no**"
    return f"| `{name}` | {check.claim} | {check.measured} | {is_reached} |"


def _format_training_run(manifest: Manifest) -> str:
    provenance, evaluation = manifest.provenance, manifest.evaluation
    if provenance is None:
        return f"| `{manifest.name}` | | | | | |"
    measured = "not measured"
    if evaluation is not None and evaluation.part == "test":
        measured = f"{evaluation.rows:,} test rows"
    elif evaluation is not None:
        measured = f"{evaluation.folds} folds"
    digest = manifest.files["model.onnx"]
    return (
        f"| `{manifest.name}` | {provenance.split.training:,} | {measured} | {provenance.seed} "
        f"| {provenance.duration_seconds:g} s "
        f"| `{digest.sha256[:16]}`, {digest.bytes / 1024:,.0f} KiB |"
    )


def load_evaluated_model(model: PublishedModel, models: Path, folders: Folders) -> EvaluatedModel:
    """Load the table of a model, and split it as its recipe does."""
    recipe = model.recipe
    loaded = load_rows(recipe, folders)
    features = encode_features(loaded.table, model.columns)
    return EvaluatedModel(
        model, Dataset(model.columns, features, loaded.target), loaded.parts, models
    )


def _check_least_squares(evaluated: EvaluatedModel) -> Iterator[Check]:
    x = evaluated.data.features.astype(np.float64)
    oracle = LinearRegression().fit(x, evaluated.data.target)
    expected = oracle.predict(x)
    error = np.max(np.abs(evaluated.predict()[:, 0] - expected) / np.abs(expected))
    yield Check(
        "the least-squares solution to 1e-4 of every prediction",
        f"{error:.1e}",
        bool(error < _CLOSE),
    )


def _check_ice_cream(evaluated: EvaluatedModel) -> Iterator[Check]:
    yield from _check_least_squares(evaluated)
    yield _check_prediction(evaluated, "30 °C → 18.846", (30,), 18.846, 0.0005)


def _check_line(evaluated: EvaluatedModel) -> Iterator[Check]:
    yield from _check_least_squares(evaluated)
    yield _check_prediction(evaluated, "13 → 27", (13,), 27, _CLOSE)
    yield _check_prediction(evaluated, "-5 → -9", (-5,), -9, _CLOSE)


def _check_house_price(evaluated: EvaluatedModel) -> Iterator[Check]:
    yield from _check_least_squares(evaluated)
    yield _check_prediction(
        evaluated, "1650 sq ft, 3 bedrooms → 293,081 dollars", (1650, 3), 293_081, 1
    )


def _check_prediction(
    evaluated: EvaluatedModel, claim: str, row: tuple[float, ...], expected: float, tolerance: float
) -> Check:
    found = evaluated.predict_one(*row)
    return Check(claim, f"{found:,.3f}", abs(found - expected) <= tolerance)


def _check_california_linear(evaluated: EvaluatedModel) -> Iterator[Check]:
    x, y, test = evaluated.data.features, evaluated.data.target, evaluated.parts.test
    ridge = make_pipeline(_build_preprocessing(evaluated), Ridge(alpha=1.0))
    rows = evaluated.parts.outside_test
    ridge.fit(x[rows], y[rows])
    expected = root_mean_squared_error(y[test], ridge.predict(x[test]))
    found = root_mean_squared_error(y[test], evaluated.predict(test)[:, 0])
    yield Check(
        f"test RMSE of scikit-learn's ridge, {expected:,.0f}, to 0.1 %",
        f"{found:,.0f}",
        bool(abs(found / expected - 1) < 1e-3),  # noqa: PLR2004 - the claim's own number
    )
    yield from _check_coverage(evaluated)


def _check_california(evaluated: EvaluatedModel) -> Iterator[Check]:
    y, test = evaluated.data.target, evaluated.parts.test
    found = root_mean_squared_error(y[test], evaluated.predict(test)[:, 0])
    claim = f"test RMSE at most {_CALIFORNIA_RMSE:,}, with eight numbers"
    yield Check(claim, f"{found:,.0f}", bool(found <= _CALIFORNIA_RMSE))
    yield from _check_coverage(evaluated)


def _check_california_mlp(evaluated: EvaluatedModel) -> Iterator[Check]:
    y, test = evaluated.data.target, evaluated.parts.test
    found = root_mean_squared_error(y[test], evaluated.predict(test)[:, 0])
    expected = root_mean_squared_error(y[test], _predict_by_boosting(evaluated, y))
    yield Check(
        f"test RMSE no worse than gradient boosting's, {expected:,.0f}",
        f"{found:,.0f} ({found / expected - 1:+.1%})",
        bool(found <= expected),
    )
    yield from _check_coverage(evaluated)


def _check_king_county(evaluated: EvaluatedModel) -> Iterator[Check]:
    y, test = evaluated.data.target, evaluated.parts.test
    found = r2_score(y[test], evaluated.predict(test)[:, 0])
    raw = r2_score(y[test], _predict_by_boosting(evaluated, y))
    log = r2_score(y[test], np.expm1(_predict_by_boosting(evaluated, np.log1p(y))))
    for name, expected in (("the price", raw), ("its logarithm", log)):
        yield Check(
            f"test R² no worse than gradient boosting's on {name}, {expected:.4f}",
            f"{found:.4f}",
            bool(found >= expected),
        )
    yield from _check_coverage(evaluated)


def _check_coverage(evaluated: EvaluatedModel) -> Iterator[Check]:
    """Check the coverage of the 90 % intervals on the test set."""
    output, test = evaluated.model.manifest.output, evaluated.parts.test
    if not isinstance(output, ValueOutput) or output.interval is None:
        return
    value = evaluated.predict(test)[:, 0].astype(np.float64)
    interval = measure_coverage(output.interval, value, evaluated.data.target[test])
    level = next(one for one in interval.levels if one.level == _TESTED_LEVEL)
    coverage, width = level.coverage or 0.0, level.mean_width or 0.0
    yield Check(
        "90 % intervals that cover 88 % to 92 % of the test set",
        f"{coverage:.1%}, mean width {width:,.0f}",
        abs(coverage - _TESTED_LEVEL) <= 0.02,  # noqa: PLR2004 - the claim's own number
    )


def _predict_by_boosting(evaluated: EvaluatedModel, target: Floats) -> Floats:
    """Fit histogram gradient boosting with its defaults to all rows outside the test set."""
    x, rows = evaluated.data.features, evaluated.parts.outside_test
    boosting = HistGradientBoostingRegressor(random_state=0).fit(x[rows], target[rows])
    return np.asarray(boosting.predict(x[evaluated.parts.test]))


def _check_admission(evaluated: EvaluatedModel) -> Iterator[Check]:
    rows = evaluated.parts.training
    x, y = evaluated.data.features[rows].astype(np.float64), evaluated.data.target[rows]
    oracle = make_pipeline(
        StandardScaler(), LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10)
    )
    expected = oracle.fit(x, y).predict_proba(x)[:, 1]
    error = np.abs(evaluated.predict(rows)[:, 0] - expected).max()
    yield Check(
        "the logistic optimum to 1e-3 on every training row",
        f"{error:.1e}",
        bool(error < _CLOSE_PROBABILITY),
    )


def _check_admission_mlp(evaluated: EvaluatedModel) -> Iterator[Check]:
    logistic = open_model(evaluated.models, "admission").manifest.evaluation
    expected = logistic.metrics["accuracy"] if logistic else float("nan")
    found = evaluated.get_metric("accuracy")
    claim = f"10-fold accuracy above the logistic's, {expected:.2f}"
    yield Check(claim, f"{found:.2f}", found > expected)


def _check_all_correct(evaluated: EvaluatedModel) -> Iterator[Check]:
    labels = predict_labels(evaluated.predict(), evaluated.model.threshold)
    correct = labels == evaluated.data.target
    yield Check(
        "every row of the table predicted correctly",
        f"{correct.sum()} of {len(correct)}",
        bool(correct.all()),
    )


def _check_iris(evaluated: EvaluatedModel) -> Iterator[Check]:
    found = evaluated.get_metric("cross_validated_accuracy")
    yield Check("10-fold accuracy at least 0.95", f"{found:.4f}", found >= 0.95)  # noqa: PLR2004 - the claim's own number


def _check_churn(evaluated: EvaluatedModel) -> Iterator[Check]:
    x, y, test = evaluated.data.features, evaluated.data.target, evaluated.parts.test
    pipeline = make_pipeline(_build_preprocessing(evaluated), LogisticRegression(max_iter=1000))
    rows = evaluated.parts.outside_test
    pipeline.fit(x[rows], y[rows])
    expected = roc_auc_score(y[test], pipeline.predict_proba(x[test])[:, 1])
    found = roc_auc_score(y[test], evaluated.predict(test)[:, 0])
    yield Check(
        f"test ROC AUC no worse than a scikit-learn logistic pipeline's, {expected:.4f}",
        f"{found:.4f}",
        bool(found >= expected),
    )


def _check_fruit(evaluated: EvaluatedModel) -> Iterator[Check]:
    yield from _check_all_correct(evaluated)
    pear = evaluated.predict_one(101, 6.3, 7.9)
    yield Check("101, 6.3, 7.9 → pear", f"pear with {pear:.2f}", pear >= evaluated.model.threshold)


def _build_preprocessing(evaluated: EvaluatedModel) -> Pipeline:
    """Return standard scikit-learn preprocessing of the same columns."""
    categories = [k for k, c in enumerate(evaluated.data.columns) if c.feature.type == "category"]
    numbers = [k for k in range(len(evaluated.data.columns)) if k not in categories]
    filled = SimpleImputer(strategy="median", add_indicator=True)
    return make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), categories),
        (make_pipeline(filled, StandardScaler()), numbers),
        sparse_threshold=0,
    )


CHECKS: dict[str, Callable[[EvaluatedModel], Iterator[Check]]] = {
    "ice_cream": _check_ice_cream,
    "line": _check_line,
    "house_price": _check_house_price,
    "california_linear": _check_california_linear,
    "california": _check_california,
    "california_mlp": _check_california_mlp,
    "king_county": _check_king_county,
    "admission": _check_admission,
    "admission_mlp": _check_admission_mlp,
    "xor": _check_all_correct,
    "iris": _check_iris,
    "iris_perceptron": _check_all_correct,
    "churn": _check_churn,
    "fruit": _check_fruit,
    "blobs": _check_all_correct,
}


@dataclass(frozen=True)
class ImageTargets:
    """The targets of an image recipe."""

    wrong: float
    """The maximum error rate on the test set."""
    bytes: float | None = None
    """The maximum size of ``model.onnx``."""
    ratio: float = _RATIO
    """The minimum error rate of unsure predictions, relative to the others."""


IMAGE_TARGETS = {
    "digits_sigmoid": ImageTargets(0.03),
    "digits_small": ImageTargets(0.016, ratio=10),
    "digits_mlp": ImageTargets(0.016, ratio=10),
    "digits_conv": ImageTargets(0.012, ratio=10),
    "digits_cnn": ImageTargets(0.003, 2 * _MEGABYTE, ratio=10),
    "fashion_mlp": ImageTargets(0.10),
    "fashion_cnn": ImageTargets(0.06, 4 * _MEGABYTE),
    "cats_dogs": ImageTargets(0.14, 4 * _MEGABYTE),
    "cats_dogs_course": ImageTargets(0.25),
}


def check_images(bundle: Bundle, folders: Folders, every: int = 1) -> Iterator[Check]:
    """Check the claims about a published image model on every n-th image of its test set.

    Raise `TrainingError` if its images are not available.
    """
    manifest = bundle.manifest
    image_input, output, provenance = manifest.input, manifest.output, manifest.provenance
    if (
        not isinstance(image_input, ImageInput)
        or not isinstance(output, ClassesOutput)
        or provenance is None
    ):
        raise DataError(f"{manifest.name} was not trained on images here.")
    recipe = parse_image_recipe(provenance.recipe, f"in the manifest of {manifest.name}")
    _, _, test = split_images(
        load_images(recipe.data, recipe.target.labels, image_input, folders), recipe
    )
    chosen = slice(None, None, every)
    target = test.target[chosen]
    predictions = Graph(bundle.model).predict_in_batches(test.pixels(chosen), _BATCH_SIZE)
    shares, correct = compute_confidence(target, predictions)
    targets = IMAGE_TARGETS.get(manifest.name)
    if targets is not None:
        wrong = float((~correct).mean())
        claim = f"wrong on at most {targets.wrong:.2%} of {len(target):,} test images"
        yield Check(claim, f"{wrong:.2%}", wrong <= targets.wrong)
        size = manifest.files["model.onnx"].bytes
        if targets.bytes is not None:
            claim = f"smaller than {targets.bytes / _MEGABYTE:g} MB"
            yield Check(claim, f"{size / _MEGABYTE:.2f} MB", size < targets.bytes)
    if output.calibration is not None:
        before, after = output.calibration.error_before, compute_calibration_error(shares, correct)
        claim = f"calibration error no greater than before the temperature, {before:.4f}"
        yield Check(claim, f"{after:.4f}", after <= before)
    if output.unsure_below is not None:
        flag_metrics = measure_low_confidence(shares, correct, output.unsure_below)
        unsure = flag_metrics.get("wrong[unsure]", np.nan)
        others = flag_metrics.get("wrong[others]", np.nan)
        ratio = unsure / others if others else np.inf
        measured = (
            f"{ratio:.0f} times: {unsure:.1%} of the {flag_metrics['unsure_share']:.1%} unsure, "
            f"{others:.2%} of the others"
        )
        least = targets.ratio if targets else _RATIO
        claim = f"unsure predictions wrong at least {least:g} times as often as the others"
        yield Check(claim, measured, bool(ratio >= least))


def find_image_bundle(models: Path, name: str) -> Bundle | None:
    """Return the newest version of a model if it is an image model.

    Raise `BundleError` if its bundle breaks the contract.
    """
    bundle = read_bundle(models / name / str(list_versions(models / name)[-1]))
    return bundle if isinstance(bundle.manifest.input, ImageInput) else None


_HEAD = """\
# Results

Generated by `onward results`, which compares trained models with another \
solver or library on the same rows.
Models that `models/` does not contain were trained only for this comparison.
Do not edit it by hand.

Gradient boosting is scikit-learn's `HistGradientBoostingRegressor` with its defaults, fitted on \
every row outside the test set.

| model | target | measured | reached |
| --- | --- | --- | --- |"""

_TRAINING_RUNS = """
## Training runs

The time is that of the complete run on two CPU cores: reading, fitting with all \
its folds, measuring, exporting and verifying.
The digest is that of `model.onnx`: the same recipe, seed and machine reproduce it.

| model | training rows | evaluated on | seed | time | sha256 of `model.onnx` |
| --- | --- | --- | --- | --- | --- |"""

"""Compare model families on the same folds, and choose one: the race of ``onward new``."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from service.bundle import manifest as contract
from training.autorecipe.draft import choose_sections, supports_dates
from training.data.rows import LoadedRows
from training.data.split import create_splitter
from training.data.table import Float32s, Floats, Rows, encode
from training.errors import DataError, FitError
from training.evaluation import metrics
from training.learn import fit_model
from training.model.blend import mix
from training.recipe.families import TABLE_FAMILIES, list_candidates
from training.recipe.loader import parse_recipe
from training.recipe.table import Feature, Recipe

_FOLDS = 5
_MIN_FOLDS = 2
_FEWEST_ROWS = 30
# From this many rows on, the loss on one fold is exact enough.
_ONE_FOLD_FROM = 5_000
# More rows would take minutes without changing the order of the families.
_MOST_ROWS = 20_000
# The weights of an ensemble are multiples of one by this number.
_STEPS = 20
# An ensemble is larger and slower than a single model.
_MIN_GAIN = 0.005
_MIN_MEMBERS = 2
_MEMBER_SECTIONS = {"network", "preprocessing", "training", "boosting"}


@dataclass(frozen=True)
class Candidate:
    """A model that has been measured on the folds."""

    recipe: Recipe
    losses: list[float]
    """RMSE or log loss of each fold."""
    seconds: float
    predictions: list[Float32s]
    """Of each fold, ``[measured rows, outputs]``."""

    @property
    def family(self) -> str:
        """The name of the family."""
        return self.recipe.network.family

    @property
    def loss(self) -> float:
        """The mean over the folds."""
        return float(np.mean(self.losses))

    def describe(self) -> contract.Candidate:
        """Return the entry of the manifest."""
        return contract.Candidate(
            family=self.family,
            metric=get_metric(self.recipe),
            mean=float(f"{self.loss:.6g}"),
            deviation=float(f"{np.std(self.losses):.3g}"),
            folds=len(self.losses),
            seconds=round(self.seconds, 1),
        )


def can_compare(recipe: Recipe, loaded: LoadedRows) -> bool:
    """Return whether there are enough rows, also of each label, group or time, for folds."""
    rows = loaded.parts.outside_test
    if len(rows) < _FEWEST_ROWS or _count_rarest(recipe, loaded, rows) < _MIN_FOLDS:
        return False
    try:
        return len(split(recipe, loaded)) > 0
    except DataError:
        return False


def race(
    recipe: Recipe, loaded: LoadedRows, report: Callable[[str], None] = lambda _: None
) -> list[Candidate]:
    """Measure every candidate family on the rows outside the test set; the best comes first.

    Small tables have five folds. A family whose fit fails is reported and left out. A weighted
    mean of the families, greedily chosen (Caruana et al., "Ensemble Selection", 2004), is a
    candidate, too.

    Args:
        recipe: drafted for the table; its family is replaced.
        loaded: its rows.
        report: called with a line after each family.

    Raises:
        FitError: no family could be fitted.
    """
    parts = split(recipe, loaded)
    measured: list[Candidate] = []
    failed: FitError | None = None
    for family in list_candidates(recipe.task):
        if not select_features(recipe, family):
            report(f"  {family:<18} does not support dates")
            continue
        candidate = with_family(recipe, family, len(loaded.target))
        try:
            measured.append(measure(candidate, loaded, parts))
        except FitError as error:
            failed = error
            report(f"  {family:<18} failed: {error}")
        else:
            without = "" if candidate.features == recipe.features else ", without the dates"
            report(f"  {family:<18} {_describe(measured[-1])}{without}")
    if not measured:
        raise failed or FitError("No family can be fitted to this table.")
    # The members of an ensemble have the same features.
    alike = [one for one in measured if one.recipe.features == recipe.features]
    blended = _blend(recipe, alike, [loaded.target[measuring] for _, measuring in parts])
    if blended is not None:
        measured.append(blended)
        report(f"  {blended.family:<18} {_describe(blended)}")
    return sorted(measured, key=lambda candidate: candidate.loss)


def get_metric(recipe: Recipe) -> Literal["rmse", "log_loss"]:
    """Return the metric by which families are compared."""
    return "log_loss" if recipe.is_classification else "rmse"


def select_features(recipe: Recipe, family: str) -> list[Feature]:
    """Return the features that a family supports: all, or those that are no dates."""
    if supports_dates(family):
        return recipe.features
    return [feature for feature in recipe.features if feature.type != "datetime"]


def with_family(recipe: Recipe, family: str, rows: int) -> Recipe:
    """Return a drafted recipe for another family."""
    document = recipe.model_dump(mode="json")
    for section in ("network", "training", "preprocessing", "boosting"):
        del document[section]
    if TABLE_FAMILIES[family].fitter == "scikit-learn":
        document["target"]["log"] = False
    features = select_features(recipe, family)
    document["features"] = [feature.model_dump(mode="json") for feature in features]
    labels = len(recipe.target.labels)
    document |= choose_sections(family, rows, features, labels)
    return parse_recipe(document, recipe.name)


def split(recipe: Recipe, loaded: LoadedRows) -> list[tuple[Rows, Rows]]:
    """Return the rows to fit and to measure of each fold, by the split of the recipe.

    Raises:
        DataError: there are too few rows, groups or times.
    """
    splitter = create_splitter(recipe, loaded.table, loaded.target)
    rows = loaded.parts.outside_test
    if len(rows) > _MOST_ROWS:
        rows = np.sort(np.random.default_rng(recipe.seed).choice(rows, _MOST_ROWS, replace=False))
    count = _FOLDS
    count = min(count, _count_rarest(recipe, loaded, rows))
    if splitter.groups is not None:
        count = min(count, len(np.unique(splitter.groups[rows])))
    pairs = list(splitter.folds(rows, max(count, _MIN_FOLDS)))
    # In the order of time, the last fold is the newest, and has the most rows to fit.
    return pairs[-1:] if len(rows) >= _ONE_FOLD_FROM else pairs


def _count_rarest(recipe: Recipe, loaded: LoadedRows, rows: Rows) -> int:
    """Return the number of rows of the rarest label, or of all rows for a value."""
    if not recipe.is_classification:
        return len(rows)
    labels = len(recipe.target.labels)
    return int(np.bincount(loaded.target[rows].astype(int), minlength=labels).min())


def measure(recipe: Recipe, loaded: LoadedRows, parts: list[tuple[Rows, Rows]]) -> Candidate:
    """Fit a recipe to each fold, and measure it."""
    started = time.perf_counter()
    losses, predictions = [], []
    splitter = create_splitter(recipe, loaded.table, loaded.target)
    share = recipe.split.validation / (1 - recipe.split.test)
    for fitting, measuring in parts:
        training, validation = splitter.hold_out(fitting, share)
        data = encode(loaded.table, recipe, training)
        fitted = fit_model(recipe, data, training, validation)
        predictions.append(fitted.predictor.predict(data.features[measuring]))
        losses.append(_compute_loss(recipe, loaded.target[measuring], predictions[-1]))
    return Candidate(recipe, losses, time.perf_counter() - started, predictions)


def _compute_loss(recipe: Recipe, target: Floats, predictions: Float32s) -> float:
    return metrics.measure(recipe, target, predictions)[get_metric(recipe)]


def _blend(
    recipe: Recipe, candidates: Sequence[Candidate], targets: Sequence[Floats]
) -> Candidate | None:
    """Return the weighted mean of the candidates, if it is clearly better than each of them.

    The loss of a fold is that of weights chosen on the other folds, if there are any.

    Args:
        recipe: drafted for the table.
        candidates: measured on the same folds.
        targets: of the measured rows of each fold.
    """
    if len(candidates) < _MIN_MEMBERS:
        return None
    folds = range(len(targets))
    losses = []
    for fold in folds:
        others = [other for other in folds if other != fold] or [fold]
        weights = _choose_weights(recipe, candidates, targets, others)
        mean = mix([one.predictions[fold] for one in candidates], weights)
        losses.append(_compute_loss(recipe, targets[fold], mean))
    best = min(candidates, key=lambda candidate: candidate.loss)
    if np.mean(losses) > best.loss * (1 - _MIN_GAIN):
        return None
    weights = _choose_weights(recipe, candidates, targets, list(folds))
    document = recipe.model_dump(mode="json")
    for section in ("training", "preprocessing", "boosting"):
        del document[section]
    document["target"]["log"] = False
    document["network"] = {"family": "ensemble"}
    document["members"] = [
        {"weight": weight, "log": one.recipe.target.log}
        | one.recipe.model_dump(mode="json", include=_MEMBER_SECTIONS)
        for one, weight in zip(candidates, weights, strict=True)
        if weight
    ]
    if len(document["members"]) == 1:
        return None
    seconds = sum(candidate.seconds for candidate in candidates)
    return Candidate(parse_recipe(document, recipe.name), losses, seconds, [])


def _choose_weights(
    recipe: Recipe,
    candidates: Sequence[Candidate],
    targets: Sequence[Floats],
    folds: Sequence[int],
) -> list[float]:
    """Add the candidate that lowers the loss on these folds most, again and again."""
    target = np.concatenate([targets[fold] for fold in folds])
    predictions = [np.concatenate([one.predictions[fold] for fold in folds]) for one in candidates]
    counts = np.zeros(len(candidates), dtype=int)
    for _ in range(_STEPS):
        losses = []
        for k in range(len(candidates)):
            counts[k] += 1
            mean = mix(predictions, (counts / counts.sum()).tolist())
            losses.append(_compute_loss(recipe, target, mean))
            counts[k] -= 1
        counts[int(np.argmin(losses))] += 1
    return [float(round(count / _STEPS, 2)) for count in counts]


def _describe(candidate: Candidate) -> str:
    spread = f" ± {np.std(candidate.losses):.3g}" if len(candidate.losses) > 1 else ""
    return f"{get_metric(candidate.recipe)} {candidate.loss:.4g}{spread}, {candidate.seconds:.1f} s"

"""Compare model families on the same folds, and choose one: the race of ``onward new``."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from service.bundle import manifest as contract
from training.autorecipe.draft import supports_dates
from training.autorecipe.sections import choose_sections, count_members, list_boosting_variants
from training.data.rows import LoadedRows
from training.data.split import create_splitter
from training.data.table import Float32s, Rows, encode
from training.errors import DataError, FitError
from training.evaluation.assessment import OutOfFoldPredictions, join_folds
from training.learn import fit_networks_together, fit_predictor
from training.model.estimators import fit_estimator
from training.model.network_drafts import draw_networks
from training.recipe.families import list_candidates
from training.recipe.loader import parse_recipe
from training.recipe.table import Feature, Recipe
from training.weights import compute_loss, mix_out_of_fold

_FOLDS = 5
_MIN_FOLDS = 2
_FEWEST_ROWS = 30
_MIN_ROWS_OF_A_LABEL = 2
# From this many rows on, the loss on one fold is exact enough.
_ONE_FOLD_FROM = 5_000
# More rows would take minutes without changing the order of the families.
_MOST_ROWS = 20_000
# The best of several models looks better than it is, since the same folds chose it; the weights of
# an ensemble are those of other folds.
_TOLERANCE = 0.005
_MEMBER_SECTIONS = {"network", "preprocessing", "training", "boosting"}
# Small networks, of which an ensemble takes a few.
_NETWORKS = 12
# The numbers of trees that are compared, as shares of the most.
_STAGES = np.geomspace(0.02, 1, 40)
# Of gradient boosting: trees without improvement on a fold.
_PATIENCE = 50

Folds = Sequence[tuple[Rows, Rows]]
"""The rows to fit and the rows to measure of each fold."""


@dataclass(frozen=True)
class Candidate:
    """A model that has been measured on the folds."""

    recipe: Recipe
    losses: list[float]
    """RMSE or log loss of each fold."""
    seconds: float
    predictions: list[Float32s]
    """Of each fold, ``[measured rows, outputs]``."""
    out_of_fold: OutOfFoldPredictions | None = None
    """Of the best candidate, if the folds have all rows."""

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
    if len(rows) < _FEWEST_ROWS or _count_rarest(recipe, loaded, rows) < _MIN_ROWS_OF_A_LABEL:
        return False
    try:
        return len(split(recipe, loaded)) > 0
    except DataError:
        return False


def race(
    recipe: Recipe,
    loaded: LoadedRows,
    report: Callable[[str], None] = lambda _: None,
    families: Sequence[str] | None = None,
) -> list[Candidate]:
    """Measure candidates on the rows outside the test set; the best of each family, best first.

    Small tables have five folds. A family whose fit fails is reported and left out. A weighted
    mean of all measured models is a candidate, too.

    Args:
        recipe: drafted for the table; its family is replaced.
        loaded: its rows.
        report: called with a line after each family.
        families: to measure; by default all candidates of the task.

    Raises:
        FitError: no family could be fitted.
    """
    folds = split(recipe, loaded)
    measured: list[Candidate] = []
    failed: FitError | None = None
    for family in families or list_candidates(recipe.task):
        if not select_features(recipe, family):
            report(f"  {family:<18} does not support dates")
            continue
        try:
            alone = families is not None
            of_family = list(_measure_family(recipe, family, loaded, folds, alone=alone))
        except FitError as error:
            failed = error
            report(f"  {family:<18} failed: {error}")
        else:
            measured += of_family
            report(_describe_family(of_family, recipe.features))
    if not measured:
        raise failed or FitError("No family can be fitted to this table.")
    candidates = _choose(recipe, measured, loaded, folds)
    if candidates[0].family == "ensemble":
        report(f"  {'ensemble':<18} {_describe(candidates[0])}")
    return candidates


def _choose(
    recipe: Recipe, measured: Sequence[Candidate], loaded: LoadedRows, folds: Folds
) -> list[Candidate]:
    """Return the best of each family, and an ensemble if it is better than all, best first."""
    by_family = {one.family: one for one in sorted(measured, key=lambda one: -one.loss)}
    candidates = list(by_family.values())
    # The members of an ensemble have the same features.
    alike = [one for one in measured if one.recipe.features == recipe.features]
    if len(alike) > 1 and len(by_family) > 1:
        candidates += _blend(recipe, alike, loaded, folds)
    candidates.sort(key=lambda one: (one.family != "ensemble", one.loss))
    if recipe.split.test == 0:
        best = candidates[0]
        found = join_folds(best.recipe, loaded.target, folds, best.predictions)
        candidates[0] = replace(best, out_of_fold=found)
    return candidates


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
    features = select_features(recipe, family)
    document["features"] = [feature.model_dump(mode="json") for feature in features]
    labels = len(recipe.target.labels)
    document |= choose_sections(family, rows, features, labels)
    return parse_recipe(document, recipe.name)


def split(recipe: Recipe, loaded: LoadedRows) -> Folds:
    """Return the folds of the rows outside the test set, by the split of the recipe.

    Without a test set, they are those of its cross-validation.

    Raises:
        DataError: there are too few rows, groups or times.
    """
    splitter = create_splitter(recipe, loaded.table, loaded.target)
    rows = loaded.parts.outside_test
    if recipe.split.test == 0:
        return list(splitter.folds(rows, recipe.split.folds))
    if len(rows) > _MOST_ROWS:
        rows = np.sort(np.random.default_rng(recipe.seed).choice(rows, _MOST_ROWS, replace=False))
    count = _FOLDS
    if splitter.groups is not None:
        count = max(min(count, len(np.unique(splitter.groups[rows]))), _MIN_FOLDS)
    pairs = list(splitter.folds(rows, count))
    # In the order of time, the last fold is the newest, and has the most rows to fit.
    return pairs[-1:] if len(rows) >= _ONE_FOLD_FROM else pairs


def _count_rarest(recipe: Recipe, loaded: LoadedRows, rows: Rows) -> int:
    """Return the number of rows of the rarest label, or of all rows for a value."""
    if not recipe.is_classification:
        return len(rows)
    labels = len(recipe.target.labels)
    return int(np.bincount(loaded.target[rows].astype(int), minlength=labels).min())


def _measure_family(
    recipe: Recipe, family: str, loaded: LoadedRows, folds: Folds, *, alone: bool
) -> Iterator[Candidate]:
    """Yield the measured variants of a family; all rows of a fold are fitted.

    An MLP that is not ``alone`` is one of many small networks, for the ensemble.
    """
    rows = len(loaded.target)
    drafted = with_family(recipe, family, rows)
    if not recipe.split.test:
        drafted = _update(drafted, split={"validation": 0.0})
    if family == "mlp" and not alone:
        yield from _measure_networks(drafted, loaded, folds)
        return
    scales = [drafted]
    if drafted.target.log:
        scales.append(_update(drafted, target={"log": False}))
    for scaled in scales:
        if family == "gradient-boosting":
            for variant in list_boosting_variants(rows, len(recipe.target.labels)):
                yield _measure_boosting(_update(scaled, boosting=variant), loaded, folds)
        else:
            yield measure(scaled, loaded, folds)


def measure(recipe: Recipe, loaded: LoadedRows, folds: Folds) -> Candidate:
    """Fit a recipe to each fold without a validation set, and measure it."""
    started = time.perf_counter()
    predictions = []
    for fitting, measuring in folds:
        data = encode(loaded.table, recipe, fitting)
        predictor, _ = fit_predictor(recipe, data, fitting, fitting[:0])
        predictions.append(predictor.predict(data.features[measuring]))
    return _create_candidate(recipe, loaded, folds, predictions, started)


def _measure_networks(recipe: Recipe, loaded: LoadedRows, folds: Folds) -> Iterator[Candidate]:
    """Fit many small networks to each fold, all at once, and yield each."""
    started = time.perf_counter()
    numbers = sum(feature.type != "category" for feature in recipe.features)
    rows, labels = len(folds[0][0]), len(recipe.target.labels)
    recipes = [
        recipe.model_copy(
            update={
                "network": plan.network.model_copy(update={"seed": recipe.seed + k}),
                "training": plan.training,
            }
        )
        for k, plan in enumerate(draw_networks(_NETWORKS, rows, numbers, labels, recipe.seed))
    ]
    groups = [recipes]
    if recipe.target.log:
        half = _NETWORKS // 2
        values = [_update(one, target={"log": False}) for one in recipes[half:]]
        groups = [recipes[:half], values]
    predictions: list[list[Float32s]] = [[] for _ in recipes]
    for fitting, measuring in folds:
        data = encode(loaded.table, recipe, fitting)
        fitted = [
            predictor
            for group in groups
            for predictor in fit_networks_together(group, data, fitting, fitting[:0])
        ]
        for of_network, predictor in zip(predictions, fitted, strict=True):
            of_network.append(predictor.predict(data.features[measuring]))
    for one, found in zip([one for group in groups for one in group], predictions, strict=True):
        candidate = _create_candidate(one, loaded, folds, found, started)
        yield replace(candidate, seconds=(time.perf_counter() - started) / len(recipes))


def _measure_boosting(recipe: Recipe, loaded: LoadedRows, folds: Folds) -> Candidate:
    """Fit gradient boosting to each fold, and choose the number of trees.

    A fold is predicted with the number that is the best on the other folds, if there are any.
    """
    started = time.perf_counter()
    growing = _update(recipe, boosting={"patience": _PATIENCE})
    most = recipe.boosting.max_iter
    stages = np.unique(np.ceil(_STAGES * most).astype(int)).tolist()
    staged = []
    for fitting, measuring in folds:
        data = encode(loaded.table, growing, fitting)
        estimator = fit_estimator(growing, data, fitting, measuring)
        staged.append(estimator.predict_stages(data.features[measuring], stages))
    losses = np.array(
        [
            [_compute_loss(recipe, loaded, rows, predictions) for predictions in of_fold]
            for (_, rows), of_fold in zip(folds, staged, strict=True)
        ]
    )
    predictions = []
    for fold, of_fold in enumerate(staged):
        others = np.delete(losses, fold, axis=0) if len(folds) > 1 else losses
        predictions.append(of_fold[int(others.mean(axis=0).argmin())])
    count = stages[int(losses.mean(axis=0).argmin())]
    # The folds are fitted with one seed, which is a little worse than the mean of several.
    labels, leaves = len(recipe.target.labels), recipe.boosting.max_leaf_nodes
    members = count_members(len(loaded.target), labels, leaves, count)
    chosen = _update(recipe, boosting={"max_iter": count, "patience": 0, "members": members})
    return _create_candidate(chosen, loaded, folds, predictions, started)


def _create_candidate(
    recipe: Recipe,
    loaded: LoadedRows,
    folds: Folds,
    predictions: list[Float32s],
    started: float,
) -> Candidate:
    losses = [
        _compute_loss(recipe, loaded, measured, found)
        for (_, measured), found in zip(folds, predictions, strict=True)
    ]
    return Candidate(recipe, losses, time.perf_counter() - started, predictions)


def _compute_loss(recipe: Recipe, loaded: LoadedRows, rows: Rows, predictions: Float32s) -> float:
    return compute_loss(loaded.target[rows], predictions, classes=recipe.is_classification)


def _update(recipe: Recipe, **sections: Mapping[str, Any]) -> Recipe:
    """Return the recipe with other values of some keys."""
    changed = {
        name: getattr(recipe, name).model_copy(update=values) for name, values in sections.items()
    }
    return recipe.model_copy(update=changed)


def _find_best(candidates: Iterable[Candidate]) -> Candidate:
    return min(candidates, key=lambda candidate: candidate.loss)


def _blend(
    recipe: Recipe, candidates: Sequence[Candidate], loaded: LoadedRows, folds: Folds
) -> Iterator[Candidate]:
    """Yield the weighted mean of the candidates, unless one of them is clearly better.

    The loss of a fold is that of weights chosen on the other folds, if there are any.
    """
    started = time.perf_counter()
    targets = [loaded.target[measured] for _, measured in folds]
    weights, mixed = mix_out_of_fold(
        targets, [one.predictions for one in candidates], classes=recipe.is_classification
    )
    document = recipe.model_dump(mode="json")
    for section in ("training", "preprocessing", "boosting"):
        del document[section]
    document["target"]["log"] = False
    document["split"] = candidates[0].recipe.split.model_dump(mode="json")
    document["network"] = {"family": "ensemble"}
    document["members"] = [
        {"weight": weight, "log": one.recipe.target.log}
        | one.recipe.model_dump(mode="json", include=_MEMBER_SECTIONS)
        for one, weight in zip(candidates, weights, strict=True)
        if weight
    ]
    if len(document["members"]) == 1:
        return
    blended = _create_candidate(parse_recipe(document, recipe.name), loaded, folds, mixed, started)
    if blended.loss <= _find_best(candidates).loss * (1 + _TOLERANCE):
        seconds = sum(candidate.seconds for candidate in candidates)
        yield replace(blended, seconds=seconds)


def _describe_family(measured: Sequence[Candidate], features: Sequence[Feature]) -> str:
    """Return a line with the best candidate of a family, and the time of all."""
    best = _find_best(measured)
    seconds = sum(candidate.seconds for candidate in measured)
    without = "" if best.recipe.features == features else ", without the dates"
    return f"  {best.family:<18} {_describe(replace(best, seconds=seconds))}{without}"


def _describe(candidate: Candidate) -> str:
    spread = f" ± {np.std(candidate.losses):.3g}" if len(candidate.losses) > 1 else ""
    return f"{get_metric(candidate.recipe)} {candidate.loss:.4g}{spread}, {candidate.seconds:.1f} s"

"""Measure the variants of a model family on folds, without a validation set."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

import numpy as np

from service.bundle import provenance
from training.autorecipe.sections import (
    choose_sections,
    count_members,
    list_boosting_variants,
)
from training.data.rows import LoadedRows
from training.data.split import create_splitter
from training.data.table import Dataset, Float32s, Floats, Inputs, Rows, encode
from training.errors import FitError
from training.evaluation.assessment import OutOfFoldPredictions
from training.evaluation.losses import compute_loss
from training.learn import find_group, fit_networks_together, fit_predictor
from training.model.estimators import fit_estimator
from training.model.network_drafts import draw_networks
from training.model.text import TableModel, encode_numbers
from training.recipe.loader import parse_recipe
from training.recipe.table import Recipe

_FOLDS = 5
_MIN_FOLDS = 2
# From this many rows on, the loss on one fold is exact enough.
_ONE_FOLD_FROM = 5_000
# More rows would take minutes without changing the order of the families.
_MOST_ROWS = 50_000
# Small networks, of which an ensemble takes a few.
_NETWORKS = 12
# The numbers of trees that are compared, as shares of the most.
_STAGES = np.geomspace(0.02, 1, 40)
# Of gradient boosting: trees without improvement on a fold.
_PATIENCE = 50


@dataclass(frozen=True)
class Folds:
    """The rows to fit and the rows to measure of each fold."""

    loaded: LoadedRows
    pairs: Sequence[tuple[Rows, Rows]]
    deadline: float = math.inf
    """Of ``time.perf_counter()``; a fit that begins later fails."""

    def __len__(self) -> int:
        return len(self.loaded.target)

    @property
    def targets(self) -> list[Floats]:
        """Of the measured rows of each fold."""
        return [self.loaded.target[measured] for _, measured in self.pairs]

    def require_time(self) -> None:
        """Raise `FitError` after the deadline."""
        if time.perf_counter() > self.deadline:
            raise FitError("no time is left")

    def encode(self, recipe: Recipe) -> Iterator["EncodedFold"]:
        """Encode all rows for each fold; text becomes numbers.

        Raise `FitError` after the deadline.
        """
        for fitting, measuring in self.pairs:
            self.require_time()
            data = encode(self.loaded.table, recipe, fitting)
            _, numeric, encoded = encode_numbers(recipe, data, fitting)
            yield EncodedFold(numeric, encoded, fitting, measuring)


@dataclass(frozen=True)
class EncodedFold:
    """The rows of a table as numbers, whose encoding is that of the rows to fit."""

    recipe: Recipe
    """For these numbers."""
    data: Dataset
    fitting: Rows
    measuring: Rows

    @property
    def unseen(self) -> Inputs:
        """The rows to measure, ``[rows, columns]``."""
        return self.data.features[self.measuring]

    @property
    def nothing(self) -> Rows:
        """An empty validation set."""
        return self.fitting[:0]


@dataclass(frozen=True)
class Candidate:
    """A model that has been measured on the folds."""

    recipe: Recipe
    losses: list[float]
    """RMSE or log loss of each fold."""
    seconds: float
    predictions: list[Float32s]
    """Of each fold, ``[measured rows, outputs]``."""
    predictor: TableModel | None = None
    """Of the last fold, for text as numbers; None for an ensemble."""
    row: Inputs | None = None
    """That it predicts, ``[1, columns]``."""
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

    @property
    def weights(self) -> dict[str, float]:
        """Of an ensemble, the sum of the weights of each family, the largest first."""
        totals: dict[str, float] = {}
        for member in self.recipe.members:
            family = member.network.family
            totals[family] = totals.get(family, 0) + member.weight
        ordered = sorted(totals, key=lambda family: -totals[family])
        return {family: round(totals[family], 3) for family in ordered}

    def describe(self, size: int | None, microseconds: float | None) -> provenance.Candidate:
        """Return the entry of the manifest, with the size of its graph and the time of a row."""
        return provenance.Candidate(
            family=self.family,
            metric=get_metric(self.recipe),
            mean=float(f"{self.loss:.6g}"),
            deviation=float(f"{np.std(self.losses):.3g}"),
            folds=len(self.losses),
            seconds=round(self.seconds, 1),
            bytes=size,
            microseconds=microseconds,
            weights=self.weights or None,
        )


def get_metric(recipe: Recipe) -> Literal["rmse", "log_loss"]:
    """Return the metric by which families are compared."""
    return "log_loss" if recipe.is_classification else "rmse"


def with_family(recipe: Recipe, family: str, rows: int) -> Recipe:
    """Return a drafted recipe for another family."""
    document = recipe.model_dump(mode="json")
    for section in ("network", "training", "preprocessing", "boosting"):
        del document[section]
    labels = len(recipe.target.labels)
    document |= choose_sections(family, rows, recipe.features, labels)
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
        return Folds(loaded, list(splitter.folds(rows, recipe.split.folds)))
    if len(rows) > _MOST_ROWS:
        rows = np.sort(np.random.default_rng(recipe.seed).choice(rows, _MOST_ROWS, replace=False))
    count = _FOLDS
    if splitter.groups is not None:
        count = max(min(count, len(np.unique(splitter.groups[rows]))), _MIN_FOLDS)
    pairs = list(splitter.folds(rows, count))
    # In the order of time, the last fold is the newest, and has the most rows to fit.
    return Folds(loaded, pairs[-1:] if len(rows) >= _ONE_FOLD_FROM else pairs)


def choose_dates(recipe: Recipe, folds: Folds) -> tuple[Recipe, str]:
    """Return the recipe with the parts of dates that predict newer rows best, and why.

    The days since the first date, and even the month, can mislead about rows that are newer than
    all others. So gradient boosting is measured with all parts, without these days, and without
    dates. Recipes for other rows are not changed.
    """
    dates = [feature for feature in recipe.features if feature.type == "datetime"]
    if recipe.split.time is None or not dates:
        return recipe, ""
    recurring = [feature.model_copy(update={"trend": False}) for feature in recipe.features]
    others = [feature for feature in recipe.features if feature.type != "datetime"]
    choices = {"all parts of dates": recipe.features, "no days since the first date": recurring}
    if others:
        choices["no dates"] = others
    measured = {}
    for name, features in choices.items():
        drafted = with_family(
            recipe.model_copy(update={"features": features}), "gradient-boosting", len(folds)
        )
        measured[name] = _measure_boosting(drafted, folds).loss
    best = min(measured, key=lambda name: measured[name])
    losses = ", ".join(f"{name} {loss:.4g}" for name, loss in measured.items())
    return recipe.model_copy(update={"features": choices[best]}), f"{best} ({losses})"


def measure_family(
    recipe: Recipe, family: str, folds: Folds, *, alone: bool
) -> Iterator[Candidate]:
    """Yield the measured variants of a family; all rows of a fold are fitted.

    An MLP that is not ``alone`` is one of many small networks, for the ensemble.
    """
    rows = len(folds)
    drafted = with_family(recipe, family, rows)
    if not recipe.split.test:
        drafted = _update(drafted, split={"validation": 0.0})
    if family == "mlp" and not alone:
        yield from _measure_networks(drafted, folds)
        return
    scales = [drafted]
    if drafted.target.log:
        scales.append(_update(drafted, target={"log": False}))
    for scaled in scales:
        if family == "gradient-boosting":
            for variant in list_boosting_variants(rows, len(recipe.target.labels)):
                yield _measure_boosting(_update(scaled, boosting=variant), folds)
        else:
            yield measure(scaled, folds)


def measure(recipe: Recipe, folds: Folds) -> Candidate:
    """Fit a recipe to each fold, and measure it.

    Its validation set decides when to stop, as in a run, unless it is fitted again to all rows.
    """
    started = time.perf_counter()
    share = 0 if recipe.split.refit else recipe.split.validation / (1 - recipe.split.test)
    splitter = create_splitter(recipe, folds.loaded.table, folds.loaded.target)
    predictions = []
    for fold in folds.encode(recipe):
        training, validation = splitter.hold_out(fold.fitting, share)
        predictor, _ = fit_predictor(fold.recipe, fold.data, training, validation)
        predictions.append(predictor.predict(fold.unseen))
    candidate = create_candidate(recipe, folds, predictions, started)
    return replace(candidate, predictor=predictor, row=fold.unseen[:1])


def _measure_networks(recipe: Recipe, folds: Folds) -> Iterator[Candidate]:
    """Fit many small networks to each fold, all at once, and yield each."""
    started = time.perf_counter()
    numbers = sum(feature.type != "category" for feature in recipe.features)
    rows, labels = len(folds.pairs[0][0]), len(recipe.target.labels)
    recipes = [
        recipe.model_copy(
            update={
                "network": plan.network.model_copy(update={"seed": recipe.seed + k}),
                "training": plan.training,
            }
        )
        for k, plan in enumerate(draw_networks(_NETWORKS, rows, numbers, labels, recipe.seed))
    ]
    if recipe.target.log:
        recipes[::2] = [_update(one, target={"log": False}) for one in recipes[::2]]
    recipes.sort(key=lambda one: str(find_group(one)))
    encoded = list(folds.encode(recipe))
    rows_of_folds = [(fold.data, fold.fitting, fold.nothing) for fold in encoded]
    predictions: list[list[Float32s]] = []
    fitted = []
    for _, group in groupby(recipes, find_group):
        folds.require_time()
        of_folds = fit_networks_together(list(group), rows_of_folds)
        for of_network in zip(*of_folds, strict=True):
            found = [
                one.predict(fold.unseen) for one, fold in zip(of_network, encoded, strict=True)
            ]
            predictions.append(found)
            fitted.append(of_network[-1])
    for one, found, predictor in zip(recipes, predictions, fitted, strict=True):
        candidate = create_candidate(_keep_steps(one, folds), folds, found, started)
        seconds = (time.perf_counter() - started) / len(recipes)
        yield replace(candidate, seconds=seconds, predictor=predictor, row=encoded[-1].unseen[:1])


def _keep_steps(recipe: Recipe, folds: Folds) -> Recipe:
    """Return a recipe with fewer epochs, if the folds have only some of the rows.

    A fit to all rows then has about as many steps as those that were measured.
    """
    rows = len(folds.loaded.parts.outside_test)
    if rows <= _MOST_ROWS or recipe.training is None:
        return recipe
    epochs = max(round(recipe.training.epochs * _MOST_ROWS / rows), 1)
    return _update(recipe, training={"epochs": epochs, "patience": epochs})


def _measure_boosting(recipe: Recipe, folds: Folds) -> Candidate:
    """Fit gradient boosting to each fold, and choose the number of trees.

    A fold is predicted with the number that is the best on the other folds, if there are any.
    """
    started = time.perf_counter()
    growing = _update(recipe, boosting={"patience": _PATIENCE})
    most = recipe.boosting.max_iter
    stages = np.unique(np.ceil(_STAGES * most).astype(int)).tolist()
    staged = []
    for fold in folds.encode(growing):
        estimator = fit_estimator(fold.recipe, fold.data, fold.fitting, fold.measuring)
        staged.append(estimator.predict_stages(fold.unseen, stages))
    losses = np.array(
        [
            [compute_loss(target, found, classes=recipe.is_classification) for found in of_fold]
            for target, of_fold in zip(folds.targets, staged, strict=True)
        ]
    )
    predictions = []
    for k, of_fold in enumerate(staged):
        others = np.delete(losses, k, axis=0) if len(staged) > 1 else losses
        predictions.append(of_fold[int(others.mean(axis=0).argmin())])
    count = stages[int(losses.mean(axis=0).argmin())]
    # The folds are fitted with one seed, which is a little worse than the mean of several.
    labels, leaves = len(recipe.target.labels), recipe.boosting.max_leaf_nodes
    members = count_members(len(folds), labels, leaves, count)
    chosen = _update(recipe, boosting={"max_iter": count, "patience": 0, "members": members})
    candidate = create_candidate(chosen, folds, predictions, started)
    return replace(candidate, predictor=estimator, row=fold.unseen[:1])


def create_candidate(
    recipe: Recipe,
    folds: Folds,
    predictions: list[Float32s],
    started: float,
) -> Candidate:
    """Return a candidate with the loss of each fold; it ``started`` at that ``perf_counter``."""
    losses = [
        compute_loss(target, found, classes=recipe.is_classification)
        for target, found in zip(folds.targets, predictions, strict=True)
    ]
    return Candidate(recipe, losses, time.perf_counter() - started, predictions)


def _update(recipe: Recipe, **sections: Mapping[str, Any]) -> Recipe:
    """Return the recipe with other values of some keys."""
    changed = {
        name: getattr(recipe, name).model_copy(update=values) for name, values in sections.items()
    }
    return recipe.model_copy(update=changed)

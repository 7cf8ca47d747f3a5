"""Compare model families on the same folds, and choose one: the race of ``onward new``."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np

from service.bundle import manifest as contract
from training.autorecipe.draft import choose_sections, supports_dates
from training.data.rows import LoadedRows
from training.data.split import folds, hold_out
from training.data.table import Rows, encode
from training.errors import FitError
from training.evaluation.metrics import measure
from training.learn import fit_model
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


@dataclass(frozen=True)
class Candidate:
    """A family that has been measured on the folds."""

    recipe: Recipe
    losses: list[float]
    """RMSE or log loss of each fold."""
    seconds: float

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
    """Return whether there are enough rows, also of each label, for folds."""
    rows = loaded.parts.outside_test
    if not recipe.is_classification:
        return len(rows) >= _FEWEST_ROWS
    counts = np.bincount(loaded.target[rows].astype(int), minlength=len(recipe.target.labels))
    return len(rows) >= _FEWEST_ROWS and counts.min() >= _MIN_FOLDS


def race(
    recipe: Recipe, loaded: LoadedRows, report: Callable[[str], None] = lambda _: None
) -> list[Candidate]:
    """Measure every candidate family on the rows outside the test set; the best comes first.

    Small tables have five folds. A family whose fit fails is reported and left out.

    Args:
        recipe: drafted for the table; its family is replaced.
        loaded: its rows.
        report: called with a line after each family.

    Raises:
        FitError: no family could be fitted.
    """
    parts = list(_split(recipe, loaded))
    measured: list[Candidate] = []
    failed: FitError | None = None
    for family in list_candidates(recipe.task):
        if not select_features(recipe, family):
            report(f"  {family:<18} does not support dates")
            continue
        candidate = with_family(recipe, family, len(loaded.target))
        try:
            measured.append(_measure(candidate, loaded, parts))
        except FitError as error:
            failed = error
            report(f"  {family:<18} failed: {error}")
        else:
            report(f"  {family:<18} {_describe(measured[-1])}")
    if not measured:
        raise failed or FitError("No family can be fitted to this table.")
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
    if TABLE_FAMILIES[family].library == "scikit-learn":
        document["target"]["log"] = False
    features = select_features(recipe, family)
    document["features"] = [feature.model_dump(mode="json") for feature in features]
    labels = len(recipe.target.labels)
    document |= choose_sections(family, rows, features, labels)
    return parse_recipe(document, recipe.name)


def _split(recipe: Recipe, loaded: LoadedRows) -> Iterator[tuple[Rows, Rows]]:
    """Yield the rows to fit and to measure of each fold."""
    rows = loaded.parts.outside_test
    if len(rows) > _MOST_ROWS:
        rows = np.sort(np.random.default_rng(recipe.seed).choice(rows, _MOST_ROWS, replace=False))
    target = loaded.target[rows]
    count = _FOLDS
    if recipe.is_classification:
        count = min(count, int(np.bincount(target.astype(int)).min()))
    pairs = folds(target, count, recipe.seed, classes=recipe.is_classification)
    for fitting, measuring in islice(pairs, 1 if len(rows) >= _ONE_FOLD_FROM else None):
        yield rows[fitting], rows[measuring]


def _measure(recipe: Recipe, loaded: LoadedRows, parts: list[tuple[Rows, Rows]]) -> Candidate:
    started, losses = time.perf_counter(), []
    classes, split = recipe.is_classification, recipe.split
    share = split.validation / (1 - split.test)
    for fitting, measuring in parts:
        training, validation = hold_out(fitting, loaded.target, share, recipe.seed, classes=classes)
        data = encode(loaded.table, recipe, training)
        fitted = fit_model(recipe, data, training, validation)
        predictions = fitted.predictor.predict(data.features[measuring])
        found = measure(recipe, loaded.target[measuring], predictions, fitted.threshold)
        losses.append(found[get_metric(recipe)])
    return Candidate(recipe, losses, time.perf_counter() - started)


def _describe(candidate: Candidate) -> str:
    spread = f" ± {np.std(candidate.losses):.3g}" if len(candidate.losses) > 1 else ""
    return f"{get_metric(candidate.recipe)} {candidate.loss:.4g}{spread}, {candidate.seconds:.1f} s"

"""Compare model families on the same folds, and choose one: the race of ``onward new``."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from training.autorecipe.sections import count_nodes
from training.candidates import (
    Candidate,
    Folds,
    choose_dates,
    create_candidate,
    get_metric,
    measure_family,
    split,
)
from training.data.rows import LoadedRows
from training.data.table import Float32s, Rows
from training.errors import DataError, FitError
from training.evaluation.assessment import join_folds
from training.recipe.families import list_candidates
from training.recipe.loader import parse_recipe
from training.recipe.table import Recipe
from training.weights import mix_out_of_fold

_FEWEST_ROWS = 30
_MIN_ROWS_OF_A_LABEL = 2
# The best of several models is better on the folds than it is, since they chose it. An ensemble is
# not, since its weights are those of other folds.
_TOLERANCE = 0.02
_MEMBER_SECTIONS = {"network", "preprocessing", "training", "boosting"}
# The family that is good on most tables and fast.
_QUICK = "gradient-boosting"
# Of all trees of an ensemble; more, of 32 bytes each, would not fit into a bundle of 4 MB.
_MOST_NODES = 115_000
# Of the given time; the chosen model is fitted again in the rest.
_SHARE_OF_TIME = 0.5


@dataclass(frozen=True)
class Limits:
    """What bounds the time of a comparison; by default nothing."""

    seconds: float = math.inf
    """Of the comparison and the fit after it, about."""
    quick: bool = False
    """Whether only gradient boosting is measured."""


NO_LIMITS = Limits()


def can_compare(recipe: Recipe, loaded: LoadedRows) -> bool:
    """Return whether there are enough rows, also of each label, group or time, for folds."""
    rows = loaded.parts.outside_test
    if len(rows) < _FEWEST_ROWS or _count_rarest(recipe, loaded, rows) < _MIN_ROWS_OF_A_LABEL:
        return False
    try:
        return len(split(recipe, loaded).pairs) > 0
    except DataError:
        return False


def race(
    recipe: Recipe,
    loaded: LoadedRows,
    report: Callable[[str], None] = lambda _: None,
    families: Sequence[str] | None = None,
    limits: Limits = NO_LIMITS,
) -> list[Candidate]:
    """Measure candidates on the rows outside the test set; the best of each family, best first.

    Small tables have five folds. A family whose fit fails is reported and left out. A weighted
    mean of all measured models is a candidate, too.

    Args:
        recipe: drafted for the table; its family is replaced.
        loaded: its rows.
        report: called with a line after each family.
        families: to measure; by default all candidates of the task.
        limits: of the time. One family is measured in any case.

    Raises:
        FitError: no family could be fitted.
    """
    folds = split(recipe, loaded)
    recipe, reason = choose_dates(recipe, folds)
    if reason:
        report(f"  dates: {reason}")
    deadline = time.perf_counter() + limits.seconds * _SHARE_OF_TIME
    measured: list[Candidate] = []
    failed: FitError | None = None
    for family in families or ([_QUICK] if limits.quick else list_candidates(recipe.task)):
        timed = replace(folds, deadline=deadline) if measured else folds
        try:
            of_family = list(measure_family(recipe, family, timed, alone=families is not None))
        except FitError as error:
            failed = error
            report(f"  {family:<18} left out: {error}")
        else:
            measured += of_family
            report(_describe_family(of_family))
    if not measured:
        raise failed or FitError("No family can be fitted to this table.")
    candidates = _choose(recipe, measured, folds)
    if candidates[0].family == "ensemble":
        report(f"  {'ensemble':<18} {_describe(candidates[0])}")
    return candidates


def _choose(recipe: Recipe, measured: Sequence[Candidate], folds: Folds) -> list[Candidate]:
    """Return the best of each family, and an ensemble if it is better than all, best first."""
    by_family = {one.family: one for one in sorted(measured, key=lambda one: -one.loss)}
    candidates = list(by_family.values())
    if len(by_family) > 1:
        candidates += _blend(recipe, measured, folds)
    candidates.sort(key=lambda one: (one.family != "ensemble", one.loss))
    if recipe.split.test == 0:
        best = candidates[0]
        found = join_folds(best.recipe, folds.loaded.target, folds.pairs, best.predictions)
        candidates[0] = replace(best, out_of_fold=found)
    return candidates


def _count_rarest(recipe: Recipe, loaded: LoadedRows, rows: Rows) -> int:
    """Return the number of rows of the rarest label, or of all rows for a value."""
    if not recipe.is_classification:
        return len(rows)
    labels = len(recipe.target.labels)
    return int(np.bincount(loaded.target[rows].astype(int), minlength=labels).min())


def _find_best(candidates: Iterable[Candidate]) -> Candidate:
    return min(candidates, key=lambda candidate: candidate.loss)


def _blend(recipe: Recipe, candidates: Sequence[Candidate], folds: Folds) -> Iterator[Candidate]:
    """Yield the weighted mean of the candidates, unless one of them is clearly better.

    The loss of a fold is that of weights chosen on the other folds, if there are any.
    """
    started = time.perf_counter()
    members, mixed = choose_members(recipe, candidates, folds)
    if len(members) == 1:
        return
    document = recipe.model_dump(mode="json")
    for section in ("training", "preprocessing", "boosting"):
        del document[section]
    document["target"]["log"] = False
    document["split"] = candidates[0].recipe.split.model_dump(mode="json")
    document["network"] = {"family": "ensemble"}
    document["members"] = [
        {"weight": float(f"{weight:.3g}"), "log": one.recipe.target.log}
        | one.recipe.model_dump(mode="json", include=_MEMBER_SECTIONS)
        for one, weight in members
    ]
    blended = create_candidate(parse_recipe(document, recipe.name), folds, mixed, started)
    if blended.loss <= _find_best(candidates).loss * (1 + _TOLERANCE):
        seconds = sum(candidate.seconds for candidate in candidates)
        yield replace(blended, seconds=seconds)


def choose_members(
    recipe: Recipe, candidates: Sequence[Candidate], folds: Folds
) -> tuple[list[tuple[Candidate, float]], list[Float32s]]:
    """Return the members of the ensemble with their weights, and its predictions of each fold.

    While the trees of all members are too many for a bundle, those of the smallest weight are left
    out.
    """
    weights, mixed = mix_out_of_fold(
        folds.targets, [one.predictions for one in candidates], classes=recipe.is_classification
    )
    members = [pair for pair in zip(candidates, weights, strict=True) if pair[1]]
    trees = [pair for pair in members if _count_nodes(pair[0].recipe)]
    if sum(_count_nodes(one.recipe) for one, _ in trees) <= _MOST_NODES:
        return members, mixed
    least = min(trees, key=lambda pair: pair[1])[0]
    return choose_members(recipe, [one for one in candidates if one is not least], folds)


def _count_nodes(recipe: Recipe) -> int:
    """Return the most nodes that the trees of a recipe have; 0 for other families."""
    if recipe.network.family != "gradient-boosting":
        return 0
    boosting = recipe.boosting
    iterations = boosting.max_iter * boosting.members
    return count_nodes(len(recipe.target.labels), boosting.max_leaf_nodes, iterations)


def _describe_family(measured: Sequence[Candidate]) -> str:
    """Return a line with the best candidate of a family, and the time of all."""
    best = _find_best(measured)
    seconds = sum(candidate.seconds for candidate in measured)
    return f"  {best.family:<18} {_describe(replace(best, seconds=seconds))}"


def _describe(candidate: Candidate) -> str:
    spread = f" ± {np.std(candidate.losses):.3g}" if len(candidate.losses) > 1 else ""
    return f"{get_metric(candidate.recipe)} {candidate.loss:.4g}{spread}, {candidate.seconds:.1f} s"

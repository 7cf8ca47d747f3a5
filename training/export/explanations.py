"""The contribution of each feature to the score of a linear model."""

import copy
from typing import Literal

import numpy as np
import torch

from service.bundle.explanations import Additive, CategoryTerm, NumberTerm
from service.bundle.features import UNSEEN
from training.data.table import Dataset, Floats, Inputs
from training.errors import ExportError
from training.model.networks import Predictor, ValueHead
from training.model.preprocessing import Clipper
from training.model.text import TableModel
from training.recipe.table import Recipe

_CLOSE = 1e-9
_CHECK_ROWS = 1000

Score = Literal["value", "log1p", "log-odds", "hard-sigmoid", "log-probability"]


def build_explanation(
    recipe: Recipe, data: Dataset, training: Inputs, predictor: TableModel
) -> Additive | None:
    """Return the score as a sum over the features; None if it is not a sum.

    Mean values of the training set, ``[rows, columns]``, contribute zero. Raise `ExportError` if
    the sums differ from the scores of the network.
    """
    if not recipe.family.additive or not isinstance(predictor, Predictor):
        return None
    if predictor.preprocessing.calendars:  # several numbers depend on one date
        return None
    cells = training.astype(np.float64)
    probe = Probe(predictor, cells, [column.feature.type == "category" for column in data.columns])
    base = probe.base
    terms: list[NumberTerm | CategoryTerm] = []
    for position, column in enumerate(data.columns):
        optional = column.feature.optional
        if column.feature.type == "category":
            term, center = _build_category_term(
                probe, position, cells[:, position], len(column.categories)
            )
            base = base + center
            terms.append(term if optional else term.model_copy(update={"missing": None}))
        else:
            terms.append(_build_number_term(probe, position, cells[:, position], optional=optional))
    reasons = Additive(score=_choose_score(recipe), base=base.tolist(), terms=terms)
    _verify(reasons, probe, cells[:_CHECK_ROWS])
    return reasons


class Probe:
    """Scores in float64 around one reference row: mean numbers, and no category."""

    def __init__(self, predictor: Predictor, training: Floats, categories: list[bool]) -> None:
        self._predictor = copy.deepcopy(predictor).double()
        self.bounds: dict[int, tuple[float, float]] = {}
        for step in self._predictor.preprocessing.steps:
            if isinstance(step, Clipper):
                ends = zip(step.low.tolist(), step.high.tolist(), strict=True)
                # Statistics of categories follow the numbers.
                self.bounds = dict(zip(predictor.preprocessing.numeric, ends, strict=False))
        self.row = np.full(training.shape[1], UNSEEN)
        for position in np.flatnonzero(~np.array(categories)):
            self.row[position] = np.nanmean(self.clip(int(position), training[:, position]))
        self.base = self.compute_scores(self.row[np.newaxis])[0]

    def clip(self, position: int, cells: Floats) -> Floats:
        """Return the cells of a column, clipped as the preprocessing does."""
        low, high = self.bounds.get(position, (-np.inf, np.inf))
        return np.clip(cells, low, high)

    def compute_scores(self, rows: Floats) -> Floats:
        """Map ``[rows, columns]`` in raw units to ``[rows, scores]``."""
        model = self._predictor
        with torch.no_grad():
            found = model.networks(model.preprocessing(torch.from_numpy(rows)))
            if isinstance(model.head, ValueHead):
                found = model.head.scaler.inverse(found)
        scores = np.asarray(found.numpy(), dtype=np.float64)
        if scores.shape[1] > 1:
            # Softmax only depends on differences; subtracting the mean makes scores unique.
            scores -= scores.mean(axis=1, keepdims=True)
        return scores

    def compute_changes(self, position: int, values: list[float]) -> Floats:
        """Return how values of one column change the scores, ``[values, scores]``."""
        rows = np.tile(self.row, (len(values), 1))
        rows[:, position] = values
        return np.asarray(self.compute_scores(rows) - self.base)


def _build_number_term(probe: Probe, position: int, cells: Floats, *, optional: bool) -> NumberTerm:
    clipped = probe.clip(position, cells)
    low, high = float(np.nanmin(clipped)), float(np.nanmax(clipped))
    low, high = (low, high) if high > low else (low, low + 1)
    ends = probe.compute_changes(position, [low, high])
    minimum, maximum = probe.bounds.get(position, (None, None))
    return NumberTerm(
        kind="number",
        coefficients=((ends[1] - ends[0]) / (high - low)).tolist(),
        reference=float(probe.row[position]),
        minimum=minimum,
        maximum=maximum,
        missing=probe.compute_changes(position, [np.nan])[0].tolist() if optional else None,
    )


def _build_category_term(
    probe: Probe, position: int, cells: Floats, categories: int
) -> tuple[CategoryTerm, Floats]:
    """Return the term, and the mean contribution of the column."""
    changes = probe.compute_changes(position, [*map(float, range(categories)), UNSEEN, np.nan])
    known = np.where(np.isnan(cells), categories + 1, np.where(cells == UNSEEN, categories, cells))
    center = changes[known.astype(int)].mean(axis=0)
    *each, other, missing = (changes - center).tolist()
    return CategoryTerm(kind="category", words=each, other=other, missing=missing), center


def _choose_score(recipe: Recipe) -> Score:
    if not recipe.is_classification:
        return "log1p" if recipe.target.log else "value"
    if recipe.task == "multiclass":
        return "log-probability"
    return "hard-sigmoid" if recipe.family.binary_activation == "hard-sigmoid" else "log-odds"


def _verify(reasons: Additive, probe: Probe, rows: Floats) -> None:
    """Reject sums that differ from the scores of the network."""
    expected = probe.compute_scores(rows)
    found = [
        [reasons.explain(row, k).score for k in range(expected.shape[1])] for row in rows.tolist()
    ]
    error = float(np.abs(np.array(found) - expected).max())
    if error > _CLOSE * max(1.0, float(np.abs(expected).max())):
        raise ExportError(
            f"The feature contributions do not add up to the score: they differ by {error:.3g}. "
            "Nothing was published."
        )

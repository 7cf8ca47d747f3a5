"""Columns that know the answer: each one alone against the target."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from sklearn.tree import DecisionTreeClassifier

from training.data.numerals import as_numbers
from training.data.table import Floats, Rows, Table
from training.recipe.table import Feature

_STRONG = 0.995
_LEAST_KNOWN = 20
_LEAST_ROWS_OF_A_WORD = 4
_MOST_ROWS = 10_000
_LEAVES_OF_A_LABEL = 2


def leakage(table: Table, features: Sequence[Feature], target: Floats, labels: int) -> list[str]:
    """Names of columns that alone tell the target almost without error.

    Labels: the balanced share of rows answered right by the column's words, or by a tree of few
    leaves on its numbers; whether a cell is missing tells as much as a word.
    Quantities: the rank correlation with numbers, and the share of the ranks' variance between
    words.

    Args:
        table: the rows with a target.
        features: the columns to look at.
        target: ``[rows]``, a value or a label's position each.
        labels: how many labels there are; 0 for a quantity.
    """
    if len(target) > _MOST_ROWS:
        rows = np.random.default_rng(0).choice(len(target), _MOST_ROWS, replace=False)
        rows.sort()
        table = table.rows(pl.Series(np.isin(np.arange(len(target)), rows)))
        target = target[rows]
    strengths = {feature.name: _strength(table, feature, target, labels) for feature in features}
    return [name for name, strength in strengths.items() if strength > _STRONG]


def _strength(table: Table, feature: Feature, target: Floats, labels: int) -> float:
    cells = table.column(feature.name)
    if feature.type in ("number", "integer"):
        numbers = as_numbers(cells, table.numerals, feature.affix)
        if not labels:
            return _rank_correlation(numbers, target)
        return _purity(_leaves(numbers.fill_null(float("nan")).to_numpy(), target, labels), target)
    words = cells.fill_null("").rank("dense").to_numpy().astype(np.intp)
    if len(words) < _LEAST_ROWS_OF_A_WORD * words.max():
        return 0.0
    return _purity(words, target) if labels else _variance_between(words, target) ** 0.5


def _rank_correlation(numbers: pl.Series, target: Floats) -> float:
    pair = pl.DataFrame({"x": numbers, "y": target}).drop_nulls()
    if len(pair) < max(_LEAST_KNOWN, len(target) / 2):
        return 0.0
    ranks = pair.select(pl.corr("x", "y", method="spearman")).item()
    return 0.0 if ranks is None else abs(float(ranks))


def _leaves(numbers: Floats, target: Floats, labels: int) -> Rows:
    """The part of the number line that each row falls into, where few parts tell labels apart."""
    tree = DecisionTreeClassifier(
        max_leaf_nodes=_LEAVES_OF_A_LABEL * labels,
        min_samples_leaf=_LEAST_ROWS_OF_A_WORD,
        class_weight="balanced",
        random_state=0,
    )
    column = numbers[:, np.newaxis]
    return np.asarray(tree.fit(column, target).apply(column), dtype=np.intp)


def _purity(groups: Rows, target: Floats) -> float:
    """The mean over labels of the share of rows that their group's strongest label answers right.

    Nought where a label has too few rows to show anything.
    """
    table = np.zeros((groups.max() + 1, int(target.max()) + 1))
    np.add.at(table, (groups, target.astype(np.intp)), 1)
    rows = table.sum(axis=0)
    if rows.min() < _LEAST_ROWS_OF_A_WORD or rows.sum() < _LEAST_KNOWN:
        return 0.0
    return float((table / rows).max(axis=1).sum() / len(rows))


def _variance_between(groups: Rows, target: Floats) -> float:
    """The correlation ratio of the target's ranks: what share of their variance groups explain."""
    if len(target) < _LEAST_KNOWN:
        return 0.0
    frame = pl.DataFrame({"group": groups, "rank": pl.Series(target).rank()})
    means = frame.select(pl.col("rank").mean().over("group")).to_series()
    return float(means.var(ddof=0) / frame["rank"].var(ddof=0))  # type: ignore[operator,arg-type]

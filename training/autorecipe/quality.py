"""What a person should know of an unknown table before trusting a model of it."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from sklearn.tree import DecisionTreeClassifier

from training.autorecipe.columns import look
from training.autorecipe.targets import RARE
from training.data.numerals import as_numbers
from training.data.table import Floats, Rows, Table
from training.recipe.table import Card, Feature, Recipe

_SHOWN = 10
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_MARKS = {".": "point", ",": "comma", " ": "blank", "'": "apostrophe"}
_ENCODINGS = {"utf-8-sig": "utf-8 with a byte-order mark"}
_CHOSEN = {
    "f1": "the best F1 on the validation part",
    "youden": "the greatest TPR less FPR on the validation part",
}
_LEAK = "If it becomes known only afterwards, take it out of the recipe."
_STRONG = 0.995
_LEAST_KNOWN = 20
_LEAST_ROWS_OF_A_WORD = 4
_MOST_ROWS = 10_000
_LEAVES_OF_A_LABEL = 2


def caveats(recipe: Recipe, whole: Table, table: Table, target: Floats) -> list[str]:
    """What to know before one trusts the figures, the gravest first.

    Args:
        recipe: the model's.
        whole: the table as it was read.
        table: the rows that have a target.
        target: ``[rows]``, raw values or label positions.
    """
    labels = len(recipe.target.labels)
    suspects = leakage(table, recipe.features, target, labels)
    return [
        *about_leaks(suspects, classes=labels > 0),
        *about_rarity(recipe, target),
        *about_rows(table, target, whole.frame.height),
        *about_columns(recipe, table),
    ]


def about_reading(table: Table) -> list[str]:
    """How the file was found to write its cells."""
    reading, numerals = table.reading, table.numerals
    if reading is None:
        return []
    separator = _SEPARATORS.get(reading.separator, repr(reading.separator))
    encoding = _ENCODINGS.get(reading.encoding, reading.encoding)
    thousands = f"parted by a {_MARKS[numerals.thousands]}" if numerals.thousands else "not parted"
    header = "The first line names the columns."
    if reading.titles:
        header = f"{reading.titles} lines of titles are left out; the next names the columns."
    if not reading.header:
        header = (
            "The first line is taken for cells, so the columns are column_1 to "
            f"column_{table.frame.width}; if it names them, set data.header = true in the recipe."
        )
    cells = f"cells separated by {separator} and quoted by {reading.quote}"
    marks = f"decimal {_MARKS[numerals.decimal]}, thousands {thousands}"
    remarks = [f"Read as {encoding}, {cells}, {marks}. {header}"]
    if reading.doubtful:
        meant = "decimals" if numerals.decimal in reading.doubtful else "thousands"
        remarks.append(
            f"Nothing in the file says whether the mark in {reading.doubtful!r} is one of decimals "
            f"or of thousands; it is read as one of {meant}. If that is wrong, set data.decimal "
            "and data.thousands in the recipe."
        )
    return remarks


def about_missing(table: Table, missing: Sequence[str]) -> list[str]:
    """The words that are taken as missing, with the columns that they stand in."""
    counts = {
        column.name: column.filter(column.is_in(missing)).alias("word").value_counts(sort=True)
        for column in table.frame
    }
    places = [
        f"{word!r} in {name} ({times:,})"
        for name, words in counts.items()
        for word, times in words.iter_rows()
    ]
    some = ", ".join(places[:_SHOWN]) + (" …" if len(places) > _SHOWN else "")
    return [f"Words taken as missing: {some}."] if places else []


def about_rows(table: Table, target: Floats, all_rows: int) -> list[str]:
    """Rows that teach nothing, or nothing new."""
    remarks = []
    if len(target) < all_rows:
        remarks.append(f"{all_rows - len(target)} rows have no usable target and are left out.")
    repeated = len(target) - table.frame.n_unique()
    if repeated:
        remarks.append(
            f"Rows that repeat another: {repeated}; the test part may repeat training rows."
        )
    return remarks


def about_leaks(suspects: Sequence[str], *, classes: bool) -> list[str]:
    """Columns that alone know the answer."""
    knows = "tells the labels apart" if classes else "orders the rows as the target does"
    return [f"{name} alone {knows}, almost without error. {_LEAK}" for name in suspects]


def about_rarity(recipe: Recipe, target: Floats) -> list[str]:
    """That accuracy flatters where one of two labels is rare, and what the recipe does for it."""
    rare = rare_label(recipe, target)
    if rare is None:
        return []
    share = (target == recipe.target.labels.index(rare)).mean()
    remark = f"The label {rare!r} is rare ({share:.1%}): read its recall and precision, accuracy "
    chosen = _CHOSEN.get(str(recipe.target.threshold))
    remedy = f" The decision threshold is the one of {chosen}." if chosen else ""
    if recipe.training is not None and recipe.training.class_weight == "balanced":
        remedy += " Each label has the same weight in the loss."
    return [f"{remark}flatters.{remedy}"]


def rare_label(card: Card, target: Floats) -> str | None:
    """The one of two labels that is so rare that accuracy flatters."""
    if card.task != "binary":
        return None
    shares = np.bincount(target.astype(int), minlength=2) / len(target)
    return card.target.labels[int(shares.argmin())] if shares.min() < RARE else None


def about_columns(recipe: Recipe, table: Table) -> list[str]:
    """The table's columns that the model does not see, by reason."""
    seen = {recipe.target.column, *(feature.name for feature in recipe.features)}
    reasons: dict[str, list[str]] = {}
    for name in table.frame.columns:
        if name not in seen:
            finding = look(table, name)
            reason = "not among the recipe's features" if finding.kind else finding.note
            reasons.setdefault(reason, []).append(name)
    return [
        f"Left out: {', '.join(names[:_SHOWN])}"
        + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        + f" ({reason})."
        for reason, names in reasons.items()
    ]


def about_fit(recipe: Recipe) -> list[str]:
    """What will be fitted, and how it will be measured."""
    network, split, training = recipe.network, recipe.split, recipe.training
    layers = (
        f" with layers of {' and '.join(map(str, network.hidden_layer_sizes))}"
        if network.hidden_layer_sizes
        else ""
    )
    epochs = f", at most {training.epochs} epochs of {training.optimizer}" if training else ""
    best = "validation part" if split.validation else "training part"
    test = f"{split.test:.0%} of the rows" if split.test else ""
    folds = f"{split.folds}-fold cross-validation" if split.folds else ""
    measured = " and by ".join(filter(None, (test, folds)))
    kept = f"the best epoch on the {best} is kept"
    return [f"Family {network.family}{layers}{epochs}; {kept}. Measured on {measured}."]


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

"""Data quality: what to know about a table before trusting a model of it."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from sklearn.tree import DecisionTreeClassifier

from service.spelling import format_count, join_names
from service.tabletext import MISSING
from training.autorecipe.columns import infer_column
from training.autorecipe.targets import RARE
from training.data.csv import FALLBACK
from training.data.files import DetectedFileFormat
from training.data.numbers import as_numbers
from training.data.table import DetectedCsvFormat, Floats, Rows, Table
from training.recipe.table import Feature, ModelCard, Recipe

_SHOWN = 10
_MIN_SWALLOWED = 2
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_MARKS = {".": "point", ",": "comma", " ": "blank", "'": "apostrophe"}
_ENCODINGS = {"utf-8-sig": "utf-8 with a byte-order mark"}
_CHOSEN = {
    "f1": "the best F1 on the validation set",
    "youden": "the highest TPR minus FPR on the validation set",
}
_LEAK = "If it is not known at prediction time, remove it from the recipe."
_STRONG = 0.995
_MIN_KNOWN = 20
_MIN_ROWS_OF_A_WORD = 4
_MAX_ROWS = 10_000
_LEAVES_OF_A_LABEL = 2


def describe_caveats(recipe: Recipe, table: Table, target: Floats) -> list[str]:
    """List limits of the metrics, the most serious first.

    Args:
        recipe: of the model.
        table: the rows with a target.
        target: ``[rows]``, raw values or label positions.
    """
    labels = len(recipe.target.labels)
    suspects = find_leaky_columns(table, recipe.features, target, labels)
    return [
        *describe_leaks(suspects, classes=labels > 0),
        *describe_rarity(recipe, target),
        *describe_duplicates(table),
    ]


def describe_unused(recipe: Recipe, whole: Table, table: Table) -> list[str]:
    """List the rows and the columns that the model does not use, with the reasons.

    Args:
        recipe: of the model.
        whole: the complete table.
        table: the rows with a target.
    """
    return [
        *describe_skipped_rows(table.frame.height, whole.frame.height),
        *describe_columns(recipe, table),
    ]


def describe_format(table: Table) -> list[str]:
    """Describe the detected format of the file."""
    csv_format, number_format = table.csv_format, table.number_format
    if csv_format is None:
        return []
    remarks = (
        _describe_file(csv_format)
        if isinstance(csv_format, DetectedFileFormat)
        else _describe_csv(table, csv_format)
    )
    if csv_format.renamed:
        some = join_names([f"{new} ({old})" for new, old in csv_format.renamed.items()], _SHOWN)
        remarks.append(f"Columns of the same name are numbered: {some}.")
    if csv_format.encoding == FALLBACK:
        remarks.append(
            "The file is not UTF-8. If letters are wrong in the names above, give its encoding, "
            "for example --encoding cp1251, or save it in UTF-8."
        )
    if csv_format.ambiguous:
        hint = "decimals" if number_format.decimal in csv_format.ambiguous else "thousands"
        remarks.append(
            f"The mark in {csv_format.ambiguous!r} can be a decimal or a thousands separator; it "
            f"is read as {hint}. To change that, set data.decimal and data.thousands in the recipe."
        )
    return remarks


def _describe_file(file_format: DetectedFileFormat) -> list[str]:
    """Describe a table file, and which sheet of a workbook was read."""
    remarks = [f"Read as a {file_format.kind}."]
    if len(file_format.sheets) > 1:
        others = [repr(name) for name in file_format.sheets if name != file_format.sheet]
        remarks.append(
            f"Only the sheet {file_format.sheet!r} is read; the others are "
            f"{join_names(others, _SHOWN)}. To read another, give --sheet."
        )
    return remarks


def _describe_csv(table: Table, csv_format: DetectedCsvFormat) -> list[str]:
    """Describe the separators, the marks and the broken rows of a CSV file."""
    number_format = table.number_format
    separator = _SEPARATORS.get(csv_format.separator, repr(csv_format.separator))
    encoding = _ENCODINGS.get(csv_format.encoding, csv_format.encoding)
    thousands = (
        f"separated by a {_MARKS[number_format.thousands]}"
        if number_format.thousands
        else "not separated"
    )
    header = "The first line names the columns."
    if csv_format.titles:
        titles = format_count(csv_format.titles, "title line")
        are = "is" if csv_format.titles == 1 else "are"
        header = f"{titles} {are} skipped; the next line names the columns."
    if not csv_format.header:
        header = (
            "The first line is data, so the columns are named column_1 to "
            f"column_{table.frame.width}; if it is a header, set data.header = true in the recipe."
        )
    cells = f"cells separated by {separator} and quoted by {csv_format.quote}"
    marks = f"decimal {_MARKS[number_format.decimal]}, thousands {thousands}"
    remarks = [f"Read as {encoding}, {cells}, {marks}. {header}"]
    remarks += _find_swallowed_rows(table, csv_format.separator)
    if csv_format.broken:
        lines = join_names([f"line {line}" for line in csv_format.broken], _SHOWN)
        rows = format_count(len(csv_format.broken), "row")
        remarks.append(
            f"{rows} cannot be read ({lines}): a quote is opened there and never closed, or a "
            "quote inside a quoted cell is not doubled. Correct that, and train again."
        )
    return remarks


def _find_swallowed_rows(table: Table, separator: str) -> list[str]:
    """Report cells whose lines are like rows, since a quote before them may not be closed."""
    remarks = []
    separators = table.frame.width - 1
    for cells in table.frame if separators else []:
        if not cells.str.contains("\n", literal=True).any():
            continue
        lines = cells.str.split("\n").list.slice(1)
        like_rows = lines.list.eval(pl.element().str.count_matches(separator, literal=True)).list
        found = (like_rows.count_matches(separators) >= _MIN_SWALLOWED).arg_true()
        if len(found):
            row = int(found[0])
            remarks.append(
                f"{table.location(row)}, column {cells.name!r}: the cell has "
                f"{format_count(len(lines[row]), 'line')} like rows. If a quote in it is "
                "not closed, correct it, and train again."
            )
    return remarks


def describe_missing(table: Table, missing: Sequence[str]) -> list[str]:
    """List the words that are read as missing values, and those that are not, by column."""
    words = [word for word in MISSING if word not in missing]
    remarks = []
    if some := _find_cells(table, missing):
        remarks.append(f"Words read as missing values: {some}.")
    if some := _find_cells(table, words):
        remarks.append(
            f"Read as words, because they are as frequent as others: {some}. If they are missing "
            "values, add them to data.missing in the recipe."
        )
    return remarks


def _find_cells(table: Table, words: Sequence[str]) -> str:
    """Return the first columns with these words, each with the number of its cells."""
    counts = {
        column.name: column.filter(column.is_in(words)).alias("word").value_counts(sort=True)
        for column in table.frame
    }
    positions = [
        f"{word!r} in {name} ({times:,})"
        for name, found in counts.items()
        for word, times in found.iter_rows()
    ]
    return join_names(positions, _SHOWN)


def describe_skipped_rows(rows: int, all_rows: int) -> list[str]:
    """Count the rows without a target."""
    skipped = all_rows - rows
    if not skipped:
        return []
    have, are = ("has", "is") if skipped == 1 else ("have", "are")
    return [f"{format_count(skipped, 'row')} {have} no valid target and {are} skipped."]


def describe_duplicates(table: Table) -> list[str]:
    """Warn of equal rows in the rows with a target."""
    repeated = table.frame.height - table.frame.n_unique()
    if not repeated:
        return []
    return [f"Duplicate rows: {repeated:,}; a measured row may equal a training row."]


def describe_leaks(suspects: Sequence[str], *, classes: bool) -> list[str]:
    """Warn of columns that may leak the target."""
    evidence = "predicts the labels" if classes else "has the same order as the target"
    return [
        f"{name} alone {evidence}, almost without error: possible target leakage. {_LEAK}"
        for name in suspects
    ]


def describe_rarity(recipe: Recipe, target: Floats) -> list[str]:
    """Warn of a rare label, for which accuracy is misleading, and say how the recipe handles it."""
    rare = find_rare_label(recipe, target)
    if rare is None:
        return []
    share = (target == recipe.target.labels.index(rare)).mean()
    remark = (
        f"The label {rare!r} is rare ({share:.1%}): see its recall and precision, since accuracy "
    )
    chosen = _CHOSEN.get(str(recipe.target.threshold))
    remedy = f" The decision threshold has {chosen}." if chosen else ""
    if recipe.target.threshold == "half":
        can_choose = recipe.split.validation or (not recipe.split.test and recipe.split.folds)
        lower = 'target.threshold = "f1"' if can_choose else "a lower target.threshold"
        remedy = f" To predict it more often, set {lower} in the recipe."
    if recipe.training is not None and recipe.training.class_weight == "balanced":
        remedy += " Each label has the same weight in the loss."
    return [f"{remark}is misleading.{remedy}"]


def find_rare_label(card: ModelCard, target: Floats) -> str | None:
    """Return the rarer of two labels, if it is so rare that accuracy is misleading."""
    if card.task != "binary":
        return None
    shares = np.bincount(target.astype(int), minlength=2) / len(target)
    return card.target.labels[int(shares.argmin())] if shares.min() < RARE else None


def describe_columns(recipe: Recipe, table: Table) -> list[str]:
    """List the columns that are not features, by reason."""
    seen = {recipe.target.column, *(feature.name for feature in recipe.features)}
    reasons: dict[str, list[str]] = {}
    for name in table.frame.columns:
        if name not in seen:
            column = infer_column(table, name)
            reason = "not a feature of the recipe" if column.kind else column.note
            reasons.setdefault(reason, []).append(name)
    return [
        f"Not used: {join_names(names, _SHOWN)} ({reason})." for reason, names in reasons.items()
    ]


def describe_fit(recipe: Recipe) -> list[str]:
    """Describe the model that will be fitted, and how it will be measured."""
    network, split, training = recipe.network, recipe.split, recipe.training
    layers = (
        f" with layers of {' and '.join(map(str, network.hidden_layer_sizes))}"
        if network.hidden_layer_sizes
        else ""
    )
    epochs = ""
    if training is not None and training.optimizer == "scikit-learn":
        epochs = ", fitted to the optimum by scikit-learn"
    elif training is not None and network.seed is not None:
        epochs = f", {format_count(training.epochs, 'epoch')} of {training.optimizer}"
    elif training is not None:
        best = "validation" if split.validation and not split.refit else "training"
        epochs = (
            f", at most {format_count(training.epochs, 'epoch')} of {training.optimizer}; the "
            f"model has the weights of the best epoch on the {best} set"
        )
    elif recipe.members:
        epochs = f" of {format_count(len(recipe.members), 'model')}"
    test = f"{split.test:.0%} of the rows" if split.test else ""
    folds = f"{split.folds}-fold cross-validation" if split.folds else ""
    measured = " and by ".join(filter(None, (test, folds)))
    again = ", then fitted to all rows" if split.refit else ""
    return [f"Family {network.family}{layers}{epochs}. Measured on {measured}{again}."]


def find_leaky_columns(
    table: Table, features: Sequence[Feature], target: Floats, labels: int
) -> list[str]:
    """Return names of columns that predict the target alone, almost without error.

    For labels: the balanced accuracy of the column's words, or of a small decision tree on its
    numbers; a missing cell counts as a word. For numbers: the rank correlation, or the share of
    the variance of ranks between words.

    Args:
        table: the rows with a target.
        features: the columns to check.
        target: ``[rows]``, values or positions of labels.
        labels: the number of labels; 0 for regression.
    """
    if len(target) > _MAX_ROWS:
        rows = np.random.default_rng(0).choice(len(target), _MAX_ROWS, replace=False)
        rows.sort()
        table = table.filter(pl.Series(np.isin(np.arange(len(target)), rows)))
        target = target[rows]
    strengths = {
        feature.name: _measure_strength(table, feature, target, labels) for feature in features
    }
    return [name for name, strength in strengths.items() if strength > _STRONG]


def _measure_strength(table: Table, feature: Feature, target: Floats, labels: int) -> float:
    cells = table.column(feature.name)
    if feature.type in ("number", "integer"):
        numbers = as_numbers(cells, table.number_format, feature.affix)
        if not labels:
            return _compute_rank_correlation(numbers, target)
        return _compute_purity(
            _assign_leaves(numbers.fill_null(float("nan")).to_numpy(), target, labels), target
        )
    categories = cells.fill_null("").rank("dense").to_numpy().astype(np.intp)
    if len(categories) < _MIN_ROWS_OF_A_WORD * categories.max():
        return 0.0
    return (
        _compute_purity(categories, target)
        if labels
        else _compute_correlation_ratio(categories, target) ** 0.5
    )


def _compute_rank_correlation(numbers: pl.Series, target: Floats) -> float:
    pair = pl.DataFrame({"x": numbers, "y": target}).drop_nulls()
    if len(pair) < max(_MIN_KNOWN, len(target) / 2):
        return 0.0
    ranks = pair.select(pl.corr("x", "y", method="spearman")).item()
    return 0.0 if ranks is None else abs(float(ranks))


def _assign_leaves(numbers: Floats, target: Floats, labels: int) -> Rows:
    """Return the leaf of each row in a small decision tree on one column."""
    tree = DecisionTreeClassifier(
        max_leaf_nodes=_LEAVES_OF_A_LABEL * labels,
        min_samples_leaf=_MIN_ROWS_OF_A_WORD,
        class_weight="balanced",
        random_state=0,
    )
    column = numbers[:, np.newaxis]
    return np.asarray(tree.fit(column, target).apply(column), dtype=np.intp)


def _compute_purity(groups: Rows, target: Floats) -> float:
    """Return the mean recall over labels if each group predicts its most frequent label.

    Zero if a label has too few rows.
    """
    table = np.zeros((groups.max() + 1, int(target.max()) + 1))
    np.add.at(table, (groups, target.astype(np.intp)), 1)
    rows = table.sum(axis=0)
    if rows.min() < _MIN_ROWS_OF_A_WORD or rows.sum() < _MIN_KNOWN:
        return 0.0
    return float((table / rows).max(axis=1).sum() / len(rows))


def _compute_correlation_ratio(groups: Rows, target: Floats) -> float:
    """Return the correlation ratio: the share of the variance of target ranks between groups."""
    if len(target) < _MIN_KNOWN:
        return 0.0
    frame = pl.DataFrame({"group": groups, "rank": pl.Series(target).rank()})
    means = frame.select(pl.col("rank").mean().over("group")).to_series()
    return float(means.var(ddof=0) / frame["rank"].var(ddof=0))  # type: ignore[operator,arg-type] # not durations

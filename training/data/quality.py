"""What a person should know of an unknown table before trusting a model of it."""

from collections.abc import Sequence

import numpy as np

from training.autorecipe.columns import infer_column
from training.autorecipe.targets import RARE
from training.data.leakage import leakage
from training.data.table import Floats, Table
from training.recipe.table import Card, Recipe

_SHOWN = 10
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_MARKS = {".": "point", ",": "comma", " ": "blank", "'": "apostrophe"}
_ENCODINGS = {"utf-8-sig": "utf-8 with a byte-order mark"}
_CHOSEN = {
    "f1": "the best F1 on the validation part",
    "youden": "the greatest TPR less FPR on the validation part",
}
_LEAK = "If it becomes known only afterwards, take it out of the recipe."


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
    if recipe.training is not None and recipe.training.class_weights == "balanced":
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
            finding = infer_column(table, name)
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
    layers = f" with layers of {' and '.join(map(str, network.hidden))}" if network.hidden else ""
    epochs = f", at most {training.epochs} epochs of {training.optimiser}" if training else ""
    best = "validation part" if split.validation else "training part"
    test = f"{split.test:.0%} of the rows" if split.test else ""
    folds = f"{split.folds}-fold cross-validation" if split.folds else ""
    measured = " and by ".join(filter(None, (test, folds)))
    kept = f"the best epoch on the {best} is kept"
    return [f"Family {network.family}{layers}{epochs}; {kept}. Measured on {measured}."]

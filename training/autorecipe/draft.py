"""Writing the recipe of an unknown table: everything inferred, and nothing left unsaid."""

import re
import unicodedata
from dataclasses import asdict, dataclass, replace
from typing import Any

from service.tabletext.words import MISSING
from training.autorecipe.columns import Finding, infer_column
from training.autorecipe.defaults import (
    default_family,
    default_network,
    default_split,
    default_training,
)
from training.autorecipe.targets import guess_target, missing_words
from training.data.leakage import leakage
from training.data.numerals import as_number
from training.data.quality import (
    about_fit,
    about_leaks,
    about_missing,
    about_rarity,
    about_reading,
    about_rows,
)
from training.data.sources import public_data
from training.data.table import Table, encode_target, tidied, with_target
from training.errors import DataError
from training.recipe.loader import parse_recipe
from training.recipe.table import Family, Feature, Recipe


@dataclass(frozen=True)
class Draft:
    """A recipe, and what was seen while writing it."""

    recipe: Recipe
    findings: list[Finding]
    remarks: list[str]


def draft(table: Table, file: str, target: str, name: str, family: Family | None) -> Draft:
    """Infer a complete recipe for the table.

    Args:
        table: as `csv_file.read_csv` gives it.
        file: where the recipe will find it again.
        target: the column to predict, by its name or its position from 1.
        name: what the model will be called.
        family: the kind of network; None: by the target and the number of rows.

    Raises:
        DataError: the target cannot be predicted, or no column is left to predict it from.
    """
    column = target_column(table, target)
    missing = missing_words(table, column)
    absent = about_missing(table, missing)
    table = replace(table, frame=tidied(table.frame, missing), missing=tuple(missing))
    guess = guess_target(table, column, family)
    usable = with_target(table, guess.target)
    y = encode_target(usable, guess.target)
    findings = [infer_column(usable, other) for other in table.frame.columns if other != column]
    features = [finding.feature() for finding in findings if finding.kind is not None]
    if not features:
        raise DataError(f"{table.name}: no column is left to predict {column!r} from.")

    labels = len(guess.target.labels)
    classes = labels > 0
    family = family or default_family(len(y), classes=classes)
    split = default_split(y, classes=classes)
    choose = guess.rare and "validation" in split
    data: dict[str, Any] = public_data(table) or {"file": file}
    if "file" in data and table.reading is not None:
        data["header"] = table.reading.header
    data |= asdict(table.numerals)
    if missing != list(MISSING):
        data["missing"] = missing
    document = {
        "name": name,
        "title": f"{column}, from {table.name}",
        "description": f"Drafted from {table.name} by `python -m training new`.",
        "data": data,
        "target": guess.target.model_dump() | ({"threshold": "f1"} if choose else {}),
        "features": [feature.model_dump() for feature in features],
        "split": split,
        "preparation": {"turned": _coordinates(features)},
        "network": default_network(family, len(y), features, labels),
        "training": default_training(family, len(y), len(features), labels),
    }
    recipe = parse_recipe(document, name)
    suspects = leakage(usable, features, y, labels)
    remarks = [
        *about_reading(table),
        *absent,
        *guess.remarks,
        *about_rows(usable, y, table.frame.height),
        *about_leaks(suspects, classes=classes),
        *about_rarity(recipe, y),
        *about_fit(recipe),
    ]
    return Draft(recipe, findings, remarks)


def target_column(table: Table, target: str) -> str:
    """The target by its name, or by its position from 1.

    Raises:
        DataError: there is no such column.
    """
    position = as_number(target)
    if target not in table.frame.columns and position and 1 <= position <= table.frame.width:
        return table.frame.columns[int(position) - 1]
    return table.column(target).name


def model_name(file_name: str) -> str:
    """A file's name made fit to be a model's."""
    letters = unicodedata.normalize("NFKD", file_name.casefold()).encode("ascii", "ignore")
    return re.sub(r"[^a-z0-9]+", "_", letters.decode()).strip("_") or "model"


def _coordinates(features: list[Feature]) -> list[tuple[str, str]]:
    """A longitude and a latitude, where the columns are called so."""
    numbers = [feature.name for feature in features if feature.type == "number"]
    longitudes = [name for name in numbers if name.lower() in ("longitude", "long", "lng", "lon")]
    latitudes = [name for name in numbers if name.lower() in ("latitude", "lat")]
    return list(zip(longitudes, latitudes, strict=False))[:1]

"""Complete the card of an imported model from its graph and the rows."""

from collections import Counter
from pathlib import Path
from typing import Any

from onnx import TensorProto

from training.autorecipe.draft import derive_model_name
from training.data.table import Table
from training.errors import ImportRejected
from training.export.foreign_graph import ForeignGraph
from training.export.graph_reading import INTEGER_TYPES, STRING_TYPE
from training.importing.options import ImportOptions
from training.importing.rows import are_truths, learn_categories
from training.recipe.loader import parse_card
from training.recipe.table import Feature, ModelCard


def complete_card(
    path: Path,
    document: dict[str, Any],
    foreign: ForeignGraph,
    table: Table | None,
    options: ImportOptions,
) -> ModelCard:
    """Complete the card with names, types and words of the graph, and those of the table.

    Raises:
        ImportRejected: names or types are missing, or do not match the graph.
        RecipeError: the card has invalid keys.
    """
    if not _is_formed(document):
        return parse_card(document, path.name)  # raises with all problems
    target = {"column": "prediction"} | document.get("target", {})
    features = _list_features(
        document.get("features") or [], foreign, table, {target["column"], *options.expected}
    )
    width = foreign.width or len(features)
    if len(features) != width:
        raise ImportRejected(_describe_width(width, features, document, table))
    kinds = list_types(foreign, width)
    words = _list_words(foreign, width)
    typed = [
        _describe_feature(feature, kind, known, table)
        for feature, kind, known in zip(features, kinds, words, strict=True)
    ]
    defaults = {"name": derive_model_name(path.stem), "title": path.stem}
    if options.labels:
        target = target | {"labels": list(options.labels)}
    card = parse_card(defaults | document | {"target": target, "features": typed}, path.name)
    _check_names(card, foreign, table, options)
    card = options.apply(card)
    for feature, kind in zip(card.features, kinds, strict=True):
        _check_type(feature, kind)
    return card if table is None else _add_categories(card, table, kinds)


def list_types(foreign: ForeignGraph, width: int) -> list[int]:
    """Return the `onnx.TensorProto` data type of the input of each of ``width`` columns."""
    return foreign.column_types if foreign.width else foreign.column_types * width


def _list_words(foreign: ForeignGraph, width: int) -> list[list[str]]:
    """Return the words that the graph knows of each column; none if it does not list them."""
    return [
        list(foreign.vocabularies.get((known.name, position), ()))
        for known in foreign.inputs
        for position in range(known.width or width)
    ]


def _describe_feature(
    feature: dict[str, Any], kind: int, words: list[str], table: Table | None
) -> dict[str, Any]:
    """Return a feature of the card with its type and, of the graph's words, its categories.

    An empty word in the graph is the one of an empty cell.
    """
    name = feature.get("name")
    chosen = _choose_feature_type(kind)
    if (
        chosen in ("number", "integer")
        and table is not None
        and name in table.frame.columns
        and are_truths(table, str(name))
    ):
        chosen = "boolean"
    known: dict[str, Any] = {"type": chosen}
    if kind == STRING_TYPE and words:
        known["categories"] = [word for word in words if word]
        known["optional"] = "" in words
    return known | feature


def _describe_width(
    width: int, features: list[dict[str, Any]], document: dict[str, Any], table: Table | None
) -> str:
    names = ", ".join(str(feature.get("name")) for feature in features)
    named = document.get("features") is not None or table is None
    remedy = (
        ""
        if named or "column" in document.get("target", {})
        else (" If one of them is the target, name it with --target.")
    )
    return (
        f"it takes {width} columns, but {len(features)} are named: {names}. "
        f"Name each with --features, in the graph's order.{remedy}"
    )


def _check_names(
    card: ModelCard, foreign: ForeignGraph, table: Table | None, options: ImportOptions
) -> None:
    """Reject names that fit the graph in more than one way.

    Raises:
        ImportRejected: labels repeat, the target is a feature, or the features are those of the
            graph in another order.
        DataError: the table has no such target.
    """
    repeated = [label for label, count in Counter(card.target.labels).items() if count > 1]
    if repeated:
        raise ImportRejected(f"{repeated[0]!r} names several classes; give each its own name.")
    names, own = [feature.name for feature in card.features], foreign.column_names or []
    if options.target in names:
        raise ImportRejected(
            f"--target names {options.target!r}, which the model takes as a column. Name the "
            "column of true values, or leave --target out."
        )
    if table is not None and options.target is not None:
        table.column(options.target)  # raises with the columns that there are
    if names != own and sorted(names) == sorted(own):
        raise ImportRejected(
            f"the features are in the order {', '.join(names)}, and the graph takes "
            f"{', '.join(own)}. Use that order, or leave --features out."
        )


def _is_formed(document: dict[str, Any]) -> bool:
    """Return whether the sections of the document are tables."""
    target, features = document.get("target", {}), document.get("features", [])
    listed = isinstance(features, list) and all(isinstance(one, dict) for one in features)
    return isinstance(target, dict) and listed


def _list_features(
    described: list[dict[str, Any]], foreign: ForeignGraph, table: Table | None, others: set[str]
) -> list[dict[str, Any]]:
    """Return a feature for each column, in the graph's order.

    A card may describe some of the columns, by their names in the graph or the table. A list of
    names alone is one of all columns.
    """
    is_partial = foreign.width is not None and len(described) < foreign.width
    if described and not (is_partial and all(feature.keys() - {"name"} for feature in described)):
        return described
    if described and not foreign.column_names and table is None:
        return described
    names = _choose_column_names(foreign, table, others)
    by_name = {str(feature.get("name")): feature for feature in described}
    if not by_name.keys() <= set(names):
        return described
    return [by_name.get(name, {"name": name}) for name in names]


def _choose_column_names(foreign: ForeignGraph, table: Table | None, others: set[str]) -> list[str]:
    if foreign.column_names:
        return foreign.column_names
    if table is not None:
        return [name for name in table.frame.columns if name not in others]
    raise ImportRejected(
        f"it takes {foreign.width or 'any number of'} columns without names. Name them with "
        "--features, in the graph's order, or give a table of them with --csv."
    )


def _choose_feature_type(kind: int) -> str:
    if kind == STRING_TYPE:
        return "category"
    if kind in INTEGER_TYPES:
        return "integer"
    return "boolean" if kind == TensorProto.BOOL else "number"


def _check_type(feature: Feature, kind: int) -> None:
    if feature.type == "datetime":
        raise ImportRejected(
            f"{feature.name!r} cannot be of type datetime: an imported graph reads numbers, so "
            "give its numbers instead."
        )
    if feature.type == "text":
        raise ImportRejected(
            f"{feature.name!r} cannot be of type text, which only trained models have; leave out "
            "its card, and serve the graph without importing it if it reads any string."
        )
    if kind == STRING_TYPE and feature.type != "category":
        raise ImportRejected(f"{feature.name!r} is a string input, so its type must be category.")
    if kind in INTEGER_TYPES and feature.type == "number":
        raise ImportRejected(f"{feature.name!r} is an integer input, so its type must be integer.")
    if feature.optional and kind in (*INTEGER_TYPES, TensorProto.BOOL):
        raise ImportRejected(f"{feature.name!r} is an integer input, so it cannot be optional.")


def _add_categories(card: ModelCard, table: Table, kinds: list[int]) -> ModelCard:
    """Add the words of the table to features without categories.

    Words with blanks around them are added to those of the graph too, since the graph may not
    know them.
    """
    features = []
    for feature, kind in zip(card.features, kinds, strict=True):
        if feature.type == "category" and (kind == STRING_TYPE or not feature.categories):
            categories = learn_categories(table, feature)
            if not categories:
                raise ImportRejected(
                    f"all cells of {feature.name!r} are empty; give rows that have some."
                )
            features.append(feature.model_copy(update={"categories": categories}))
        else:
            features.append(feature)
    return card.model_copy(update={"features": features})

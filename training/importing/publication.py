"""Import an ONNX model of another library as a bundle, verified against the original."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from service.bundle import manifest as contract
from service.bundle.features import FeaturesInput
from service.bundle.manifest import DEFAULT_THRESHOLD, output_name
from service.bundle.store import EXAMPLES, MODEL, to_json
from training.autorecipe.draft import derive_model_name
from training.data.csv import read_csv
from training.data.table import (
    Column,
    Dataset,
    Float32s,
    Floats,
    Table,
    encode_features,
    encode_target,
    learn_columns,
    with_target,
)
from training.errors import DataError, ImportRejected
from training.evaluation.metrics import measure, predict_baseline, round_metrics
from training.export import onnx_export
from training.export.foreign_graph import (
    INTEGER_TYPES,
    STRING_TYPE,
    ForeignGraph,
    OutputMapping,
    find_output,
)
from training.export.manifest import describe_input, describe_output
from training.export.publish import Publication, publish
from training.export.wrapping import wrap
from training.importing.options import ImportOptions
from training.recipe.loader import parse_card
from training.recipe.table import Feature, ModelCard

_RANDOM_ROWS = 64


@dataclass(frozen=True)
class Original:
    """The original model, with its output in the form of the bundle."""

    source = "the original model"
    foreign: ForeignGraph
    mapping: OutputMapping
    card: ModelCard

    def predict(self, features: Float32s) -> Float32s:
        """Map ``[rows, columns]`` in raw units to predictions ``[rows, outputs]``."""
        return self.mapping.apply(self.foreign.run(features, self.card.features))


def import_model(
    path: Path,
    document: dict[str, Any],
    csv: Path | None,
    models: Path,
    options: ImportOptions | None = None,
) -> Publication:
    """Wrap a model into a bundle and publish it as the next version below ``models``.

    Args:
        path: the ONNX file.
        document: a `ModelCard` as parsed from TOML; missing parts come from the graph and the rows.
        csv: rows to verify the import and, with ``target.column``, to measure it.
        models: the folder of published models.
        options: choices beyond the card.

    Raises:
        TrainingError: the model cannot be wrapped, or its predictions changed.
    """
    try:
        foreign = ForeignGraph(_read(path))
        table = read_csv(csv) if csv is not None else None
        card = (options or ImportOptions()).apply(complete_card(path, document, foreign, table))
        data = choose_verification_rows(card, table)
        return _publish(foreign, card, data, table, models)
    except ImportRejected as error:
        raise ImportRejected(f"{path.name} cannot be imported: {error}") from None


def _publish(
    foreign: ForeignGraph, card: ModelCard, data: Dataset, table: Table | None, models: Path
) -> Publication:
    outputs = foreign.run(data.features, card.features)
    mapping = find_output(outputs, foreign.classes, card.target.labels)
    card = _add_labels(card, mapping)
    chosen = card.target.threshold
    threshold = chosen if isinstance(chosen, float) else DEFAULT_THRESHOLD
    original = Original(foreign, mapping, card)
    output = describe_output(card, threshold)
    output_tensor = output_name(output)

    graph = wrap(foreign, card.features, mapping, output_tensor)
    onnx_export.verify(graph, original, data.features)
    examples = onnx_export.create_examples(original, data.features, output_tensor)

    evaluation = None
    if table is not None and card.target.column in table.frame.columns:
        predictions = original.predict(data.features)
        evaluation = _evaluate(card, select_labeled(card, table), predictions, threshold, foreign)
    producer = foreign.producer or "an unnamed program"
    origin = f"Imported from ONNX; the file was written by {producer}."
    manifest = contract.Manifest(
        format_version=contract.FORMAT_VERSION,
        name=card.name,
        title=card.title,
        description=f"{card.description.strip()}\n{origin}".strip(),
        task=card.task,
        input=_describe_input(data),
        output=output,
        evaluation=evaluation,
        files={},
    )
    files = {MODEL: graph, EXAMPLES: to_json(examples)}
    return replace(publish(models, manifest, files), remark=mapping.remark)


def _read(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except OSError as error:
        raise ImportRejected(f"it cannot be read: {error.strerror}.") from None
    except Exception as error:  # noqa: BLE001 - the decoder's and the checker's share no base
        reason = str(error).strip().partition("\n")[0] or "it holds no graph"
        raise ImportRejected(f"it is not a valid ONNX file: {reason}.") from None
    return model


def _add_labels(card: ModelCard, mapping: OutputMapping) -> ModelCard:
    """Add the labels of the output to the card, and a note on their probabilities."""
    description = f"{card.target.description} {mapping.remark}".strip()
    target = {"labels": mapping.labels, "description": description}
    return card.model_copy(update={"target": card.target.model_copy(update=target)})


def _describe_input(data: Dataset) -> FeaturesInput:
    """Describe the features without training statistics, which are unknown."""
    described = describe_input(data, data.features)
    unknown: dict[str, None] = dict.fromkeys(("trained", "statistics", "counts"))
    features = [
        feature.model_copy(update={key: None for key in unknown if hasattr(feature, key)})
        for feature in described.features
    ]
    return described.model_copy(update={"features": features})


def _evaluate(
    card: ModelCard, table: Table, predictions: Float32s, threshold: float, foreign: ForeignGraph
) -> contract.Evaluation:
    """Compute metrics on the given rows, which should not have been used for training."""
    classes = [str(name) for name in foreign.classes or []]
    if card.target.labels and not card.target.values and len(classes) == len(card.target.labels):
        cells = set(table.column(card.target.column).drop_nulls())
        if cells <= set(classes):
            card = card.model_copy(
                update={"target": card.target.model_copy(update={"values": classes})}
            )
    target = encode_target(table, card.target)
    _, baseline = predict_baseline(card, target, len(target))
    name = "the shares of the labels" if card.target.labels else "the mean"
    return contract.Evaluation(
        part="test",
        rows=len(target),
        metrics=round_metrics(measure(card, target, predictions, threshold)),
        baseline=contract.Baseline(
            name=f"{name} in these rows",
            metrics=round_metrics(measure(card, target, baseline)),
        ),
    )


def complete_card(
    path: Path, document: dict[str, Any], foreign: ForeignGraph, table: Table | None
) -> ModelCard:
    """Complete the card with names and types of the graph and the header of the table.

    Raises:
        ImportRejected: names or types are missing, or do not match the graph.
        RecipeError: the card has invalid keys.
    """
    if not _is_formed(document):
        return parse_card(document, path.name)  # raises with all problems
    target = {"column": "prediction"} | document.get("target", {})
    features = document.get("features") or [
        {"name": name} for name in _choose_column_names(foreign, table, target["column"])
    ]
    width = foreign.width or len(features)
    if len(features) != width:
        names = ", ".join(str(feature.get("name")) for feature in features)
        raise ImportRejected(
            f"it takes {width} columns, but {len(features)} are named: {names}. "
            "Name each with --features, in the graph's order."
        )
    kinds = foreign.column_types if foreign.width else foreign.column_types * width
    typed = [
        {"type": _choose_feature_type(kind)} | f for f, kind in zip(features, kinds, strict=True)
    ]
    defaults = {"name": derive_model_name(path.stem), "title": path.stem}
    card = parse_card(defaults | document | {"target": target, "features": typed}, path.name)
    for feature, kind in zip(card.features, kinds, strict=True):
        _check_type(feature, kind)
    return card if table is None else _add_categories(card, table)


def choose_verification_rows(card: ModelCard, table: Table | None) -> Dataset:
    """Return rows for verification: those of the table, else random ones in the allowed ranges."""
    columns = [Column(feature, tuple(feature.categories)) for feature in card.features]
    if table is None:
        generator = np.random.default_rng(0)
        drawn = [_draw_values(feature, generator) for feature in card.features]
        features = np.column_stack(drawn).astype(np.float32)
    else:
        features = encode_features(select_labeled(card, table), columns)
    empty = np.flatnonzero(np.isnan(features).all(axis=0))
    if len(empty):
        name = card.features[empty[0]].name
        raise DataError(f"All cells of {name!r} are empty; give rows that have some.")
    return Dataset(columns, features, np.zeros(len(features)))


def select_labeled(card: ModelCard, table: Table) -> Table:
    """Return the rows with a target, or all if the table has no such column."""
    return with_target(table, card.target) if card.target.column in table.frame.columns else table


def _is_formed(document: dict[str, Any]) -> bool:
    """Return whether the sections of the document are tables."""
    target, features = document.get("target", {}), document.get("features", [])
    listed = isinstance(features, list) and all(isinstance(one, dict) for one in features)
    return isinstance(target, dict) and listed


def _choose_column_names(foreign: ForeignGraph, table: Table | None, target: str) -> list[str]:
    if foreign.column_names:
        return foreign.column_names
    if table is not None:
        return [name for name in table.frame.columns if name != target]
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
    if kind == STRING_TYPE and feature.type != "category":
        raise ImportRejected(f"{feature.name!r} is a string input, so its type must be category.")
    if kind in INTEGER_TYPES and feature.type == "number":
        raise ImportRejected(f"{feature.name!r} is an integer input, so its type must be integer.")
    if feature.optional and kind in (*INTEGER_TYPES, TensorProto.BOOL):
        raise ImportRejected(f"{feature.name!r} is an integer input, so it cannot be optional.")


def _add_categories(card: ModelCard, table: Table) -> ModelCard:
    """Add the categories of the table to features that list none."""
    every = np.arange(table.frame.height)
    columns = learn_columns(table, card.features, every)
    return card.model_copy(
        update={
            "features": [
                column.feature.model_copy(update={"categories": list(column.categories)})
                for column in columns
            ]
        }
    )


def _draw_values(feature: Feature, generator: np.random.Generator) -> Floats:
    if feature.type == "boolean":
        return generator.integers(0, 2, _RANDOM_ROWS).astype(np.float64)
    if feature.type == "category" and feature.categories:
        return generator.integers(0, len(feature.categories), _RANDOM_ROWS).astype(np.float64)
    if feature.minimum is None or feature.maximum is None:
        wanted = "categories" if feature.type == "category" else "minimum and maximum"
        raise ImportRejected(
            f"there are no rows to verify it with. Give some with --csv, or describe every feature "
            f"with --card: {feature.name!r} has no {wanted}."
        )
    drawn = generator.uniform(feature.minimum, feature.maximum, _RANDOM_ROWS)
    return drawn.round() if feature.type == "integer" else drawn

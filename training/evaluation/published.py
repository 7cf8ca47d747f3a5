"""Read published models, and measure them on other rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from service.bundle.features import CategoryFeature, FeaturesInput
from service.bundle.manifest import DEFAULT_THRESHOLD, ClassesOutput, Manifest
from service.bundle.store import read_bundle
from service.bundle.versions import find_serving_version, parse_version, require_versions
from training.data.csv import UNCHANGED, create_layout
from training.data.files import read_table
from training.data.sources import SOURCES
from training.data.table import (
    Column,
    Float32s,
    Inputs,
    Rows,
    Table,
    encode_column,
    encode_target,
    to_graph_inputs,
    with_target,
    with_texts,
)
from training.errors import DataError
from training.evaluation.imported import check_target, describe_card
from training.evaluation.metrics import measure
from training.onnx_files import Graph
from training.recipe.loader import parse_published_recipe
from training.recipe.table import Data, ModelCard, Recipe


@dataclass(frozen=True)
class MeasurableModel:
    """A bundle for tables, with what is needed to measure it on rows."""

    manifest: Manifest
    version: int
    card: ModelCard
    graph: Graph

    @property
    def threshold(self) -> float:
        """Of two labels, the second is predicted at or above this probability."""
        output = self.manifest.output
        return output.decision_threshold if isinstance(output, ClassesOutput) else DEFAULT_THRESHOLD

    @property
    def columns(self) -> list[Column]:
        """The features of the card with the categories of the graph."""
        described = self.manifest.input
        features = described.features if isinstance(described, FeaturesInput) else []
        words = {
            feature.name: tuple(feature.categories)
            for feature in features
            if isinstance(feature, CategoryFeature)
        }
        return [Column(feature, words.get(feature.name, ())) for feature in self.card.features]

    def read(self, path: Path) -> Table:
        """Read a CSV file with words as they are; raise `DataError` if it is not a table."""
        return read_table(path, UNCHANGED)

    def predict(self, table: Table, rows: Rows | None = None) -> Float32s:
        """Return predictions ``[rows, outputs]`` of some or all rows of a table.

        Raise `DataError` if a cell is invalid.
        """
        columns = [with_texts(table, column) for column in self.columns]
        features = np.column_stack([encode_column(table, column) for column in columns])
        described = self.manifest.input
        double = isinstance(described, FeaturesInput) and described.datatype == "FP64"
        chosen: Inputs = features if rows is None else features[rows]
        chosen = chosen.astype(np.float64) if double else chosen.astype(np.float32)
        return self.graph.predict(to_graph_inputs(columns, chosen))


@dataclass(frozen=True)
class PublishedModel(MeasurableModel):
    """A bundle with the recipe that made it."""

    recipe: Recipe

    def read(self, path: Path) -> Table:
        """Read a CSV file as the recipe describes it; raise `DataError` if it is not a table."""
        data = self.recipe.data
        return read_table(path, create_layout(data), _get_column_names(data))


def open_model(models: Path, name: str) -> PublishedModel:
    """Read a model that was trained from a recipe, and check its bundle.

    Args:
        models: folder of published models.
        name: ``name/version``, or ``name`` for the version that serves.

    Raises:
        DataError: it was not trained from a recipe for tables.
        BundleError: there is no such model or version, or its bundle is invalid.
    """
    model = open_measurable(models, name)
    if not isinstance(model, PublishedModel):
        raise DataError(f"{name} was imported and has no recipe.")
    return model


def open_measurable(
    models: Path, name: str, column: str | None = None, values: Sequence[str] = ()
) -> MeasurableModel:
    """Read a model for tables, trained or imported, and check its bundle.

    Args:
        models: folder of published models.
        name: ``name/version``, or ``name`` for the version that serves.
        column: the target column for an imported model; by default the name of the output.
        values: how that column writes each label; by default as the label.

    Raises:
        DataError: it is a model of images, or the column of a trained model was named.
        BundleError: there is no such model or version, or its bundle is invalid.
    """
    model, _, requested = name.partition("/")
    newest = require_versions(models, model)[-1]
    version = (
        parse_version(models, model, requested)
        if requested
        else find_serving_version(models, model) or newest
    )
    bundle = read_bundle(models / model / str(version))
    manifest = bundle.manifest
    if not isinstance(manifest.input, FeaturesInput):
        raise DataError(f"{name} is a model of images; a CSV file cannot be used to measure it.")
    if manifest.provenance is None:
        card = describe_card(manifest, column, values)
        return MeasurableModel(manifest, version, card, Graph(bundle.model))
    recipe = parse_published_recipe(manifest.provenance.recipe, f"in the manifest of {name}")
    if column or values:
        raise DataError(
            f"--target and --values are for imported models; the recipe of {name} names the "
            f"target column: {recipe.target.column!r}."
        )
    return PublishedModel(manifest, version, recipe, Graph(bundle.model), recipe)


@dataclass(frozen=True)
class Measured:
    """The metrics of a model on the rows of a file."""

    rows: int
    """Those with a target."""
    metrics: dict[str, float]
    is_training_file: bool
    """Whether the model was trained from this file, by its digest."""


def measure_on(model: MeasurableModel, path: Path) -> Measured:
    """Measure the task's metrics on the rows of a CSV file that have a target.

    Raise `DataError` if the file cannot be read, a column is missing, or a cell is invalid.
    """
    card = model.card
    table = model.read(path)
    if not isinstance(model, PublishedModel):
        check_target(table, card)
    labeled = with_target(table.clean(), card.target)
    target = encode_target(labeled, card.target)
    rows = np.arange(table.frame.height) if labeled.source_rows is None else labeled.source_rows
    selected = table.filter(pl.Series(np.isin(np.arange(table.frame.height), rows)))
    predictions = model.predict(selected)
    provenance = model.manifest.provenance
    return Measured(
        len(target),
        measure(card, target, predictions, model.threshold),
        provenance is not None and provenance.data.sha256 == table.sha256,
    )


def _get_column_names(data: Data) -> list[str] | None:
    named = SOURCES[data.source].columns if data.source in SOURCES else ()
    return data.columns or list(named) or None

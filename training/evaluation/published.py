"""Read published models, and measure them on other rows."""

from dataclasses import dataclass
from pathlib import Path

from service.bundle.features import CategoryFeature, FeaturesInput
from service.bundle.manifest import DEFAULT_THRESHOLD, ClassesOutput, Manifest
from service.bundle.store import read_bundle
from service.bundle.versions import find_serving_version, parse_version, require_versions
from training.data.csv import create_layout, read_csv
from training.data.sources import SOURCES
from training.data.table import Column, Dataset, encode_features, encode_target, with_target
from training.errors import DataError
from training.evaluation.metrics import measure
from training.onnx_files import Graph
from training.recipe.loader import parse_published_recipe
from training.recipe.table import Data, Recipe


@dataclass(frozen=True)
class PublishedModel:
    """A bundle with the recipe that made it."""

    manifest: Manifest
    version: int
    recipe: Recipe
    graph: Graph

    @property
    def threshold(self) -> float:
        """Of two labels, the second is predicted at or above this probability."""
        output = self.manifest.output
        return output.decision_threshold if isinstance(output, ClassesOutput) else DEFAULT_THRESHOLD

    @property
    def columns(self) -> list[Column]:
        """The features of the recipe with the categories of the graph."""
        described = self.manifest.input
        features = described.features if isinstance(described, FeaturesInput) else []
        words = {
            feature.name: tuple(feature.categories)
            for feature in features
            if isinstance(feature, CategoryFeature)
        }
        return [Column(feature, words.get(feature.name, ())) for feature in self.recipe.features]


def open_model(models: Path, name: str) -> PublishedModel:
    """Read a model, and check its bundle.

    Args:
        models: folder of published models.
        name: ``name/version``, or ``name`` for the version that serves.

    Raises:
        DataError: it was not trained from a recipe for tables.
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
    if bundle.manifest.provenance is None:
        raise DataError(
            f"{name} was imported and has no recipe, so it cannot read a table. "
            "Import it again with --csv and --target to measure it."
        )
    if not isinstance(bundle.manifest.input, FeaturesInput):
        raise DataError(f"{name} is a model of images; a CSV file cannot be used to measure it.")
    recipe = parse_published_recipe(bundle.manifest.provenance.recipe, f"in the manifest of {name}")
    return PublishedModel(bundle.manifest, version, recipe, Graph(bundle.model))


def measure_on(model: PublishedModel, path: Path) -> tuple[int, dict[str, float]]:
    """Return how many rows of a CSV file have a target, and the task's metrics on them.

    Raise `DataError` if the file cannot be read, a column is missing, or a cell is invalid.
    """
    data = model.recipe.data
    table = with_target(
        read_csv(path, create_layout(data), _get_column_names(data)), model.recipe.target
    )
    rows = Dataset(
        model.columns,
        encode_features(table, model.columns),
        encode_target(table, model.recipe.target),
    )
    predictions = model.graph.predict(rows.features)
    return len(rows.target), measure(model.recipe, rows.target, predictions, model.threshold)


def _get_column_names(data: Data) -> list[str] | None:
    named = SOURCES[data.source].columns if data.source in SOURCES else ()
    return data.columns or list(named) or None

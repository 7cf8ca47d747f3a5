"""An imported model that was published: its card, as far as the manifest records it."""

from collections.abc import Sequence

from service.bundle.features import CategoryFeature, Feature, FeaturesInput, NumericFeature
from service.bundle.manifest import ClassesOutput, Manifest
from service.spelling import format_count, join_names
from training.data.table import Table
from training.errors import DataError
from training.recipe.table import Feature as CardFeature
from training.recipe.table import ModelCard, Target

_SHOWN = 10


def describe_card(
    manifest: Manifest, column: str | None = None, values: Sequence[str] = ()
) -> ModelCard:
    """Return the card of a table model; the categories of its features stay in the manifest.

    Args:
        manifest: of the model.
        column: the target column of other rows; by default the name of the output.
        values: how the column writes each label; by default as the label.

    Raises:
        DataError: the number of values differs from that of the labels.
    """
    output, described = manifest.output, manifest.input
    labels = output.labels if isinstance(output, ClassesOutput) else []
    if values and len(values) != len(labels):
        raise DataError(
            f"--values names {format_count(len(values), 'value')}, but {manifest.name} has "
            f"{format_count(len(labels), 'label')}"
            f"{': ' if labels else ''}{join_names(labels, _SHOWN)}. Name one value for each label."
        )
    features = described.features if isinstance(described, FeaturesInput) else []
    return ModelCard(
        name=manifest.name,
        title=manifest.title,
        target=Target(column=column or output.name, labels=list(labels), values=list(values)),
        features=[_describe_feature(feature) for feature in features],
    )


def check_target(table: Table, card: ModelCard) -> None:
    """Check that the table has the target in the words of the model.

    Raise `DataError`, with the option to add, if it has no such column or other words in it.
    """
    name, labels = card.target.column, card.target.labels
    if name not in table.frame.columns:
        raise DataError(
            f"{table.name} has no column {name!r}, the name of the model's output. Name the column "
            f"with the true values with --target; the columns are "
            f"{join_names(table.frame.columns, _SHOWN)}."
        )
    known = set(card.target.values or labels)
    others = sorted(set(table.clean().column(name).drop_nulls()) - known) if labels else []
    if others:
        raise DataError(
            f"Column {name!r} of {table.name} has {join_names(others, _SHOWN, repr)}, and the "
            f"labels of the model are {join_names(labels, _SHOWN, repr)}. Name how the column "
            "writes each label, in this order, with --values."
        )


def _describe_feature(feature: Feature) -> CardFeature:
    return CardFeature(
        name=feature.name,
        type=feature.type,
        optional=feature.optional,
        affix=feature.affix if isinstance(feature, NumericFeature) else None,
        unseen=feature.unseen if isinstance(feature, CategoryFeature) else "reject",
        missing=feature.missing or [],
    )

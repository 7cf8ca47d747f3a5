"""Import an ONNX model as a bundle, verified against the original."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from service.bundle import manifest as contract
from service.bundle.features import FeaturesInput
from service.bundle.manifest import output_name
from service.bundle.store import EXAMPLES, MODEL, to_json
from training.data.csv import read_csv
from training.data.table import Dataset, Float32s, Table, encode_target
from training.errors import ImportRejected
from training.evaluation.metrics import baseline_predictions, measure, rounded
from training.export import manifest as describe
from training.export import onnx_export
from training.export.publish import Publication, publish
from training.importing.graph import ForeignGraph, OutputMapping, find_output
from training.importing.model_card import complete_card, labelled, verification_rows
from training.importing.wrapping import wrap
from training.recipe.table import Card

_HALF = 0.5


@dataclass(frozen=True)
class Original:
    """The original model, with its output in the form of the bundle."""

    source = "the model as it was"
    foreign: ForeignGraph
    mapping: OutputMapping
    card: Card

    def predict(self, features: Float32s) -> Float32s:
        """``[rows, columns]`` in raw units to predictions ``[rows, outputs]``."""
        return self.mapping.of(self.foreign.run(features, self.card.features))


@dataclass(frozen=True)
class Imported:
    """A published import, with remarks for the user."""

    publication: Publication
    remarks: list[str]

    @property
    def folder(self) -> Path:
        """The new version's."""
        return self.publication.folder

    @property
    def manifest(self) -> contract.Manifest:
        """The new version's."""
        return self.publication.manifest


def import_model(path: Path, document: dict[str, Any], csv: Path | None, models: Path) -> Imported:
    """Wrap a model into a bundle and publish it as the next version below `models`.

    Args:
        path: the ONNX file.
        document: a `Card` as parsed from TOML; missing parts come from the graph and the rows.
        csv: rows to verify the import and, with `target.column`, to measure it.
        models: the folder of published models.

    Raises:
        TrainingError: the model cannot be wrapped, or its predictions changed.
    """
    try:
        foreign = ForeignGraph(_read(path))
        table = read_csv(csv) if csv is not None else None
        card = complete_card(path, document, foreign, table)
        data = verification_rows(card, table)
        return _publish(foreign, card, data, table, models)
    except ImportRejected as error:
        raise ImportRejected(f"{path.name} cannot be imported: {error}") from None


def _publish(
    foreign: ForeignGraph, card: Card, data: Dataset, table: Table | None, models: Path
) -> Imported:
    outputs = foreign.run(data.features, card.features)
    mapping = find_output(outputs, foreign.classes, card.target.labels)
    card = _with_labels(card, mapping)
    threshold = card.target.threshold if isinstance(card.target.threshold, float) else _HALF
    original = Original(foreign, mapping, card)
    output = describe.output_of(card, threshold)
    output_tensor = output_name(output)

    graph = wrap(foreign, card.features, mapping, output_tensor)
    onnx_export.verify(graph, original, data.features)
    examples = onnx_export.example_rows(original, data.features, output_tensor)

    evaluation = None
    if table is not None and card.target.column in table.frame.columns:
        predictions = original.predict(data.features)
        evaluation = _evaluate(card, labelled(card, table), predictions, threshold, foreign)
    manifest = contract.Manifest(
        format_version=contract.FORMAT_VERSION,
        name=card.name,
        title=card.title,
        description=f"{card.description.strip()}\nImported from ONNX; {_made_by(foreign)}.".strip(),
        task=card.task,
        input=_input_of(data),
        output=output,
        evaluation=evaluation,
        files={},
    )
    files = {MODEL: graph, EXAMPLES: to_json(examples)}
    publication = publish(models, manifest, files)
    remarks = [mapping.remark] if mapping.remark else []
    return Imported(publication, remarks)


def _made_by(foreign: ForeignGraph) -> str:
    return f"the file was written by {foreign.maker or 'an unnamed program'}"


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


def _with_labels(card: Card, mapping: OutputMapping) -> Card:
    """The card with the labels of the output, and a note on their probabilities."""
    description = f"{card.target.description} {mapping.remark}".strip()
    target = {"labels": mapping.labels, "description": description}
    return card.model_copy(update={"target": card.target.model_copy(update=target)})


def _input_of(data: Dataset) -> FeaturesInput:
    """The features without training statistics, which are unknown."""
    described = describe.input_of(data, data.features)
    unknown: dict[str, None] = dict.fromkeys(("trained", "statistics", "counts"))
    features = [
        feature.model_copy(update={key: None for key in unknown if hasattr(feature, key)})
        for feature in described.features
    ]
    return described.model_copy(update={"features": features})


def _evaluate(
    card: Card, table: Table, predictions: Float32s, threshold: float, foreign: ForeignGraph
) -> contract.Evaluation:
    """Metrics on the given rows, which should not have been used for training."""
    classes = [str(name) for name in foreign.classes or []]
    if card.target.labels and not card.target.values and len(classes) == len(card.target.labels):
        cells = set(table.column(card.target.column).drop_nulls())
        if cells <= set(classes):
            card = card.model_copy(
                update={"target": card.target.model_copy(update={"values": classes})}
            )
    target = encode_target(table, card.target)
    _, baseline = baseline_predictions(card, target, len(target))
    name = "the shares of the labels" if card.target.labels else "the mean"
    return contract.Evaluation(
        part="test",
        rows=len(target),
        metrics=rounded(measure(card, target, predictions, threshold)),
        baseline=contract.Baseline(
            name=f"{name} in these rows",
            metrics=rounded(measure(card, target, baseline, _HALF)),
        ),
    )

"""Making a bundle of someone else's ONNX model, proved against the model as it was."""

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
from training.errors import ImportRefused
from training.evaluation.metrics import measure, naive_answers, rounded
from training.export import manifest as describe
from training.export import onnx_export
from training.export.publish import Publication, publish
from training.importing.graph import Foreign, Reply, find_reply
from training.importing.model_card import complete_card, labelled, proof_rows
from training.importing.wrapping import wrap
from training.recipe.table import Card

_HALF = 0.5


@dataclass(frozen=True)
class Original:
    """The model as it was, answering in the contract's form."""

    source = "the model as it was"
    foreign: Foreign
    reply: Reply
    card: Card

    def predict(self, features: Float32s) -> Float32s:
        """``[rows, columns]`` in raw units to the answers, ``[rows, outputs]``."""
        return self.reply.of(self.foreign.run(features, self.card.features))


@dataclass(frozen=True)
class Imported:
    """What an import has published, and what one should know of it."""

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
        document: a `Card` as TOML has it; what is missing is taken from the graph and the rows.
        csv: rows to prove it on, and, with `target.column`, to measure it on.
        models: folder of published models.

    Raises:
        TrainingError: the model cannot be wrapped, or does not answer as before.
    """
    try:
        foreign = Foreign(_read(path))
        table = read_csv(csv) if csv is not None else None
        card = complete_card(path, document, foreign, table)
        data = proof_rows(card, table)
        return _publish(foreign, card, data, table, models)
    except ImportRefused as error:
        raise ImportRefused(f"{path.name} cannot be imported: {error}") from None


def _publish(
    foreign: Foreign, card: Card, data: Dataset, table: Table | None, models: Path
) -> Imported:
    outputs = foreign.run(data.features, card.features)
    reply = find_reply(outputs, foreign.classes, card.target.labels)
    card = _answering(card, reply)
    threshold = card.target.threshold if isinstance(card.target.threshold, float) else _HALF
    original = Original(foreign, reply, card)
    output = describe.output_of(card, threshold)
    answer = output_name(output)

    graph = wrap(foreign, card.features, reply, answer)
    onnx_export.prove(graph, original, data.features)
    examples = onnx_export.example_rows(original, data.features, answer)

    evaluation = None
    if table is not None and card.target.column in table.frame.columns:
        answers = original.predict(data.features)
        evaluation = _evaluate(card, labelled(card, table), answers, threshold, foreign)
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
    remarks = [reply.remark] if reply.remark else []
    return Imported(publication, remarks)


def _made_by(foreign: Foreign) -> str:
    return f"the file was written by {foreign.maker or 'a program that does not name itself'}"


def _read(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except OSError as error:
        raise ImportRefused(f"it cannot be read: {error.strerror}.") from None
    except Exception as error:  # noqa: BLE001 - the decoder's and the checker's share no base
        reason = str(error).strip().partition("\n")[0] or "it holds no graph"
        raise ImportRefused(f"it is no sound ONNX file: {reason}.") from None
    return model


def _answering(card: Card, reply: Reply) -> Card:
    """The card with the labels that the answer has, and what must be known of them."""
    description = f"{card.target.description} {reply.remark}".strip()
    target = {"labels": reply.labels, "description": description}
    return card.model_copy(update={"target": card.target.model_copy(update=target)})


def _input_of(data: Dataset) -> FeaturesInput:
    """The features without statistics: nobody knows which rows the model was trained on."""
    described = describe.input_of(data, data.features)
    unknown: dict[str, None] = dict.fromkeys(("trained", "statistics", "counts"))
    features = [
        feature.model_copy(update={key: None for key in unknown if hasattr(feature, key)})
        for feature in described.features
    ]
    return described.model_copy(update={"features": features})


def _evaluate(
    card: Card, table: Table, answers: Float32s, threshold: float, foreign: Foreign
) -> contract.Evaluation:
    """Metrics on the given rows; whoever gives them vouches that the model has not seen them."""
    classes = [str(name) for name in foreign.classes or []]
    if card.target.labels and not card.target.values and len(classes) == len(card.target.labels):
        cells = set(table.column(card.target.column).drop_nulls())
        if cells <= set(classes):
            card = card.model_copy(
                update={"target": card.target.model_copy(update={"values": classes})}
            )
    target = encode_target(table, card.target)
    _, naive = naive_answers(card, target, len(target))
    name = "the shares of the labels" if card.target.labels else "the mean"
    return contract.Evaluation(
        part="test",
        rows=len(target),
        metrics=rounded(measure(card, target, answers, threshold)),
        baseline=contract.Baseline(
            name=f"{name} in these rows",
            metrics=rounded(measure(card, target, naive, _HALF)),
        ),
    )

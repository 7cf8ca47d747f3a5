"""Import an ONNX model of another library as a bundle, verified against the original."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from service.bundle import manifest as contract
from service.bundle.features import FeaturesInput
from service.bundle.manifest import output_name
from service.bundle.store import EXAMPLES, MODEL, REPORT, to_json
from service.spelling import format_count
from training.data.csv import UNCHANGED
from training.data.files import read_table
from training.data.table import Dataset, recorded_format
from training.errors import DataError, ExportError, ImportRejected
from training.export.foreign_graph import ForeignGraph, normalize_domains
from training.export.label_matching import OtherRows
from training.export.manifest import describe_input, describe_output
from training.export.onnx_export import create_examples
from training.export.output_choice import find_output
from training.export.output_mapping import OutputMapping
from training.export.publish import Publication, publish
from training.export.wrapping import wrap
from training.importing.card import complete_card, list_types
from training.importing.expectation import compare_expected
from training.importing.measurement import ServedModel, evaluate
from training.importing.mixed_rows import MixedRows, mix_rows
from training.importing.options import ImportOptions
from training.importing.original import Original
from training.importing.reference import reject_missing, run_reference
from training.importing.rows import Datatype, Rows, choose_datatype, draw_rows, read_rows
from training.importing.verification import Verification
from training.library_files import describe_library_file
from training.onnx_files import Graph
from training.recipe.table import ModelCard
from training.report.imported import Origin, describe_origin, render

_EXPORT_AGAIN = "Give the file that a converter wrote, complete, or convert the model again."


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
    options = options or ImportOptions()
    try:
        foreign = ForeignGraph(read_model(path))
        table = read_table(csv, UNCHANGED) if csv is not None else None
        card = complete_card(path, document, foreign, table, options)
        kinds = list_types(foreign, len(card.features))
        rows = draw_rows(card, kinds) if table is None else read_rows(table, card, kinds)
        origin = describe_origin(path, foreign.producer, _describe_rows(rows))
        manifest, files, remark = _create_bundle(foreign, card, rows, options, origin)
    except (DataError, ExportError, ImportRejected) as error:
        raise ImportRejected(f"{path.name} cannot be imported: {error}") from None
    return replace(publish(models, manifest, files), remark=remark)


def _create_bundle(
    foreign: ForeignGraph, card: ModelCard, rows: Rows, options: ImportOptions, origin: Origin
) -> tuple[contract.Manifest, dict[str, bytes], str]:
    """Return the manifest and the files of the bundle, and a remark for the user."""
    original = Original(foreign)
    mapping, mixed = _choose_output(original, card, rows, options)
    card = _add_labels(card, mapping)
    if isinstance(card.target.threshold, float):
        # The user's threshold gives other labels than the graph's own.
        mapping = replace(mapping, threshold=card.target.threshold, label_output=None)
    reference = run_reference(original, rows, mapping)
    if reference.ties.any() or mixed.have_ties(original, mapping):
        mapping = reference.give_ties_the_first_label()
    threshold = mapping.chosen_threshold
    output = describe_output(card, threshold)
    output_tensor = output_name(output)

    datatype = choose_datatype(rows, list_types(foreign, len(card.features)))
    served = wrap(foreign, card.features, mapping, output_tensor, datatype)
    graph = Graph(served)
    verification = Verification(reference, datatype, threshold)
    model = ServedModel(card, rows, mapping, threshold, verification.run(graph))
    expected = compare_expected(model, options.expected)
    remarks = [mapping.remark, reference.describe_ties(), expected]
    evaluation = measured = None
    if rows.table is not None and card.target.column in rows.table.frame.columns:
        evaluation, measured, remark = evaluate(model, rows.table)
        remarks.append(remark)

    source = f"Imported from ONNX; the file was written by {origin.producer}."
    manifest = contract.Manifest(
        format_version=contract.FORMAT_VERSION,
        name=card.name,
        title=card.title,
        description=f"{card.description.strip()}\n{source}".strip(),
        task=card.task,
        input=_describe_input(rows, datatype),
        output=output,
        evaluation=evaluation,
        files={},
    )
    examples = create_examples(graph, rows.as_served(datatype), output_tensor)
    notes = list(filter(None, remarks))
    html = render(manifest, origin, measured, notes)
    return manifest, {MODEL: served, EXAMPLES: to_json(examples), REPORT: html}, " ".join(notes)


def _describe_rows(rows: Rows) -> str:
    count = len(rows.encoded)
    if rows.table is None:
        return format_count(count, "random row")
    return f"{format_count(count, 'row')} of {rows.table.name}"


def _choose_output(
    original: Original, card: ModelCard, rows: Rows, options: ImportOptions
) -> tuple[OutputMapping, MixedRows]:
    """Choose the output of the graph that becomes the prediction, by its outputs for all rows.

    Return it with further rows, by which labels are chosen.
    """
    foreign = original.foreign
    outputs = original.run_first(rows.own)
    for name, found in outputs.items():
        if options.output in (None, name) and _is_table(found, len(rows.encoded)):
            reject_missing(rows, name, found)
    known = replace(foreign.known_labels, target=_read_classes(rows, card.target.column))
    mixed = mix_rows(original, rows, outputs)
    mapping = find_output(
        outputs,
        known,
        card.target.labels,
        output=options.output,
        activation=options.activation,
        others=OtherRows(mixed.outputs, mixed.describe),
    )
    return mapping, mixed


def _read_classes(rows: Rows, column: str) -> frozenset[str]:
    """Return the different cells of the target column; none if the rows have no such column."""
    if rows.table is None or column not in rows.table.frame.columns:
        return frozenset()
    return frozenset(map(str, rows.table.column(column).drop_nulls()))


def _is_table(found: object, rows: int) -> bool:
    return (
        isinstance(found, np.ndarray)
        and found.dtype.kind == "f"
        and found.ndim > 0
        and len(found) == rows
    )


def read_model(path: Path) -> onnx.ModelProto:
    """Read a model; one that the checker of onnx rejects must at least load in ONNX Runtime.

    Raise `ImportRejected` if it is not valid.
    """
    try:
        model = onnx.load(path)
        normalize_domains(model)
    except OSError as error:
        raise ImportRejected(f"it cannot be read: {error.strerror}.") from None
    except Exception as error:  # noqa: BLE001 - the decoder's errors share no base
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise ImportRejected(_describe_invalid(path, reason)) from None
    if not model.graph.node:
        raise ImportRejected(_describe_invalid(path, "it holds no graph"))
    try:
        onnx.checker.check_model(model)
    except Exception:  # noqa: BLE001 - the checker's errors share no base, and have no remedy
        Graph(model.SerializeToString())
    return model


def _describe_invalid(path: Path, reason: str) -> str:
    """Return the message about a file that is not ONNX, with the export of its library."""
    return describe_library_file(path) or f"it is not a valid ONNX file: {reason}. {_EXPORT_AGAIN}"


def _add_labels(card: ModelCard, mapping: OutputMapping) -> ModelCard:
    """Add the labels of the output to the card, and a note on their probabilities."""
    description = f"{card.target.description} {mapping.remark}".strip()
    target = {"labels": mapping.labels, "description": description}
    return card.model_copy(update={"target": card.target.model_copy(update=target)})


def _describe_input(rows: Rows, datatype: Datatype) -> FeaturesInput:
    """Describe the features without training statistics, which are unknown."""
    recorded = recorded_format(rows.table) if rows.table is not None else None
    served = rows.as_served(datatype)
    described = describe_input(
        Dataset(rows.columns, served, np.zeros(len(served)), recorded), served
    )
    unknown: dict[str, None] = dict.fromkeys(("trained", "statistics", "counts"))
    features = [
        feature.model_copy(update={key: None for key in unknown if hasattr(feature, key)})
        for feature in described.features
    ]
    return described.model_copy(update={"features": features})

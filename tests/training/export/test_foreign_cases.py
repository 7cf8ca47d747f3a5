"""Models that others made are read, or rejected in words; those read predict like the originals."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.training.export.foreign_graphs import predicted, served
from training.errors import ImportRejected
from training.export.foreign_graph import ForeignGraph
from training.export.graph_reading import STRING_TYPE
from training.export.output_choice import find_output
from training.onnx_files import Array
from training.recipe.table import Feature

CASES = Path(__file__).parents[4] / "shared" / "cases" / "onnx"
REJECTED = {
    "k2_pics": "Import images with --images",
    "lab_empty": "class 1 is empty.*--labels",
    "multiout": "several targets, export a model for each",
    "t_two": "'softmax' .8 probabilities., 'softmax_1' .2 probabilities.*--output",
    "two_heads": "'p' .3 probabilities., 'sex' .2 probabilities.*--output",
    "fixed_reshape": "cannot be reshaped|Reshape|batch",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "lab_empty": {"labels": ["none", "x", "y"]},
    "t_two": {"labels": ["no", "yes"]},
    "two_heads": {"output": "sex"},
}
WRONGLY_DECLARED = {"frame_gbc"}

NAMES = sorted(path.stem for path in CASES.glob("*.onnx"))
pytestmark = pytest.mark.skipif(not NAMES, reason="the models of others are not on this machine")


def read(name: str) -> ForeignGraph:
    return ForeignGraph(onnx.load(CASES / f"{name}.onnx"))


def read_cells(name: str, foreign: ForeignGraph) -> tuple[dict[str, Array], list[Feature], Array]:
    """The columns as the graph takes them, as features, and as a bundle encodes them."""
    if not (CASES / f"{name}.csv").exists():
        cells = np.zeros((3, 2))
        return {foreign.inputs[0].name: cells}, _numbers(["a", "b"]), cells
    with (CASES / f"{name}.csv").open() as file:
        header, *rows = csv.reader(file)
    names = foreign.column_names or header[: foreign.width]
    inputs, features, encoded, position = {}, [], [], 0
    for known in foreign.inputs:
        columns: list[Array] = []
        for k in range(known.width or 1):
            column = names[position]
            words = np.array([row[header.index(column)] for row in rows], dtype=object)
            if known.type == STRING_TYPE:
                listed = [*foreign.vocabularies.get((known.name, k), []), *words]
                categories = list(dict.fromkeys(listed))
                features.append(Feature(name=column, type="category", categories=categories))
                encoded.append(np.array([categories.index(word) for word in words], np.float64))
                columns.append(words)
            else:
                truth = {"True": "1", "False": "0"}
                numbers = np.array([float(truth.get(word, word) or "nan") for word in words])
                features += _numbers([column])
                encoded.append(numbers)
                columns.append(numbers)
            position += 1
        inputs[known.name] = known.shape(np.column_stack(columns))
    return inputs, features, np.column_stack(encoded)


def _numbers(names: list[str]) -> list[Feature]:
    return [Feature(name=name, type="number") for name in names]


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(REJECTED)))
def test_a_model_is_served_as_it_is(name: str) -> None:
    """Without options; the wrapped graph gets the features in 64 bits."""
    foreign = read(name)
    inputs, features, encoded = read_cells(name, foreign)
    outputs = foreign.run_original(inputs)

    mapping = find_output(outputs, foreign.known_labels, [])

    found = served(foreign, mapping, encoded, features, "FP64")
    np.testing.assert_array_equal(found, mapping.apply(outputs))
    own = mapping.read_positions(outputs)
    if own is not None:
        np.testing.assert_array_equal(mapping.predict_positions(outputs), own)


@pytest.mark.parametrize("name", sorted(set(NAMES) & set(REJECTED)))
def test_the_sentence_names_the_remedy(name: str) -> None:
    """The option, or what to change in the export."""
    with pytest.raises(ImportRejected, match=REJECTED[name]):  # noqa: PT012 - each step can reject
        foreign = read(name)
        inputs, _, _ = read_cells(name, foreign)
        find_output(foreign.run_original(inputs), foreign.known_labels, [])


@pytest.mark.parametrize("name", sorted(set(NAMES) & set(OPTIONS)))
def test_the_remedy_helps(name: str) -> None:
    """With the option, the model is served."""
    options = dict(OPTIONS[name])
    labels = options.pop("labels", [])
    foreign = read(name)
    inputs, features, encoded = read_cells(name, foreign)
    outputs = foreign.run_original(inputs)

    mapping = find_output(outputs, foreign.known_labels, labels, **options)

    found = served(foreign, mapping, encoded, features)
    np.testing.assert_array_equal(found, mapping.apply(outputs))
    assert mapping.labels == (labels or ["0", "1"])


@pytest.mark.parametrize("name", sorted({*NAMES} - {*WRONGLY_DECLARED, "k2_pics", "fixed_reshape"}))
def test_every_output_is_that_of_the_original(name: str) -> None:
    """ONNX Runtime runs the file itself; maps are compared by the names of the classes."""
    foreign = read(name)
    inputs, _, _ = read_cells(name, foreign)
    cast = {known.name: known.shape(inputs[known.name]) for known in foreign.inputs}
    expected = predicted(onnx.load(CASES / f"{name}.onnx"), cast)

    outputs = foreign.run_original(inputs)

    for output, values in expected.items():
        if output in foreign.known_labels.sequences:
            continue
        classes = foreign.known_labels.classes.get(output, [])
        tensor = (
            [[row[label] for label in classes] for row in values] if _is_map(values) else values
        )
        np.testing.assert_array_equal(outputs[output], np.array(tensor))


def _is_map(values: object) -> bool:
    return isinstance(values, list)

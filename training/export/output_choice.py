"""Choose the output of an imported graph that becomes the prediction of the bundle."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from service.bundle.manifest import BINARY
from training.errors import ImportRejected
from training.export.graph_reading import KnownLabels
from training.export.label_choice import (
    find_label_classes,
    name_labels,
)
from training.export.label_matching import Choice, OtherRows, add_labels, gives_label, is_share
from training.export.node_attributes import ClassNames
from training.export.output_mapping import Activation, OutputMapping
from training.export.output_tables import OutputTables, find_other_sums, to_tables
from training.onnx_files import Array


def find_output(  # noqa: PLR0913 - what the graph returns, and the choices of the user
    outputs: Mapping[str, Array],
    classes: ClassNames | KnownLabels | None,
    labels: Sequence[str],
    *,
    output: str | None = None,
    activation: Activation | None = None,
    others: OtherRows | None = None,
) -> OutputMapping:
    """Choose the output to publish: probabilities, else labels, else a value.

    One number next to a label of two classes is a probability if a threshold of it gives the label.

    If scores next to a label are not probabilities, such as the distances of k-means, only the
    label is used: their softmax would not be a measured confidence.

    Args:
        outputs: of the graph, for some rows.
        classes: what the graph says about its labels; or the class names of all outputs.
        labels: names given by the user; if empty, a number or the names in the graph.
        output: the name of the output, if the user chooses it.
        activation: what converts the output, logits, to probabilities.
        others: more rows, whose labels must be predicted, too.

    Raises:
        ImportRejected: no output, or more than one, can be the prediction; it is not a number in
            some row; or the predicted labels would differ from the graph's own.
    """
    tables = to_tables(outputs)
    if not isinstance(classes, KnownLabels):
        classes = KnownLabels({} if classes is None else dict.fromkeys(outputs, classes))
    others = others or OtherRows()
    choice = Choice(tables, outputs, classes, labels, output, activation, others)
    name = _choose(choice)
    table = tables.tables[name]
    if table.dtype.kind != "f":
        return _note_others(_map_label(choice, name), tables)
    _require_numbers(name, table)
    if table.shape[1] > 1:
        _check_activation(choice, name)
        mapping = OutputMapping(name, "probabilities", [""] * table.shape[1], activation=activation)
        mapping = add_labels(choice, mapping)
    else:
        mapping = _map_number(choice, name)
    is_table = outputs[name].shape == table.shape
    return _note_others(replace(mapping, is_table=is_table), tables)


def _choose(choice: Choice) -> str:
    """Return the name of the only output that can be the prediction."""
    tables = choice.tables
    if choice.output is not None:
        if choice.output in tables.tables:
            return choice.output
        if choice.output in choice.known.sequences:
            raise ImportRejected(
                f"its output {choice.output!r} is a sequence of tensors, one for each target. "
                "Export a model for each target."
            )
        if choice.output not in choice.outputs:
            names = ", ".join(map(repr, choice.outputs))
            raise ImportRejected(f"it has no output {choice.output!r}; its outputs are {names}.")
    candidates = [] if choice.output is not None else _find_candidates(choice)
    for fits in (_fits_labels, _fits_target):
        fitting = [name for name in candidates if fits(choice, name)]
        candidates = fitting if len(candidates) > 1 and fitting else candidates
    if len(candidates) > 1:
        raise ImportRejected(
            f"{len(candidates)} of its outputs can be the prediction: "
            f"{', '.join(map(tables.describe, candidates))}. Choose one with --output, for "
            f"example --output {candidates[0]}."
        )
    if candidates:
        return candidates[0]
    wrong = {name: array for name, array in choice.outputs.items() if choice.output in (None, name)}
    subject = "none of its outputs is" if choice.output is None else "the output is not"
    raise ImportRejected(
        f"{subject} one prediction per row: {_describe_outputs(wrong)}. {_suggest(choice)}"
    )


def _find_candidates(choice: Choice) -> list[str]:
    tables = choice.tables
    if choice.activation == "softmax":
        return tables.scores or tables.probabilities
    if choice.activation == "sigmoid":
        return tables.numbers
    if tables.probabilities:
        # Without a label, a number next to probabilities is a second prediction.
        others = [name for name in tables.labels if not _may_name_probabilities(choice, name)]
        return [*tables.probabilities, *(others if tables.labels else tables.numbers)]
    _require_sums(tables)
    explained = [name for name in tables.numbers if gives_label(choice, name)]
    if explained or tables.labels:
        return explained or tables.labels
    # Logits with a column for each label fit the labels as well as a single number.
    logits = [name for name in tables.scores if _fits_labels(choice, name)]
    return [*logits, *tables.numbers] if tables.numbers else []


def _may_name_probabilities(choice: Choice, label: str) -> bool:
    """Return whether a label has as many classes as some probabilities, as far as is known."""
    listed = choice.known.classes.get(label)
    tables = choice.tables
    counts = {tables.tables[name].shape[1] for name in tables.probabilities}
    return listed is None or len(listed) in counts


def _require_sums(tables: OutputTables) -> None:
    """Raise `ImportRejected` with the row if numbers are probabilities on most rows, not on all."""
    for name in tables.scores:
        table = tables.tables[name]
        rows = find_other_sums(table)
        if len(rows) and (len(rows) < len(table) / 2 or not table[rows].any()):
            raise ImportRejected(
                f"its output {name!r} holds probabilities that sum to "
                f"{table[rows[0]].sum():.6g} instead of one on {len(rows)} of {len(table)} rows, "
                f"first on row {rows[0] + 1}. Remove these rows from the table if the model is not "
                "meant for them, or choose another output with --output."
            )


def _fits_labels(choice: Choice, name: str) -> bool:
    """Return whether an output has as many classes as the user names."""
    table, count = choice.tables.tables[name], len(choice.labels)
    columns = int(table.shape[1])
    if columns > 1:
        return columns == count
    if table.dtype.kind == "f":
        return count == BINARY and is_share(table)
    return len(choice.known.classes.get(name) or ()) == count


def _fits_target(choice: Choice, name: str) -> bool:
    """Return whether an output has the classes of the target column."""
    count = choice.tables.tables[name].shape[1]
    listed = choice.known.classes.get(name)
    if listed is not None and count in (1, len(listed)):
        return bool(choice.known.target) and choice.known.target <= set(map(str, listed))
    return choice.known.target == set(map(str, range(count))) and count > 1


def _suggest(choice: Choice) -> str:
    """Return the remedy if no output can be the prediction."""
    tables, activation = choice.tables, choice.activation
    if activation == "sigmoid" and tables.scores:
        return "A sigmoid converts one number per row; use --activation softmax."
    if activation == "softmax" and tables.numbers:
        return "A softmax converts several numbers per row; use --activation sigmoid."
    if tables.scores:
        return _describe_scores(tables, tables.scores[0])
    if any(isinstance(array, np.ndarray) and array.ndim > 1 for array in choice.outputs.values()):
        return "If it has several targets, export a model for each."
    return "Give it one output: a number, a label, or probabilities that sum to one."


def _describe_scores(tables: OutputTables, name: str) -> str:
    table = tables.tables[name]
    return (
        f"The {table.shape[1]} numbers of {name!r} are between {np.nanmin(table):.4g} and "
        f"{np.nanmax(table):.4g} and do not sum to one. If they are the logits of a classifier, as "
        "PyTorch models return, add --activation softmax; if they are several predictions, export "
        "a model for each."
    )


def _check_activation(choice: Choice, name: str) -> None:
    """Raise `ImportRejected` if an output of several numbers does not become probabilities."""
    if name in choice.tables.probabilities and choice.activation is not None:
        raise ImportRejected(
            f"its output {name!r} already holds probabilities, which sum to one. Leave out "
            "--activation."
        )
    if name not in choice.tables.probabilities and choice.activation != "softmax":
        raise ImportRejected(
            f"its output {name!r} holds no probabilities. {_describe_scores(choice.tables, name)}"
        )


def _map_label(choice: Choice, name: str) -> OutputMapping:
    if choice.activation is not None:
        raise ImportRejected(
            f"its output {name!r} is a label, which has no {choice.activation}. Choose the logits "
            "with --output, or leave out --activation."
        )
    values = choice.tables.tables[name][:, 0]
    classes, labels = find_label_classes(
        name, values, choice.known.classes.get(name), choice.labels
    )
    labels, notes = name_labels(labels, classes, len(classes))
    return OutputMapping(name, "label", labels, classes, label_output=name, notes=notes)


def _map_number(choice: Choice, name: str) -> OutputMapping:
    """Return the mapping of an output of one number: a value, or a probability."""
    table, labels = choice.tables.tables[name], choice.labels
    if choice.activation == "softmax":
        raise ImportRejected(
            f"its output {name!r} is one number per row; use --activation sigmoid, which converts "
            "it to the probability of the second of two labels."
        )
    is_probability = choice.activation == "sigmoid" or is_share(table)
    mapping = OutputMapping(name, "probability", ["", ""], activation=choice.activation)
    named = len(labels) == BINARY or (not labels and gives_label(choice, name))
    if choice.activation == "sigmoid" or (is_probability and named):
        return add_labels(choice, mapping)
    if labels:
        raise ImportRejected(
            f"its output {name!r} is one number between {table.min():.4g} and {table.max():.4g}, "
            f"which is not a probability of {len(labels)} labels. If it is the logit of the second "
            "of two labels, add --activation sigmoid; leave out the labels if it predicts a number."
        )
    return OutputMapping(name, "value")


def _require_numbers(name: str, table: Array) -> None:
    """Raise `ImportRejected` with the row if an output is not a finite number."""
    rows = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if len(rows):
        wrong = table[rows[0]][~np.isfinite(table[rows[0]])][0]
        word = "NaN, not a number," if np.isnan(wrong) else f"{wrong}"
        raise ImportRejected(
            f"its output {name!r} is {word} on {len(rows)} of {len(table)} rows, first on row "
            f"{rows[0] + 1}, so it predicts nothing for it. Fill the empty cells of that row, or "
            "remove it from the table."
        )


def _note_others(mapping: OutputMapping, tables: OutputTables) -> OutputMapping:
    """Note the outputs that are not served."""
    chosen = tables.tables[mapping.output]
    others = [
        name
        for name in (*tables.probabilities, *tables.labels, *tables.scores, *tables.numbers)
        if name not in (mapping.output, mapping.label_output)
        and not np.array_equal(tables.tables[name], chosen)
    ]
    if not others:
        return mapping
    note = f"Not served are the outputs {', '.join(map(tables.describe, others))}."
    return replace(mapping, notes=[*mapping.notes, note])


def _describe_outputs(outputs: Mapping[str, Array]) -> str:
    return ", ".join(
        f"{name!r} {array.dtype} {list(array.shape)}"
        if isinstance(array, np.ndarray)
        else f"{name!r}, a list"
        for name, array in outputs.items()
    )

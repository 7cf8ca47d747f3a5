"""Choose the output of an imported graph that becomes the prediction of the bundle."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from service.bundle.manifest import BINARY, DEFAULT_THRESHOLD
from service.predictions import Ints
from training.errors import ImportRejected
from training.export.graph_reading import KnownLabels
from training.export.label_choice import (
    derive_classes,
    find_label_classes,
    find_threshold,
    name_labels,
)
from training.export.node_attributes import ClassNames
from training.export.output_mapping import TIE, Activation, OutputMapping, find_positions
from training.export.output_tables import OutputTables, find_other_sums, to_tables
from training.onnx_files import Array

_SHOWN = 3


@dataclass(frozen=True)
class OtherRows:
    """More rows, on which only the labels are compared."""

    outputs: Mapping[str, Array] = field(default_factory=dict)
    """Of the graph, with as many rows each."""
    describe: Callable[[int], str] = str
    """Returns a row for messages."""


@dataclass(frozen=True)
class _Choice:
    """What the user and the graph say about the outputs; see `find_output`."""

    tables: OutputTables
    outputs: Mapping[str, Array]
    known: KnownLabels
    labels: Sequence[str]
    output: str | None
    activation: Activation | None
    others: OtherRows

    @property
    def count(self) -> int:
        """The number of rows, without the others."""
        return len(next(iter(self.outputs.values())))

    @cached_property
    def everything(self) -> Mapping[str, Array]:
        """The outputs for the rows, then for the others."""
        return {
            name: np.concatenate([array, self.others.outputs[name]])
            if name in self.others.outputs
            else array
            for name, array in self.outputs.items()
        }

    def describe_row(self, row: int) -> str:
        """Return a row of everything for messages."""
        return f"row {row + 1}" if row < self.count else self.others.describe(row - self.count)


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
    choice = _Choice(tables, outputs, classes, labels, output, activation, others)
    name = _choose(choice)
    table = tables.tables[name]
    if table.dtype.kind != "f":
        return _note_others(_map_label(choice, name), tables)
    _require_numbers(name, table)
    if table.shape[1] > 1:
        _check_activation(choice, name)
        mapping = OutputMapping(name, "probabilities", [""] * table.shape[1], activation=activation)
        return _note_others(_add_labels(choice, mapping), tables)
    return _note_others(_map_number(choice, name), tables)


def _choose(choice: _Choice) -> str:
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


def _find_candidates(choice: _Choice) -> list[str]:
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
    explained = [name for name in tables.numbers if _gives_label(choice, name)]
    if explained or tables.labels:
        return explained or tables.labels
    # Logits with a column for each label fit the labels as well as a single number.
    logits = [name for name in tables.scores if _fits_labels(choice, name)]
    return [*logits, *tables.numbers] if tables.numbers else []


def _may_name_probabilities(choice: _Choice, label: str) -> bool:
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


def _gives_label(choice: _Choice, name: str) -> bool:
    """Return whether one number is a probability, by whose threshold a label is chosen."""
    named = len(choice.labels) in (0, BINARY)
    if not named or not choice.tables.labels or not _is_share(choice.tables.tables[name]):
        return False
    found = _match_label(choice, OutputMapping(name, "probability", ["", ""]))
    if found is None or found.label_output is None:
        return False
    own = _read_positions(choice, found)
    # Rows of one label fit any number, unless the graph says how it chooses.
    comparison = choice.known.comparisons.get(found.label_output)
    limited = comparison is not None and comparison.limit is not None
    return (limited or len(set(own.tolist())) > 1) and _count_equal(choice, found) == len(own)


def _fits_labels(choice: _Choice, name: str) -> bool:
    """Return whether an output has as many classes as the user names."""
    table, count = choice.tables.tables[name], len(choice.labels)
    columns = int(table.shape[1])
    if columns > 1:
        return columns == count
    if table.dtype.kind == "f":
        return count == BINARY and _is_share(table)
    return len(choice.known.classes.get(name) or ()) == count


def _fits_target(choice: _Choice, name: str) -> bool:
    """Return whether an output has the classes of the target column."""
    count = choice.tables.tables[name].shape[1]
    listed = choice.known.classes.get(name)
    if listed is not None and count in (1, len(listed)):
        return bool(choice.known.target) and choice.known.target <= set(map(str, listed))
    return choice.known.target == set(map(str, range(count))) and count > 1


def _is_share(table: Array) -> bool:
    return bool(((table >= 0) & (table <= 1)).all())


def _suggest(choice: _Choice) -> str:
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


def _check_activation(choice: _Choice, name: str) -> None:
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


def _map_label(choice: _Choice, name: str) -> OutputMapping:
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


def _map_number(choice: _Choice, name: str) -> OutputMapping:
    """Return the mapping of an output of one number: a value, or a probability."""
    table, labels = choice.tables.tables[name], choice.labels
    if choice.activation == "softmax":
        raise ImportRejected(
            f"its output {name!r} is one number per row; use --activation sigmoid, which converts "
            "it to the probability of the second of two labels."
        )
    is_probability = choice.activation == "sigmoid" or _is_share(table)
    mapping = OutputMapping(name, "probability", ["", ""], activation=choice.activation)
    named = len(labels) == BINARY or (not labels and _gives_label(choice, name))
    if choice.activation == "sigmoid" or (is_probability and named):
        return _add_labels(choice, mapping)
    if labels:
        raise ImportRejected(
            f"its output {name!r} is one number between {table.min():.4g} and {table.max():.4g}, "
            f"which is not a probability of {len(labels)} labels. If it is the logit of the second "
            "of two labels, add --activation sigmoid; leave out the labels if it predicts a number."
        )
    return OutputMapping(name, "value")


def _add_labels(choice: _Choice, mapping: OutputMapping) -> OutputMapping:
    """Name the labels of probabilities, and let the predicted ones equal the graph's own."""
    found = _match_label(choice, mapping)
    if found is not None:
        if choice.output is None:
            _require_known_threshold(choice, found)
        return _require_equal(choice, found)
    if choice.output is None:
        _require_listed(choice, mapping.output)
    listed = choice.known.classes.get(mapping.output)
    count = mapping.spread(choice.outputs).shape[1]
    listed = listed if listed is not None and len(listed) == count else None
    labels, notes = name_labels(choice.labels, listed, count)
    return replace(mapping, labels=labels, classes=listed or [], notes=notes)


def _require_known_threshold(choice: _Choice, mapping: OutputMapping) -> None:
    """Raise `ImportRejected` if a number is a label only by a threshold found in the rows."""
    label = mapping.label_output or ""
    if choice.tables.tables[label].dtype.kind != "f" or label in choice.known.comparisons:
        return
    if abs((mapping.threshold or DEFAULT_THRESHOLD) - DEFAULT_THRESHOLD) > TIE:
        raise ImportRejected(
            f"its output {label!r} is 0 or 1, which may be a label or another number. Choose the "
            f"probabilities with --output {mapping.output}, or the label with --output {label}."
        )


def _match_label(choice: _Choice, mapping: OutputMapping) -> OutputMapping | None:
    """Return the mapping with the label of the graph that it predicts best, if one fits."""
    scores = mapping.spread(choice.outputs)
    count = scores.shape[1]
    listed = choice.known.classes.get(mapping.output)
    listed = listed if listed is not None and len(listed) == count else None
    found: list[OutputMapping] = []
    for name in choice.tables.labels:
        values = choice.tables.tables[name][:, 0]
        own = choice.known.classes.get(name)
        classes = derive_classes(values, scores, choice.labels, [own, listed])
        if classes is not None:
            # Labels can be the positions of the words that the graph lists.
            shown = listed or own if classes == list(range(count)) else classes
            labels, notes = name_labels(choice.labels, shown, count)
            known = replace(mapping, labels=labels, classes=classes, notes=notes)
            found.append(_follow_label(choice, replace(known, label_output=name)))
    return max(found, key=lambda one: _count_equal(choice, one)) if found else None


def _require_listed(choice: _Choice, output: str) -> None:
    """Raise `ImportRejected` if the labels next to probabilities cannot be assigned to them."""
    for name in choice.tables.labels:
        if name not in choice.known.classes:
            values = list(dict.fromkeys(choice.tables.tables[name][:, 0].tolist()))
            raise ImportRejected(
                f"its label {name!r} is {', '.join(map(repr, values[:_SHOWN]))} in these rows, "
                f"but the graph does not list the labels of {output!r}. Name all of them with "
                "--labels, as the label writes them and in the order of the probabilities, or "
                f"ignore the label with --output {output}."
            )


def _follow_label(choice: _Choice, mapping: OutputMapping) -> OutputMapping:
    """Return the mapping with the threshold by which the graph chooses its own label."""
    if len(mapping.labels) != BINARY or mapping.label_output is None:
        return mapping
    threshold = find_threshold(
        mapping.convert(choice.everything)[:, 0],
        _read_positions(choice, mapping),
        choice.known.comparisons.get(mapping.label_output),
    )
    return replace(mapping, threshold=None if threshold == DEFAULT_THRESHOLD else threshold)


def _read_positions(choice: _Choice, mapping: OutputMapping) -> Ints:
    """Return the positions of the graph's own labels, of all rows and the others."""
    return find_positions(choice.everything[str(mapping.label_output)], mapping.classes)


def _count_equal(choice: _Choice, mapping: OutputMapping) -> int:
    predicted = mapping.predict_positions(choice.everything)
    return int((predicted == _read_positions(choice, mapping)).sum())


def _require_equal(choice: _Choice, mapping: OutputMapping) -> OutputMapping:
    """Raise `ImportRejected` with the row if a predicted label differs from the graph's own.

    If the user chose the output, it is published with a note.
    """
    own = _read_positions(choice, mapping)
    differ = np.flatnonzero(mapping.predict_positions(choice.everything) != own)
    if not len(differ):
        return mapping
    label = mapping.label_output
    if choice.output is None:
        raise ImportRejected(
            f"{_describe_labels(choice, mapping, own, differ)}. Publish the label without "
            f"probabilities with --output {label}, or the probabilities, with the most probable "
            f"label, with --output {mapping.output}."
        )
    count = int((differ < choice.count).sum())
    rows = f"{count} of {choice.count} rows" if count else "some rows between those of the table"
    note = f"The graph's own label {label!r} differs on {rows}."
    return replace(mapping, label_output=None, threshold=None, notes=[*mapping.notes, note])


def _describe_labels(choice: _Choice, mapping: OutputMapping, own: Ints, differ: Ints) -> str:
    """Return why the labels are not those of the probabilities, with rows that show it."""
    probabilities, label = mapping.spread(choice.everything), mapping.label_output
    unknown = np.flatnonzero(own < 0)
    if len(unknown):
        found = choice.everything[str(label)].ravel().tolist()[unknown[0]]
        return (
            f"on {choice.describe_row(int(unknown[0]))}, its label {label!r} is {found!r}, which "
            f"is none of its classes ({', '.join(map(str, mapping.classes))}). Name all of them "
            "with --labels"
        )
    if len(mapping.labels) == BINARY:
        sentence = f"no threshold of the probabilities gives its label {label!r}"
        rows = _find_contradiction(probabilities[:, 1], own)
    else:
        sentence = (
            f"its label {label!r} is not the most probable one on {len(differ)} of {len(own)} rows"
        )
        rows = differ[:1].tolist()
    described = [
        f"{choice.describe_row(row)} is {mapping.labels[own[row]]!r} with the probabilities "
        + ", ".join(
            f"{name!r} {share:.9g}"
            for name, share in zip(mapping.labels, probabilities[row], strict=True)
        )
        for row in rows
    ]
    return f"{sentence}: {'; '.join(described)}"


def _find_contradiction(probabilities: Array, own: Ints) -> list[int]:
    """Return two rows: the less probable one has the second label, the other the first."""
    first, second = np.flatnonzero(own == 0), np.flatnonzero(own == 1)
    return [
        int(first[probabilities[first].argmax()]),
        int(second[probabilities[second].argmin()]),
    ]


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

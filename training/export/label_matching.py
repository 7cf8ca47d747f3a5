"""Match the labels of an imported classifier to its probabilities."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from service.bundle.manifest import BINARY, DEFAULT_THRESHOLD
from service.predictions import Ints
from training.errors import ImportRejected
from training.export.graph_reading import KnownLabels
from training.export.label_choice import derive_classes, find_threshold, name_labels
from training.export.output_mapping import TIE, Activation, OutputMapping, find_positions
from training.export.output_tables import OutputTables
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
class Choice:
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


def gives_label(choice: Choice, name: str) -> bool:
    """Return whether one number is a probability, by whose threshold a label is chosen."""
    named = len(choice.labels) in (0, BINARY)
    if not named or not choice.tables.labels or not is_share(choice.tables.tables[name]):
        return False
    found = _match_label(choice, OutputMapping(name, "probability", ["", ""]))
    if found is None or found.label_output is None:
        return False
    own = _read_positions(choice, found)
    # Rows of one label fit any number, unless the graph says how it chooses.
    comparison = choice.known.comparisons.get(found.label_output)
    limited = comparison is not None and comparison.limit is not None
    return (limited or len(set(own.tolist())) > 1) and _count_equal(choice, found) == len(own)


def is_share(table: Array) -> bool:
    """Return whether all numbers are between 0 and 1."""
    return bool(((table >= 0) & (table <= 1)).all())


def add_labels(choice: Choice, mapping: OutputMapping) -> OutputMapping:
    """Name the labels of probabilities, and let the predicted ones equal the graph's own.

    Raise `ImportRejected` if the names do not fit, or no rule gives the graph's own labels.
    """
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


def _require_known_threshold(choice: Choice, mapping: OutputMapping) -> None:
    """Raise `ImportRejected` if a number is a label only by a threshold found in the rows."""
    label = mapping.label_output or ""
    if choice.tables.tables[label].dtype.kind != "f" or label in choice.known.comparisons:
        return
    if abs((mapping.threshold or DEFAULT_THRESHOLD) - DEFAULT_THRESHOLD) > TIE:
        raise ImportRejected(
            f"its output {label!r} is 0 or 1, which may be a label or another number. Choose the "
            f"probabilities with --output {mapping.output}, or the label with --output {label}."
        )


def _match_label(choice: Choice, mapping: OutputMapping) -> OutputMapping | None:
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


def _require_listed(choice: Choice, output: str) -> None:
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


def _follow_label(choice: Choice, mapping: OutputMapping) -> OutputMapping:
    """Return the mapping with the threshold by which the graph chooses its own label."""
    if len(mapping.labels) != BINARY or mapping.label_output is None:
        return mapping
    threshold = find_threshold(
        mapping.convert(choice.everything)[:, 0],
        _read_positions(choice, mapping),
        choice.known.comparisons.get(mapping.label_output),
    )
    return replace(mapping, threshold=None if threshold == DEFAULT_THRESHOLD else threshold)


def _read_positions(choice: Choice, mapping: OutputMapping) -> Ints:
    """Return the positions of the graph's own labels, of all rows and the others."""
    return find_positions(choice.everything[str(mapping.label_output)], mapping.classes)


def _count_equal(choice: Choice, mapping: OutputMapping) -> int:
    predicted = mapping.predict_positions(choice.everything)
    return int((predicted == _read_positions(choice, mapping)).sum())


def _require_equal(choice: Choice, mapping: OutputMapping) -> OutputMapping:
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


def _describe_labels(choice: Choice, mapping: OutputMapping, own: Ints, differ: Ints) -> str:
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

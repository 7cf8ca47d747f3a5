"""Find the class names of a graph's scores: in its classifiers, its label map, or its label output.

Only names that the graph's own label output has are used. An ensemble, for example, has inner
classifiers with numbers for classes, which it translates at the end.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from service.bundle.onnx_nodes import MainGraph, Node, Values

_CLASSIFIERS: Mapping[str, Sequence[str]] = {
    "LinearClassifier": ("classlabels_strings", "classlabels_ints"),
    "SVMClassifier": ("classlabels_strings", "classlabels_ints"),
    "TreeEnsembleClassifier": ("classlabels_strings", "classlabels_int64s"),
    "ZipMap": ("classlabels_strings", "classlabels_int64s"),
}
ZIP_MAP = "ZipMap"
# They change neither the values nor their order.
_TRANSPARENT = {"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten"}
# They change each column by itself, or all in proportion, so the columns remain those of the
# classes. The other inputs of arithmetic must be constants, or one number for each row.
_BY_COLUMN = {
    "Add",
    "Cast",
    "Clip",
    "Div",
    "Dropout",
    "Exp",
    "Identity",
    "Log",
    "LogSoftmax",
    "Max",
    "Min",
    "Mul",
    "Normalizer",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Softmax",
    "Sub",
}
_ONE_PER_ROW = "Reduce"
# Converters write a few nodes after a label or a column; any graph must be read in little time.
_MAX_STEPS = 100
_PAIR = 2
_ROW_AXES = ([1], [-1])


def find_class_names(graph: MainGraph) -> Mapping[bytes, Sequence[str]]:
    """Return the class names of each tensor with one column for each class, in column order."""
    return _ClassNames(graph).find()


def read_zip_map(graph: MainGraph, node: Node) -> Sequence[str]:
    """Return the class names of a ZipMap in the order of its input's columns."""
    return _format(_read_first(graph, node, _CLASSIFIERS[ZIP_MAP]))


def find_columns(
    graph: MainGraph, names: Mapping[bytes, Sequence[str]]
) -> Mapping[bytes, Sequence[bytes]]:
    """Return tensors whose columns, all of them, are outputs of the graph, one by one.

    The result has the outputs of each such tensor in column order.
    """
    found: defaultdict[bytes, dict[int, bytes]] = defaultdict(dict)
    for output in graph.outputs:
        if column := _find_column(graph, output.name):
            source, position = column
            found[source][position] = output.name
    return {
        source: [columns[position] for position in range(len(columns))]
        for source, columns in found.items()
        if sorted(columns) == list(range(len(names.get(source, ()))))
    }


class _ClassNames:
    def __init__(self, graph: MainGraph) -> None:
        self._graph = graph
        self._outputs = {output.name for output in graph.outputs}
        self._names: dict[bytes, Sequence[str]] = {}

    def find(self) -> Mapping[bytes, Sequence[str]]:
        """Find the tensors that classes are chosen from, and follow them through the graph."""
        for node in self._graph.nodes:
            if node.operator in _CLASSIFIERS:
                self._add_classifier(node)
            elif node.operator == "ArgMax":
                self._add_choice(node)
        for node in self._graph.nodes:
            if node.operator == ZIP_MAP:
                self._names[node.inputs[0]] = read_zip_map(self._graph, node)
        steps = [
            (source, node.outputs[0])
            for node in self._graph.nodes
            if (source := self._find_source(node))
        ]
        for source, target in reversed(steps):
            self._spread(target, source)
        for source, target in steps:
            self._spread(source, target)
        return self._names

    def _add_classifier(self, node: Node) -> None:
        """Add the scores of a classifier, with the names that the label output has for its labels.

        The graph may not use the label.
        """
        classes = _read_first(self._graph, node, _CLASSIFIERS[node.operator])
        # Without probabilities, support vector machines score each pair of classes.
        is_by_pair = (
            node.operator == "SVMClassifier"
            and len(classes) > _PAIR
            and not self._graph.has_attribute(node, "prob_a")
        )
        if len(node.outputs) > 1 and not is_by_pair:
            label, scores = node.outputs[:2]
            is_used = label in self._outputs or label in self._graph.consumers
            self._add(scores, self._follow_label(label, classes) if is_used else classes)

    def _add_choice(self, node: Node) -> None:
        """Add the scores of which the graph chooses the largest, and returns its name."""
        if self._graph.read_attribute(node, "axis") in _ROW_AXES:
            self._add(node.inputs[0], self._follow_label(node.outputs[0], None))

    def _add(self, scores: bytes, classes: Values) -> None:
        if classes:
            self._names[scores] = _format(classes)

    def _follow_label(self, label: bytes, classes: Values | None) -> Values:
        """Return the classes as the graph's label output has them; none if it has not.

        ``classes`` is None if the label is the position of a class, which a later node translates.
        """
        waiting, visited = [(label, classes)], {label}
        while waiting and len(visited) < _MAX_STEPS:
            tensor, known = waiting.pop()
            if tensor in self._outputs and known is not None:
                return known
            for node in self._graph.consumers.get(tensor, ()):
                translated = self._translate(node, tensor, known)
                is_label = translated is None or len(translated) > 0
                if is_label and node.outputs[0] not in visited:
                    visited.add(node.outputs[0])
                    waiting.append((node.outputs[0], translated))
        return []

    def _translate(self, node: Node, label: bytes, classes: Values | None) -> Values | None:
        """Return the classes after a node; none if it makes something else of a label."""
        if node.operator in _TRANSPARENT and node.inputs[0] == label:
            return classes
        if node.operator in {"ArrayFeatureExtractor", "Gather"} and label in node.inputs[1:]:
            return _select(self._graph.read_constant(node.inputs[0]), classes)
        if node.operator == "LabelEncoder":
            values = _read_first(self._graph, node, ("values_strings", "values_int64s"))
            keys = _read_first(self._graph, node, ("keys_int64s", "keys_strings"))
            if not keys:  # of the first version of the operator
                return _select(self._graph.read_attribute(node, "classes_strings"), classes)
            by_key = dict(zip(keys, values, strict=False))
            wanted = range(len(keys)) if classes is None else classes
            return _all(by_key.get(key) for key in wanted)
        return []

    def _find_source(self, node: Node) -> bytes | None:
        """Return the tensor whose columns a node's output has, if there is one."""
        if node.operator not in _BY_COLUMN:
            return None
        if node.operator in {"Clip", "Dropout", "Reshape"}:
            return node.inputs[0]
        sources = [
            name
            for name in {*node.inputs}
            if not self._graph.is_constant(name) and not self._is_one_per_row(name)
        ]
        return sources[0] if len(sources) == 1 else None

    def _is_one_per_row(self, tensor: bytes) -> bool:
        """Return whether a tensor is reduced to one number for each row, such as its sum."""
        node = self._graph.producers.get(_skip_transparent(self._graph, tensor))
        return node is not None and node.operator.startswith(_ONE_PER_ROW)

    def _spread(self, source: bytes, target: bytes) -> None:
        if source in self._names:
            self._names.setdefault(target, self._names[source])


def _select(values: Values, positions: Values | None) -> Values:
    """Return the values at positions; all values if positions is None."""
    if positions is None:
        return values
    by_position = dict[bytes | int, bytes | int](enumerate(values))
    return _all(by_position.get(position) for position in positions)


def _all(values: Iterable[bytes | int | None]) -> Values:
    """Return the values; none if one of them is None."""
    found = list(values)
    known = [value for value in found if value is not None]
    return known if len(known) == len(found) else []


def _skip_transparent(graph: MainGraph, tensor: bytes) -> bytes:
    """Return the tensor that has the same values and is not merely cast or reshaped."""
    for _ in range(_MAX_STEPS):
        node = graph.producers.get(tensor)
        if node is None or node.operator not in _TRANSPARENT:
            break
        tensor = node.inputs[0]
    return tensor


def _find_column(graph: MainGraph, tensor: bytes) -> tuple[bytes, int] | None:
    """Return the tensor of which another one is a column, and its position."""
    tensor = _skip_transparent(graph, tensor)
    node = graph.producers.get(tensor)
    if node is None:
        return None
    position = _read_column(graph, node, tensor)
    if len(position) != 1 or not isinstance(position[0], int):
        return None
    return node.inputs[0], position[0]


def _read_column(graph: MainGraph, node: Node, output: bytes) -> Values:
    """Return the position of the only column that a node selects for an output; empty if none."""
    operator = node.operator
    if operator == "Slice":
        starts, ends, axes = (
            _read_input(graph, node, k, name)
            for k, name in enumerate(("starts", "ends", "axes"), 1)
        )
        is_column = [*axes] in _ROW_AXES and len(starts) == 1 and [*ends] == [_next(starts[0])]
        return starts if is_column else []
    is_by_column = operator == "ArrayFeatureExtractor" or (
        graph.read_attribute(node, "axis") in _ROW_AXES
    )
    if operator == "Split" and is_by_column:
        return [node.outputs.index(output)]
    if operator in {"Gather", "ArrayFeatureExtractor"} and is_by_column:
        return _read_input(graph, node, 1, "")
    return []


def _next(position: int | bytes) -> int | None:
    return position + 1 if isinstance(position, int) else None


def _read_input(graph: MainGraph, node: Node, position: int, attribute: str) -> Values:
    """Return the values of a constant input, which is an attribute in older opsets."""
    if position < len(node.inputs):
        return graph.read_constant(node.inputs[position])
    return graph.read_attribute(node, attribute)


def _read_first(graph: MainGraph, node: Node, names: Sequence[str]) -> Values:
    """Return the first attribute of these names that has values."""
    return next((values for name in names if (values := graph.read_attribute(node, name))), [])


def _format(classes: Values) -> Sequence[str]:
    return tuple(
        name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in classes
    )

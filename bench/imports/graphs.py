"""Random graphs like those that converters write, with rows and what the graph itself predicts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from bench.imports.inputs import NUMBERS, Array, InputBuilder

_CLASSES: Sequence[Sequence[str | int]] = (
    ["no", "yes"],
    ["yes", "no"],
    ["malignant", "benign"],
    ["virginica", "setosa", "versicolor"],
    ["b", "a", "c", "d"],
    [" <=50K", " >50K"],
    ["", "x", "y"],
    [0, 1],
    [-1, 1],
    [0, 1, 2],
    [7, 3, 10],
)


@dataclass
class Case:
    """A graph, the rows of a table, and the arguments of the import."""

    model: onnx.ModelProto
    inputs: list[str]
    """Names of the graph's inputs, each with its columns in `columns`."""
    columns: dict[str, Array]
    """Values of each column, ``[rows + fresh rows]``, in the type of the graph; NaN for a gap."""
    matrix: bool
    """Whether the columns are those of one input."""
    arguments: list[str]
    classes: list[str] = field(default_factory=list)
    """Names that the served model must use, in the order of the graph; empty for a value."""
    own: list[str] = field(default_factory=list)
    """The graph's own classes as text, in the same order."""
    label: str | None = None
    """The output with the graph's own label."""
    scores: list[str] = field(default_factory=list)
    """The outputs with probabilities, logits or the value; none for a model of labels only."""
    activation: str | None = None
    """What turns the scores into probabilities."""
    shape: list[str] = field(default_factory=list)
    """What the case consists of, for messages."""

    def run(self) -> dict[str, Any]:
        """Return the outputs of the graph for all rows, computed by ONNX Runtime itself."""
        options = ort.SessionOptions()
        options.log_severity_level = 4
        session = ort.InferenceSession(
            self.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        if self.matrix:
            feeds = {self.inputs[0]: np.column_stack(list(self.columns.values()))}
        else:
            ranks = {one.name: len(one.shape) for one in session.get_inputs()}
            feeds = {
                name: values if ranks[name] == 1 else values[:, None]
                for name, values in self.columns.items()
            }
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds), strict=True))

    def cells(self, row: int) -> dict[str, object]:
        """Return a row as JSON values; a gap is None."""
        return {name: _as_json(values[row]) for name, values in self.columns.items()}


def _as_json(value: Any) -> object:  # noqa: ANN401 - a scalar of numpy, or a word
    if isinstance(value, str):
        return value
    plain = value.item()
    return None if isinstance(plain, float) and np.isnan(plain) else plain


class Builder(InputBuilder):
    """Builds one case from random choices."""

    def build(self) -> Case:
        """Draw inputs and a model."""
        matrix = self._chance(0.5)
        encoded, width = self.add_matrix() if matrix else self.add_columns()
        double = self._chance(0.15)
        if double:
            encoded = self._node("Cast", [encoded], to=TensorProto.DOUBLE)
        case = Case(
            onnx.ModelProto(),
            [one.name for one in self.inputs],
            self.columns,
            matrix,
            self.arguments,
            shape=self.shape,
        )
        self.shape.append("double" if double else "float")
        if self._chance(0.25):
            self._add_regressor(case, encoded, width, double=double)
        elif self._chance(0.4) and not double:
            self._add_classifier(case, encoded, width)
        else:
            self._add_network(case, encoded, width, double=double)
        if self._chance(0.15):
            self._add_other_output(encoded, width, double=double)
        if self._chance(0.3):
            self.outputs.reverse()
        case.model = helper.make_model(
            helper.make_graph(self.nodes, "generated", self.inputs, self.outputs, self.weights),
            opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)],
            ir_version=9,
        )
        return case

    def _linear(self, tensor: str, width: int, outputs: int, *, double: bool) -> str:
        kind = np.float64 if double else np.float32
        weights = np.round(self.random.normal(0, 0.6, (width, outputs)) * 4) / 4
        bias = np.round(self.random.normal(0, 0.5, outputs) * 4) / 4
        product = self._node("MatMul", [tensor, self._constant(weights.astype(kind))])
        return self._node("Add", [product, self._constant(bias.astype(kind))])

    def _add_regressor(self, case: Case, tensor: str, width: int, *, double: bool) -> None:
        kind = TensorProto.DOUBLE if double else TensorProto.FLOAT
        value = self._linear(tensor, width, 1, double=double)
        if self._chance(0.3):
            value = self._node("Reshape", [value, self._constant(np.array([-1]))])
            self._output(value, "variable", kind, ["N"])
        else:
            self._output(value, "variable", kind, ["N", 1])
        self.shape.append("value")
        case.scores = ["variable"]

    def _add_classifier(self, case: Case, tensor: str, width: int) -> None:
        """Add the operators of scikit-learn's converter, with or without ZipMap."""
        classes = list(self._one_of(_CLASSES))
        words = isinstance(classes[0], str)
        tree = self._chance(0.5)
        whole = "classlabels_int64s" if tree else "classlabels_ints"
        named: dict[str, Any] = {"classlabels_strings" if words else whole: classes}
        kind = TensorProto.STRING if words else TensorProto.INT64
        attributes = (
            self._draw_trees(width, len(classes)) if tree else self._draw_lines(width, classes)
        )
        label = self._node(
            "TreeEnsembleClassifier" if tree else "LinearClassifier",
            [tensor],
            2,
            domain="ai.onnx.ml",
            **named,
            **attributes,
        )
        scores = label.replace("_0", "_1")
        if not tree:
            scores = self._node("Normalizer", [scores], norm="L1", domain="ai.onnx.ml")
        self._output(label, "label", kind, ["N"])
        zipmap = self._chance(0.4)
        if zipmap:
            named = {"classlabels_strings" if words else "classlabels_int64s": classes}
            self.nodes.append(
                helper.make_node(
                    "ZipMap", [scores], ["probabilities"], domain="ai.onnx.ml", **named
                )
            )
            self.outputs.append(_map_info("probabilities", kind))
        else:
            self._output(scores, "probabilities", TensorProto.FLOAT, ["N", len(classes)])
        self.shape += ["tree" if tree else "linear", "ZipMap" * zipmap, repr(classes)]
        case.label, case.scores = "label", ["probabilities"]
        self._name_classes(case, classes)

    def _draw_lines(self, width: int, classes: Sequence[object]) -> dict[str, Any]:
        count = len(classes)
        weights = np.round(self.random.normal(0, 0.5, (count, width)) * 4) / 4
        return {
            "coefficients": weights.ravel().tolist(),
            "intercepts": np.zeros(count).tolist(),
            "multi_class": 1,
            "post_transform": "LOGISTIC" if count > 2 else "SOFTMAX",  # noqa: PLR2004 - as skl2onnx
        }

    def _draw_trees(self, width: int, classes: int) -> dict[str, Any]:
        """Draw stumps, whose thresholds are on the grid of the values; leaves share a row."""
        trees = int(self.random.integers(1, 4))
        found: dict[str, list[Any]] = {
            key: []
            for key in (
                "nodes_treeids",
                "nodes_nodeids",
                "nodes_featureids",
                "nodes_values",
                "nodes_modes",
                "nodes_truenodeids",
                "nodes_falsenodeids",
                "class_treeids",
                "class_nodeids",
                "class_ids",
                "class_weights",
            )
        }
        for tree in range(trees):
            cut = float(np.round(self.random.normal(0, 2)) / 2)
            column = int(self.random.integers(width))
            for k, mode in enumerate(("BRANCH_LEQ", "LEAF", "LEAF")):
                found["nodes_treeids"].append(tree)
                found["nodes_nodeids"].append(k)
                found["nodes_featureids"].append(column if k == 0 else 0)
                found["nodes_values"].append(cut if k == 0 else 0.0)
                found["nodes_modes"].append(mode)
                found["nodes_truenodeids"].append(1 if k == 0 else 0)
                found["nodes_falsenodeids"].append(2 if k == 0 else 0)
            for leaf in (1, 2):
                shares = self.random.integers(1, 5, classes)
                for position, share in enumerate(shares / shares.sum() / trees):
                    found["class_treeids"].append(tree)
                    found["class_nodeids"].append(leaf)
                    found["class_ids"].append(position)
                    found["class_weights"].append(float(share))
        return {**found, "post_transform": "NONE"}

    def _add_network(self, case: Case, tensor: str, width: int, *, double: bool) -> None:
        """Add a network's last layer, with the outputs that exporters write."""
        classes = list(self._one_of(_CLASSES))
        kind = TensorProto.DOUBLE if double else TensorProto.FLOAT
        form = self._one_of(["softmax", "sigmoid", "logits", "label", "columns"])
        if form == "sigmoid":
            classes = classes[:2]
        self.shape += [form, repr(classes)]
        logits = self._linear(
            tensor, width, 1 if form == "sigmoid" else len(classes), double=double
        )
        if form == "sigmoid":
            self._add_probability(case, self._node("Sigmoid", [logits]), classes, kind)
        elif form == "label":
            self._add_label(case, logits, classes)
        elif form == "logits":
            self._add_logits(case, logits, len(classes), kind)
        else:
            self._add_scores(case, logits, classes, kind, apart=form == "columns")
        self._name_classes(case, classes)

    def _add_logits(self, case: Case, logits: str, count: int, kind: int) -> None:
        self._output(logits, "logits", kind, ["N", count])
        case.scores = ["logits"]
        if self._chance(0.7):
            case.activation = "softmax"
            self.arguments += ["--activation", "softmax"]

    def _add_scores(
        self, case: Case, logits: str, classes: Sequence[str | int], kind: int, *, apart: bool
    ) -> None:
        """Add probabilities of all classes, each apart or together, and perhaps the label."""
        scores = self._node("Softmax", [logits], axis=1)
        if self._chance(0.2):
            noise = np.array([-1e-7], dtype=NUMBERS[kind])
            scores = self._node("Add", [scores, self._constant(noise)])
            self.shape.append("last bits")
        if apart:
            self._add_score_columns(case, scores, len(classes), kind)
        else:
            self._output(scores, "probabilities", kind, ["N", len(classes)])
            case.scores = ["probabilities"]
        if self._chance(0.5):
            self._add_label(case, scores, classes)

    def _add_score_columns(self, case: Case, scores: str, count: int, kind: int) -> None:
        self.count += 1
        names = [f"part{self.count}_{k}" for k in range(count)]
        self.nodes.append(helper.make_node("Split", [scores], names, axis=1, num_outputs=count))
        for k, name in enumerate(names):
            self._output(name, f"class_{k}", kind, ["N", 1])
            case.scores.append(f"class_{k}")

    def _add_probability(
        self, case: Case, probability: str, classes: Sequence[str | int], kind: int
    ) -> None:
        """Add the probability of the second class, and perhaps a label by a threshold."""
        self._output(probability, "probability", kind, ["N", 1])
        case.scores = ["probability"]
        if self._chance(0.5):
            threshold = self._constant(np.array([self._one_of([0.5, 0.3])], dtype=NUMBERS[kind]))
            operator = self._one_of(["Greater", "GreaterOrEqual"])
            above = self._node(operator, [probability, threshold])
            self.shape.append(operator)
            whole = self._node("Cast", [above], to=TensorProto.INT64)
            flat = self._node("Reshape", [whole, self._constant(np.array([-1]))])
            self._add_names(case, flat, classes)

    def _add_label(self, case: Case, scores: str, classes: Sequence[str | int]) -> None:
        largest = self._node("ArgMax", [scores], axis=1, keepdims=0)
        self._add_names(case, largest, classes)

    def _add_names(self, case: Case, positions: str, classes: Sequence[str | int]) -> None:
        words = isinstance(classes[0], str)
        values = np.array(classes, dtype=object if words else np.int64)
        label = self._node("Gather", [self._constant(values), positions], axis=0)
        kind = TensorProto.STRING if words else TensorProto.INT64
        self._output(label, "label", kind, ["N"])
        case.label = "label"

    def _add_other_output(self, tensor: str, width: int, *, double: bool) -> None:
        kind = TensorProto.DOUBLE if double else TensorProto.FLOAT
        self._output(tensor, "hidden", kind, ["N", width])
        self.shape.append("hidden output")

    def _name_classes(self, case: Case, classes: Sequence[str | int]) -> None:
        """Set the names that are served: the graph's own, or those of ``--labels``."""
        own = [str(name) for name in classes]
        case.classes = case.own = own
        named = case.label is not None
        if not named or self._chance(0.2):
            chosen = own if named else [f"class {name}" for name in own]
            if named and self._chance(0.5):
                chosen = list(self.random.permutation(own))
                self.shape.append("labels in another order")
            elif named and isinstance(classes[0], int):
                chosen = [f"class {name}" for name in own]
            if "" not in chosen:
                quoted = ",".join('"' + name.replace('"', '""') + '"' for name in chosen)
                self.arguments.append(f"--labels={quoted}")
                case.classes = chosen if not named or set(chosen) != set(own) else own


def _map_info(name: str, kind: int) -> onnx.ValueInfoProto:
    value = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    pairs = helper.make_map_type_proto(kind, value)
    return helper.make_value_info(name, helper.make_sequence_type_proto(pairs))


def generate(seed: int) -> Case:
    """Generate the case of a seed."""
    return Builder(seed).build()

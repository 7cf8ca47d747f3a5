"""Import generated graphs, and compare what a service returns with the graphs themselves."""

import contextlib
import csv
import io
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx

from bench.imports.graphs import Case, generate
from bench.imports.inputs import FRESH_ROWS, ROWS, Array
from training.__main__ import main

_TOLERANCE = 2e-5
_TIE = 1e-6
# Sentences for users have none of these.
_RAW = re.compile(r"Traceback|ONNXRuntimeError|0x[0-9a-f]{6}|\.cc:\d|\.py\b")


@dataclass(frozen=True)
class Imported:
    """What the import of a case did."""

    seed: int
    case: Case
    published: bool
    message: str
    """What the command wrote to standard error."""


@dataclass(frozen=True)
class Failure:
    """A case that was served differently, or rejected without a sentence."""

    seed: int
    reason: str
    shape: Sequence[str]
    arguments: Sequence[str]

    def __str__(self) -> str:
        shape = "; ".join(part for part in self.shape if part)
        return f"seed {self.seed} ({shape}; {' '.join(self.arguments)}): {self.reason}"


def import_case(seed: int, models: Path) -> Imported:
    """Generate the case of a seed, and import it as ``g<seed>`` below ``models``."""
    case = generate(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / f"g{seed}.onnx"
        onnx.save(case.model, path)
        _write_table(case, folder / "rows.csv")
        words = ["import", str(path), "--csv", str(folder / "rows.csv"), *case.arguments]
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            try:
                code = main([*words, "--models", str(models)])
            except SystemExit:  # argparse
                code = 2
    return Imported(seed, case, code == 0, said.getvalue().strip())


def _write_table(case: Case, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(case.columns)
        for row in range(ROWS):
            cells = case.cells(row).values()
            writer.writerow(["" if cell is None else cell for cell in cells])


def find_failure(imported: Imported, client: httpx.Client) -> Failure | None:
    """Compare an imported case with its graph, on the rows of the table and on fresh ones."""
    case = imported.case
    reason = (
        _compare(case, client, f"g{imported.seed}")
        if imported.published
        else _judge_message(imported.message)
    )
    return Failure(imported.seed, reason, case.shape, case.arguments) if reason else None


def _judge_message(message: str) -> str:
    if not message or not message.endswith(".") or _RAW.search(message):
        return f"rejected without a sentence: {message!r}"
    return ""


def _compare(case: Case, client: httpx.Client, name: str) -> str:
    rows = [case.cells(row) for row in range(ROWS + FRESH_ROWS)]
    response = client.post(f"/models/{name}/predict", json={"instances": rows})
    if response.status_code != httpx.codes.OK:
        return f"status {response.status_code}: {response.text[:300]}"
    return compare_predictions(case, response.json()["predictions"])


def compare_predictions(case: Case, predictions: Sequence[Mapping[str, Any]]) -> str:
    """Return the first difference between predictions and the graph's outputs, else ``""``."""
    outputs = case.run()
    if not case.classes:
        found = np.array([one.get("value", np.nan) for one in predictions], dtype=np.float64)
        expected = np.asarray(outputs[case.scores[0]], dtype=np.float64).reshape(-1)
        return _describe_difference(found, expected, "value")
    if case.scores == ["logits"] and case.activation is None:
        return "logits are served without an activation"
    if any("label" not in one for one in predictions):
        return f"a classifier is served as {predictions[0]}"
    scores = _read_scores(case, outputs)
    return _compare_labels(case, outputs, scores, predictions) or _compare_scores(
        case, scores, predictions
    )


def _compare_labels(
    case: Case,
    outputs: Mapping[str, Any],
    scores: Array | None,
    predictions: Sequence[Mapping[str, Any]],
) -> str:
    labels = _read_labels(case, outputs, scores)
    for row, (one, allowed) in enumerate(zip(predictions, labels, strict=True)):
        if one["label"] not in allowed:
            return f"row {row}: label {one['label']!r}, the graph has {' or '.join(allowed)}"
    return ""


def _compare_scores(
    case: Case,
    scores: Array | None,
    predictions: Sequence[Mapping[str, Any]],
) -> str:
    if scores is None:
        return ""
    served = np.array(
        [[one["probabilities"].get(name, -1) for name in case.classes] for one in predictions]
    )
    return _describe_difference(served, scores, "probability")


def _read_scores(case: Case, outputs: Mapping[str, Any]) -> Array | None:
    """Return the probabilities of the graph, ``[rows, classes]``; None if it has only labels."""
    if not case.scores:
        return None
    first = outputs[case.scores[0]]
    if isinstance(first, list):  # of ZipMap
        scores = np.array([list(one.values()) for one in first])
        names = [str(name) for name in first[0]]
        return scores[:, [names.index(name) for name in case.own]].astype(np.float64)
    parts = [np.asarray(outputs[name], dtype=np.float64) for name in case.scores]
    scores = np.column_stack([part.reshape(len(part), -1) for part in parts])
    if case.activation == "softmax":
        shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores = shifted / shifted.sum(axis=1, keepdims=True)
    return np.column_stack([1 - scores, scores]) if scores.shape[1] == 1 else scores


def _read_labels(case: Case, outputs: Mapping[str, Any], scores: Array | None) -> list[list[str]]:
    """Return the labels that each row may get: the graph's own, else those with the most."""
    if case.label is not None:
        names = dict(zip(case.own, case.classes, strict=True))
        return [[names[str(own)]] for own in outputs[case.label]]
    if scores is None:
        raise ValueError("a case has neither labels nor scores")
    return [
        [case.classes[int(k)] for k in np.flatnonzero(row >= row.max() - _TIE)] for row in scores
    ]


def _describe_difference(found: Array, expected: Array, what: str) -> str:
    bound = _TOLERANCE * np.maximum(1, np.abs(expected))
    differs = ~(np.abs(found - expected) <= bound)
    if not differs.any():
        return ""
    at = tuple(int(k[0]) for k in np.nonzero(differs))
    return f"row {at[0]}: {what} {found[at]!r}, the graph has {expected[at]!r}"

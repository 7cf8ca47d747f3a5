"""Verify that a bundle predicts what the original predicts, on every row and at several sizes."""

from dataclasses import dataclass

import numpy as np

from service.predictions import predict_labels
from training.data.table import Float32s
from training.errors import ImportRejected
from training.importing.differences import Investigation
from training.importing.reference import (
    LARGEST_BATCH,
    Reference,
    find_differences,
    show_prediction,
)
from training.importing.rows import Datatype
from training.onnx_files import Graph

RELATIVE = 1e-5
"""The largest difference between bundle and original, as a share of the prediction."""
ABSOLUTE = 1e-6
"""The largest difference near zero: of a probability, or as a share of the mean value."""


@dataclass(frozen=True)
class Verification:
    """How a bundle is compared with the original."""

    reference: Reference
    datatype: Datatype
    threshold: float
    """Of two labels, the second is predicted from this probability on."""

    def run(self, graph: Graph) -> Float32s:
        """Return the predictions of the bundle for all rows.

        Raise `ImportRejected` with the row, both predictions, the cause and the remedy if one
        differs from the original at the same batch size.
        """
        scores = {size: self._verify(graph, size) for size in self.reference.predictions}
        return scores[LARGEST_BATCH]

    def _verify(self, graph: Graph, size: int) -> Float32s:
        expected, rows = self.reference.predictions[size], self.reference.rows
        served = rows.as_served(self.datatype)[: len(expected.scores)]
        scores = graph.predict_in_batches(served, size)
        absolute = ABSOLUTE * self.reference.scale
        differ = find_differences(scores, expected.scores, RELATIVE, absolute)
        labels = None
        if expected.labels is not None:
            labels = predict_labels(scores, self.threshold)
            differ |= np.asarray(labels != expected.labels) & ~self.reference.ties[: len(labels)]
        if differ.any():
            row = int(np.flatnonzero(differ)[0])
            mapping = self.reference.mapping
            cause = Investigation(self.reference.original, rows, mapping, self.datatype)
            raise ImportRejected(
                f"in {int(differ.sum())} of {len(scores)} rows, in batches of "
                f"{min(size, len(scores))}, the bundle would not predict what the model predicts. "
                f"{rows.location(row)}: {show_prediction(mapping, scores, labels, row)} instead of "
                f"{show_prediction(mapping, expected.scores, expected.labels, row)}. "
                f"{cause.explain(row)}"
            )
        return scores

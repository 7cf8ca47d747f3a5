"""Answers as JSON: one object a line, or all in one document."""

from collections.abc import Iterator, Mapping, Sequence

import orjson

from service.bundle.manifest import Output
from service.codecs.messages import error_document
from service.codecs.options import Parameters
from service.codecs.outputs import Answer, answers
from service.codecs.row_batch import Block, Fault
from service.engine.tensors import Array

NDJSON = "application/x-ndjson"

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY


class JsonLines:
    """Writes one answer a line; a row with an error gets the error.

    Args:
        output: what the model answers.
        parameters: what the client requested.
    """

    media_type = NDJSON

    def __init__(self, output: Output, parameters: Parameters) -> None:
        self._output = output
        self._parameters = parameters

    def head(self) -> bytes:
        """Nothing."""
        return b""

    def write(self, block: Block, scores: Array, warnings: Mapping[int, Sequence[str]]) -> bytes:
        """The rows of a block.

        Args:
            block: of the table.
            scores: the graph's output for the rows without a fault, ``[rows, columns]``.
            warnings: by row of the block.
        """
        return b"".join(
            orjson.dumps(answer, option=_OPTIONS | orjson.OPT_APPEND_NEWLINE)
            for answer in self.answers(block, scores, warnings)
        )

    def refuse(self, fault: Fault) -> bytes:
        """A last line that says why nothing follows."""
        return orjson.dumps(_error(fault), option=orjson.OPT_APPEND_NEWLINE)

    def tail(self) -> bytes:
        """Nothing."""
        return b""

    def answers(
        self, block: Block, scores: Array, warnings: Mapping[int, Sequence[str]]
    ) -> Iterator[Answer]:
        """One answer for each row of a block."""
        read = iter(answers(self._output, scores, self._parameters) if len(scores) else ())
        for row in range(len(block.lines)):
            if row in block.faults:
                yield _error(block.faults[row])
                continue
            answer = next(read)
            if row in warnings and self._parameters.warnings is not False:
                answer["warnings"] = warnings[row]
            yield answer


class JsonDocument(JsonLines):
    """Writes ``{"predictions": [answers]}``, as rows posted in JSON are answered."""

    media_type = "application/json"

    def __init__(self, output: Output, parameters: Parameters, version: str) -> None:
        super().__init__(output, parameters)
        self._version = version
        self._separator = b""

    def head(self) -> bytes:
        """The document up to the first answer."""
        return b'{"predictions":['

    def write(self, block: Block, scores: Array, warnings: Mapping[int, Sequence[str]]) -> bytes:
        """The rows of a block, as `JsonLines.write` has them."""
        read = self.answers(block, scores, warnings)
        return self._joined([orjson.dumps(answer, option=_OPTIONS) for answer in read])

    def refuse(self, fault: Fault) -> bytes:
        """A last answer that says why nothing follows."""
        return self._joined([orjson.dumps(_error(fault))])

    def tail(self) -> bytes:
        """The rest of the document."""
        return b"]," + orjson.dumps({"model_version": self._version})[1:]

    def _joined(self, parts: Sequence[bytes]) -> bytes:
        if not parts:
            return b""
        text = self._separator + b",".join(parts)
        self._separator = b","
        return text


def _error(fault: Fault) -> Answer:
    return error_document(fault.sentence, fault.code, fault.problems)

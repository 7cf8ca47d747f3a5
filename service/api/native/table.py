"""A table that has begun to arrive: who reads its rows, and who writes their answers."""

import asyncio
from dataclasses import dataclass

import orjson

from service.api.negotiation import Form, TableForm
from service.api.stream import Arrival
from service.bundle.manifest import Manifest
from service.codecs.csv_header import CsvFormat, open_csv
from service.codecs.csv_writer import CsvAnswers
from service.codecs.endpoint import Endpoints
from service.codecs.features import FeatureCodec
from service.codecs.ndjson_reader import JsonRows
from service.codecs.ndjson_writer import JsonDocument, JsonLines
from service.codecs.options import Parameters
from service.codecs.outputs import require_offered
from service.codecs.row_batch import Reader
from service.engine.model import ServedModel
from service.errors import InvalidRequest
from service.filetypes import recognised
from service.scoring import Answers, Scoring
from service.settings import Settings


@dataclass(frozen=True)
class Wish:
    """How a table comes, and how it shall be answered.

    ``charset`` is what the caller says of a CSV file's encoding.
    """

    form: TableForm
    answer: Form
    parameters: Parameters
    charset: str | None = None


class Tables:
    """Opens the tables of one app.

    Args:
        endpoints: of its models.
        settings: how long a block of rows may take, waiting included, and how large a record
            may be.
    """

    def __init__(self, endpoints: Endpoints, settings: Settings) -> None:
        self._endpoints = endpoints
        self._patience_seconds = settings.deadline_seconds
        self._max_record_bytes = settings.max_csv_record_bytes
        self._turns = asyncio.Lock()

    def open(self, model: ServedModel, wish: Wish, arrival: Arrival) -> Scoring:
        """Read how the table is written and what its columns are.

        Raises:
            InvalidRequest: it is no table, or none for this model; nothing has been scored.
            RecordTooLarge: its first record is.
        """
        endpoint = self._endpoints.of(model)
        manifest = endpoint.require_manifest()
        require_offered(manifest.output, wish.parameters)
        codec = endpoint.require_features()
        reader, form = self._reader(codec, wish, arrival)
        asked = wish.parameters.warnings
        return Scoring(
            model,
            codec,
            reader,
            _answers(manifest, model, wish, form),
            warn=wish.answer != "csv" if asked is None else asked,
            turns=self._turns,
            patience_seconds=self._patience_seconds,
        )

    def _reader(
        self, codec: FeatureCodec, wish: Wish, arrival: Arrival
    ) -> tuple[Reader, CsvFormat | None]:
        if wish.form == "ndjson":
            return _json_rows(arrival, codec, self._max_record_bytes), None
        return open_csv(
            arrival.sample,
            codec,
            whole=arrival.whole,
            longest=self._max_record_bytes,
            charset=wish.charset,
            decimal=wish.parameters.decimal,
        )


def _json_rows(arrival: Arrival, codec: FeatureCodec, longest: int) -> JsonRows:
    example = orjson.dumps(codec.example).decode()
    if arrival.whole and not arrival.sample.strip():
        raise InvalidRequest(f"The body is empty. Send one object a line, for example {example}")
    if (kind := recognised(arrival.sample)) is not None:
        raise InvalidRequest(f"The body is {kind}. Send one object a line, for example {example}")
    reader = JsonRows(codec, longest)
    reader.feed(arrival.sample)
    reader.require_first()
    return reader


def _answers(manifest: Manifest, model: ServedModel, wish: Wish, form: CsvFormat | None) -> Answers:
    if wish.answer == "csv":
        return CsvAnswers(manifest.output, wish.parameters, form)
    if wish.answer == "ndjson":
        return JsonLines(manifest.output, wish.parameters)
    return JsonDocument(manifest.output, wish.parameters, model.version)

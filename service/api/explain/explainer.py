"""The way of one explanation: the rows of a plain prediction, its answer, and the reasons."""

import asyncio
from time import perf_counter

import orjson
from fastapi import Request, Response

from service.api.asking import made
from service.api.bodies import compressed, read_body, require_media_type
from service.api.codecs import require_manifest
from service.api.explain.parameters import read_wishes
from service.api.explain.pictures import (
    PNG,
    explain_pictures,
    overlaid,
    require_one_picture,
    wants_png,
)
from service.api.explain.subject import subject_of
from service.api.explain.tables import explain_rows
from service.api.head import Head
from service.api.plain import PlainDialect, together
from service.api.prediction import Predictor, outcome_of
from service.bundle.features import FeaturesInput
from service.engine.model import ServedModel
from service.errors import DeadlineExceeded, InvalidRequest
from service.metrics import Metrics
from service.settings import Settings


class Explainer:
    """Answers as the plain dialect does, each answer with its reasons.

    Args:
        predictor: finds the models as it finds those of predictions.
    """

    def __init__(
        self, predictor: Predictor, dialect: PlainDialect, metrics: Metrics, settings: Settings
    ) -> None:
        self._predictor = predictor
        self._dialect = dialect
        self._metrics = metrics
        self._settings = settings

    async def answer(self, request: Request, name: str, asked: str | None) -> Response:
        """Explain what the request asks.

        Args:
            request: the request.
            name: the model.
            asked: a version or a label; None for whichever serves.

        Raises:
            Exception: whatever it was; it has been counted.
        """
        model = None
        outcome = "client_left"  # nothing else ends it without an exception that is caught here
        started = perf_counter()
        try:
            async with asyncio.timeout(self._settings.deadline_seconds):
                asked = self._predictor.route(request, name, asked)
                model = await self._predictor.find(name, asked)
                with model:
                    response = await self._answer(request, model)
            outcome = "ok"
        except TimeoutError:
            outcome = DeadlineExceeded.code
            raise DeadlineExceeded(self._settings.deadline_seconds) from None
        except Exception as error:
            outcome = outcome_of(error)
            raise
        else:
            return response
        finally:
            known = ("", "") if model is None else (model.name, model.version)
            self._metrics.explained(*known, outcome, perf_counter() - started)

    async def _answer(self, request: Request, model: ServedModel) -> Response:
        head = Head(request.scope["headers"], request.scope["query_string"])
        require_media_type(head.get(b"content-type"), self._dialect.media_types(model))
        body = await read_body(request, self._settings.max_body_bytes)
        wishes = read_wishes(request.scope["query_string"])
        decoded = await asyncio.to_thread(self._dialect.decode, model, body, head)
        inputs = await made(decoded.inputs)
        rows, most = inputs[0], self._settings.max_explained_rows
        if len(rows) > most:
            raise InvalidRequest(
                f"An explanation takes at most {most} rows, got {len(rows)}; send fewer, or ask "
                "the operator to raise ONWARD_MAX_EXPLAINED_ROWS."
            )
        manifest = require_manifest(model)
        as_picture = wants_png(request.headers.get("accept", ""))
        if as_picture:
            require_one_picture(manifest.input, len(rows))
        prediction = await model.predict(inputs)
        answers = prediction.outputs[0]
        subject = subject_of(manifest.output, answers, wishes.label)
        if isinstance(manifest.input, FeaturesInput):
            found = await explain_rows(model, manifest.input, rows, answers, subject)
        else:
            found = await explain_pictures(model, rows, answers, subject, wishes.resolution)
        reasons, about = found
        if as_picture:
            content = await asyncio.to_thread(overlaid, rows[0], reasons[0])
            headers = {"x-model-version": model.version, "vary": "accept"}
            return Response(content, headers=headers, media_type=PNG)
        read = self._dialect.read(model, prediction.outputs, decoded.context)
        for answer, reason in zip(read, reasons, strict=True):
            answer["explanation"] = reason
        about = {**about, "model_version": model.version}
        whole = together(read, about, single=decoded.context.single)
        content, headers = await asyncio.to_thread(
            _packed, whole, request.headers.get("accept-encoding", "")
        )
        headers["x-model-version"] = model.version
        return Response(content, headers=headers, media_type="application/json")


def _packed(whole: dict[str, object], accepted: str) -> tuple[bytes, dict[str, str]]:
    content, headers = compressed(orjson.dumps(whole, option=orjson.OPT_SERIALIZE_NUMPY), accepted)
    return content, dict(headers)

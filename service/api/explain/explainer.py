"""One explanation: the rows of a native request, their predictions, and the explanations."""

import asyncio
from functools import partial
from time import perf_counter

import numpy as np
import orjson
from fastapi import Request, Response

from service.api.body import HEAD, RequestHead, compressed, require_media_type
from service.api.deadline import Deadline
from service.api.explain.attributions import explain_rows
from service.api.explain.parameters import read_explanation_options
from service.api.explain.saliency import (
    PNG,
    draw_overlay,
    explain_images,
    require_one_image,
    wants_png,
)
from service.api.explain.subject import subject_of
from service.api.inference import decode_body, materialize, outcome_of
from service.api.inference_service import InferenceService
from service.api.middleware import quotas_of
from service.api.native.protocol import NativeProtocol, together
from service.bundle.features import FeaturesInput
from service.engine.model import ServedModel
from service.errors import InvalidRequest
from service.observability.metrics import Metrics
from service.settings import Settings


class Explainer:
    """Responds as the native protocol does, each prediction with its explanation.

    Args:
        service: finds the models as it does for predictions.
    """

    def __init__(
        self,
        service: InferenceService,
        protocol: NativeProtocol,
        metrics: Metrics,
        settings: Settings,
    ) -> None:
        self._service = service
        self._protocol = protocol
        self._metrics = metrics
        self._settings = settings

    async def explain(self, request: Request, name: str, version: str | None) -> Response:
        """Respond to a request for explanations.

        Args:
            request: the request.
            name: the model.
            version: a version or an alias; None is the one that serves.

        Raises:
            Exception: any; it has been counted.
        """
        model = None
        outcome = "client_left"  # nothing else ends it without an exception that is caught here
        started = perf_counter()
        try:
            received = await self._service.receive(self._protocol, request, name, version)
            started = perf_counter()
            async with Deadline(request.receive, self._settings.deadline_seconds) as deadline:
                model = await self._service.find(name, received.version, deadline)
                await deadline.watch_client()
                with model:
                    response = await self._answer(request, received.body, model, deadline)
            outcome = "ok"
        except Exception as error:
            outcome = outcome_of(error)
            raise
        else:
            return response
        finally:
            known = ("", "") if model is None else (model.name, model.version)
            self._metrics.explained(*known, outcome, perf_counter() - started)

    async def _answer(
        self, request: Request, body: bytes, model: ServedModel, deadline: Deadline
    ) -> Response:
        quotas, query = quotas_of(request.scope), request.scope["query_string"]
        head: RequestHead = request.scope[HEAD]
        endpoint = self._service.endpoints.of(model)
        require_media_type(head.content_type, self._protocol.media_types(endpoint))
        quotas.limits.require_query(query)
        options = read_explanation_options(query)
        work = partial(decode_body, self._protocol, endpoint, body, head)
        decoded = await self._service.decode((self._protocol, model, head), body, work, deadline)
        rows = (await materialize(decoded.inputs))[0]
        self._require_few(len(rows))
        manifest = endpoint.require_manifest()
        as_image = wants_png(request.headers.get("accept", ""))
        if as_image:
            require_one_image(manifest.input, len(rows))
        prediction = await model.predict((rows,))
        answers = prediction.outputs[0]
        subject = subject_of(manifest.output, answers, options.label)
        if isinstance(manifest.input, FeaturesInput):
            found = await explain_rows(model, manifest.input, rows, answers, subject)
        else:
            found = await explain_images(model, rows, answers, subject, options.resolution)
        reasons, about = found
        headers = {"x-model-version": model.version}
        if as_image:
            content = await asyncio.to_thread(draw_overlay, rows[0], np.array(reasons[0]["drops"]))
            return Response(content, headers=headers | {"vary": "accept"}, media_type=PNG)
        read = self._protocol.read(endpoint, prediction.outputs, decoded.context)
        for answer, reason in zip(read, reasons, strict=True):
            answer["explanation"] = reason
        about = {**about, "model_version": model.version}
        whole = together(read, about, single=decoded.context.single)
        accepted = request.headers.get("accept-encoding", "")
        content, packing = await asyncio.to_thread(_packed, whole, accepted)
        quotas.hold_bytes(len(content))
        return Response(content, headers=headers | packing, media_type="application/json")

    def _require_few(self, rows: int) -> None:
        most = self._settings.max_explained_rows
        if rows > most:
            raise InvalidRequest(
                f"An explanation takes at most {most} rows, got {rows}; send fewer, or ask "
                "the operator to raise ONWARD_MAX_EXPLAINED_ROWS."
            )


def _packed(whole: dict[str, object], accepted: str) -> tuple[bytes, dict[str, str]]:
    content, headers = compressed(orjson.dumps(whole, option=orjson.OPT_SERIALIZE_NUMPY), accepted)
    return content, dict(headers)

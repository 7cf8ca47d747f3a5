"""POST /models/{name}/explain: predictions with explanations, also of one version."""

import asyncio
from functools import partial
from time import perf_counter

import numpy as np
from fastapi import APIRouter, Request, Response

from service.api.body import HEAD, JSON, RequestHead, compress
from service.api.explain.attributions import (
    PNG,
    choose_type,
    describe_chart,
    explain_images,
    explain_rows,
    list_values,
)
from service.api.explain.bar_chart import SVG, SVG_HEADERS, draw_contributions
from service.api.explain.columns import explain_columns
from service.api.explain.target import Explanation, choose_target, read_explanation_options
from service.api.inference import Failure, Inference
from service.api.inference_service import HeldModel, InferenceService
from service.api.middleware import get_quotas
from service.api.native.protocol import NativeProtocol
from service.api.native.schemas import documented_body
from service.api.routing import add_model_routes
from service.api.schemas import ANY_MODEL, FILE, PREDICTION_ERRORS, json_content, predicts, refer
from service.bundle.features import FeaturesInput
from service.codecs.endpoint import Endpoint
from service.engine.tensors import Arrays
from service.errors import InvalidRequest
from service.imaging.overlay import draw_overlay
from service.observability.metrics import Metrics
from service.settings import Settings
from service.spelling import format_count

_EXPLAINED = json_content(refer("ExplanationOfAnyModel"))
# Tables are predicted, not explained.
_EXPLAIN = documented_body({}) | {
    "responses": PREDICTION_ERRORS
    | predicts(_EXPLAINED | {SVG: {"schema": FILE}, PNG: {"schema": FILE}}, timed=False)
}


class Explainer:
    """Adds an explanation to each prediction of the native protocol."""

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
        """Respond to a request for explanations; any error has been counted.

        A ``version`` may be an alias; None is the one that serves.
        """
        respond = partial(self._respond, request)
        return await self._service.hold(
            request, name, version, respond, self._count_failure, self._protocol
        )

    def _count_failure(self, failure: Failure) -> None:
        self._metrics.count_explanation(*failure.labels, failure.outcome, failure.seconds)

    async def _respond(self, request: Request, held: HeldModel) -> Response:
        await held.deadline.watch_client()
        response = await self._explain(request, held)
        model, seconds = held.model, perf_counter() - held.started
        self._metrics.count_explanation(model.name, model.version, "ok", seconds)
        return response

    async def _explain(self, request: Request, held: HeldModel) -> Response:
        model, _, body, deadline, _ = held
        quotas, query = get_quotas(request.scope), request.scope["query_string"]
        head: RequestHead = request.scope[HEAD]
        endpoint = self._service.endpoints.get(model)
        inference = Inference(self._protocol, model, endpoint, head, self._metrics)
        quotas.limits.require_query(query)
        options = read_explanation_options(query)
        inputs = await self._service.decode(inference, body, deadline)
        self._require_few_rows(model.count_rows(inputs))
        manifest = endpoint.manifest
        if endpoint.texts is not None:
            raise InvalidRequest(
                f"Model {endpoint.name!r} has no explanations: it reads free text, which has no "
                "typical value to compare with. Use predict."
            )
        model_input = None if manifest is None else manifest.input
        media_type = choose_type(request.headers.get("accept", ""), model_input, len(inputs[0]))
        outputs = (await model.predict(inputs)).outputs
        scores = outputs[0]
        if manifest is None:
            scores = endpoint.require_graph_outputs().join(outputs, len(inputs[0]))
            found = await explain_columns(model, endpoint, inputs, scores, options.label)
        else:
            target = choose_target(manifest.output, scores, options.label)
            if isinstance(manifest.input, FeaturesInput):
                found = await explain_rows(model, manifest.input, inputs[0], scores, target)
            else:
                found = await explain_images(model, inputs[0], scores, target, options)
        explanations, shared_fields = found
        headers = {"x-model-version": model.version}
        if media_type != JSON:
            draw = partial(_draw, endpoint, inputs, explanations[0], shared_fields)
            content = await asyncio.to_thread(draw)
            quotas.hold_bytes(len(content))
            fixed = SVG_HEADERS if media_type == SVG else {}
            headers |= {"vary": "accept", **fixed}
            return Response(content, headers=headers, media_type=media_type)
        response = inference.context
        fields = {
            row: {**response.fields.get(row, {}), "explanation": explanation}
            for row, explanation in enumerate(explanations)
        }
        content = await asyncio.to_thread(
            endpoint.writer.write,
            scores,
            response.parameters,
            fields,
            single=response.single,
            shared=shared_fields,
        )
        accepted = request.headers.get("accept-encoding", "")
        content, encoding = await asyncio.to_thread(compress, content, accepted)
        quotas.hold_bytes(len(content))
        return Response(content, headers={**headers, **encoding}, media_type=JSON)

    def _require_few_rows(self, rows: int) -> None:
        limit = self._settings.max_explained_rows
        if rows > limit:
            raise InvalidRequest(
                f"An explanation takes at most {format_count(limit, 'row')}, got {rows}; send "
                "fewer; the operator can raise ONWARD_MAX_EXPLAINED_ROWS."
            )


def _draw(
    endpoint: Endpoint, inputs: Arrays, explanation: Explanation, shared: Explanation
) -> bytes:
    """Draw the explanation of one image as PNG, or of one row as SVG."""
    manifest = endpoint.manifest
    if manifest is None:
        values = {
            spec.name: array.ravel()[0].item()
            for spec, array in zip(endpoint.inputs, inputs, strict=True)
        }
        return draw_contributions(describe_chart(endpoint.name, values, explanation, shared))
    if isinstance(manifest.input, FeaturesInput):
        values = list_values(manifest.input, inputs[0][0])
        return draw_contributions(describe_chart(manifest.title, values, explanation, shared))
    return draw_overlay(inputs[0][0], np.array(explanation["drops"]))


def explain_router(explainer: Explainer) -> APIRouter:
    """Create the routes of explanations."""
    router = APIRouter(tags=[ANY_MODEL])
    summary = "Predict, and explain each prediction"
    add_model_routes(
        router,
        "POST",
        "/explain",
        summary,
        explainer.explain,
        name="create_explanation",
        **_EXPLAIN,
    )
    return router

"""Shadow deployments over HTTP: mirrored requests, and the report of their comparison."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from fastapi import APIRouter, Response
from starlette.background import BackgroundTask

from service.api.body import json_response
from service.api.schemas import ANY_MODEL, MODEL_ERRORS, object_schema, refer, returns
from service.bundle.policy import Shadow
from service.engine.model import ServedModel
from service.engine.registry import Registry
from service.engine.tensors import Arrays
from service.errors import NotFound
from service.observability.logs import request_id
from service.shadow.runner import MAX_DURATIONS, ShadowRunner, Tally
from service.workers.ipc import Channel

_TALLY = "shadow tally"
_RESET = "shadow reset"


class ShadowMirror:
    """Copies requests to the versions that shadow the serving one, after the response."""

    def __init__(self, registry: Registry, shadows: ShadowRunner) -> None:
        self._registry = registry
        self._shadows = shadows

    def task(self, model: ServedModel, inputs: Arrays, outputs: Arrays) -> BackgroundTask | None:
        """Return the task that copies a request after its response; None without shadows."""
        candidates = self._registry.shadows(model.name)
        if not candidates:
            return None
        chosen = [
            (candidate, policy)
            for candidate, policy in candidates
            if policy.share == 1 or random.random() < policy.share  # noqa: S311 - no secret depends on it
        ]
        return BackgroundTask(self._copy, model, chosen, (inputs, outputs)) if chosen else None

    async def _copy(
        self,
        serving: ServedModel,
        candidates: Sequence[tuple[ServedModel, Shadow]],
        arrays: tuple[Arrays, Arrays],
    ) -> None:
        identity = request_id.get() or ""
        for candidate, policy in candidates:
            self._shadows.offer((serving, candidate), policy, arrays, identity)


def shadow_router(registry: Registry, shadows: ShadowRunner, channel: Channel) -> APIRouter:
    """Create the routes of the reports."""
    router = APIRouter(tags=[ANY_MODEL])
    reports = _Reports(registry, shadows, channel)

    @router.get(
        "/models/{name}/versions/{version}/shadow",
        summary="Compare a candidate version with the serving one on copies of live requests",
        responses=MODEL_ERRORS | returns(refer("ShadowReport")),
    )
    async def get_shadow_report(name: str, version: str) -> Response:
        return json_response(
            await reports.get(name, registry.entry(name, version, serving=True).version)
        )

    @router.delete(
        "/models/{name}/versions/{version}/shadow",
        summary="Start that comparison again",
        responses=MODEL_ERRORS | returns(object_schema({})),
    )
    async def reset_shadow_report(name: str, version: str) -> Response:
        await reports.reset(name, registry.entry(name, version, serving=True).version)
        return json_response({})

    return router


class _Reports:
    """Adds up the tallies of all workers."""

    def __init__(self, registry: Registry, shadows: ShadowRunner, channel: Channel) -> None:
        self._registry = registry
        self._shadows = shadows
        self._channel = channel
        channel.handle(_TALLY, self._own)
        channel.handle(_RESET, self._reset_own)

    async def get(self, name: str, version: str) -> dict[str, object]:
        """Return the report of a candidate; raise `NotFound` if the version gets no copies."""
        serving = self._registry.entry(name, serving=True).version
        replies = await self._channel.request(_TALLY, [name, version])
        contents = [await self._own([name, version]), *(reply.content for reply in replies)]
        tallies = [Tally.from_json(content) for content in contents if content is not None]
        total = Tally(serving, min((tally.since for tally in tallies), default=0.0))
        # Just after a promotion, a worker may still compare with the previous version.
        for tally in tallies:
            if tally.serving == serving:
                total.add(tally, max_durations=MAX_DURATIONS * len(tallies))
        shadows = self._registry.shadows(name)
        if not tallies and all(candidate.version != version for candidate, _ in shadows):
            raise NotFound(
                f"Version {version} of model {name!r} gets no copies of requests; give its alias "
                'a share under "shadow" in policy.json.'
            )
        return {"name": name, "version": version} | _report(total)

    async def reset(self, name: str, version: str) -> None:
        """Delete the tallies of all workers."""
        await self._reset_own([name, version])
        await self._channel.request(_RESET, [name, version])

    async def _own(self, candidate: Sequence[str]) -> dict[str, object] | None:
        tally = self._shadows.tally(*candidate)
        return None if tally is None else tally.to_json()

    async def _reset_own(self, candidate: Sequence[str]) -> None:
        self._shadows.reset(*candidate)


def _report(tally: Tally) -> dict[str, object]:
    summary: dict[str, object] = {
        "serving_version": tally.serving,
        "since": datetime.fromtimestamp(tally.since, UTC).isoformat() if tally.since else None,
        "requests": {
            "compared": tally.compared,
            "dropped": tally.dropped,
            "failed": tally.failed,
        },
    }
    if tally.reason:
        summary["failure"] = tally.reason
    summary |= {"rows": tally.rows, "agreement": _ratio(tally.same, tally.rows)}
    if tally.pairs:
        summary["labels"] = _labels(tally)
    return summary | {
        "mean_difference": _ratio(tally.difference_sum, tally.rows),
        "largest_differences": [
            {
                "difference": difference.amount,
                "serving": difference.serving,
                "candidate": difference.candidate,
                "row": difference.row,
                "row_number": difference.position,
                "request_id": difference.request_id,
            }
            for difference in tally.largest
        ],
        "milliseconds": _milliseconds(tally),
    }


def _labels(tally: Tally) -> list[dict[str, object]]:
    """Summarize by label of the serving version how often the candidate predicted each label."""
    summary = []
    for label in sorted({serving for serving, _ in tally.pairs}):
        counts = {other: count for (one, other), count in tally.pairs.items() if one == label}
        rows = sum(counts.values())
        same = counts.pop(label, 0)
        summary.append(
            {
                "label": label,
                "rows": rows,
                "agreement": _ratio(same, rows),
                "instead": dict(sorted(counts.items(), key=lambda item: -item[1])),
            }
        )
    return summary


def _milliseconds(tally: Tally) -> dict[str, object]:
    """Return the latency of both versions, which ran the same requests in the same thread."""
    summary: dict[str, object] = {"runs": len(tally.serving_seconds)}
    for version, seconds in (
        ("serving", tally.serving_seconds),
        ("candidate", tally.candidate_seconds),
    ):
        if seconds:
            median, p99 = np.quantile(seconds, [0.5, 0.99]) * 1000
            summary[version] = {"median": round(float(median), 4), "p99": round(float(p99), 4)}
    return summary


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None

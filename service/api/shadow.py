"""How a candidate version fares beside the serving one: its report, over all workers."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from fastapi import APIRouter, Response

from service.api.error_schemas import MODEL_ERRORS, returns
from service.api.health import json_response
from service.engine.registry import Registry
from service.errors import NotFound
from service.shadow.runner import ShadowRunner
from service.shadow.tally import MOST_TIMES, Tally
from service.workers.ipc import Channel

_TALLY = "shadow tally"
_RESET = "shadow reset"


def shadow_router(registry: Registry, shadows: ShadowRunner, channel: Channel) -> APIRouter:
    """The report's path."""
    router = APIRouter(tags=["models"])
    reports = _Reports(registry, shadows, channel)

    @router.get(
        "/models/{name}/versions/{version}/shadow",
        summary="How a candidate version fares on copies of live requests",
        responses=MODEL_ERRORS
        | returns(name="string", version="string", requests="object", rows="integer"),
    )
    async def report(name: str, version: str) -> Response:
        return json_response(
            await reports.of(name, registry.entry(name, version, serving=True).version)
        )

    @router.delete(
        "/models/{name}/versions/{version}/shadow",
        summary="Begin that comparison anew",
        responses=MODEL_ERRORS | returns(),
    )
    async def reset(name: str, version: str) -> Response:
        await reports.reset(name, registry.entry(name, version, serving=True).version)
        return json_response({})

    return router


class _Reports:
    """The tallies of every worker as one."""

    def __init__(self, registry: Registry, shadows: ShadowRunner, channel: Channel) -> None:
        self._registry = registry
        self._shadows = shadows
        self._channel = channel
        channel.handle(_TALLY, self._own)
        channel.handle(_RESET, self._forget)

    async def of(self, name: str, version: str) -> dict[str, object]:
        """The report.

        Raises:
            NotFound: this version gets no copies.
        """
        serving = self._registry.entry(name, serving=True).version
        answers = await self._channel.request(_TALLY, [name, version])
        contents = [await self._own([name, version]), *(answer.content for answer in answers)]
        tallies = [Tally.from_json(tally) for tally in contents if tally is not None]
        total = Tally(serving, min((tally.since for tally in tallies), default=0.0))
        # Just after a promotion a worker may still count beside the version before.
        for tally in tallies:
            if tally.serving == serving:
                total.add(tally, most_times=MOST_TIMES * len(tallies))
        if not tallies and not self._is_shadow(name, version):
            raise NotFound(
                f"Version {version} of model {name!r} gets no copies of requests; give its alias "
                'a share under "shadow" in policy.json.'
            )
        return {"name": name, "version": version} | _report(total)

    async def reset(self, name: str, version: str) -> None:
        """Forget what every worker has counted."""
        await self._forget([name, version])
        await self._channel.request(_RESET, [name, version])

    async def _own(self, which: Sequence[str]) -> dict[str, object] | None:
        tally = self._shadows.tally(*which)
        return None if tally is None else tally.to_json()

    async def _forget(self, which: Sequence[str]) -> None:
        self._shadows.reset(*which)

    def _is_shadow(self, name: str, version: str) -> bool:
        return any(it.version == version for it, _ in self._registry.shadows(name))


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
    summary |= {"rows": tally.rows, "agreement": _share(tally.same, tally.rows)}
    if tally.pairs:
        summary["labels"] = _labels(tally)
    return summary | {
        "mean_difference": _share(tally.difference_sum, tally.rows),
        "largest_differences": [
            {
                "difference": one.amount,
                "serving": one.serving,
                "candidate": one.candidate,
                "row": one.row,
                "row_number": one.place,
                "request_id": one.request,
            }
            for one in tally.largest
        ],
        "milliseconds": _milliseconds(tally),
    }


def _labels(tally: Tally) -> list[dict[str, object]]:
    """For each label of the serving version, how often the candidate said it too, or what else."""
    summary = []
    for label in sorted({serving for serving, _ in tally.pairs}):
        said = {other: count for (one, other), count in tally.pairs.items() if one == label}
        rows = sum(said.values())
        same = said.pop(label, 0)
        summary.append(
            {
                "label": label,
                "rows": rows,
                "agreement": _share(same, rows),
                "instead": dict(sorted(said.items(), key=lambda item: -item[1])),
            }
        )
    return summary


def _milliseconds(tally: Tally) -> dict[str, object]:
    """Of the same requests, run singly by both versions in the thread of the comparison."""
    summary: dict[str, object] = {"runs": len(tally.serving_seconds)}
    for who, seconds in (
        ("serving", tally.serving_seconds),
        ("candidate", tally.candidate_seconds),
    ):
        if seconds:
            median, p99 = np.quantile(seconds, [0.5, 0.99]) * 1000
            summary[who] = {"median": round(float(median), 4), "p99": round(float(p99), 4)}
    return summary


def _share(part: float, whole: int) -> float | None:
    return part / whole if whole else None

"""Statistics of models in the format of the protocol, added up over the workers."""

from collections.abc import Iterable
from operator import itemgetter
from typing import Any

from service.engine.model import ModelInfo
from service.engine.registry import Registry
from service.workers.ipc import Channel

_STATISTICS = "statistics"

ModelStatistics = dict[str, Any]
"""The statistics of one version of a model."""


class ClusterStatistics:
    """Adds up the statistics of all workers."""

    def __init__(self, registry: Registry, channel: Channel) -> None:
        self._registry = registry
        self._channel = channel
        channel.handle(_STATISTICS, self._read_own)

    async def read(self, models: Iterable[ModelInfo] | None = None) -> list[ModelStatistics]:
        """Return the statistics since each running worker loaded the model.

        Args:
            models: to be reported; by default every version that serves.
        """
        versions = None if models is None else [[model.name, model.version] for model in models]
        replies = await self._channel.request(_STATISTICS, versions)
        others = [statistics for reply in replies for statistics in reply.content or ()]
        total: dict[tuple[str, str], ModelStatistics] = {}
        for statistics in await self._read_own(versions) + others:
            key = statistics["name"], statistics["version"]
            total[key] = _sum(total[key], statistics) if key in total else statistics
        return list(total.values())

    async def _read_own(self, versions: list[list[str]] | None) -> list[ModelStatistics]:
        return [
            _format_statistics(model)
            for model in self._registry.model_infos()
            if versions is None or [model.name, model.version] in versions
        ]


def _format_statistics(model: ModelInfo) -> ModelStatistics:
    statistics, fail = model.statistics, model.statistics.fail
    successes, seconds = statistics.successes, statistics.phase_seconds
    decode, queue, compute, encode = seconds
    return {
        "name": model.name,
        "version": model.version,
        "last_inference": statistics.last_inference,
        "inference_count": statistics.inference_count,
        "execution_count": statistics.execution_count,
        "inference_stats": {
            "success": _format_duration(successes, sum(seconds)),
            "fail": _format_duration(fail.count, fail.seconds),
            "queue": _format_duration(successes, queue),
            "compute_input": _format_duration(successes, decode),
            "compute_infer": _format_duration(successes, compute),
            "compute_output": _format_duration(successes, encode),
            "cache_hit": _format_duration(0, 0),
            "cache_miss": _format_duration(0, 0),
        },
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": _format_duration(runs.count, 0),
                "compute_infer": _format_duration(runs.count, runs.seconds),
                "compute_output": _format_duration(runs.count, 0),
            }
            for rows, runs in sorted(statistics.runs_by_rows.items())
        ],
    }


def _format_duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * 1e9)}


def _sum(one: ModelStatistics, other: ModelStatistics) -> ModelStatistics:
    runs = {run["batch_size"]: run for run in one["batch_stats"]}
    for run in other["batch_stats"]:
        size = run["batch_size"]
        runs[size] = _add(runs[size], run) | {"batch_size": size} if size in runs else run
    counts = ("inference_count", "execution_count", "inference_stats")
    return {
        **one,
        **{key: _add(one[key], other[key]) for key in counts},
        "last_inference": max(one["last_inference"], other["last_inference"]),
        "batch_stats": sorted(runs.values(), key=itemgetter("batch_size")),
    }


def _add(one: Any, other: Any) -> Any:  # noqa: ANN401 - a number, or nested objects of numbers
    """Add up two numbers, or those of two objects with the same keys."""
    if not isinstance(one, dict):
        return one + other
    return {key: _add(value, other[key]) for key, value in one.items()}

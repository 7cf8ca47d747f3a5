"""Statistics of models in the format of the protocol, added up over the workers."""

from collections.abc import Iterable, Sequence
from typing import TypedDict

from service.engine.model import Duration, ModelInfo, Statistics
from service.engine.registry import Registry
from service.workers.ipc import Channel

_STATISTICS = "statistics"


class DurationStatistics(TypedDict):
    """A number of events, and their total duration."""

    count: int
    ns: int


class BatchStatistics(TypedDict):
    """The runs of one batch size."""

    batch_size: int
    compute_input: DurationStatistics
    compute_infer: DurationStatistics
    compute_output: DurationStatistics


class ModelStatistics(TypedDict):
    """The statistics of one version of a model."""

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: dict[str, DurationStatistics]
    batch_stats: list[BatchStatistics]


class StatisticsOfWorkers:
    """Adds up the statistics of all workers."""

    def __init__(self, registry: Registry, channel: Channel) -> None:
        self._registry = registry
        self._channel = channel
        channel.handle(_STATISTICS, self._reply)

    async def of(self, models: Iterable[ModelInfo] | None = None) -> list[ModelStatistics]:
        """Return the statistics since each running worker loaded the model.

        Args:
            models: to be reported; by default every version that serves.
        """
        versions = None if models is None else [(model.name, model.version) for model in models]
        replies = await self._channel.request(_STATISTICS, versions)
        others = [statistics for reply in replies for statistics in reply.content or ()]
        total: dict[tuple[str, str], ModelStatistics] = {}
        for statistics in self._own(versions) + others:
            key = statistics["name"], statistics["version"]
            total[key] = _sum(total[key], statistics) if key in total else statistics
        return list(total.values())

    async def _reply(self, versions: list[list[str]] | None) -> list[ModelStatistics]:
        return self._own(
            None if versions is None else [(name, number) for name, number in versions]
        )

    def _own(self, versions: Sequence[tuple[str, str]] | None) -> list[ModelStatistics]:
        return [
            _statistics(model)
            for model in self._registry.model_infos()
            if versions is None or (model.name, model.version) in versions
        ]


def _statistics(model: ModelInfo) -> ModelStatistics:
    statistics = model.statistics
    return {
        "name": model.name,
        "version": model.version,
        "last_inference": statistics.last_inference,
        "inference_count": statistics.inference_count,
        "execution_count": statistics.execution_count,
        "inference_stats": _phases(statistics),
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": _duration(Duration(runs.count)),
                "compute_infer": _duration(runs),
                "compute_output": _duration(Duration(runs.count)),
            }
            for rows, runs in sorted(statistics.runs_by_rows.items())
        ],
    }


def _phases(statistics: Statistics) -> dict[str, DurationStatistics]:
    phases = {
        "success": statistics.success,
        "fail": statistics.fail,
        "queue": statistics.queue,
        "compute_input": statistics.compute_input,
        "compute_infer": statistics.compute_infer,
        "compute_output": statistics.compute_output,
        "cache_hit": Duration(),
        "cache_miss": Duration(),
    }
    return {name: _duration(duration) for name, duration in phases.items()}


def _duration(duration: Duration) -> DurationStatistics:
    return {"count": duration.count, "ns": duration.ns}


def _sum(one: ModelStatistics, other: ModelStatistics) -> ModelStatistics:
    phases = one["inference_stats"], other["inference_stats"]
    runs = {run["batch_size"]: run for run in one["batch_stats"]}
    for run in other["batch_stats"]:
        size = run["batch_size"]
        runs[size] = _sum_runs(runs[size], run) if size in runs else run
    return {
        "name": one["name"],
        "version": one["version"],
        "last_inference": max(one["last_inference"], other["last_inference"]),
        "inference_count": one["inference_count"] + other["inference_count"],
        "execution_count": one["execution_count"] + other["execution_count"],
        "inference_stats": {
            name: _sum_durations(phases[0][name], phases[1][name]) for name in phases[0]
        },
        "batch_stats": [run for _, run in sorted(runs.items())],
    }


def _sum_runs(one: BatchStatistics, other: BatchStatistics) -> BatchStatistics:
    return {
        "batch_size": one["batch_size"],
        "compute_input": _sum_durations(one["compute_input"], other["compute_input"]),
        "compute_infer": _sum_durations(one["compute_infer"], other["compute_infer"]),
        "compute_output": _sum_durations(one["compute_output"], other["compute_output"]),
    }


def _sum_durations(one: DurationStatistics, other: DurationStatistics) -> DurationStatistics:
    return {"count": one["count"] + other["count"], "ns": one["ns"] + other["ns"]}

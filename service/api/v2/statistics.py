"""What models have done so far, in the protocol's words, added up over the workers."""

from collections.abc import Iterable, Sequence
from typing import TypedDict

from service.engine.model import Duration, ModelInfo, Statistics
from service.engine.registry import Registry
from service.workers.ipc import Channel

_QUESTION = "statistics"


class Spent(TypedDict):
    """How often, and how long in all."""

    count: int
    ns: int


class BatchStatistics(TypedDict):
    """The runs of one size."""

    batch_size: int
    compute_input: Spent
    compute_infer: Spent
    compute_output: Spent


class ModelStatistics(TypedDict):
    """One version of one model."""

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: dict[str, Spent]
    batch_stats: list[BatchStatistics]


class StatisticsOfWorkers:
    """The statistics of all workers together, from any of them."""

    def __init__(self, registry: Registry, channel: Channel) -> None:
        self._registry = registry
        self._channel = channel
        channel.handle(_QUESTION, self._own_of)

    async def of(self, models: Iterable[ModelInfo] | None = None) -> list[ModelStatistics]:
        """Counted by the workers that live, since each of them loaded the model.

        Args:
            models: which; without, every version that serves.
        """
        wanted = None if models is None else [(model.name, model.version) for model in models]
        answers = await self._channel.request(_QUESTION, wanted)
        found: dict[tuple[str, str], ModelStatistics] = {}
        for one in self._own(wanted) + [one for answer in answers for one in answer.content or ()]:
            key = one["name"], one["version"]
            found[key] = _added(found[key], one) if key in found else one
        return list(found.values())

    async def _own_of(self, wanted: list[list[str]] | None) -> list[ModelStatistics]:
        return self._own(None if wanted is None else [(name, version) for name, version in wanted])

    def _own(self, wanted: Sequence[tuple[str, str]] | None) -> list[ModelStatistics]:
        return [
            _statistics(model)
            for model in self._registry.model_infos()
            if wanted is None or (model.name, model.version) in wanted
        ]


def _statistics(model: ModelInfo) -> ModelStatistics:
    counted = model.statistics
    return {
        "name": model.name,
        "version": model.version,
        "last_inference": counted.last_inference,
        "inference_count": counted.inference_count,
        "execution_count": counted.execution_count,
        "inference_stats": _phases(counted),
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": _spent(Duration(runs.count)),
                "compute_infer": _spent(runs),
                "compute_output": _spent(Duration(runs.count)),
            }
            for rows, runs in sorted(counted.runs_by_rows.items())
        ],
    }


def _phases(counted: Statistics) -> dict[str, Spent]:
    phases = {
        "success": counted.success,
        "fail": counted.fail,
        "queue": counted.queue,
        "compute_input": counted.compute_input,
        "compute_infer": counted.compute_infer,
        "compute_output": counted.compute_output,
        "cache_hit": Duration(),
        "cache_miss": Duration(),
    }
    return {name: _spent(duration) for name, duration in phases.items()}


def _spent(duration: Duration) -> Spent:
    return {"count": duration.count, "ns": duration.ns}


def _added(one: ModelStatistics, other: ModelStatistics) -> ModelStatistics:
    phases = one["inference_stats"], other["inference_stats"]
    runs = {run["batch_size"]: run for run in one["batch_stats"]}
    for run in other["batch_stats"]:
        size = run["batch_size"]
        runs[size] = _same_size(runs[size], run) if size in runs else run
    return {
        "name": one["name"],
        "version": one["version"],
        "last_inference": max(one["last_inference"], other["last_inference"]),
        "inference_count": one["inference_count"] + other["inference_count"],
        "execution_count": one["execution_count"] + other["execution_count"],
        "inference_stats": {name: _both(phases[0][name], phases[1][name]) for name in phases[0]},
        "batch_stats": [run for _, run in sorted(runs.items())],
    }


def _same_size(one: BatchStatistics, other: BatchStatistics) -> BatchStatistics:
    return {
        "batch_size": one["batch_size"],
        "compute_input": _both(one["compute_input"], other["compute_input"]),
        "compute_infer": _both(one["compute_infer"], other["compute_infer"]),
        "compute_output": _both(one["compute_output"], other["compute_output"]),
    }


def _both(one: Spent, other: Spent) -> Spent:
    return {"count": one["count"] + other["count"], "ns": one["ns"] + other["ns"]}

"""The index: every worker reports the same view of the models."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from service.engine.registry import Entry, PublishedVersions, Registry, State
from service.errors import ModelNotFound
from service.workers.coordination import ClusterIndex
from service.workers.ipc import Channel, claim_slot

READY = (State.READY, "")
LOADING = (State.LOADING, "it is being loaded")
REJECTED = (State.UNAVAILABLE, "self-test failed")
BEHIND = (State.UNAVAILABLE, "version 2 serves instead")
ME = f"process {os.getpid()}"

View = dict[str, tuple[State, str]]

# Every worker of these tests is one process, so all have the same process id.


def run_scenario(
    folder: Path, views: Sequence[View], scenario: Callable[..., Awaitable[None]]
) -> None:
    """Run the indexes of workers with these views of one model."""

    async def run() -> None:
        channels = [Channel(claim_slot(folder)) for _ in views]
        indexes = []
        for channel, view in zip(channels, views, strict=True):
            registry = Registry("cpu")
            entries = [Entry("price", version, *seen) for version, seen in view.items()]
            registry.publish("price", PublishedVersions(entries))
            indexes.append(ClusterIndex(registry, channel))
            await channel.open()
        await scenario(*indexes)
        for channel in channels:
            await channel.close()

    asyncio.run(run())


def listed(entries: Sequence[Entry]) -> list[tuple[str, State, str]]:
    return [(entry.version, entry.state, entry.reason) for entry in entries]


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        ([{"1": READY}, {"1": READY}], [("1", State.READY, "")]),
        ([{"1": REJECTED}, {"1": REJECTED}], [("1", State.UNAVAILABLE, "self-test failed")]),
        (
            # One worker has swapped, the other not yet: both versions serve, with the reason.
            [{"2": READY, "1": BEHIND}, {"2": LOADING, "1": READY}],
            [
                ("2", State.READY, f"{ME}: it is being loaded"),
                ("1", State.READY, f"{ME}: version 2 serves instead"),
            ],
        ),
        (
            [{"2": LOADING, "1": READY}, {"1": READY}],
            [
                ("2", State.LOADING, f"{ME}: it has not seen it yet"),
                ("1", State.READY, ""),
            ],
        ),
        (
            [{"2": READY}, {"2": REJECTED, "1": READY}],
            [
                ("2", State.READY, f"{ME}: self-test failed"),
                ("1", State.READY, f"{ME}: it has not seen it yet"),
            ],
        ),
    ],
)
def test_every_worker_reports_the_same(
    tmp_path: Path, views: list[View], expected: list[tuple[str, State, str]]
) -> None:
    """READY while any worker serves it; the reason lists the workers that do not."""

    async def scenario(*indexes: ClusterIndex) -> None:
        seen = [listed(await index.entries()) for index in indexes]

        assert seen == [expected] * len(views)
        assert listed(await indexes[0].entries("price")) == expected

    run_scenario(tmp_path, views, scenario)


def test_an_unknown_model_is_reported(tmp_path: Path) -> None:
    """The error is that of a single worker; the reply to another worker has no versions."""

    async def scenario(first: ClusterIndex, _: ClusterIndex) -> None:
        with pytest.raises(ModelNotFound, match="did you mean 'price'"):
            await first.entries("prise")

    run_scenario(tmp_path, [{"1": READY}, {"1": READY}], scenario)

"""The index: one view of the models, whichever worker tells it."""

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
REFUSED = (State.UNAVAILABLE, "self-test failed")
BEHIND = (State.UNAVAILABLE, "version 2 serves instead")
ME = f"process {os.getpid()}"

View = dict[str, tuple[State, str]]

# Every worker of these tests is one process, so the same number stands for each.


def play(folder: Path, views: Sequence[View], scenario: Callable[..., Awaitable[None]]) -> None:
    """Workers, each of which sees the versions of one model so."""

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


def told(entries: Sequence[Entry]) -> list[tuple[str, State, str]]:
    return [(entry.version, entry.state, entry.reason) for entry in entries]


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        ([{"1": READY}, {"1": READY}], [("1", State.READY, "")]),
        ([{"1": REFUSED}, {"1": REFUSED}], [("1", State.UNAVAILABLE, "self-test failed")]),
        (
            # One has swapped, the other not yet: both versions answer, and the index says by whom.
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
            [{"2": READY}, {"2": REFUSED, "1": READY}],
            [
                ("2", State.READY, f"{ME}: self-test failed"),
                ("1", State.READY, f"{ME}: it has not seen it yet"),
            ],
        ),
    ],
)
def test_every_worker_gives_the_same(
    tmp_path: Path, views: list[View], expected: list[tuple[str, State, str]]
) -> None:
    """READY while any serves it, and the reason names who does not."""

    async def scenario(*indexes: ClusterIndex) -> None:
        seen = [told(await index.entries()) for index in indexes]

        assert seen == [expected] * len(views)
        assert told(await indexes[0].entries("price")) == expected

    play(tmp_path, views, scenario)


def test_a_model_that_the_worker_does_not_know_is_reported(tmp_path: Path) -> None:
    """404 as from one worker; and asked by another, it has simply nothing to tell."""

    async def scenario(first: ClusterIndex, _: ClusterIndex) -> None:
        with pytest.raises(ModelNotFound, match="did you mean 'price'"):
            await first.entries("prise")

    play(tmp_path, [{"1": READY}, {"1": READY}], scenario)

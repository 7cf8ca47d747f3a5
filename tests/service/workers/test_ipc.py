"""Requests between the workers of one service, over their sockets."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from service.errors import Draining
from service.workers.ipc import Channel, Reply, claim_slot

Scenario = Callable[[Channel, Channel, Channel], Awaitable[None]]


def run_scenario(folder: Path, scenario: Scenario) -> None:
    """Run the channels of three workers on one event loop."""

    async def run() -> None:
        channels = [Channel(claim_slot(folder)) for _ in range(3)]
        for channel in channels:
            await channel.open()
        await scenario(*channels)
        for channel in channels:
            await channel.close()

    asyncio.run(run())


async def double(argument: int) -> int:
    return 2 * argument


async def reject(_: object) -> None:
    raise Draining


async def fail(_: object) -> None:
    raise KeyError("lost")


async def hang(_: object) -> None:
    await asyncio.sleep(60)


def test_every_other_worker_replies(tmp_path: Path) -> None:
    """A request gets one reply from each other worker and none from its sender."""

    async def scenario(first: Channel, second: Channel, third: Channel) -> None:
        second.handle("double", double)
        third.handle("double", double)

        replies = await first.request("double", 21)

        replies.sort(key=lambda reply: reply.slot)
        assert replies == [Reply(str(os.getpid()), slot, 42) for slot in (1, 2)]

    run_scenario(tmp_path, scenario)


def test_a_reply_may_be_long(tmp_path: Path) -> None:
    """A reply about hundreds of models is received completely."""

    async def long(_: object) -> str:
        return "x" * 3_000_000

    async def scenario(first: Channel, second: Channel, third: Channel) -> None:
        second.handle("long", long)
        third.handle("long", long)

        replies = await first.request("long", "y" * 3_000_000)

        assert [len(reply.content) for reply in replies] == [3_000_000] * 2

    run_scenario(tmp_path, scenario)


def test_an_error_of_a_worker_is_its_reply(tmp_path: Path) -> None:
    """Expected and unexpected errors are returned as messages."""

    async def scenario(first: Channel, second: Channel, third: Channel) -> None:
        second.handle("do", reject)
        third.handle("do", fail)

        errors = {reply.error for reply in await first.request("do")}

        assert errors == {str(Draining()), "KeyError: 'lost'"}

    run_scenario(tmp_path, scenario)


def test_a_hanging_worker_is_reported_by_its_process_id(tmp_path: Path) -> None:
    """The replies of the others are not lost."""

    async def scenario(first: Channel, second: Channel, third: Channel) -> None:
        second.handle("do", hang)
        third.handle("do", double)

        replies = {reply.content: reply for reply in await first.request("do", 1, seconds=0.1)}

        assert replies[2].error is None
        late = "it did not reply within 0.1 s"
        assert replies[None] == Reply(str(os.getpid()), 1, error=late)

    run_scenario(tmp_path, scenario)


def test_a_worker_that_has_ended_has_no_reply(tmp_path: Path) -> None:
    """Closed, killed without removing its socket, or killed during the request."""

    async def scenario(first: Channel, second: Channel, third: Channel) -> None:
        second.handle("double", double)
        await third.close()
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(claim_slot(tmp_path).folder / "3.sock"))
        vanishing = claim_slot(tmp_path).folder / "4.sock"
        server = await asyncio.start_unix_server(lambda _, writer: writer.close(), vanishing)

        replies = await first.request("double", 1)

        assert [reply.content for reply in replies] == [2]
        server.close()

    run_scenario(tmp_path, scenario)


def test_a_single_worker_sends_no_requests() -> None:
    """A service with one worker needs no folder of sockets."""

    async def run() -> list[Reply]:
        channel = Channel()
        await channel.open()
        replies = await channel.request("anything")
        await channel.close()
        return replies

    assert asyncio.run(run()) == []

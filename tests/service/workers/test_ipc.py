"""The channel: questions between the workers of one service, over their sockets."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from service.errors import Draining
from service.workers.ipc import Channel, Reply, claim_slot

Scenario = Callable[[Channel, Channel, Channel], Awaitable[None]]


def play(folder: Path, scenario: Scenario) -> None:
    """Run three workers' channels on one event loop."""

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


async def refuse(_: object) -> None:
    raise Draining


async def fail(_: object) -> None:
    raise KeyError("lost")


async def hang(_: object) -> None:
    await asyncio.sleep(60)


def test_every_other_worker_answers(tmp_path: Path) -> None:
    """The one that asks is not asked."""

    async def scenario(first: Channel, second: Channel, third: Channel) -> None:
        second.handle("double", double)
        third.handle("double", double)

        answers = await first.request("double", 21)

        answers.sort(key=lambda answer: answer.slot)
        assert answers == [Reply(str(os.getpid()), slot, 42) for slot in (1, 2)]

    play(tmp_path, scenario)


def test_an_answer_may_be_long(tmp_path: Path) -> None:
    """What hundreds of models have to tell arrives whole."""

    async def long(_: object) -> str:
        return "x" * 3_000_000

    async def scenario(first: Channel, second: Channel, third: Channel) -> None:
        second.handle("long", long)
        third.handle("long", long)

        answers = await first.request("long", "y" * 3_000_000)

        assert [len(answer.content) for answer in answers] == [3_000_000] * 2

    play(tmp_path, scenario)


def test_what_a_worker_cannot_do_is_its_answer(tmp_path: Path) -> None:
    """A refusal and a fault come back as sentences."""

    async def scenario(first: Channel, second: Channel, third: Channel) -> None:
        second.handle("do", refuse)
        third.handle("do", fail)

        errors = {answer.error for answer in await first.request("do")}

        assert errors == {str(Draining()), "KeyError: 'lost'"}

    play(tmp_path, scenario)


def test_a_worker_that_hangs_is_reported_by_its_process(tmp_path: Path) -> None:
    """The others' answers are not lost over it."""

    async def scenario(first: Channel, second: Channel, third: Channel) -> None:
        second.handle("do", hang)
        third.handle("do", double)

        answers = {answer.content: answer for answer in await first.request("do", 1, seconds=0.1)}

        assert answers[2].error is None
        late = "it did not reply within 0.1 s"
        assert answers[None] == Reply(str(os.getpid()), 1, error=late)

    play(tmp_path, scenario)


def test_a_worker_that_has_ended_has_no_say(tmp_path: Path) -> None:
    """Closed, killed with its socket left behind, or gone while it was asked."""

    async def scenario(first: Channel, second: Channel, third: Channel) -> None:
        second.handle("double", double)
        await third.close()
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(claim_slot(tmp_path).folder / "3.sock"))
        vanishing = claim_slot(tmp_path).folder / "4.sock"
        server = await asyncio.start_unix_server(lambda _, writer: writer.close(), vanishing)

        answers = await first.request("double", 1)

        assert [answer.content for answer in answers] == [2]
        server.close()

    play(tmp_path, scenario)


def test_a_worker_without_others_asks_nobody() -> None:
    """One process needs no folder."""

    async def run() -> list[Reply]:
        channel = Channel()
        await channel.open()
        answers = await channel.request("anything")
        await channel.close()
        return answers

    assert asyncio.run(run()) == []

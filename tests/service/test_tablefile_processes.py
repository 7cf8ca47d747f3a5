"""The processes that read the table files of clients."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import chdir
from pathlib import Path

import polars as pl
import pytest

from service.errors import DeadlineExceeded, TableReaderFailed
from service.filetypes import identify_table
from service.limits import Limits
from service.settings import Settings
from service.tablefiles.process import ClientFile, TableFileProcesses
from tests.table_files import parquet

SMALL = parquet(pl.DataFrame({"size": [1, 2]}))
LARGE = parquet(pl.select(size=pl.int_range(500_000)), rows=10_000)
"""More text than the pipes and the buffers of a process hold."""

OTHERS: set[int] = set()
"""The processes of other tests, which are idle."""


def running() -> list[int]:
    """The processes that read table files for this one."""
    children = Path("/proc/self/task").glob("*/children")
    found = [int(child) for each in children for child in each.read_text().split()]
    return [
        child for child in found if child not in OTHERS and b"process_main" in command_of(child)
    ]


def command_of(process: int) -> bytes:
    """The words of the command of a process; none if it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def file_of(processes: TableFileProcesses, content: bytes) -> ClientFile:
    """A file of a client."""
    kind = identify_table(content)
    assert kind is not None
    return processes.open(content, kind)


async def read(processes: TableFileProcesses, content: bytes) -> bytes:
    """The text of a file."""
    async with file_of(processes, content) as file:
        return b"".join([piece async for piece in file.pieces()])


def run(use: Callable[[TableFileProcesses], Awaitable[None]], most: int = 4) -> None:
    """Use processes, and end them; ``most`` is how many there may be at once."""

    async def used() -> None:
        settings = Settings(device="cpu")
        processes = TableFileProcesses(settings, Limits(settings), most)
        try:
            await use(processes)
        finally:
            processes.close()

    OTHERS.update(running())
    asyncio.run(used())


def test_files_of_the_working_directory_are_not_imported(tmp_path: Path) -> None:
    """They may have the name of a library, or of a module of Python."""
    for name in ("json.py", "polars.py", "service.py"):
        (tmp_path / name).write_text("raise SystemExit(1)\n")

    async def use(processes: TableFileProcesses) -> None:
        with chdir(tmp_path):
            assert await read(processes, SMALL) == b"size\n1\n2\n"

    run(use)


def test_a_process_that_is_killed_is_no_error_of_the_file(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Before and after the first piece; the log has its exit status, and the next file is read."""

    async def use(processes: TableFileProcesses) -> None:
        assert await read(processes, SMALL)
        (idle,) = running()
        os.kill(idle, signal.SIGSTOP)
        opening = asyncio.create_task(read(processes, SMALL))
        await asyncio.sleep(0)  # the task runs until it waits for the stopped process
        os.kill(idle, signal.SIGKILL)
        with pytest.raises(TableReaderFailed, match="has ended before the end of this one"):
            await opening

        async with file_of(processes, LARGE) as file:
            (reading,) = running()
            os.kill(reading, signal.SIGKILL)
            with pytest.raises(TableReaderFailed):
                [piece async for piece in file.pieces()]
        assert await read(processes, SMALL)

    run(use)
    assert caplog.text.count("has failed: exit status -9, without a message") == 2


def test_a_process_that_cannot_start_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has its message."""
    (tmp_path / "polars.py").write_text("raise OSError('a part of it is missing')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")

    async def use(processes: TableFileProcesses) -> None:
        with pytest.raises(TableReaderFailed):
            await read(processes, SMALL)

    run(use)
    assert "has failed: exit status 1" in caplog.text
    assert "OSError: a part of it is missing" in caplog.text


def test_a_file_waits_for_a_process_until_the_deadline() -> None:
    """A file that ends makes room for the next one."""

    async def use(processes: TableFileProcesses) -> None:
        async with file_of(processes, SMALL) as file:
            processes.timeout_seconds = 0.01
            with pytest.raises(DeadlineExceeded, match=r"No response within 0.01 s"):
                await read(processes, SMALL)
            processes.timeout_seconds = 30
            waiting = asyncio.create_task(read(processes, SMALL))
            await asyncio.sleep(0)
            assert b"".join([piece async for piece in file.pieces()]) == b"size\n1\n2\n"
        assert await waiting == b"size\n1\n2\n"

    run(use, most=1)


def test_no_process_starts_before_another_one_has_ended() -> None:
    """A process holds the memory of its file until it ends, also if the file is left early."""

    async def use(processes: TableFileProcesses) -> None:
        async def leave_early() -> int:
            async with file_of(processes, LARGE):
                return len(running())

        assert await asyncio.gather(*[leave_early() for _ in range(3)]) == [1, 1, 1]

    run(use, most=1)


def test_a_start_that_is_cancelled_leaves_no_process() -> None:
    """At any step of it."""

    async def use(processes: TableFileProcesses) -> None:
        for steps in range(1, 5):
            starting = asyncio.create_task(read(processes, SMALL))
            for _ in range(steps):
                await asyncio.sleep(0)
            starting.cancel()
            await asyncio.wait([starting])
            assert starting.cancelled()
        # The only turn is free again.
        assert await read(processes, SMALL)
        assert len(running()) == 1

    run(use, most=1)

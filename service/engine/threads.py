"""Threads for work that may never end: the process ends without waiting for them.

The threads of a `ThreadPoolExecutor` are joined when the interpreter ends, so that one run without
end would keep the whole process.
"""

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]


class DaemonThread:
    """A thread that makes calls for an event loop, one after another; it starts with the first.

    It ends by `stop`, or when nobody refers to this object any more.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._started = False
        self._finalizer = weakref.finalize(self, self._jobs.put, None)

    def run(
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> "asyncio.Future[T]":
        """Call a function in the thread; the future has what it returns or raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put((loop, future, lambda: function(*args, **kwargs)))
        if not self._started:
            self._started = True
            threading.Thread(target=_work, args=(self._jobs,), name=self._name, daemon=True).start()
        return future

    def stop(self) -> None:
        """End the thread after the calls that were made, without waiting for it."""
        self._finalizer()


async def in_daemon_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in a thread of its own, as `asyncio.to_thread` does in a shared one."""
    thread = DaemonThread(getattr(function, "__name__", "call"))
    future = thread.run(function, *args, **kwargs)
    thread.stop()
    return await future


def _work(jobs: "SimpleQueue[_Job | None]") -> None:
    while (job := jobs.get()) is not None:
        loop, future, call = job
        result: Any = None
        error: BaseException | None = None
        try:
            result = call()
        except BaseException as raised:  # noqa: BLE001 - it is raised where the future is awaited
            error = raised
        # A loop that is closed has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, future, result, error)
        # Nothing of one call may be kept until the next.
        del job, future, call, result, error


def _settle(future: "asyncio.Future[Any]", result: object, error: BaseException | None) -> None:
    if future.done():
        return  # nobody waits for it any more
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)

"""Daemon threads for calls that may never return: the process does not wait for them at exit."""

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DaemonThread:
    """A thread that makes calls for an event loop, one after another; it starts with the first.

    `ThreadPoolExecutor` joins its threads at exit, so one endless run would block the end of the
    process. This thread ends with `stop`, or when the object is garbage collected.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._started = False
        self._finalizer = weakref.finalize(self, self._jobs.put, None)

    def run(
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> "asyncio.Future[T]":
        """Call a function in the thread; return the future of its result or error."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put(_Job(loop, future, lambda: function(*args, **kwargs)))
        if not self._started:
            self._started = True
            threading.Thread(
                target=_run_jobs, args=(self._jobs,), name=self._name, daemon=True
            ).start()
        return future

    def stop(self) -> None:
        """Stop the thread after the calls made so far, without waiting for it."""
        self._finalizer()


class _Job(NamedTuple):
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"
    call: Callable[[], Any]


async def run_in_daemon_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in its own thread; `asyncio.to_thread` without a thread pool."""
    thread = DaemonThread(getattr(function, "__name__", "call"))
    future = thread.run(function, *args, **kwargs)
    thread.stop()
    return await future


def _run_jobs(jobs: "SimpleQueue[_Job | None]") -> None:
    while (job := jobs.get()) is not None:
        loop, future, call = job
        result: Any = None
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - it is raised where the future is awaited
            result = error
        # Nothing waits if the loop is closed.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(resolve_future, future, result)
        # Release all objects of this call before waiting for the next one.
        del job, future, call, result


def resolve_future(future: "asyncio.Future[T]", result: T | BaseException) -> None:
    """Set the result of a future, or the exception to raise, unless the future is done."""
    if future.done():
        return  # the client has disconnected or exceeded its deadline
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)

"""The end of a request's processing: at its deadline, or when its client disconnects."""

import asyncio
from types import TracebackType
from typing import Self

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from service.errors import DeadlineExceeded


class Deadline:
    """Cancels what runs in its context when the time is over.

    A request that is processed within one turn of the event loop cannot be cancelled, so the timer
    is only started before the first wait.

    Args:
        receive: of the request, whose body has been read.
        seconds: from entering the context.
    """

    def __init__(self, receive: Receive, seconds: float) -> None:
        self._receive = receive
        self._seconds = seconds
        self._since = asyncio.get_running_loop().time()
        self._timeout: asyncio.Timeout | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._disconnected = False

    async def start(self) -> None:
        """Start the timer; before what may wait."""
        if self._timeout is None:
            self._timeout = asyncio.timeout_at(self._since + self._seconds)
            await self._timeout.__aenter__()

    async def watch_client(self) -> None:
        """Start the timer, and also cancel when the client disconnects."""
        await self.start()
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the context.

        Raises:
            DeadlineExceeded: the time was over.
            ClientDisconnect: the client had disconnected.
        """
        if self._timeout is None:
            return
        if self._watcher is not None:
            self._watcher.cancel()
        if kind is TimeoutError:
            raise DeadlineExceeded(self._seconds) from None
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            if self._disconnected:
                raise ClientDisconnect from None
            raise DeadlineExceeded(self._seconds) from None

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._disconnected = True
        if self._timeout is not None:
            self._timeout.reschedule(asyncio.get_running_loop().time())

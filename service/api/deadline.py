"""The end of a request's processing: at its deadline, or when its client disconnects."""

import asyncio
from types import TracebackType
from typing import Self

from fastapi import Request
from starlette.requests import ClientDisconnect

from service.errors import DeadlineExceeded


class Deadline:
    """Cancels what runs in its context when the time is over.

    Args:
        request: whose body has been read.
        seconds: from entering the context.
    """

    def __init__(self, request: Request, seconds: float) -> None:
        self._request = request
        self._seconds = seconds
        self._timeout = asyncio.timeout(seconds)
        self._watcher: asyncio.Task[None] | None = None
        self._disconnected = False

    def watch_client(self) -> None:
        """Also cancel when the client disconnects; for requests that leave the event loop."""
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch())

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
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
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._disconnected = True
        self._timeout.reschedule(asyncio.get_running_loop().time())

"""What each request holds of the quotas that all requests share (`service.limits`)."""

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.engine.model_cache import Heap
from service.limits import QUOTAS, Limits, RequestQuotas


class ReleaseQuotas:
    """ASGI middleware that gives back what a request holds once its response has been sent.

    It also does where the request fails, or its client disconnects.

    After a large request it has the C library give memory back to the system, which would else
    keep what many small blocks have taken.

    Args:
        limits: of the process.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._heap = Heap()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other kinds of connection pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        quotas = RequestQuotas(self._limits)
        try:
            with quotas:
                scope[QUOTAS] = quotas
                await self._app(scope, receive, send)
        finally:
            if quotas.was_large:
                self._heap.trim_soon()


def quotas_of(request: Request) -> RequestQuotas:
    """What a request holds."""
    return quotas_of_scope(request.scope)


def quotas_of_scope(scope: Scope) -> RequestQuotas:
    """What the request of an ASGI scope holds."""
    quotas: RequestQuotas = scope[QUOTAS]
    return quotas

"""The quick way to a prediction: its paths are matched before the router walks through all others.

The router's routes stay, for the documentation and for every other verb; both end in the same
`service.api.prediction.Predictor`, so there is no second implementation of anything.
"""

import re
from collections.abc import Sequence
from typing import Any

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.errors import error_response
from service.api.prediction import Dialect, Predictor
from service.errors import OnwardError

_MODEL = r"/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?"
PLAIN = re.compile(f"{_MODEL}/predict")
V2 = re.compile(f"/v2{_MODEL}/infer")


class Door:
    """ASGI middleware that answers predictions and passes everything else on.

    Args:
        dialects: each with the paths that it answers.
    """

    def __init__(
        self,
        app: ASGIApp,
        predictor: Predictor,
        dialects: Sequence[tuple[re.Pattern[str], Dialect[Any]]],
    ) -> None:
        self._app = app
        self._predictor = predictor
        self._dialects = dialects

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["method"] == "POST":
            for paths, dialect in self._dialects:
                if found := paths.fullmatch(scope["path"]):
                    await self._predict(dialect, found, scope, receive, send)
                    return
        await self._app(scope, receive, send)

    async def _predict(
        self,
        dialect: Dialect[Any],
        found: re.Match[str],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        request = Request(scope, receive)
        try:
            response = await self._predictor.answer(
                dialect, request, found["name"], found["version"]
            )
        except OnwardError as error:
            response = error_response(error)
        await response(scope, receive, send)

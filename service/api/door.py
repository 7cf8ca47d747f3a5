"""The quick way to a prediction: its paths are matched before the router walks through all others.

The router's routes stay, for the documentation and for every other verb; both end in the same
`service.api.prediction.Predictor`, so there is no second implementation of anything.
"""

import re
from collections.abc import Awaitable, Callable, Sequence

from fastapi import Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.errors import error_response
from service.errors import OnwardError

Answer = Callable[[Request, str, str | None], Awaitable[Response]]

_MODEL = r"/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?"
PLAIN = re.compile(f"{_MODEL}/predict")
V2 = re.compile(f"/v2{_MODEL}/infer")


class Door:
    """ASGI middleware that answers predictions and passes everything else on.

    Args:
        answers: what answers a request for a model, and for a version or label of it or neither,
            on which paths.
    """

    def __init__(self, app: ASGIApp, answers: Sequence[tuple[re.Pattern[str], Answer]]) -> None:
        self._app = app
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["method"] == "POST":
            for paths, answer in self._answers:
                if found := paths.fullmatch(scope["path"]):
                    await _answered(answer, found, scope, receive, send)
                    return
        await self._app(scope, receive, send)


async def _answered(
    answer: Answer, found: re.Match[str], scope: Scope, receive: Receive, send: Send
) -> None:
    request = Request(scope, receive)
    try:
        response = await answer(request, found["name"], found["version"])
    except OnwardError as error:
        response = error_response(error)
    await response(scope, receive, send)

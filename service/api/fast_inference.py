"""The hot door: predictions are known by their path, before any middleware and the router.

It comes in two forms that end in the same dialects. The protocol (`service.server.fast_path`)
hands complete requests to `Door` and gets the response, without a task, a response object or a
thread. `AsgiDoor` is a middleware for whatever goes the long way: bodies that arrive
by and by, models that run in a thread, pictures that take long to decode, tables. The router's
routes stay, for the documentation and for every other verb.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any, NamedTuple

from fastapi import Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.asking import Answer, Dialect, header_lines
from service.api.body import JSON, is_accepted, is_quick_to_decode
from service.api.errors import error_response
from service.api.head import Head
from service.api.inference import Predictor
from service.api.middleware import Ledger, identity_of
from service.engine.batching import Prediction, row_count
from service.engine.model import ServedModel
from service.errors import OnwardError
from service.limits import Limits
from service.observability.logs import request_id

Long = Callable[[Request, str, str | None], Awaitable[Response]]
Told = Callable[[Answer, bytes], None]

_log = logging.getLogger(__name__)

_JSON_OR_NOTHING = (JSON, None)

_MODEL = r"/models/(?P<name>[^/:]+)"
_VERSION = rf"{_MODEL}(?:/versions/(?P<version>[^/:]+))?"
PLAIN = re.compile(rf"{_VERSION}/predict")
V1 = re.compile(rf"/v1{_VERSION}:predict")
V2 = re.compile(rf"/v2{_VERSION}/infer")

# A larger body is streamed, decoded in a thread, and gains nothing here.
MAX_BODY_BYTES = 64 * 1024
# So many addresses are remembered; a caller may invent as many queries as he likes.
_MOST_TARGETS = 1000
_LONGEST_TARGET = 256


class Way(NamedTuple):
    """The paths of one dialect, what reads and writes it, and what answers it the long way."""

    paths: re.Pattern[str]
    dialect: Dialect[Any]
    long: Long


class Target(NamedTuple):
    """What the URL of a prediction names.

    ``asked`` is a version or an alias, None for whichever serves.
    """

    dialect: Dialect[Any]
    path: str
    name: str
    asked: str | None
    query: bytes


class Door:
    """Responds to complete requests for models that are ready and quick.

    Args:
        predictor: finds the models.
        ways: by dialect.
        ledger: counts and logs the responses.
        limits: shared by all requests.
    """

    def __init__(
        self, predictor: Predictor, ways: Sequence[Way], ledger: Ledger, limits: Limits
    ) -> None:
        self.predictor = predictor
        self._ways = ways
        self.ledger = ledger
        self.limits = limits
        self._targets: dict[bytes, Target | None] = {}
        self._entering = 0

    def target(self, url: bytes) -> Target | None:
        """What a prediction's address asks for; None where it is anything else.

        Args:
            url: path and query as they were sent.
        """
        try:
            return self._targets[url]
        except KeyError:
            found = self._found(url)
            if len(url) <= _LONGEST_TARGET:
                if len(self._targets) >= _MOST_TARGETS:
                    self._targets.clear()
                self._targets[url] = found
            return found

    def accepts(self, target: Target) -> bool:
        """Whether a request for this target is answered here, if its body allows it."""
        model = self.predictor.at_hand(target.name, target.asked)
        return model is not None and model.is_quick and not self.ledger.draining

    def ask(  # noqa: PLR0913 - the parts of a request
        self,
        target: Target,
        head: Head,
        body: bytes,
        respond: Told,
        *,
        request_id: str | None = None,
        alone: bool = False,
    ) -> bool:
        """Respond to a request within this turn of the event loop, or soon after.

        Args:
            target: what its URL names.
            head: its headers and query.
            body: all of it.
            respond: called with the response, and with the id for its header.
            request_id: as the client gave it.
            alone: whether no other client can share a run now.

        Returns:
            Whether it will; if not, nothing has been done, and the request must go through ASGI.
        """
        model = self.predictor.at_hand(target.name, target.asked)
        if model is None or self.ledger.draining:
            return False
        if not model.is_quick or not is_quick_to_decode(body):
            return self._is_rejected(target, model, head, respond, request_id)
        given = head.get(b"content-type")
        # Every dialect reads JSON.
        if given not in _JSON_OR_NOTHING and not is_accepted(
            given, target.dialect.media_types(self.predictor.endpoints.of(model))
        ):
            return False
        visit = _Visit(self, target, model, head, respond, identity_of(request_id))
        return visit.begin(body, alone=alone)

    def _is_rejected(
        self,
        target: Target,
        model: ServedModel,
        head: Head,
        respond: Told,
        request_id: str | None,
    ) -> bool:
        """Reject a request that would take long where too many are in progress; else False.

        ASGI would reject it too, but in an overload that costs ten times as much.
        """
        requests = self.limits.requests
        if requests.used + self._entering < requests.limit:
            self._let_in()
            return False
        visit = _Visit(self, target, model, head, respond, identity_of(request_id))
        visit.reject(requests.rejection())
        return True

    def _let_in(self) -> None:
        """Count a request until ASGI does so, which is in this turn of the event loop or the next.

        Else all that arrive in one turn would pass where there is room for one.
        """
        if not self._entering:
            asyncio.get_running_loop().call_soon(self._have_entered)
        self._entering += 1

    def _have_entered(self) -> None:
        self._entering = 0

    def _found(self, url: bytes) -> Target | None:
        path, _, query = url.partition(b"?")
        if b"%" in path or not path.isascii():
            return None  # the router decodes it
        text = path.decode()
        for way in self._ways:
            if found := way.paths.fullmatch(text):
                return Target(way.dialect, text, found["name"], found["version"], query)
        return None


class _Visit:
    """One request that is answered here."""

    __slots__ = (
        "_asking",
        "_door",
        "_identity",
        "_model",
        "_rows",
        "_started",
        "_target",
        "_told",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - the parts of a request
        self,
        door: Door,
        target: Target,
        model: ServedModel,
        head: Head,
        told: Told,
        identity: str,
    ) -> None:
        self._door = door
        self._target = target
        self._model = model
        self._identity = identity
        self._told = told
        self._started = perf_counter()
        self._asking = door.predictor.asking(target.dialect, model, head)

    def begin(self, body: bytes, *, alone: bool) -> bool:
        """Set out; False where it must be done the long way, and nothing has been done."""
        try:
            inputs = self._asking.decode(body)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets it
            self.reject(error)
            return True
        if not isinstance(inputs, tuple) or not self._model.joins(rows := row_count(inputs)):
            return False
        self._rows = rows
        self._model.__enter__()
        try:
            self._model.join(inputs, rows, self._answered, exclusive=alone)
        except OnwardError as error:
            self._answered(error)
        return True

    def _answered(self, prediction: Prediction | Exception) -> None:
        """Write the answer, and let the model go."""
        if isinstance(prediction, Exception):
            answer = self._failed(prediction)
        else:
            try:
                encoded = self._asking.encode(prediction.outputs)
                answer = self._asking.answer(self._rows, prediction, encoded)
            except Exception as error:  # noqa: BLE001 - as above
                answer = self._failed(error)
        self._model.__exit__()
        self._tell(answer)

    def reject(self, error: Exception) -> None:
        """Respond to a request that has not been queued."""
        self._tell(self._failed(error))

    def _failed(self, error: Exception) -> Answer:
        """The error contract's answer, counted."""
        seconds = perf_counter() - self._started
        self._door.predictor.failed(
            error,
            dialect=self._target.dialect.name,
            name=self._target.name,
            model=self._model,
            seconds=seconds,
        )
        if not isinstance(error, OnwardError):
            with _logged_as(self._identity):
                _log.error("request failed", exc_info=error)
        response = error_response(error)
        lines = header_lines(response.raw_headers)
        return Answer(response.status_code, lines, bytes(response.body))

    def _tell(self, answer: Answer) -> None:
        ledger, status = self._door.ledger, answer.status
        ledger.count(status)
        if ledger.logs(status):
            with _logged_as(self._identity):
                ledger.log("POST", self._target.path, status, perf_counter() - self._started)
        self._told(answer, self._identity.encode())


@contextmanager
def _logged_as(identity: str) -> Iterator[None]:
    """Put the request's id on what is logged meanwhile."""
    token = request_id.set(identity)
    try:
        yield
    finally:
        request_id.reset(token)


class AsgiDoor:
    """ASGI middleware that answers predictions and passes everything else on.

    Args:
        ways: as the protocol's door has them.
    """

    def __init__(self, app: ASGIApp, ways: Sequence[Way]) -> None:
        self._app = app
        self._ways = ways

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["method"] == "POST":
            for way in self._ways:
                if found := way.paths.fullmatch(scope["path"]):
                    await _answered(way.long, found, scope, receive, send)
                    return
        await self._app(scope, receive, send)


async def _answered(
    long: Long, found: re.Match[str], scope: Scope, receive: Receive, send: Send
) -> None:
    request = Request(scope, receive)
    try:
        response = await long(request, found["name"], found["version"])
    except OnwardError as error:
        response = error_response(error)
    await response(scope, receive, send)

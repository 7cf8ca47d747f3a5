"""The table of status codes: every error has a status, and unexpected ones are a 500."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI, HTTPException

from service import errors
from service.api.errors import STATUS, add_error_handlers, error_response
from service.tablefiles.workbook import ExpandsTooMuch

NEVER_SENT = {
    # Only their subclasses are raised.
    errors.OnwardError,
    errors.LimitExceeded,
    errors.Unavailable,
    errors.CapacityExceeded,
    # Raised in the process that reads table files.
    ExpandsTooMuch,
    # They concern the operator.
    errors.LoadFailed,
    errors.GraphRejected,
    errors.CannotStart,
    errors.DeviceUnavailable,
    errors.NoModels,
}


def every_error() -> list[type[errors.OnwardError]]:
    tree: list[type[errors.OnwardError]] = [errors.OnwardError]
    for kind in tree:
        tree.extend(kind.__subclasses__())
    return tree


def test_every_error_that_can_be_sent_has_a_status() -> None:
    """The table contains every concrete error class."""
    assert set(every_error()) - NEVER_SENT == set(STATUS)


def test_codes_are_unique() -> None:
    """Programs can distinguish errors by their code."""
    codes = [kind.code for kind in every_error()]

    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("fault", [RuntimeError("secret"), errors.LoadFailed("secret")])
def test_an_unexpected_error_is_a_500(fault: Exception) -> None:
    """The response has the form of every error."""
    response = error_response(fault)

    assert response.status_code == 500
    assert response.headers["content-type"] == "application/json"


def test_an_unexpected_error_reveals_no_details() -> None:
    """The trace is in the log; the response refers to it."""
    body = bytes(error_response(RuntimeError("secret")).body)

    assert b"secret" not in body
    assert b"x-request-id" in body


def get(app: FastAPI, url: str) -> httpx.Response:
    """Send one request to an app."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(url)

    return asyncio.run(send())


def test_a_parameter_that_fastapi_rejects_is_described() -> None:
    """The response has the form of every error: the parameter, the value, and the reason."""
    app = FastAPI()
    add_error_handlers(app)

    @app.get("/rows")
    async def rows(limit: int) -> int:
        return limit

    response = get(app, "/rows?limit=many")

    assert response.status_code == 400
    assert response.json()["code"] == errors.InvalidRequest.code
    assert response.json()["error"].startswith("Parameter 'limit' is not valid, got \"many\": ")
    assert "integer" in response.json()["error"]


def test_any_error_of_the_framework_has_the_form_of_every_error() -> None:
    """Its detail is the sentence, the name of its status the code."""
    app = FastAPI()
    add_error_handlers(app)

    @app.get("/rows")
    async def rows() -> None:
        raise HTTPException(409, "The rows are locked.")

    response = get(app, "/rows")

    assert response.status_code == 409
    assert response.json() == {"error": "The rows are locked.", "code": "conflict"}

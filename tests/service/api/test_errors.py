"""The table of status codes: every error has its row, and foreign ones are our fault."""

import pytest

from service import errors
from service.api.errors import STATUS, error_response

NEVER_SENT = {
    errors.OnwardError,
    errors.Unavailable,
    errors.LoadFailed,
    errors.GraphRejected,
    errors.CannotStart,
    errors.DeviceUnavailable,
    errors.NoModels,
    errors.CapacityExceeded,
}


def every_error() -> list[type[errors.OnwardError]]:
    tree: list[type[errors.OnwardError]] = [errors.OnwardError]
    for kind in tree:
        tree.extend(kind.__subclasses__())
    return tree


def test_every_error_that_can_be_sent_has_a_status() -> None:
    """One table, and no class forgotten."""
    assert set(every_error()) - NEVER_SENT == set(STATUS)


def test_codes_are_unique() -> None:
    """A program can tell errors apart by their code."""
    codes = [kind.code for kind in every_error()]

    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("fault", [RuntimeError("secret"), errors.LoadFailed("secret")])
def test_a_fault_of_ours_is_a_500(fault: Exception) -> None:
    """Whatever it is, the answer has the contract's shape."""
    answer = error_response(fault)

    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/json"


def test_an_unforeseen_fault_tells_no_secrets() -> None:
    """The trace is for the log; the caller learns where to ask."""
    body = bytes(error_response(RuntimeError("secret")).body)

    assert b"secret" not in body
    assert b"x-request-id" in body

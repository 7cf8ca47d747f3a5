"""One complete request gets one response, in order, whatever the bytes around it."""

from collections import Counter
from pathlib import Path

from tests import framing
from tests.conftest import StartApp
from tests.models import publish_price


def test_every_sequence_gets_a_response_for_each_request_and_no_other(
    models: Path, start: StartApp
) -> None:
    """Valid and invalid requests, pipelined and split anywhere, against the rules of RFC 9112."""
    publish_price(models)
    url = start(log_requests="none").base_url
    found: Counter[str] = Counter()

    for sequence in framing.sequences(seed=9112, count=400):
        responses = framing.play((url.host, url.port or 0), sequence)
        found.update(framing.violations(sequence, responses))

    assert not found


def test_nothing_is_answered_that_another_parser_does_not_take_for_a_request(
    models: Path, start: StartApp
) -> None:
    """Sequences with bytes changed by chance, against h11."""
    publish_price(models)
    url = start(log_requests="none").base_url
    found: Counter[str] = Counter()

    for sequence in framing.mutated(seed=9112, count=400):
        responses = framing.play((url.host, url.port or 0), sequence)
        found.update(framing.disagreements(sequence, responses))

    assert not found

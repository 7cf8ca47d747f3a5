"""Each complete request gets exactly one response, in order (RFC 9112)."""

from collections import Counter
from pathlib import Path

from tests import framing
from tests.conftest import StartApp
from tests.models import publish_price


def test_each_request_of_a_sequence_gets_exactly_one_response(
    models: Path, start: StartApp
) -> None:
    """Valid and invalid requests are pipelined and split at random offsets."""
    publish_price(models)
    url = start(log_requests="none").base_url
    problems: Counter[str] = Counter()

    for sequence in framing.sequences(seed=9112, count=400):
        responses = framing.send((url.host, url.port or 0), sequence)
        problems.update(framing.violations(sequence, responses))

    assert not problems


def test_no_response_is_sent_to_bytes_that_h11_does_not_parse_as_a_request(
    models: Path, start: StartApp
) -> None:
    """Random bytes of the sequences are changed."""
    publish_price(models)
    url = start(log_requests="none").base_url
    problems: Counter[str] = Counter()

    for sequence in framing.mutated(seed=9112, count=400):
        responses = framing.send((url.host, url.port or 0), sequence)
        problems.update(framing.disagreements(sequence, responses))

    assert not problems

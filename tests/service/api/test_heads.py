"""Heads that came before: known by their bytes, and only before a whole body."""

from collections.abc import Sequence

import pytest

from service.api.codecs import Codecs
from service.api.head import Fields, Head
from service.api.heads import Heads, Target
from service.api.plain import PlainDialect
from service.limits import Limits
from service.settings import Settings

TARGET = Target(
    PlainDialect(Codecs(Settings(), Limits(Settings()))), "/models/a/predict", "a", None, b""
)
BODY = b'{"size": 3}'


def message(body: bytes = BODY, *lines: str) -> bytes:
    head = ["POST /models/a/predict HTTP/1.1", f"content-length: {len(body)}", *lines, "", ""]
    return "\r\n".join(head).encode() + body


def taught(whole: bytes, body: bytes = BODY, fields: Fields = ()) -> Heads:
    """What has read one message."""
    heads = Heads()
    heads.learn(whole, (TARGET, Head(fields), body))
    return heads


def test_a_head_is_known_with_any_body_of_its_length() -> None:
    """As the parser read it, without the parser."""
    heads = taught(message())

    for body in (BODY, b'{"size": 9}', b"nonsense!!!"):
        opened = heads.opened(message(body))
        assert opened is not None
        assert opened[::2] == (TARGET, body)


@pytest.mark.parametrize(
    "other",
    [
        message()[:-1],
        message() + b"G",
        message()[1:],
        message(BODY, "accept: a"),
        message().replace(b"content-length", b"Content-Length"),
        b"\r\n" + message(),
        BODY,
        b"",
    ],
)
def test_any_other_message_is_not_opened(other: bytes) -> None:
    """Cut short, followed by more, or with a byte of its head unlike."""
    assert taught(message()).opened(other) is None


@pytest.mark.parametrize(
    ("whole", "fields"),
    [
        (message(BODY, "x-request-id: 7"), [(b"x-request-id", b"7")]),
        (message(BODY, "traceparent: 7"), [(b"traceparent", b"7")]),
        (message() + b"GET / HTTP/1.1\r\n\r\n", []),
        (message(b"b\r\n" + BODY + b"\r\n0\r\n\r\n"), []),
        (message(BODY, "x: " + "y" * 3000), []),
        (BODY, []),
    ],
)
def test_what_will_not_come_again_or_is_not_one_message_is_not_kept(
    whole: bytes, fields: Sequence[tuple[bytes, bytes]]
) -> None:
    """An id of its own, a second request behind it, a chunked body, a long head, or none."""
    assert taught(whole, fields=fields).opened(whole) is None


def test_only_so_many_are_kept() -> None:
    """However many a caller invents."""
    heads = Heads()
    wholes = [message(BODY, f"x: {number}") for number in range(2000)]

    for whole in wholes:
        heads.learn(whole, (TARGET, Head(()), BODY))

    assert 0 < sum(heads.opened(whole) is not None for whole in wholes) <= 512

"""Requests' heads that came before, byte for byte.

A client writes the same head again and again, and reading it takes as long as a small model's
run. What the parser made of one once is what it would make of the same bytes again.
"""

from typing import Any, NamedTuple

from service.api.asking import Dialect
from service.api.head import Head

_END = b"\r\n\r\n"
_LONGEST = 2048
_MOST = 512
# Who sends one of these sends another one next time.
_CHANGING = (b"x-request-id", b"traceparent")


class Target(NamedTuple):
    """What an address asks for."""

    dialect: Dialect[Any]
    path: str
    name: str
    asked: str | None
    query: bytes


Opened = tuple[Target, Head, bytes]
"""A prediction that arrived whole: what it asks for, its head, and its body."""


class Heads:
    """The heads of predictions, as the parser read them the first time."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[Target, Head, int]] = {}

    def opened(self, message: bytes) -> Opened | None:
        """A message whose head is known, and which is whole; None of any other.

        Args:
            message: all that was read, from the first byte of a request on.
        """
        end = message.find(_END, 0, _LONGEST) + len(_END)
        known = self._known.get(message[:end])
        if known is None:
            return None
        target, head, size = known
        return (target, head, message[end:]) if len(message) == size else None

    def learn(self, message: bytes, opened: Opened) -> None:
        """Keep the head of a message that the parser has read.

        Args:
            message: as above.
            opened: what it is, as far as the parser is concerned.
        """
        target, head, body = opened
        end = message.find(_END, 0, _LONGEST) + len(_END)
        # Not where the body was chunked, or more followed.
        if end < len(_END) or message[end:] != body:
            return
        if any(head.get(name) is not None for name in _CHANGING):
            return
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[message[:end]] = (target, head, len(message))

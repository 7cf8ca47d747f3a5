"""What a request says before its body."""

from collections.abc import Sequence

Fields = Sequence[tuple[bytes, bytes]]


class Head:
    """The headers and the query of a request, however it arrived.

    Args:
        fields: names in lower case, and values; of a name that comes twice, the first counts.
        query: what follows the question mark.
    """

    __slots__ = ("_fields", "query")

    def __init__(self, fields: Fields, query: bytes = b"") -> None:
        # Heads are cached (`service.server.request_head`), and read for each request.
        self._fields = {name: value.decode("latin-1") for name, value in reversed(fields)}
        self.query = query

    def get(self, name: bytes) -> str | None:
        """A header's value, or None."""
        return self._fields.get(name)

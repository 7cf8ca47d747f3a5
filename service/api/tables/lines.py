"""Bytes as they arrive, cut into whole lines of text."""

import codecs

from service.api.tables.layout import LONGEST_LINE
from service.errors import InvalidRequest


class Lines:
    """The lines of a stream that have come and are not yet taken.

    Lines keep a carriage return before their end, so that a cell of several lines stays as it was.

    Args:
        encoding: of the bytes. What is not UTF-8 becomes lone surrogates, which nothing else makes,
            so that a row that holds them can be told.
        line_end: what ends a line.
    """

    def __init__(self, encoding: str, line_end: str = "\n") -> None:
        errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
        self._decode = codecs.getincrementaldecoder(encoding)(errors).decode
        self._line_end = line_end
        self._rest: list[str] = []
        self._rest_length = 0
        self.waiting: list[str] = []
        self.taken = 0
        self.ended = False

    def feed(self, data: bytes) -> None:
        """Take in what has arrived.

        Raises:
            InvalidRequest: a line does not end.
        """
        text = self._decode(data)
        self._rest.append(text)
        self._rest_length += len(text)
        if self._line_end in text:
            *whole, rest = "".join(self._rest).split(self._line_end)
            self.waiting += whole
            self._rest, self._rest_length = [rest], len(rest)
        if self._rest_length > LONGEST_LINE:
            line = self.taken + len(self.waiting) + 1
            raise InvalidRequest(
                f"Line {line} is longer than {LONGEST_LINE:,} characters; check that each row "
                "ends its line."
            )

    def end(self) -> None:
        """Nothing more will arrive; what is left is the last line."""
        rest = "".join([*self._rest, self._decode(b"", final=True)])
        self._rest, self._rest_length = [], 0
        if rest:
            self.waiting.append(rest)
        self.ended = True

    def take(self, most: int) -> list[str]:
        """Remove the next lines, at most so many."""
        lines = self.waiting[:most]
        del self.waiting[:most]
        self.taken += len(lines)
        return lines

"""Bytes as they arrive, cut into whole lines of text."""

import codecs

from service.errors import RecordTooLarge


class Lines:
    """The lines of a stream that have come and are not yet taken.

    Lines keep a carriage return before their end, so that a cell of several lines stays as it was.

    Args:
        encoding: of the bytes. What is not UTF-8 becomes lone surrogates, which nothing else makes,
            so that a row that holds them can be told.
        longest: characters of a line; each takes at least one of the bytes that are the limit.
        line_end: what ends a line.
    """

    def __init__(self, encoding: str, longest: int, line_end: str = "\n") -> None:
        errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
        self._decode = codecs.getincrementaldecoder(encoding)(errors).decode
        self.longest = longest
        self._line_end = line_end
        self._rest: list[str] = []
        self._rest_length = 0
        self.waiting: list[str] = []
        self.taken = 0
        self.ended = False
        self._too_long = False

    @property
    def complete(self) -> bool:
        """Whether no line will follow those that wait."""
        return self.ended or self._too_long

    def feed(self, data: bytes) -> None:
        """Take in what has arrived; nothing more after a line that is too long."""
        if self._too_long:
            return
        text = self._decode(data)
        self._rest.append(text)
        self._rest_length += len(text)
        if self._line_end in text:
            self._add("".join(self._rest).split(self._line_end))
        self._too_long = self._too_long or self._rest_length > self.longest

    def end(self) -> None:
        """Nothing more will arrive; what is left is the last line."""
        if self._too_long:
            return
        rest = "".join([*self._rest, self._decode(b"", final=True)])
        self._add([rest, ""] if rest else [""])
        self.ended = not self._too_long

    def take(self, most: int) -> list[str]:
        """Remove the next lines, at most so many."""
        lines = self.waiting[:most]
        del self.waiting[:most]
        self.taken += len(lines)
        return lines

    def require_next(self) -> None:
        """Say so where no line waits because the next one is too long.

        Raises:
            RecordTooLarge: it is.
        """
        if self._too_long and not self.waiting:
            raise RecordTooLarge(self.longest)

    def _add(self, lines: list[str]) -> None:
        """Take in whole lines, and the beginning of another."""
        *whole, rest = lines
        self._rest, self._rest_length = [rest], len(rest)
        if max(map(len, whole), default=0) > self.longest:
            first = next(place for place, line in enumerate(whole) if len(line) > self.longest)
            del whole[first:]
            self._too_long = True
        self.waiting += whole

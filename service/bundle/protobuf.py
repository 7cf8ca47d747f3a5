"""Reads the fields of a protobuf message from a file, and skips what nobody needs.

The wire format is described in https://protobuf.dev/programming-guides/encoding.
"""

import re
from collections.abc import Collection, Iterator
from functools import cache
from typing import BinaryIO, NamedTuple

_VARINT, _FIXED_64, _LENGTH, _FIXED_32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED_64: 8, _FIXED_32: 4}
_KINDS = {_VARINT, _FIXED_64, _LENGTH, _FIXED_32}
_CONTINUES = 0x80
_LONGEST_VARINT = 10
# A tag and a number or length behind it.
_LONGEST_HEAD = 2 * _LONGEST_VARINT
_HIGHEST_FIELD = 2**29 - 1
_WINDOW_BYTES = 64 * 1024


class Malformed(Exception):
    """Bytes that are not the message that they should be; the message says why."""


class Field(NamedTuple):
    """One field: its number, its value if that is a whole number, and where its content lies."""

    number: int
    value: int
    start: int
    end: int


class ProtobufFile:
    """An open file of protobuf messages.

    It is read a window at a time and never mapped into memory: where another process cuts the file
    short meanwhile, reading a mapped one ends the process by SIGBUS.

    Args:
        file: to be read from its start.
        size: its bytes.
        most_fields: that are read before the file is refused.
    """

    def __init__(self, file: BinaryIO, size: int, most_fields: int) -> None:
        self.size = size
        self._file = file
        self._most_fields = most_fields
        self._fields_read = 0
        self._start = 0
        self._window = b""

    def read(self, start: int, length: int) -> bytes:
        """So many bytes; fewer where the file ends."""
        offset = start - self._start
        if offset < 0 or offset + length > len(self._window):
            self._file.seek(start)
            self._window = self._file.read(max(length, _WINDOW_BYTES))
            self._start, offset = start, 0
        return self._window[offset : offset + length]

    def fields(self, start: int, end: int, repeated: Collection[int] = ()) -> Iterator[Field]:
        """The fields of a message.

        Args:
            start: of the message in the file.
            end: of the message in the file.
            repeated: numbers of fields of which only the first of a run is wanted.

        Raises:
            Malformed: the bytes are not a message.
        """
        place = start
        while place < end:
            self._fields_read += 1
            if self._fields_read > self._most_fields:
                raise Malformed(f"it has more than {self._most_fields:,} fields")
            kind, field = self._field(place, end)
            yield field
            key, place = (field.number << 3) | kind, field.end
            if field.number in repeated:
                place = self._behind_run(place, end, key, kind)

    def _field(self, place: int, end: int) -> tuple[int, Field]:
        """The kind of a field, and the field, which ends before the end of its message."""
        head = self.read(place, min(_LONGEST_HEAD, end - place))
        key, used = _varint(head, 0, place)
        number, kind = key >> 3, key & 7
        if not 0 < number <= _HIGHEST_FIELD or kind not in _KINDS:
            raise Malformed(f"byte {place:,} does not begin a field")
        value = 0
        if kind in _FIXED_BYTES:
            begins = behind = place + used + _FIXED_BYTES[kind]
        else:
            value, used = _varint(head, used, place)
            begins = behind = place + used
            if kind == _LENGTH:
                value, behind = 0, begins + value
        if behind > end:
            raise Malformed(f"a field at byte {place:,} ends after its message; is the file cut?")
        return kind, Field(number, value, begins, behind)

    def _behind_run(self, start: int, end: int, key: int, kind: int) -> int:
        """Where the first field begins that is not another number of the same field."""
        place = start
        pattern = _run_of(key, kind)
        while pattern is not None and place < end and self.read(place, 1) == bytes([key]):
            found = pattern.match(self.read(place, min(_WINDOW_BYTES, end - place)))
            if not found or not found.end():
                break
            place += found.end()
        return place


@cache
def _run_of(key: int, kind: int) -> "re.Pattern[bytes] | None":
    """What matches numbers of a field with a tag of one byte, one after another."""
    if key >= _CONTINUES:
        return None
    tag = re.escape(bytes([key]))
    if kind == _VARINT:
        return re.compile(rb"(?:" + tag + rb"[\x80-\xff]{0,9}[\x00-\x7f])*+", re.DOTALL)
    if kind in _FIXED_BYTES:
        return re.compile(rb"(?:" + tag + b"." * _FIXED_BYTES[kind] + rb")*+", re.DOTALL)
    return None


def _varint(head: bytes, used: int, place: int) -> tuple[int, int]:
    """A whole number, and how many bytes of the head are read with it.

    Args:
        head: the first bytes of a field.
        used: how many of them are read already.
        place: where in the file the field begins.
    """
    value = 0
    for shift, byte in enumerate(head[used : used + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < _CONTINUES:
            return value, used + shift + 1
    raise Malformed(f"byte {place:,} does not begin a field")

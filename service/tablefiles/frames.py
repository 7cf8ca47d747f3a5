"""Frames between the service and a process that reads table files."""

import struct
from enum import IntEnum

_HEAD = struct.Struct("<BI")
HEAD_BYTES = _HEAD.size


class Kind(IntEnum):
    """What a frame has."""

    OPENED = 1
    """The positions of the columns of numbers, in JSON; the first frame of a file."""
    PIECE = 2
    """Text of the CSV file."""
    END = 3
    """Nothing: the file has ended."""
    REJECTED = 4
    """Why the file cannot be read, instead of its end."""
    EXPANDS = 5
    """Nothing: the file expands too much."""


def encode_frame(kind: Kind, content: bytes = b"") -> bytes:
    """Return a frame as bytes."""
    return _HEAD.pack(kind, len(content)) + content


def decode_head(head: bytes) -> tuple[Kind, int]:
    """Return the kind of a frame, and the length of its content, by its first bytes."""
    kind, length = _HEAD.unpack(head)
    return Kind(kind), length

"""What outlives a process that is killed: numbers in a file that it has mapped into memory."""

import logging
import mmap
import os
import struct
from pathlib import Path
from typing import Any

import orjson

# A byte says which of two sides was written last; each has its length before it.
_SIDE = 1
_SIDE_BYTES = 64 * 1024
_LENGTH = struct.Struct("<I")

_log = logging.getLogger(__name__)


class Pending:
    """What a worker has counted and not settled yet, kept where it outlives the process.

    Args:
        path: a file of this worker's place, which is made if there is none.
    """

    def __init__(self, path: Path) -> None:
        size = _SIDE + 2 * _SIDE_BYTES
        path.touch()
        with path.open("r+b") as file:
            if hasattr(os, "posix_fallocate"):  # else a full disk ends the process later
                os.posix_fallocate(file.fileno(), 0, size)
            file.truncate(size)
            self._memory = mmap.mmap(file.fileno(), 0)
        self._side = self._memory[0]

    @property
    def left(self) -> Any:  # noqa: ANN401 - whatever was kept
        """What was kept last, None where it was forgotten."""
        start = _SIDE + self._side * _SIDE_BYTES
        (length,) = _LENGTH.unpack_from(self._memory, start)
        start += _LENGTH.size
        try:
            return orjson.loads(self._memory[start : start + length]) if length else None
        except orjson.JSONDecodeError:
            _log.exception("counts of the worker before are lost")
            return None

    def keep(self, counted: object) -> bool:
        """Keep this instead of what was kept before; a process killed meanwhile leaves that.

        Returns:
            Whether there is room for so much.
        """
        content = orjson.dumps(counted)
        if len(content) > _SIDE_BYTES - _LENGTH.size:
            return False
        self._side = 1 - self._side
        start = _SIDE + self._side * _SIDE_BYTES
        end = start + _LENGTH.size
        self._memory[start : end + len(content)] = _LENGTH.pack(len(content)) + content
        self._memory[0] = self._side
        return True

    def forget(self) -> None:
        """It has been settled."""
        self._side = 1 - self._side
        _LENGTH.pack_into(self._memory, _SIDE + self._side * _SIDE_BYTES, 0)
        self._memory[0] = self._side

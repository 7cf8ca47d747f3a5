"""The system shared memory extension: tensors in memory that a client shares.

Regions are POSIX shared memory, read and written as files rather than mapped. If a client truncates
one meanwhile, its request fails, while an access to a mapping would kill the process.
"""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from service.codecs.endpoint import SharedMemorySlot
from service.codecs.tensors import is_count
from service.errors import InvalidRequest, NotAllowed
from service.values import format_value, suggestion

_FOLDER = Path("/dev/shm")  # noqa: S108 - where Linux shows POSIX shared memory
_KEY = re.compile(r"/?[A-Za-z0-9_-][A-Za-z0-9_.-]{0,200}")
_MAX_REGIONS = 1000


@dataclass(frozen=True)
class Region:
    """A part of a shared memory object, under the name that requests use."""

    name: str
    key: str
    offset: int
    byte_size: int


def read_slot(parameters: Mapping[str, Any], tensor: str) -> SharedMemorySlot | None:
    """Return the slot in a tensor's parameters, or None; raise `InvalidRequest` if invalid."""
    region = parameters.get("shared_memory_region")
    if region is None:
        return None
    if not isinstance(region, str):
        raise InvalidRequest(
            f"{tensor!r}: shared_memory_region is {format_value(region)}, not a name."
        )
    offset = _read_length(parameters.get("shared_memory_offset", 0), "shared_memory_offset")
    size = _read_length(parameters.get("shared_memory_byte_size"), "shared_memory_byte_size")
    return SharedMemorySlot(region, offset, size)


class Regions:
    """The regions that clients have registered with this process.

    All methods raise `NotAllowed` unless the shared memory of this machine is ``allowed``.
    """

    def __init__(self, *, allowed: bool) -> None:
        self._allowed = allowed
        self._regions: dict[str, Region] = {}

    def register(self, name: str, document: object) -> None:
        """Register a region under a name.

        Raise `InvalidRequest` if the description is invalid, the memory is missing or too short, or
        the name is registered already.
        """
        self._require_allowed()
        if not isinstance(document, dict) or not isinstance(document.get("key"), str):
            raise InvalidRequest(
                "Send an object with 'key', the name of the shared memory, and 'byte_size'."
            )
        region = Region(
            name,
            document["key"],
            _read_length(document.get("offset", 0), "offset"),
            _read_length(document.get("byte_size"), "byte_size"),
        )
        if name in self._regions:
            raise InvalidRequest(f"Region {name!r} is registered already; unregister it first.")
        if len(self._regions) >= _MAX_REGIONS:
            raise InvalidRequest(f"{_MAX_REGIONS} regions are registered; unregister some first.")
        _open_memory(region).close()
        self._regions[name] = region

    def unregister(self, name: str | None = None) -> None:
        """Remove a region, or all of them; unknown names are ignored."""
        self._require_allowed()
        if name is None:
            self._regions.clear()
        else:
            self._regions.pop(name, None)

    def list_regions(self, name: str | None = None) -> list[Region]:
        """Return all regions, or that of a name; raise `InvalidRequest` if the name is unknown."""
        self._require_allowed()
        return list(self._regions.values()) if name is None else [self._find(name)]

    def read(self, slot: SharedMemorySlot) -> memoryview:
        """Read the bytes of a slot; raise `InvalidRequest` if it is not within a region."""
        with self._open(slot) as file:
            return memoryview(file.read(slot.byte_size))

    def write(self, slot: SharedMemorySlot, content: bytes) -> None:
        """Write bytes to the start of a slot.

        Raise `InvalidRequest` if the slot is too small or not within an existing region.
        """
        if len(content) > slot.byte_size:
            raise InvalidRequest(
                f"An output of {len(content)} bytes does not fit into the {slot.byte_size} bytes "
                f"requested in region {slot.region!r}."
            )
        with self._open(slot) as file:
            file.write(content)

    def _open(self, slot: SharedMemorySlot) -> FileIO:
        """Open the memory at the start of a slot."""
        self._require_allowed()
        region = self._find(slot.region)
        if slot.offset + slot.byte_size > region.byte_size:
            raise InvalidRequest(
                f"Region {region.name!r} has {region.byte_size} bytes; {slot.byte_size} from "
                f"{slot.offset} on are outside of it."
            )
        file = _open_memory(region)
        file.seek(region.offset + slot.offset)
        return file

    def _find(self, name: str) -> Region:
        if name not in self._regions:
            raise InvalidRequest(
                f"Unknown shared memory region {format_value(name)}; "
                f"{suggestion(name, list(self._regions))}"
            )
        return self._regions[name]

    def _require_allowed(self) -> None:
        if not self._allowed:
            raise NotAllowed(
                "Shared memory is not supported here; the operator enables it with "
                "ONWARD_SHARED_MEMORY=system. Send the tensors in the body."
            )


def _open_memory(region: Region) -> FileIO:
    """Open the memory of a region, and check its length."""
    if not _KEY.fullmatch(region.key):
        raise InvalidRequest(
            f"'key' is {format_value(region.key)}; it must be 1 to 201 letters, digits, '_', '-' "
            "or '.', "
            "not begin with '.', and may follow one '/'."
        )
    try:
        file = os.open(_FOLDER / region.key.lstrip("/"), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise InvalidRequest(
            f"Shared memory {region.key!r} cannot be opened: {error.strerror}."
        ) from None
    status = os.fstat(file)
    if stat.S_ISREG(status.st_mode) and status.st_size >= region.offset + region.byte_size:
        return os.fdopen(file, "r+b", buffering=0)
    os.close(file)
    raise InvalidRequest(
        f"Shared memory {region.key!r} has {status.st_size} bytes, not {region.byte_size} from "
        f"{region.offset} on."
    )


def _read_length(value: object, name: str) -> int:
    if not is_count(value):
        raise InvalidRequest(f"'{name}' must be a number of bytes, got {format_value(value)}.")
    return value

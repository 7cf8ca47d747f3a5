"""Files of a models folder: read safely and within a bound, written so that a crash harms nothing.

A models folder may hold anything: pipes, devices, links to nowhere, files of any size. Every file
that the service reads from it is opened here.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, TypeVar

from pydantic import BaseModel, ValidationError

from service.bundle.errors import BundleError

T = TypeVar("T", bound=BaseModel)

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
"""Most bytes read of a bundle's JSON documents and its other small files."""
MAX_SETTINGS_BYTES = 1024 * 1024
"""Most bytes read of a file that says how a model is served, such as ``policy.json``."""

# Without O_NONBLOCK, opening a pipe waits until somebody writes into it. Windows has no such flag.
_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_LONGEST_NAME = 80


@contextmanager
def open_regular(path: Path) -> Iterator[tuple[BufferedReader, int]]:
    """Open a regular file to be read, as the file object and its size in bytes.

    A link may lead anywhere: the operator placed it under a name that the service expects.

    Raises:
        BundleError: it is missing, cannot be read, or is not a regular file.
    """
    name = shown_name(path.name)
    try:
        # Before it is opened, since opening a device may have effects; and again afterwards.
        _require_regular(name, path.stat())
        file = os.fdopen(os.open(path, _OPEN_FLAGS), "rb")
    except (OSError, ValueError) as error:
        raise BundleError(_problem(name, path, error)) from None
    with file:
        try:
            status = os.fstat(file.fileno())
            _require_regular(name, status)
            yield file, status.st_size
        except OSError as error:
            raise BundleError(_problem(name, path, error)) from None


def read_file(path: Path, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """The content of a regular file.

    Raises:
        BundleError: it is missing, cannot be read, is not a regular file, or is too large.
    """
    with open_regular(path) as (file, size):
        require_at_most(shown_name(path.name), size, max_bytes)
        return read_exactly(file, size, shown_name(path.name))


def read_optional(path: Path, max_bytes: int = MAX_SETTINGS_BYTES) -> bytes | None:
    """The content of a regular file; None where nothing has that name.

    Raises:
        BundleError: something has, and it cannot be read as `read_file` reads it.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BundleError(_problem(shown_name(path.name), path, error)) from None
    return read_file(path, max_bytes)


def path_inside(folder: Path, name: str) -> Path:
    """The file of that name in a folder, once it is sure to lie there.

    For names that a file of the folder gives, not the operator.

    Args:
        folder: where the file must be.
        name: relative to the folder; it may not lead upwards out of it and back.

    Raises:
        BundleError: the name is absolute, or leads out of the folder, also by a link.
    """
    try:
        home = os.path.realpath(folder, strict=True)
        target = os.path.realpath(os.path.join(folder, name))  # noqa: PTH118 - Path drops "." parts
    except (OSError, ValueError) as error:
        raise BundleError(_problem(shown_name(name), folder, error)) from None
    parts = Path(os.path.normpath(name)).parts
    leads_out = Path(name).is_absolute() or os.pardir in parts
    if leads_out or not Path(target).is_relative_to(home):
        raise BundleError(f"{shown_name(name)} leads out of the model's folder")
    return folder / name


def require_regular(path: Path) -> int:
    """The size of a regular file in bytes, which is not opened.

    Raises:
        BundleError: it is missing, out of reach, or not a regular file.
    """
    name = shown_name(path.name)
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise BundleError(_problem(name, path, error)) from None
    _require_regular(name, status)
    return status.st_size


def require_at_most(name: str, size: int, max_bytes: int) -> None:
    """Reject a file that is too large, before it is read.

    Raises:
        BundleError: names its size and the limit.
    """
    if size > max_bytes:
        raise BundleError(f"{name} has {size:,} bytes, and at most {max_bytes:,} are read")


def read_exactly(file: BinaryIO, size: int, name: str) -> bytes:
    """The content of an open file.

    Raises:
        BundleError: it has another size by now.
    """
    file.seek(0)
    content = file.read(size + 1)
    if len(content) != size:
        raise BundleError(f"{name} changed while it was read")
    return content


def shown_name(name: str) -> str:
    """A file's name for a message: short, and printable on any terminal."""
    short = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
    plain = short.isprintable() and short.isascii() and " " not in short
    return short if plain else repr(short)


def parse_document(kind: type[T], content: bytes, name: str) -> T:
    """The document of this kind that a file's content is.

    Raises:
        BundleError: it is none; the first five problems are told.
    """
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc'])) or 'the whole file'}: {problem['msg']}"
            for problem in error.errors(include_url=False)
        ]
        raise BundleError(f"{name} is not valid: {'; '.join(problems[:5])}") from None


def to_json(model: BaseModel) -> bytes:
    """Indented JSON with a final newline, readable in a diff."""
    return model.model_dump_json(indent=2, exclude_none=True).encode() + b"\n"


def write_flushed(path: Path, content: bytes) -> None:
    """Write a file and have the disk hold it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Have the disk hold what was made or renamed in a folder."""
    if os.name == "nt":
        return  # Windows has no way to open a folder for flushing
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _require_regular(name: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"{name} is not a regular file")


def _problem(name: str, path: Path, error: OSError | ValueError) -> str:
    """Why a file cannot be read, in a sentence."""
    if isinstance(error, FileNotFoundError):
        linked = os.path.islink(path)  # noqa: PTH114 - Path's own raises for a name that is too long
        return f"{name} is a link to nowhere" if linked else f"{name} is missing"
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return f"{name} cannot be read: {reason}"

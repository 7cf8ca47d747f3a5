"""Small files: documents checked as they are read, and content flushed as it is written."""

import os
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from service.bundle.errors import BundleError

T = TypeVar("T", bound=BaseModel)


def read_file(path: Path) -> bytes:
    """The content of a regular file.

    Raises:
        BundleError: it is missing, cannot be read, or is something else than a file.
    """
    try:
        if path.exists() and not path.is_file():
            raise BundleError(f"{path.name} is not a regular file")  # a pipe would be waited for
        return path.read_bytes()
    except FileNotFoundError:
        raise BundleError(f"{path.name} is missing") from None
    except OSError as error:
        raise BundleError(f"{path.name} cannot be read: {error.strerror}") from None


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

"""Bundles on disk: verified when they are read, and written atomically."""

import contextlib
import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, TypeVar

from pydantic import BaseModel, ValidationError

from service.bundle.errors import BundleError, InvalidOnnxFile
from service.bundle.manifest import Examples, FileDigest, Manifest
from service.bundle.onnx_file import MAX_ONNX_BYTES, GraphSummary, OnnxFile, inspect_graph

T = TypeVar("T", bound=BaseModel)

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
"""The largest size of a bundle's JSON documents and its other small files."""
MAX_SETTINGS_BYTES = 1024 * 1024
"""The largest size of a file that configures how a model is served, such as ``policy.json``."""

# Without O_NONBLOCK, opening a pipe waits for a writer. Windows does not have this flag.
_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_LONGEST_NAME = 80

MODEL = "model.onnx"
MANIFEST = "manifest.json"
EXAMPLES = "examples.json"
REPORT = "report.html"
_UNFINISHED = ".unfinished-"
_ABANDONED_AFTER_SECONDS = 86_400


@contextmanager
def open_regular(path: Path) -> Iterator[tuple[BufferedReader, int]]:
    """Open a regular file, and yield the file object and its size in bytes.

    A link may lead anywhere, since the operator created it under a name that the service expects.
    Raise `BundleError` if the path is missing, cannot be read, or is not a regular file.
    """
    # Checked before it is opened, since opening a device may have effects, and again after.
    require_regular(path)
    name = display_name(path.name)
    try:
        file = os.fdopen(os.open(path, _OPEN_FLAGS), "rb")
    except (OSError, ValueError) as error:
        raise BundleError(_describe_problem(name, path, error)) from None
    with file:
        try:
            status = os.fstat(file.fileno())
            _require_regular_status(name, status)
            yield file, status.st_size
        except OSError as error:
            raise BundleError(_describe_problem(name, path, error)) from None


def read_file(path: Path, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """Read a regular file.

    Raise `BundleError` if it is missing, cannot be read, is not a regular file, or is too large.
    """
    with open_regular(path) as (file, size):
        require_at_most(display_name(path.name), size, max_bytes)
        return read_exactly(file, size, display_name(path.name))


def read_optional(path: Path, max_bytes: int = MAX_SETTINGS_BYTES) -> bytes | None:
    """Read a regular file; return None if the path does not exist.

    Raise `BundleError` if it cannot be read, is not a regular file, or is too large.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BundleError(_describe_problem(display_name(path.name), path, error)) from None
    return read_file(path, max_bytes)


def read_document(kind: type[T], path: Path) -> T | None:
    """Read an optional JSON document that configures how a model is served; None if it is missing.

    Raise `BundleError` if it cannot be read or is not valid.
    """
    content = read_optional(path)
    return None if content is None else parse_document(kind, content, path.name)


def replace_document(path: Path, document: BaseModel) -> Path:
    """Replace a JSON document atomically, as `open_replacement` does; return its path.

    Raise `OSError` if it cannot be written.
    """
    with open_replacement(path) as file:
        file.write(to_json(document))
    flush_folder(path.parent)
    return path


@contextmanager
def open_replacement(path: Path) -> Iterator[BinaryIO]:
    """Open a new file, which replaces the one at ``path`` when the block ends without an error.

    Other processes, and a reader after a crash, see the old or the new content, never a part.
    Raise `OSError` if it cannot be written.
    """
    # Two processes may replace the same file.
    unfinished = path.with_name(f".{path.name}{_UNFINISHED}{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def path_inside(folder: Path, name: str) -> Path:
    """Return the path of a file that must be inside a folder.

    Used for names that files of the models folder contain, not for names from the operator. A name
    may not even lead out of the folder and back. Raise `BundleError` if it is absolute, or leads
    out of the folder, directly or by a link.
    """
    try:
        real_folder = os.path.realpath(folder, strict=True)
        target = os.path.realpath(os.path.join(folder, name))  # noqa: PTH118 - Path drops "." parts
    except (OSError, ValueError) as error:
        raise BundleError(_describe_problem(display_name(name), folder, error)) from None
    parts = Path(os.path.normpath(name)).parts
    leads_out = Path(name).is_absolute() or os.pardir in parts
    if leads_out or not Path(target).is_relative_to(real_folder):
        raise BundleError(f"{display_name(name)} is outside the model's folder")
    return folder / name


def require_regular(path: Path) -> int:
    """Return the size of a regular file in bytes, without opening it.

    Raise `BundleError` if it is missing, cannot be accessed, or is not a regular file.
    """
    name = display_name(path.name)
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise BundleError(_describe_problem(name, path, error)) from None
    _require_regular_status(name, status)
    return status.st_size


def require_at_most(name: str, size: int, max_bytes: int) -> None:
    """Raise `BundleError` if a file is too large, before it is read."""
    if size > max_bytes:
        raise BundleError(f"{name} has {size:,} bytes, and at most {max_bytes:,} are read")


def read_exactly(file: BinaryIO, size: int, name: str) -> bytes:
    """Read all of an open file; raise `BundleError` if its size has changed."""
    file.seek(0)
    content = file.read(size + 1)
    if len(content) != size:
        raise BundleError(f"{name} changed while it was read")
    return content


def display_name(name: str) -> str:
    """Format a file's name for a message, shortened and printable on any terminal."""
    short = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
    plain = short.isprintable() and short.isascii() and " " not in short
    return short if plain else repr(short)


def parse_document(kind: type[T], content: bytes, name: str) -> T:
    """Parse and validate a JSON document.

    Raise `BundleError`, with the first five problems, if it is not valid.
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
    """Serialize as indented JSON with a final newline, readable in a diff."""
    return model.model_dump_json(indent=2, exclude_none=True).encode() + b"\n"


def write_flushed(path: Path, content: bytes) -> None:
    """Write a file and flush it to disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Flush created and renamed entries of a folder to disk."""
    if os.name == "nt":
        return  # Windows cannot flush a folder
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _require_regular_status(name: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"{name} is not a regular file")


def _describe_problem(name: str, path: Path, error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        linked = os.path.islink(path)  # noqa: PTH114 - Path's own raises for a name that is too long
        return f"{name} is a broken symbolic link" if linked else f"{name} is missing"
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return f"{name} cannot be read: {reason}"


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files have been verified; ``model`` is the content of ``model.onnx``."""

    folder: Path
    manifest: Manifest
    examples: Examples
    model: bytes
    graph: GraphSummary


def read_bundle(folder: Path) -> Bundle:
    """Read ``models/<name>/<version>`` and verify it against its manifest.

    Raise `BundleError` if the manifest is missing or wrong, a file is missing, truncated or
    changed, or the examples do not fit the manifest.
    """
    manifest = read_manifest(folder)
    onnx = _read_verified_model(folder, manifest.files[MODEL])
    if onnx.graph.weights or onnx.graph.nested_weights:
        raise BundleError(
            f"{MODEL} keeps weights in other files, and a bundle's graph holds its own; save it "
            "without external data"
        )
    contents = {
        name: read_verified(folder, name, digest)
        for name, digest in manifest.files.items()
        if name != MODEL
    }
    examples = parse_document(Examples, contents[EXAMPLES], EXAMPLES)
    if mismatch := examples.mismatch(manifest):
        raise BundleError(f"{EXAMPLES} does not fit {MANIFEST}: {mismatch}")
    return Bundle(folder, manifest, examples, onnx.content, onnx.graph)


def read_onnx(path: Path) -> OnnxFile:
    """Read an ONNX file after checking its size and its structure.

    Raises:
        InvalidOnnxFile: it is too large or malformed.
        BundleError: it is missing, or cannot be read.
    """
    with open_regular(path) as (file, size):
        graph = inspect_graph(file, size, path.name)
        return OnnxFile(read_exactly(file, size, path.name), graph)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of ``models/<name>/<version>``.

    Raise `BundleError` if it is missing, wrong, or of another model.
    """
    manifest = parse_document(Manifest, read_file(folder / MANIFEST), MANIFEST)
    if manifest.name != folder.parent.name:
        raise BundleError(
            f"{MANIFEST} is of model {manifest.name!r}, but its folder is {folder.parent.name!r}"
        )
    for required in (MODEL, EXAMPLES):
        if required not in manifest.files:
            raise BundleError(f"{MANIFEST} lists no digest for {required}")
    return manifest


def require_sizes(folder: Path, manifest: Manifest) -> None:
    """Check that all files exist with the recorded sizes, without reading them.

    Raise `BundleError` if one does not.
    """
    for name, expected in manifest.files.items():
        _require_own(name)
        size = require_regular(folder / name)
        _require_size(name, size, expected)
        require_at_most(name, size, MAX_ONNX_BYTES if name == MODEL else MAX_DOCUMENT_BYTES)


def read_verified(folder: Path, name: str, expected: FileDigest) -> bytes:
    """Read one file of a bundle; raise `BundleError` if it is missing, truncated or changed."""
    _require_own(name)
    with open_regular(folder / name) as (file, size):
        _require_size(name, size, expected)
        require_at_most(name, size, MAX_DOCUMENT_BYTES)
        content = read_exactly(file, size, name)
    _require_digest(name, compute_digest(content).sha256, expected)
    return content


def write_bundle(models: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Path:
    """Publish a new version of ``manifest.name`` atomically, by renaming a folder; return it.

    Its number is one above the highest existing version. The digests in the manifest are computed
    from ``files``. The manifest is written last, and all files are flushed before the rename, so
    after a crash the new version is complete or missing.
    """
    model_folder = models / manifest.name
    model_folder.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(model_folder)
    digests = {name: compute_digest(content) for name, content in sorted(files.items())}
    manifest = manifest.model_copy(update={"files": digests})
    unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=model_folder))
    try:
        unfinished.chmod(0o755)  # the service may run as another user, and mkdtemp forbids that
        for name, content in files.items():
            write_flushed(unfinished / name, content)
        write_flushed(unfinished / MANIFEST, to_json(manifest))
        flush_folder(unfinished)
        return _publish(unfinished, model_folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def list_versions(model_folder: Path) -> list[int]:
    """Return the version numbers in ``models/<name>``, ascending."""
    if not model_folder.is_dir():
        return []
    entries = model_folder.iterdir()
    return sorted(int(entry.name) for entry in entries if is_version(entry.name) and entry.is_dir())


def is_version(name: str) -> bool:
    """Return whether a name is a version number, from 1, in its only form: ``1``, not ``01``."""
    return re.fullmatch("[1-9][0-9]*", name) is not None


def compute_digest(content: bytes) -> FileDigest:
    """Return the digest that the manifest records."""
    return FileDigest(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def _publish(unfinished: Path, model_folder: Path) -> Path:
    while True:
        # Also skip numbers of entries that are not folders, such as dangling links.
        used = [int(path.name) for path in model_folder.iterdir() if is_version(path.name)]
        target = model_folder / str(max(used, default=0) + 1)
        try:
            # Fails if another publisher has just used the number, since its folder is not empty.
            unfinished.rename(target)
        except OSError:
            if not os.path.lexists(target):
                raise
            continue
        flush_folder(model_folder)
        return target


def _read_verified_model(folder: Path, expected: FileDigest) -> OnnxFile:
    with open_regular(folder / MODEL) as (file, size):
        _require_size(MODEL, size, expected)
        try:
            graph = inspect_graph(file, size, MODEL)
        except InvalidOnnxFile:
            # If the file was changed, report that instead.
            file.seek(0)
            _require_digest(MODEL, hashlib.file_digest(file, "sha256").hexdigest(), expected)
            raise
        content = read_exactly(file, size, MODEL)
    _require_digest(MODEL, compute_digest(content).sha256, expected)
    return OnnxFile(content, graph)


def _require_digest(name: str, sha256: str, expected: FileDigest) -> None:
    if sha256 != expected.sha256:
        raise BundleError(f"{name} has changed: its sha256 is not the one in {MANIFEST}")


def _require_own(name: str) -> None:
    if Path(name).name != name:
        raise BundleError(f"{MANIFEST} names {name!r}, which is not a file of the bundle's folder")


def _require_size(name: str, size: int, expected: FileDigest) -> None:
    if size != expected.bytes:
        raise BundleError(f"{name} has {size} bytes, {MANIFEST} says {expected.bytes}")


def _remove_abandoned(model_folder: Path) -> None:
    """Remove folders that a killed publisher left more than a day ago."""
    for leftover in model_folder.glob(f"{_UNFINISHED}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime > _ABANDONED_AFTER_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)

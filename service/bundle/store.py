"""Bundles on disk: read with every check, written so that a crash never leaves half of one."""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.bundle.disk import (
    MAX_DOCUMENT_BYTES,
    flush_folder,
    open_regular,
    parse_document,
    read_exactly,
    read_file,
    require_at_most,
    require_regular,
    to_json,
    write_flushed,
)
from service.bundle.errors import BundleError, NotOnnx
from service.bundle.examples import Examples
from service.bundle.manifest import FileDigest, Manifest
from service.bundle.onnx_file import MAX_ONNX_BYTES, GraphFacts, onnx_file

MODEL = "model.onnx"
MANIFEST = "manifest.json"
EXAMPLES = "examples.json"
REPORT = "report.html"

_UNFINISHED = ".unfinished-"
_ABANDONED_AFTER_SECONDS = 86_400


@dataclass(frozen=True)
class Bundle:
    """A bundle whose every file has been checked; ``model`` is the bytes that were digested."""

    folder: Path
    manifest: Manifest
    examples: Examples
    model: bytes
    graph: GraphFacts


def read_bundle(folder: Path) -> Bundle:
    """Read ``models/<name>/<version>`` and check it against its manifest.

    Raises:
        BundleError: the manifest is missing or wrong, a file is missing, truncated or changed,
            or the examples do not fit the manifest.
    """
    manifest = read_manifest(folder)
    model, graph = _checked_model(folder, manifest.files[MODEL])
    if graph.weights or graph.nested_weights:
        raise BundleError(
            f"{MODEL} keeps weights in other files, and a bundle's graph holds its own; save it "
            "without external data"
        )
    contents = {
        name: _checked(folder, name, digest)
        for name, digest in manifest.files.items()
        if name != MODEL
    }
    examples = parse_document(Examples, contents[EXAMPLES], EXAMPLES)
    if mismatch := examples.mismatch(manifest):
        raise BundleError(f"{EXAMPLES} does not fit {MANIFEST}: {mismatch}")
    return Bundle(folder, manifest, examples, model, graph)


def read_manifest(folder: Path) -> Manifest:
    """Read what ``models/<name>/<version>`` says of itself.

    Raises:
        BundleError: the manifest is missing or wrong, or of another model.
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
    """See that every file is there, as long as it should be; its content is not read.

    Raises:
        BundleError: one is missing or of another length.
    """
    for name, expected in manifest.files.items():
        _require_own(name)
        size = require_regular(folder / name)
        _require_size(name, size, expected)
        require_at_most(name, size, MAX_ONNX_BYTES if name == MODEL else MAX_DOCUMENT_BYTES)


def read_part(folder: Path, manifest: Manifest, name: str) -> bytes:
    """One of the bundle's files, as it was digested.

    Raises:
        BundleError: it is missing, truncated or changed.
    """
    return _checked(folder, name, manifest.files[name])


def write_bundle(models: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Path:
    """Publish a new version of ``manifest.name`` under ``models`` by one rename.

    The digests in the manifest are made here from ``files``. Everything is flushed before the
    rename, the manifest last, so a crash leaves the versions before it or the whole new one.

    Returns:
        The new folder, numbered one above the highest version there is.
    """
    home = models / manifest.name
    home.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(home)
    digests = {name: digest_of(content) for name, content in sorted(files.items())}
    manifest = manifest.model_copy(update={"files": digests})
    unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=home))
    try:
        unfinished.chmod(0o755)  # mkdtemp makes it private; the service may run as another user
        for name, content in files.items():
            write_flushed(unfinished / name, content)
        write_flushed(unfinished / MANIFEST, to_json(manifest))
        flush_folder(unfinished)
        return _publish(unfinished, home)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def versions_in(home: Path) -> list[int]:
    """The version numbers below ``models/<name>``, ascending."""
    if not home.is_dir():
        return []
    return sorted(int(p.name) for p in home.iterdir() if _is_version(p.name) and p.is_dir())


def digest_of(content: bytes) -> FileDigest:
    """The digest as the manifest records it."""
    return FileDigest(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def _is_version(name: str) -> bool:
    return name.isascii() and name.isdecimal() and str(int(name)) == name and int(name) > 0


def _publish(unfinished: Path, home: Path) -> Path:
    while True:
        # Also what is numbered and no folder, such as a link to nowhere, is in the way.
        taken = [int(path.name) for path in home.iterdir() if _is_version(path.name)]
        target = home / str(max(taken, default=0) + 1)
        try:
            # Renaming onto a folder that holds files fails: of two publishers each gets a number.
            unfinished.rename(target)
        except OSError:
            if not os.path.lexists(target):
                raise
            continue
        flush_folder(home)
        return target


def _checked(folder: Path, name: str, expected: FileDigest) -> bytes:
    _require_own(name)
    with open_regular(folder / name) as (file, size):
        _require_size(name, size, expected)
        require_at_most(name, size, MAX_DOCUMENT_BYTES)
        content = read_exactly(file, size, name)
    _require_digest(name, digest_of(content).sha256, expected)
    return content


def _checked_model(folder: Path, expected: FileDigest) -> tuple[bytes, GraphFacts]:
    with open_regular(folder / MODEL) as (file, size):
        _require_size(MODEL, size, expected)
        try:
            onnx = onnx_file(file, size, MODEL)
        except NotOnnx:
            # Where the file was changed, that is what has to be fixed.
            file.seek(0)
            _require_digest(MODEL, hashlib.file_digest(file, "sha256").hexdigest(), expected)
            raise
    _require_digest(MODEL, digest_of(onnx.content).sha256, expected)
    return onnx.content, onnx.graph


def _require_digest(name: str, sha256: str, expected: FileDigest) -> None:
    if sha256 != expected.sha256:
        raise BundleError(f"{name} has changed: its sha256 is not the one in {MANIFEST}")


def _require_own(name: str) -> None:
    if Path(name).name != name:
        raise BundleError(f"{MANIFEST} names {name!r}, which is not a file of the bundle's folder")


def _require_size(name: str, size: int, expected: FileDigest) -> None:
    if size != expected.bytes:
        raise BundleError(f"{name} has {size} bytes, {MANIFEST} says {expected.bytes}")


def _remove_abandoned(home: Path) -> None:
    """Remove what a killed publisher left; a live one never takes a day."""
    for leftover in home.glob(f"{_UNFINISHED}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime > _ABANDONED_AFTER_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)

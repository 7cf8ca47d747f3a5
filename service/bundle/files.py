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

from service.bundle.disk import flush_folder, parse_document, read_file, to_json, write_flushed
from service.bundle.errors import BundleError
from service.bundle.examples import Examples
from service.bundle.manifest import FileDigest, Manifest

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


def read_bundle(folder: Path) -> Bundle:
    """Read ``models/<name>/<version>`` and check it against its manifest.

    Raises:
        BundleError: the manifest is missing or wrong, a file is missing, truncated or changed,
            or the examples do not fit the manifest.
    """
    manifest = read_manifest(folder)
    contents = {name: _checked(folder, name, digest) for name, digest in manifest.files.items()}
    examples = parse_document(Examples, contents[EXAMPLES], EXAMPLES)
    if mismatch := examples.mismatch(manifest):
        raise BundleError(f"{EXAMPLES} does not fit {MANIFEST}: {mismatch}")
    return Bundle(folder, manifest, examples, contents[MODEL])


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
        path = folder / name
        try:
            _require_size(name, path.stat().st_size, expected)
        except FileNotFoundError:
            raise BundleError(f"{name} is missing") from None
        except OSError as error:
            raise BundleError(f"{name} cannot be read: {error.strerror}") from None


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
    content = read_file(folder / name)
    _require_size(name, len(content), expected)
    if digest_of(content) != expected:
        raise BundleError(f"{name} has changed: its sha256 is not the one in {MANIFEST}")
    return content


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

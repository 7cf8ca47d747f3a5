"""Publishing a bundle, and finding out before a long fit whether that will be possible."""

import os
from collections.abc import Mapping
from pathlib import Path

from service.bundle.manifest import Manifest
from service.bundle.store import write_bundle
from training.errors import PublishError


def check_folder(models: Path, name: str) -> None:
    """See that versions of a model can be written below `models`; nothing is made yet.

    Raises:
        PublishError: a file is in the way, or the folder may not be written to.
    """
    home = models / name
    try:
        there = next(place for place in (home, *home.absolute().parents) if place.exists())
    except OSError as error:
        raise _refusal(home, error.strerror) from None
    if not there.is_dir():
        raise _refusal(home, f"{there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise _refusal(home, f"{there} may not be written to")


def publish(models: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Path:
    """Write the next version of the model, whole or not at all.

    Raises:
        PublishError: the disk is full, or the folder has become unusable.
    """
    try:
        return write_bundle(models, manifest, files)
    except OSError as error:
        raise _refusal(models / manifest.name, error.strerror) from None


def _refusal(home: Path, reason: str | None) -> PublishError:
    return PublishError(
        f"No model can be published in {home}: {reason}. Choose another folder with --models."
    )

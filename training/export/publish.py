"""Publish a bundle; a version that is clearly worse than the serving one does not serve."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.bundle.errors import BundleError
from service.bundle.manifest import Manifest
from service.bundle.policy import STABLE
from service.bundle.store import write_bundle
from service.bundle.versions import find_serving_version, has_stable, pin_serving, set_alias
from training.errors import PublishError
from training.export.comparison import Comparison


@dataclass(frozen=True)
class Publication:
    """A new version on disk, and whether requests that name no version go to it."""

    folder: Path
    manifest: Manifest
    serving: int | None
    """The version that serves now."""
    comparison: Comparison | None = None
    """With the version that served before, if there was one."""
    rare: str | None = None
    """A label so rare that accuracy alone is misleading, if there is one."""
    remark: str = ""
    """A note on an imported model for the user."""

    @property
    def version(self) -> int:
        """The number of the new version."""
        return int(self.folder.name)

    @property
    def serves(self) -> bool:
        """Whether the new version serves."""
        return self.serving == self.version


def check_folder(models: Path, name: str) -> None:
    """Check that versions of a model can be written below ``models``; nothing is created yet.

    Raise `PublishError` if the path is a file, the folder is not writable, or the policy of the
    model is invalid.
    """
    home = models / name
    try:
        existing = next(path for path in (home, *home.absolute().parents) if path.exists())
    except OSError as error:
        raise _create_publish_error(home, error.strerror) from None
    if not existing.is_dir():
        raise _create_publish_error(home, f"{existing} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise _create_publish_error(home, f"{existing} is not writable")
    try:
        if home.is_dir():
            has_stable(models, name)
    except BundleError as error:
        raise PublishError(f"{error}. Correct the file or remove it first.") from None


def publish(
    models: Path,
    manifest: Manifest,
    files: Mapping[str, bytes],
    comparison: Comparison | None = None,
    *,
    force: bool = False,
) -> Publication:
    """Write the next version of the model atomically, and let it serve.

    A version that the comparison found clearly worse is written and, without ``force``, does not
    serve: the alias ``stable`` is set to the serving version before the new one can be loaded.

    Raises:
        PublishError: the disk is full, or the folder is not writable.
        BundleError: the policy has become invalid.
    """
    name = manifest.name
    hold = comparison is not None and comparison.worse and not force
    try:
        if hold and comparison is not None and not has_stable(models, name):
            pin_serving(models, name, comparison.version)
        folder = write_bundle(models, manifest, files)
    except OSError as error:
        raise _create_publish_error(models / name, error.strerror) from None
    excluded = force and find_serving_version(models, name) != int(folder.name)
    if not hold and (excluded or has_stable(models, name)):
        set_alias(models, name, folder.name, STABLE)
    return Publication(folder, manifest, find_serving_version(models, name), comparison)


def _create_publish_error(home: Path, reason: str | None) -> PublishError:
    return PublishError(
        f"No model can be published in {home}: {reason}. Choose another folder with --models."
    )

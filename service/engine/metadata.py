"""What a version says of itself while nothing of it is in memory."""

import os

from service.bundle.disk import require_regular
from service.bundle.inputs import input_datatype, input_name, input_shape
from service.bundle.manifest import Manifest
from service.bundle.outputs import ClassesOutput, output_name, output_width
from service.bundle.store import EXAMPLES, MANIFEST, MODEL, read_manifest, require_sizes
from service.engine.foreign import Labels
from service.engine.model_info import About
from service.engine.repository import Candidate
from service.engine.session import TensorSpec


def peek(candidate: Candidate, device: str, max_batch_rows: int) -> About | None:
    """Read a bundle's manifest and see that its files have their sizes; digests wait for the load.

    Returns:
        What the manifest says; None of a bare model, which says nothing before it is opened.

    Raises:
        BundleError: the manifest is missing or wrong, or a file is missing, not a regular file, or
            truncated.
    """
    if is_bare(candidate):
        require_regular(candidate.folder / MODEL)
        return None
    manifest = read_manifest(candidate.folder)
    require_sizes(candidate.folder, manifest)
    return About(
        name=candidate.name,
        version=candidate.version,
        folder=candidate.folder,
        device=device,
        manifest=manifest,
        inputs=(input_spec(manifest),),
        outputs=(output_spec(manifest),),
        labels=labels_of(manifest),
        max_batch_rows=max_batch_rows,
    )


def is_bare(candidate: Candidate) -> bool:
    """Whether a version holds a graph and nothing of a bundle, not even a link to nowhere."""
    return not any(os.path.lexists(candidate.folder / name) for name in (MANIFEST, EXAMPLES))


def input_spec(manifest: Manifest) -> TensorSpec:
    """The one input that a bundle's graph has."""
    taken = manifest.input
    return TensorSpec(input_name(taken), input_datatype(taken), (-1, *input_shape(taken)))


def output_spec(manifest: Manifest) -> TensorSpec:
    """The one output that a bundle's graph has."""
    output = manifest.output
    return TensorSpec(output_name(output), "FP32", (-1, output_width(output)))


def labels_of(manifest: Manifest) -> Labels:
    """What a bundle's classes are called, by output."""
    output = manifest.output
    return {output_name(output): output.labels} if isinstance(output, ClassesOutput) else {}

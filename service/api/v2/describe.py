"""What the protocol tells of a model: metadata and configuration."""

from service.bundle.manifest import ImageInput
from service.engine.model import ModelInfo
from service.engine.registry import Registry
from service.engine.tensors import TensorSpec

_PLATFORM = "onnx_onnxv1"
_IMAGE_AXES = 3
_CHANNELS = {1, 3, 4}
_CONFIGURED = {"BYTES": "TYPE_STRING"}


def metadata(about: ModelInfo, registry: Registry) -> dict[str, object]:
    """Versions that serve, and the graph's tensors."""
    ready = [entry.version for entry in registry.versions(about.name) if entry.serves]
    return {
        "name": about.name,
        "versions": sorted(ready, key=int),
        "platform": _PLATFORM,
        "inputs": [_tensor(spec) for spec in about.inputs],
        "outputs": [_tensor(spec) for spec in about.outputs],
    }


def config(about: ModelInfo) -> dict[str, object]:
    """Triton's model configuration; with a batch size the first axis is not among the dims."""
    size = _most_rows(about)
    inputs = [
        _configured(spec, batched=size > 0) | {"format": _format(about, spec, batched=size > 0)}
        for spec in about.inputs
    ]
    return {
        "name": about.name,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "max_batch_size": size,
        "input": inputs,
        "output": [_configured(spec, batched=size > 0) for spec in about.outputs],
    }


def _tensor(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}


def _most_rows(about: ModelInfo) -> int:
    """The longest first axis that all tensors share: any, exactly one, or 0 where they do not."""
    rows = {spec.shape[0] if spec.shape else 0 for spec in (*about.inputs, *about.outputs)}
    if rows == {-1}:
        return about.max_batch_rows
    return 1 if rows == {1} else 0


def _format(about: ModelInfo, spec: TensorSpec, *, batched: bool) -> str:
    """The layout of an image in a tensor: the axis with as many entries as colors tells."""
    if about.manifest is not None:
        return "FORMAT_NHWC" if isinstance(about.manifest.input, ImageInput) else "FORMAT_NONE"
    dims = spec.shape[1:] if batched else spec.shape
    if len(dims) == _IMAGE_AXES and dims[0] in _CHANNELS:
        return "FORMAT_NCHW"
    if len(dims) == _IMAGE_AXES and dims[-1] in _CHANNELS:
        return "FORMAT_NHWC"
    return "FORMAT_NONE"


def _configured(spec: TensorSpec, *, batched: bool) -> dict[str, object]:
    kind = _CONFIGURED.get(spec.datatype, f"TYPE_{spec.datatype}")
    return {
        "name": spec.name,
        "data_type": kind,
        "dims": spec.shape[1:] if batched else spec.shape,
    }

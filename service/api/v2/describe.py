"""What the protocol tells of a model: metadata, configuration, statistics."""

from service.engine.model import ServedModel
from service.engine.registry import Registry
from service.engine.session import TensorSpec
from service.engine.statistics import Duration, Statistics

_PLATFORM = "onnx_onnxv1"
_PICTURE_AXES = 3
_CHANNELS = {1, 3, 4}
_CONFIGURED = {"BYTES": "TYPE_STRING"}


def metadata(model: ServedModel, registry: Registry) -> dict[str, object]:
    """Versions that serve, and the graph's tensors."""
    ready = [entry.version for entry in registry.versions(model.name) if entry.model]
    return {
        "name": model.name,
        "versions": sorted(ready, key=int),
        "platform": _PLATFORM,
        "inputs": [_tensor(spec) for spec in model.inputs],
        "outputs": [_tensor(spec) for spec in model.outputs],
    }


def config(model: ServedModel) -> dict[str, object]:
    """Triton's model configuration; with a batch size the first axis is not among the dims."""
    size = _most_rows(model)
    inputs = [
        _configured(spec, batched=size > 0) | {"format": _format(spec, batched=size > 0)}
        for spec in model.inputs
    ]
    return {
        "name": model.name,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "max_batch_size": size,
        "input": inputs,
        "output": [_configured(spec, batched=size > 0) for spec in model.outputs],
    }


def statistics(model: ServedModel) -> dict[str, object]:
    """What this process counted since it loaded the model."""
    counted = model.statistics
    return {
        "name": model.name,
        "version": model.version,
        "last_inference": counted.last_inference,
        "inference_count": counted.inference_count,
        "execution_count": counted.execution_count,
        "inference_stats": _phases(counted),
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": _duration(Duration(runs.count)),
                "compute_infer": _duration(runs),
                "compute_output": _duration(Duration(runs.count)),
            }
            for rows, runs in sorted(counted.runs_by_rows.items())
        ],
    }


def _phases(counted: Statistics) -> dict[str, object]:
    phases = {
        "success": counted.success,
        "fail": counted.fail,
        "queue": counted.queue,
        "compute_input": counted.compute_input,
        "compute_infer": counted.compute_infer,
        "compute_output": counted.compute_output,
        "cache_hit": Duration(),
        "cache_miss": Duration(),
    }
    return {name: _duration(duration) for name, duration in phases.items()}


def _duration(duration: Duration) -> dict[str, int]:
    return {"count": duration.count, "ns": duration.ns}


def _tensor(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}


def _most_rows(model: ServedModel) -> int:
    """The longest first axis that all tensors share: any, exactly one, or 0 where they do not."""
    rows = {spec.shape[0] if spec.shape else 0 for spec in (*model.inputs, *model.outputs)}
    if rows == {-1}:
        return model.max_batch_rows
    return 1 if rows == {1} else 0


def _format(spec: TensorSpec, *, batched: bool) -> str:
    """How a picture lies in a tensor, told by which axis has as many entries as colours."""
    dims = spec.shape[1:] if batched else spec.shape
    if len(dims) == _PICTURE_AXES and dims[0] in _CHANNELS:
        return "FORMAT_NCHW"
    if len(dims) == _PICTURE_AXES and dims[-1] in _CHANNELS:
        return "FORMAT_NHWC"
    return "FORMAT_NONE"


def _configured(spec: TensorSpec, *, batched: bool) -> dict[str, object]:
    kind = _CONFIGURED.get(spec.datatype, f"TYPE_{spec.datatype}")
    return {
        "name": spec.name,
        "data_type": kind,
        "dims": spec.shape[1:] if batched else spec.shape,
    }

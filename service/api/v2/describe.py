"""What the protocol tells of a model: metadata, configuration, statistics."""

from service.engine.model import ServedModel
from service.engine.registry import Registry
from service.engine.session import TensorSpec
from service.engine.statistics import Duration, Statistics

_PLATFORM = "onnx_onnxv1"
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
    tensors = (*model.inputs, *model.outputs)
    batched = all(spec.shape and spec.shape[0] == -1 for spec in tensors)
    size = model.max_batch_rows if batched else 0
    return {
        "name": model.name,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "max_batch_size": size,
        "input": [
            _configured(spec, batched=batched) | {"format": "FORMAT_NONE"} for spec in model.inputs
        ],
        "output": [_configured(spec, batched=batched) for spec in model.outputs],
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


def _configured(spec: TensorSpec, *, batched: bool) -> dict[str, object]:
    kind = _CONFIGURED.get(spec.datatype, f"TYPE_{spec.datatype}")
    return {
        "name": spec.name,
        "data_type": kind,
        "dims": spec.shape[1:] if batched else spec.shape,
    }

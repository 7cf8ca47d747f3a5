"""What the protocol tells of a model: the state of its versions, and its tensors."""

from collections.abc import Sequence

from service.engine.model import ModelInfo
from service.engine.registry import Entry, State
from service.engine.tensors import TensorSpec

_STATES = {
    "LOADING": "LOADING",
    "READY": "AVAILABLE",
    "UNLOADING": "UNLOADING",
    "UNAVAILABLE": "END",
}
_TYPES = {
    "BOOL": "DT_BOOL",
    "FP16": "DT_HALF",
    "FP32": "DT_FLOAT",
    "FP64": "DT_DOUBLE",
    "BYTES": "DT_STRING",
}


def status(name: str, entries: Sequence[Entry], *, draining: bool) -> dict[str, object]:
    """TensorFlow Serving's ``model_version_status`` and KServe's ``ready`` in one object."""
    return {
        "name": name,
        "ready": not draining and any(entry.state is State.READY for entry in entries),
        "model_version_status": [_version_status(entry) for entry in entries],
    }


def metadata(about: ModelInfo) -> dict[str, object]:
    """The graph's tensors as the one signature that a model here has."""
    signature = {
        "inputs": {spec.name: _tensor(spec) for spec in about.inputs},
        "outputs": {spec.name: _tensor(spec) for spec in about.outputs},
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {"name": about.name, "signature_name": "", "version": about.version},
        # The signatures are one field of a message that is itself so called.
        "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
    }


def _version_status(entry: Entry) -> dict[str, object]:
    failed = entry.state is not State.READY and bool(entry.reason)
    return {
        "version": entry.version,
        "state": _STATES.get(entry.state, "UNKNOWN"),
        "status": {
            "error_code": "UNAVAILABLE" if failed else "OK",
            "error_message": entry.reason,
        },
    }


def _tensor(spec: TensorSpec) -> dict[str, object]:
    return {
        "dtype": _TYPES.get(spec.datatype, f"DT_{spec.datatype}"),
        "tensor_shape": {
            "dim": [{"size": str(axis), "name": ""} for axis in spec.shape],
            "unknown_rank": False,
        },
        "name": spec.name,
    }

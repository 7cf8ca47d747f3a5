"""Information about models: to choose one, to use it, and to judge its quality."""

from collections.abc import Sequence

from service.bundle.errors import BundleError
from service.bundle.features import CategoryFeature, FeaturesInput
from service.bundle.manifest import Evaluation, ImageInput, Manifest, ValueOutput
from service.bundle.store import REPORT, read_verified
from service.codecs.columns import ColumnCodec, has_columns
from service.codecs.graph_images import find_images
from service.engine.model import Execution, ModelInfo
from service.engine.registry import Entry, Registry
from service.errors import NotFound

# The metric to compare models by, for each task; a model without it shows its first metric.
_MAIN_METRIC = {"regression": "rmse", "binary": "accuracy", "multiclass": "accuracy"}
# Of each model in the list; a table may have thousands of columns.
_LISTED_FEATURES = 8


def summarize(entry: Entry) -> dict[str, object]:
    """Return the information by which users choose a model."""
    info: dict[str, object] = {"name": entry.name, "version": entry.version, "ready": entry.serves}
    if not entry.serves:
        return info | {"reason": entry.reason}
    if entry.is_lazy:
        info["in_memory"] = False
    if entry.info is None:
        return info
    if entry.info.manifest is not None:
        info |= _summarize_manifest(entry.info.manifest)
    return info | {"device": entry.info.device}


def describe(registry: Registry, entry: Entry, versions: Sequence[Entry]) -> dict[str, object]:
    """Return everything about a version, and all versions of its model with its aliases."""
    return {
        **summarize(entry),
        **_describe_content(entry),
        "versions": _list_versions(versions),
        "aliases": _list_aliases(registry, entry.name),
    }


def _describe_content(entry: Entry) -> dict[str, object]:
    """Return the content of the manifest, and how the model is executed."""
    info: dict[str, object] = {}
    if entry.model is not None:
        info["execution"] = entry.model.execution
        if entry.info is not None and entry.info.execution is not None:
            info["execution_details"] = _describe_execution(entry.info, entry.info.execution)
    if entry.info is None:
        return info
    if entry.info.manifest is None:
        return info | _describe_graph(entry.info)
    manifest = entry.info.manifest
    stated = manifest.model_dump(mode="json", exclude_none=True)
    if isinstance(manifest.input, ImageInput):
        info["image"] = stated["input"]
    else:
        info["features"] = stated["input"]["features"]
    parts = ("output", "scaler", "evaluation", "provenance")
    return info | {key: stated[key] for key in parts if key in stated}


def _describe_graph(model: ModelInfo) -> dict[str, object]:
    """Return the inputs and the outputs of a graph of images, or with an input for each column."""
    images = find_images(model.inputs, model.folder)
    described: dict[str, object]
    if images is not None and images.pixels is not None:
        described = {"input": "image", "image": images.image.model_dump(mode="json")}
    elif has_columns(model.inputs):
        described = {"input": "features", "features": _describe_columns(model)}
    else:
        return {}
    outputs = [
        {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}
        | ({"labels": model.labels[spec.name]} if spec.name in model.labels else {})
        for spec in model.outputs
    ]
    return described | {"outputs": outputs}


def _describe_columns(model: ModelInfo) -> list[dict[str, str]]:
    """Return the features of a graph with an input for each column."""
    return [
        {
            "name": feature.name,
            "type": "string" if isinstance(feature, CategoryFeature) else feature.type,
            "datatype": spec.datatype,
        }
        for feature, spec in zip(ColumnCodec(model.inputs).features, model.inputs, strict=True)
    ]


def _describe_execution(model: ModelInfo, execution: Execution) -> dict[str, object]:
    """Return how a version is executed, why, and what was measured when it was loaded."""
    info: dict[str, object] = {
        "mode": execution.mode,
        "chosen_by": execution.chosen_by,
        "threads": execution.threads,
        "max_batch_rows": model.shared_batch_rows,
    }
    if execution.row_seconds is not None:
        info["row_microseconds"] = round(execution.row_seconds * 1e6, 1)
        info["batch_rows_bitwise"] = execution.rows_bitwise
    return info


def _list_versions(entries: Sequence[Entry]) -> list[dict[str, object]]:
    """Return each version of a model with its state and the reason for it."""
    return [
        {
            "version": entry.version,
            "state": entry.state,
            **({"reason": entry.reason} if entry.reason else {}),
        }
        for entry in entries
    ]


def _list_aliases(registry: Registry, name: str) -> dict[str, object]:
    """Return the aliases of a model: the serving version, and the one that is still loading.

    An alias of a traffic split also has its share of the requests without a version; an alias of a
    shadow has the share of these requests that are copied to it.
    """
    published = registry.published(name)
    info: dict[str, object] = {}
    for alias, version in published.aliases.items():
        serving = published.routes.get(alias)
        waits = {"waits_for": version} if serving != version else {}
        share = {"share": published.split[alias]} if alias in published.split else {}
        shadow = {"shadow": published.shadow[alias].share} if alias in published.shadow else {}
        info[alias] = {"version": serving} | waits | share | shadow
    return info


def read_evaluation(model: ModelInfo) -> dict[str, object]:
    """Return the metrics of a model on its test set, and those of a baseline.

    Raise `NotFound` if the model has no evaluation.
    """
    manifest = model.manifest
    if manifest is None or manifest.evaluation is None:
        raise NotFound(
            f"Model {model.name!r} has no evaluation; training writes one into a bundle."
        )
    return {
        "name": model.name,
        "version": model.version,
        "metric": _choose_metric(manifest, manifest.evaluation),
        **manifest.evaluation.model_dump(mode="json", exclude_none=True),
    }


def read_report(model: ModelInfo) -> bytes:
    """Return the report of training; raise `NotFound` if there is none, or the file has changed."""
    if model.manifest is None or REPORT not in model.manifest.files:
        raise NotFound(f"Model {model.name!r} has no report; training writes one into a bundle.")
    try:
        return read_verified(model.folder, REPORT, model.manifest.files[REPORT])
    except BundleError as error:
        raise NotFound(f"The report of model {model.name!r} cannot be shown: {error}.") from None


def _summarize_manifest(manifest: Manifest) -> dict[str, object]:
    output = manifest.output
    output_info: dict[str, object] = {"name": output.name}
    if not isinstance(output, ValueOutput):
        output_info["labels"] = output.labels
    elif output.unit is not None:
        output_info["unit"] = output.unit
    info: dict[str, object] = {
        "title": manifest.title,
        "description": manifest.description,
        "task": manifest.task,
        "input": manifest.input.kind,
        "output": output_info,
    }
    if isinstance(manifest.input, FeaturesInput):
        names = [feature.name for feature in manifest.input.features]
        info |= {"feature_count": len(names), "feature_names": names[:_LISTED_FEATURES]}
    if manifest.evaluation is not None:
        info["metric"] = _choose_metric(manifest, manifest.evaluation)
    return info


def _choose_metric(manifest: Manifest, evaluation: Evaluation) -> dict[str, object]:
    name = _MAIN_METRIC[manifest.task]
    if name not in evaluation.metrics:
        name = next(iter(evaluation.metrics))
    found, baseline = evaluation.metrics, evaluation.baseline.metrics
    info: dict[str, object] = {"name": name, "value": found[name], "rows": evaluation.rows}
    if name in baseline:
        info["baseline"] = baseline[name]
    if name == "rmse" and "mae" in found:
        info["mae"] = found["mae"]
        if "mae" in baseline:
            info["baseline_mae"] = baseline["mae"]
    return info

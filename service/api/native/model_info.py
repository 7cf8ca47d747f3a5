"""What a model tells of itself: enough to choose one, to use it, and to judge it."""

from collections.abc import Sequence

from service.bundle.errors import BundleError
from service.bundle.manifest import Evaluation, ImageInput, Manifest, ValueOutput
from service.bundle.store import REPORT, read_part
from service.engine.model import Execution, ModelInfo
from service.engine.registry import Entry, Registry
from service.errors import NotFound

# The figure that people compare first, by task; where a model lacks it, its own first one.
_MAIN_METRIC = {"regression": "rmse", "binary": "accuracy", "multiclass": "accuracy"}


def summary(entry: Entry) -> dict[str, object]:
    """What a person needs to choose a model."""
    info: dict[str, object] = {"name": entry.name, "version": entry.version}
    info |= {"ready": entry.serves}
    if not entry.serves:
        return info | {"reason": entry.reason}
    if entry.lazy:
        info |= {"in_memory": False}
    if entry.info is None:
        return info
    if entry.info.manifest is not None:
        info |= _choice(entry.info.manifest)
    return info | {"device": entry.info.device}


def facts(entry: Entry) -> dict[str, object]:
    """Everything the manifest says, and how the model is served."""
    info: dict[str, object] = {}
    if entry.model is not None:
        info |= {"execution": entry.model.execution}
    if entry.model is not None and entry.info is not None and entry.info.execution is not None:
        info |= {"execution_details": _details(entry.info, entry.info.execution)}
    if entry.info is None or entry.info.manifest is None:
        return info
    manifest = entry.info.manifest
    stated = manifest.model_dump(mode="json", exclude_none=True)
    if isinstance(manifest.input, ImageInput):
        info |= {"image": stated["input"]}
    else:
        info |= {"features": stated["input"]["features"]}
    return info | {
        key: stated[key]
        for key in ("output", "scaler", "evaluation", "provenance")
        if key in stated
    }


def _details(about: ModelInfo, execution: Execution) -> dict[str, object]:
    """How a version is run, why so, and what was measured when it was loaded."""
    info: dict[str, object] = {"mode": execution.mode, "chosen_by": execution.chosen_by}
    info |= {"threads": execution.threads, "max_batch_rows": about.shared_batch_rows}
    if execution.row_seconds is not None:
        info |= {"row_microseconds": round(execution.row_seconds * 1e6, 1)}
        info |= {"batch_rows_bitwise": execution.rows_bitwise}
    return info


def versions(entries: Sequence[Entry]) -> list[dict[str, object]]:
    """Each version of a model with its state, and the reason where there is one."""
    info: list[dict[str, object]] = []
    for entry in entries:
        reason = {"reason": entry.reason} if entry.reason else {}
        info.append({"version": entry.version, "state": entry.state, **reason})
    return info


def aliases(registry: Registry, name: str) -> dict[str, object]:
    """By alias, the version that answers, and the one that it waits for where that is another.

    An alias that the traffic is split by has its share of the requests without a version, and one
    that shadows the serving version the share of them that it gets copies of.
    """
    offer = registry.published(name)
    info: dict[str, object] = {}
    for alias, version in offer.aliases.items():
        answering = offer.routes.get(alias)
        waits = {"waits_for": version} if answering != version else {}
        share = {"share": offer.split[alias]} if alias in offer.split else {}
        shadow = {"shadow": offer.shadow[alias].share} if alias in offer.shadow else {}
        info[alias] = {"version": answering} | waits | share | shadow
    return info


def evaluation(about: ModelInfo) -> dict[str, object]:
    """How good a model is on rows that it never saw, beside a naive baseline.

    Raises:
        NotFound: nobody measured it.
    """
    manifest = about.manifest
    if manifest is None or manifest.evaluation is None:
        raise NotFound(f"Nobody measured model {about.name!r}: it has no evaluation to tell.")
    info: dict[str, object] = {"name": about.name, "version": about.version}
    info |= {"metric": _main_metric(manifest, manifest.evaluation)}
    return info | manifest.evaluation.model_dump(mode="json", exclude_none=True)


def report(about: ModelInfo) -> bytes:
    """The report that training wrote, as it was digested.

    Raises:
        NotFound: the model has none, or the file has changed since.
    """
    if about.manifest is None or REPORT not in about.manifest.files:
        raise NotFound(f"Model {about.name!r} has no report; training writes one into a bundle.")
    try:
        return read_part(about.folder, about.manifest, REPORT)
    except BundleError as error:
        raise NotFound(f"The report of model {about.name!r} cannot be shown: {error}.") from None


def _choice(manifest: Manifest) -> dict[str, object]:
    """What it is about, what it takes and answers, and how good it is."""
    output = manifest.output
    answered: dict[str, object] = {"name": output.name}
    if not isinstance(output, ValueOutput):
        answered |= {"labels": output.labels}
    elif output.unit is not None:
        answered |= {"unit": output.unit}
    info: dict[str, object] = {
        "title": manifest.title,
        "description": manifest.description,
        "task": manifest.task,
        "input": manifest.input.kind,
        "output": answered,
    }
    measured = manifest.evaluation
    return info if measured is None else info | {"metric": _main_metric(manifest, measured)}


def _main_metric(manifest: Manifest, measured: Evaluation) -> dict[str, object]:
    name = _MAIN_METRIC[manifest.task]
    if name not in measured.metrics:
        name = next(iter(measured.metrics))
    baseline = measured.baseline.metrics.get(name)
    info: dict[str, object] = {"name": name, "value": measured.metrics[name]}
    return info | ({} if baseline is None else {"baseline": baseline})

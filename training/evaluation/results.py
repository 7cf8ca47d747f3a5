"""The results page: every published model, evaluated and compared with its target."""

from collections.abc import Iterator
from pathlib import Path

from service.bundle.manifest import Manifest
from service.bundle.store import read_bundle, versions_in
from service.bundle.versions import published_names
from training.data.sources import Folders
from training.evaluation.baselines import FIGURES, Figure, picture_bundle, picture_figures, trial_of
from training.export.published import open_model


def results_page(models: Path, folders: Folders, also: Path | None = None) -> str:
    """The page in Markdown.

    Args:
        models: the published models.
        folders: where data may lie.
        also: models that are too large to ship, measured all the same.

    Raises:
        TrainingError: a model or its data set cannot be read.
    """
    lines = [_HEAD]
    homes = dict.fromkeys(published_names(models), models)
    if also is not None:
        homes = dict.fromkeys(published_names(also), also) | homes
    for name, home in sorted(homes.items()):
        lines += [_row(name, figure) for figure in _figures(home, name, folders)]
    lines.append(_MADE)
    for name, home in sorted(homes.items()):
        newest = home / name / str(versions_in(home / name)[-1])
        lines.append(_made(read_bundle(newest).manifest))
    return "\n".join(lines) + "\n"


def _figures(models: Path, name: str, folders: Folders) -> Iterator[Figure]:
    pictures = picture_bundle(models, name)
    if pictures is not None:
        yield from picture_figures(pictures, folders)
    elif name in FIGURES:
        yield from FIGURES[name](trial_of(open_model(models, name), models, folders))


def _row(name: str, figure: Figure) -> str:
    holds = "yes" if figure.holds else "**no**"
    return f"| `{name}` | {figure.claim} | {figure.measured} | {holds} |"


def _made(manifest: Manifest) -> str:
    made, evaluation = manifest.provenance, manifest.evaluation
    if made is None:
        return f"| `{manifest.name}` | | | | | |"
    measured = "not measured"
    if evaluation is not None and evaluation.part == "test":
        measured = f"{evaluation.rows:,} test rows"
    elif evaluation is not None:
        measured = f"{evaluation.folds} folds"
    digest = manifest.files["model.onnx"]
    return (
        f"| `{manifest.name}` | {made.split.training:,} | {measured} | {made.seed} "
        f"| {made.duration_seconds:g} s | `{digest.sha256[:16]}`, {digest.bytes / 1024:,.0f} KiB |"
    )


_HEAD = """\
# Results

`onward results` generates this page; do not edit it by hand.
It evaluates every published model and compares it with another solver or library on the same rows.

Gradient boosting is scikit-learn's `HistGradientBoostingRegressor` with its defaults, fitted on \
every row outside the test set.

| model | target | measured | reached |
| --- | --- | --- | --- |"""

_MADE = """
## Training runs

The time is that of the whole run on one machine with two CPU cores: reading, fitting with all \
folds, evaluation, export and self-test.
The same recipe, seed and machine reproduce the digest of `model.onnx`.

| model | training rows | evaluated on | seed | time | sha256 of `model.onnx` |
| --- | --- | --- | --- | --- | --- |"""

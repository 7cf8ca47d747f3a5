"""The training commands, and the text that they print."""

import base64
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np

from service.bundle.manifest import NAME_PATTERN, Evaluation, ImageInput, Manifest
from service.bundle.store import list_versions, read_bundle
from service.bundle.versions import list_model_names, require_versions
from service.imaging.preprocess import create_example_image
from service.spelling import format_count
from training.autorecipe.corrections import NONE, Corrections
from training.autorecipe.draft import Draft, derive_model_name, draft
from training.autorecipe.images import draft_images
from training.autorecipe.splits import GUESSED, RequestedSplit
from training.data.csv import format_path, read_csv, readable_name
from training.data.rows import load_rows
from training.data.sources import Folders
from training.errors import DataError
from training.evaluation.metrics import HEADLINES, describe_below_baseline, describe_split
from training.evaluation.published import measure_on, open_measurable
from training.evaluation.results import render_results
from training.export.publish import Publication
from training.image_run import run as run_images
from training.images.checkpoint import CheckpointOptions
from training.importing.images import ImageOptions, import_image_model
from training.importing.options import ImportOptions
from training.importing.publication import import_model
from training.mlflow import MlflowModel, read_mlflow
from training.race import Candidate, can_compare, race
from training.recipe.image import ImageRecipe
from training.recipe.loader import format_toml, read_any, recipe_names
from training.recipe.table import Recipe
from training.run import run


def train(  # noqa: PLR0913 - the options of the command
    recipe: Recipe | ImageRecipe,
    models: Path,
    folders: Folders,
    checkpoints: CheckpointOptions,
    *,
    force: bool = False,
    candidates: Sequence[Candidate] = (),
) -> None:
    """Run the recipe, and report its metrics, whether it serves, and how to call it."""
    created = not models.exists()
    if isinstance(recipe, ImageRecipe):
        published = run_images(recipe, models, folders, checkpoints, force=force)
    else:
        compared = [candidate.describe() for candidate in candidates]
        published = run(recipe, models, folders, force=force, candidates=compared)
    if created:
        print_line(f"Created the models folder {models.resolve()}; use --models to choose another.")
    _report(published)


def list_recipes(models: Path) -> None:
    """List the shipped recipes with their published versions."""
    for name in recipe_names():
        versions = ", ".join(map(str, list_versions(models / name))) or "none"
        print_line(f"{name:<18} {read_any(name).title}  [published: {versions}]")


def new(  # noqa: PLR0913 - the options of the command
    csv: Path,
    target: str,
    name: str | None,
    family: str | None,
    *,
    split: RequestedSplit = GUESSED,
    corrections: Corrections = NONE,
) -> Recipe:
    """Infer a recipe for a CSV file, and report everything that was inferred.

    Raise `DataError` if the file is not a table that a model can be trained on.
    """
    if name is not None and not re.fullmatch(NAME_PATTERN, name):
        raise DataError(
            f"--name {name!r} has letters that no name of a model has. Write letters, digits, "
            f"points, hyphens and underscores, as in {derive_model_name(name)}."
        )
    table = read_csv(csv, corrections.layout)
    name = name or derive_model_name(Path(table.name).stem)
    drafted = draft(
        table,
        format_path(csv),
        target,
        name,
        family,
        requested=split,
        corrections=corrections,
    )
    rows, columns = (
        format_count(table.frame.height, "row"),
        format_count(table.frame.width, "column"),
    )
    print_line(f"{table.name}: {rows}, {columns}.")
    print_line(_format_columns(drafted))
    return drafted.recipe


def compare_families(recipe: Recipe, folders: Folders) -> list[Candidate]:
    """Compare the families that fit the target of a drafted recipe, and report each.

    The best comes first; there is none for very small tables. Raise `TrainingError` if the rows
    cannot be read or no family can be fitted.
    """
    loaded = load_rows(recipe, folders)
    if not can_compare(recipe, loaded):
        return []
    print_line("Comparing model families:")
    candidates = race(recipe, loaded, print_line)
    folds = len(candidates[0].losses)
    where = f"the mean of {folds} folds" if folds > 1 else "one fold"
    print_line(f"Chosen: {candidates[0].family}, by {where}. Use --family to choose another.")
    return candidates


def new_images(folder: Path, name: str | None, side: int | None) -> ImageRecipe:
    """Infer a recipe for a folder of images, and report everything that was inferred.

    Raise `DataError` if the folder has no images that a model can be trained on.
    """
    drafted = draft_images(folder, name or derive_model_name(folder.resolve().name), side)
    print_line("\n".join(drafted.remarks))
    return drafted.recipe


def write_recipe(recipe: Recipe | ImageRecipe, path: Path) -> bool:
    """Write the recipe as TOML; a different recipe is never overwritten.

    Return whether the file is new. Raise `DataError` if it exists or cannot be written.
    """
    text = format_toml(recipe)
    try:
        if path.is_file() and path.read_bytes() == text.encode():
            print_line(f"{path} already contains this recipe")
            return False
        if path.is_dir():
            raise DataError(f"{path} is a folder; give the path of the recipe with --recipe.")
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise DataError(
            f"{path} already contains another recipe. Train that one with `onward train {path}`, "
            "remove it, or choose another path with --recipe."
        ) from None
    except OSError as error:
        raise DataError(
            f"The recipe {path} cannot be written: {error.strerror}. "
            "Choose another path with --recipe."
        ) from None
    print_line(f"Wrote {path}")
    return True


def evaluate(
    model: str, csv: Path, models: Path, target: str | None = None, values: Sequence[str] = ()
) -> None:
    """Measure a published model, by default the version that serves, on the rows of a CSV file.

    ``target`` names the target column for an imported model, and ``values`` how it writes labels.
    """
    published = open_measurable(models, model, target, values)
    rows, metrics = measure_on(published, csv)
    source = f"{format_count(rows, 'row')} of {readable_name(csv)}"
    print_line(f"{published.manifest.name}/{published.version} on {source}:")
    for metric, value in metrics.items():
        print_line(f"  {metric:<28} {value:.6g}")


def compare(models: Path, names: list[str]) -> None:
    """List the metrics of models and versions.

    Metrics can be compared if the digest of the data and the number of test rows are equal. Raise
    `BundleError` if there is no model with one of the names.
    """
    published = {name: require_versions(models, name) for name in names or list_model_names(models)}
    print_line(f"{'model':<24} {'data':<9} {'measured on':<22} metrics")
    for name, versions in published.items():
        for version in versions:
            manifest = read_bundle(models / name / str(version)).manifest
            data = manifest.provenance.data.sha256[:8] if manifest.provenance else "-"
            evaluation = manifest.evaluation
            measured, figures = "-", "-"
            if evaluation is not None:
                measured = f"{evaluation.part} ({evaluation.rows})"
                figures = "  ".join(
                    f"{metric} {evaluation.metrics[metric]:.4g}"
                    for metric in HEADLINES
                    if metric in evaluation.metrics
                )
            print_line(f"{name + '/' + str(version):<24} {data:<9} {measured:<22} {figures}")


def import_onnx(
    path: Path,
    document: dict[str, Any],
    csv: Path | None,
    models: Path,
    options: ImportOptions,
) -> None:
    """Import an ONNX file, or that of an MLflow model's folder, and report the result."""
    if path.is_dir():
        found, document = _read_folder(path, document)
        path = found.path
        if found.features:
            document = {"features": found.features} | document
    _report(import_model(path, document, csv, models, options))


def import_images(
    path: Path, document: dict[str, Any], options: ImageOptions, models: Path
) -> None:
    """Import a model of images like `import_onnx`, and report the result."""
    if path.is_dir():
        found, document = _read_folder(path, document)
        path = found.path
    _report(import_image_model(path, options, document, models))


def _read_folder(folder: Path, document: dict[str, Any]) -> tuple[MlflowModel, dict[str, Any]]:
    """Return the MLflow model of a folder, and the document with the folder's name as defaults."""
    name = folder.resolve().name
    return read_mlflow(folder), {"name": derive_model_name(name), "title": name} | document


def results(models: Path, folders: Folders, page: Path, also: Path | None) -> None:
    """Compare every published model with other solvers, and write the results page."""
    page.write_text(render_results(models, folders, also), encoding="utf-8")
    print_line(f"Wrote {page}")


def print_line(text: str) -> None:
    """Print a line; the command continues if nobody reads it, as with ``| head``."""
    with _closed_output():
        print(text)  # noqa: T201 - the output of the command line


def flush_lines() -> None:
    """Write the lines that are printed; those that nobody reads are dropped."""
    with _closed_output():
        sys.stdout.flush()


def write_any_letters() -> None:
    """Print letters that the terminal's encoding lacks as escape sequences."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def _closed_output() -> Iterator[None]:
    """Discard what is printed from now on if the reader of standard output has closed it."""
    try:
        yield
    except BrokenPipeError:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())


def _report(published: Publication) -> None:
    """Report the folder, the metrics, whether the version serves, and how to call it."""
    evaluation = published.manifest.evaluation
    worse = describe_below_baseline(evaluation)
    if worse:
        print_line(worse)
    print_line(f"Published {published.folder}")
    if published.remark:
        print_line(f"  * {published.remark}")
    if evaluation is not None:
        print_line(_summarize_evaluation(evaluation, published.rare))
    print_line(describe_next_steps(published))


def _summarize_evaluation(evaluation: Evaluation, rare: str | None) -> str:
    names = [*HEADLINES, *([f"recall[{rare}]", f"precision[{rare}]"] if rare else [])]
    rows = evaluation.rows
    part = {
        "test": f"{rows} test rows",
        "cross-validation": f"{rows} rows, {evaluation.folds}-fold cross-validation",
        "given": f"the {rows} given rows, which may include training rows",
    }[evaluation.part]
    part += describe_split(evaluation)
    lines = [f"Measured on {part}; baseline in parentheses: {evaluation.baseline.name}."]
    for name in names:
        if name in evaluation.metrics:
            baseline = evaluation.baseline.metrics.get(name, np.nan)
            lines.append(f"  {name:<18} {evaluation.metrics[name]:.4g}  ({baseline:.4g})")
    return "\n".join(lines)


def _format_columns(drafted: Draft) -> str:
    lines = [f"  {'column':<24} {'type':<10} {'missing':>8} {'distinct':>9}  note"]
    for column in drafted.columns:
        note = column.note if column.kind else f"not used: {column.note}"
        lines.append(
            f"  {column.name:<24} {column.kind or '-':<10} {column.missing:>8} "
            f"{column.distinct:>9}  {note}"
        )
    return "\n".join([*lines, *(f"  * {remark}" for remark in drafted.remarks)])


def describe_next_steps(publication: Publication) -> str:
    """Return whether the new version serves, and a curl command that calls it."""
    return "\n".join([*_describe_serving(publication), _format_curl(publication)])


def _describe_serving(publication: Publication) -> Iterator[str]:
    name, version, serving = publication.manifest.name, publication.version, publication.serving
    comparison = publication.comparison
    models = publication.folder.parents[1]
    option = (
        "" if str(models) == os.environ.get("ONWARD_MODELS", "models") else f" --models {models}"
    )
    if comparison is not None:
        yield comparison.summary
    if publication.serves:
        yield (
            f"{name} version {version} serves: a running service loads it within seconds; "
            f"start one with: onward serve{option}"
        )
        return
    if comparison is not None and comparison.worse:
        yield f"Version {version} is clearly worse than version {comparison.version}."
    remains = f"version {serving} still serves" if serving else "no version serves"
    yield (
        f"{name} version {version} does not serve; {remains}. "
        f"To serve it: onward publish {name} {version}{option}"
    )


def _format_curl(publication: Publication) -> str:
    port = os.environ.get("ONWARD_PORT", "")
    address = f"http://127.0.0.1:{port if port.isdecimal() else 8000}"
    version = "" if publication.serves else f"/versions/{publication.version}"
    path = f"/models/{publication.manifest.name}{version}/predict"
    body = shlex.quote(json.dumps(_create_example(publication.manifest), ensure_ascii=False))
    return f"  curl -s {address}{path} -H 'content-type: application/json' -d {body}"


def _create_example(manifest: Manifest) -> dict[str, object]:
    """Return the body of a request: an example row, or an example image in base64."""
    if isinstance(manifest.input, ImageInput):
        return {"image": base64.b64encode(create_example_image(manifest.input)).decode()}
    return {feature.name: feature.example for feature in manifest.input.features}

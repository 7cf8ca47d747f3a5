"""The training commands, and the text that they print."""

import itertools
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from service.bundle.manifest import NAME_PATTERN
from service.bundle.store import list_versions, read_bundle
from service.bundle.versions import list_model_names, require_versions
from service.spelling import format_count
from training.autorecipe.corrections import NONE, Corrections
from training.autorecipe.draft import derive_model_name, draft
from training.autorecipe.images import draft_images
from training.autorecipe.quality import describe_fit
from training.autorecipe.splits import GUESSED, RequestedSplit
from training.candidates import Candidate
from training.console import print_line, show_steps
from training.data.csv import format_path, readable_name
from training.data.files import read_table
from training.data.rows import load_rows
from training.data.sources import Folders
from training.data.table import Table
from training.errors import DataError
from training.evaluation.metrics import HEADLINES, describe_below_baseline
from training.evaluation.published import measure_on, open_measurable
from training.evaluation.results import render_results
from training.export.publish import Publication
from training.image_run import run as run_images
from training.images.checkpoint import CheckpointOptions
from training.importing.images import ImageOptions, import_image_model
from training.importing.options import ImportOptions
from training.importing.publication import import_model
from training.mlflow import MlflowModel, read_mlflow
from training.race import NO_LIMITS, Limits, can_compare, race
from training.recipe.families import list_candidates
from training.recipe.image import ImageRecipe
from training.recipe.loader import format_toml, read_any, recipe_names
from training.recipe.table import Recipe
from training.run import run
from training.search import SEARCH_EXAMPLE, Search, describe_trial, is_searched
from training.summary import (
    describe_next_steps,
    describe_quality,
    format_candidates,
    format_columns,
    summarize_evaluation,
    wrap,
)

# How long families take to be compared, relative to a linear one.
_COSTS = {"mlp": 20, "gradient-boosting": 5}

_TABLES_HEADING = "\n## Public tables\n"


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
        published = run(recipe, models, folders, force=force, candidates=candidates)
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
    table = _read_table(csv, corrections)
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
    print_line(format_columns(drafted))
    return drafted.recipe


def _read_table(path: Path, corrections: Corrections) -> Table:
    separator = corrections.separator
    if separator is None:
        return read_table(path, corrections.layout)
    hint = f"Check --separator {separator!r}, or leave it out: it is detected."
    try:
        table = read_table(path, corrections.layout)
    except DataError as error:
        raise DataError(f"{error} {hint}") from None
    if table.frame.width == 1:
        raise DataError(f"{table.name} has only one column with this separator. {hint}")
    return table


def compare_families(
    recipe: Recipe, folders: Folders, family: str | None = None, limits: Limits = NO_LIMITS
) -> list[Candidate]:
    """Compare the families that fit the target of a drafted recipe, and report each.

    The best comes first; there is none for very small tables. If the user has chosen a family, its
    variants are compared. The limits are those of the time. Raise `TrainingError` if the rows
    cannot be read or no family can be fitted.
    """
    loaded = load_rows(recipe, folders)
    if not can_compare(recipe, loaded):
        return []
    print_line("Comparing model families:" if family is None else "Measuring:")
    families = [family] if family else list_candidates(recipe.task)
    costs = {name: _COSTS.get(name, 1) for name in families}
    with show_steps("Comparing", costs) as report:
        candidates = race(recipe, loaded, report, [family] if family else None, limits)
    folds = len(candidates[0].losses)
    where = f"the mean of {folds} folds" if folds > 1 else "one fold"
    if family is None:
        print_line(f"Chosen: {candidates[0].family}, by {where}. Use --family to choose another.")
    return candidates


def new_images(folder: Path, name: str | None, side: int | None) -> ImageRecipe:
    """Infer a recipe for a folder of images, and report everything that was inferred.

    Raise `DataError` if the folder has no images that a model can be trained on.
    """
    drafted = draft_images(folder, name or derive_model_name(folder.resolve().name), side)
    print_line("\n".join(drafted.remarks))
    return drafted.recipe


def check_recipe_path(path: Path) -> None:
    """Check that a recipe can be written, before anything is trained.

    Raise `DataError` if it cannot.
    """
    try:
        if path.is_dir():
            raise DataError(f"{path} is a folder; give the path of the recipe with --recipe.")
        if not path.exists():
            path.touch()
            path.unlink()
    except OSError as error:
        raise _cannot_write(path, error) from None


def describe_model(recipe: Recipe | ImageRecipe) -> None:
    """Print which model of a table will be fitted, and how it will be measured."""
    if isinstance(recipe, Recipe):
        print_line("\n".join(wrap(line) for line in describe_fit(recipe)))


def write_recipe(recipe: Recipe | ImageRecipe, path: Path) -> Path | None:
    """Write the recipe as TOML; a different recipe, which may be edited, is never overwritten.

    If there is one, the file gets the next free number: ``name.2.toml``. Return the new file, or
    None if one of these files already contains the recipe. Raise `DataError` if it cannot be
    written.
    """
    text = format_toml(recipe).encode()
    for free in _number_paths(path):
        try:
            if free.is_file() and free.read_bytes() == text:
                print_line(f"{free} already contains this recipe")
                return None
            with free.open("xb") as file:
                file.write(text)
        except FileExistsError:
            continue
        except OSError as error:
            raise _cannot_write(free, error) from None
        edited = "" if free == path else f"; {path} has another recipe, and is unchanged"
        print_line(f"Wrote {free}{edited}")
        return free
    return None


def _number_paths(path: Path) -> Iterator[Path]:
    """Yield ``name.toml``, ``name.2.toml``, ``name.3.toml`` and so on."""
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.stem}.{number}{path.suffix}")


def _cannot_write(path: Path, error: OSError) -> DataError:
    return DataError(
        f"The recipe {path} cannot be written: {error.strerror}. Choose another path with --recipe."
    )


def search(  # noqa: PLR0913 - the options of the command
    name: str,
    words: Sequence[str],
    folders: Folders,
    *,
    trials: int,
    seconds: float,
    path: Path | None,
) -> None:
    """Search values of a recipe's keys, report each trial, and write the best recipe.

    ``words`` without a range or choices are overrides of all trials. The best recipe is written
    next to the given one or, for a shipped one, to the working folder. Raise `TrainingError` if
    the recipe cannot be searched.
    """
    fixed = [word for word in words if not is_searched(word)]
    recipe = read_any(name, fixed)
    if isinstance(recipe, ImageRecipe):
        raise DataError(f"{name} is a recipe for images; `onward search` is for tables.")
    if len(fixed) == len(words):
        raise DataError(f"Nothing to search: write key=low..high or key=a|b|c. {SEARCH_EXAMPLE}")
    path = path or Path(name if name.endswith(".toml") else f"{name}.toml")
    check_recipe_path(path)
    found = Search(name, fixed, [w for w in words if is_searched(w)], load_rows(recipe, folders))
    where = "one fold" if found.folds == 1 else f"the mean of {found.folds} folds"
    print_line(f"trial  {found.metric + ', ' + where:<24} values")
    print_line(f"{'given':>5}  {describe_trial(found.given)}")
    try:
        with show_steps("Searching", {str(number): 1 for number in range(1, trials + 1)}) as report:
            found.run(trials, seconds, report)
    except KeyboardInterrupt:
        print_line("Interrupted; the best of the finished trials follows.")
    best, given = found.best, found.given
    if best is given:
        print_line("No trial is better than the recipe as it is given.")
        return
    better = 1 - best.candidate.loss / given.candidate.loss
    print_line(
        f"Best: {found.metric} {best.candidate.loss:.4g}, {better:.1%} below the given recipe's "
        f"{given.candidate.loss:.4g}. The test set was not used."
    )
    write_recipe(best.candidate.recipe, path)
    print_line(f"  onward train {name} {shlex.join([*fixed, *best.overrides])}")


def evaluate(
    model: str, csv: Path, models: Path, target: str | None = None, values: Sequence[str] = ()
) -> None:
    """Measure a published model, by default the version that serves, on the rows of a CSV file.

    ``target`` names the target column for an imported model, and ``values`` how it writes labels.
    """
    published = open_measurable(models, model, target, values)
    measured = measure_on(published, csv)
    if measured.is_training_file:
        print_line(
            "These rows were used for training: these metrics are better than on new rows; "
            f"onward compare {model} lists the published ones."
        )
    source = f"{format_count(measured.rows, 'row')} of {readable_name(csv)}"
    print_line(f"{published.manifest.name}/{published.version} on {source}:")
    for metric, value in measured.metrics.items():
        print_line(f"  {metric:<28} {value:.6g}")


def compare(models: Path, names: list[str]) -> None:
    """List the metrics of models and versions, and the candidates of each model's newest version.

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
    for name, versions in published.items():
        newest = read_bundle(models / name / str(max(versions)))
        if lines := format_candidates(newest.manifest):
            print_line(lines)


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
    """Compare every published model with other solvers, and write the results page.

    The section on public tables, which other programs measure, stays as it is.
    """
    before = page.read_text(encoding="utf-8") if page.exists() else ""
    _, heading, tables = before.partition(_TABLES_HEADING)
    page.write_text(render_results(models, folders, also) + heading + tables, encoding="utf-8")
    print_line(f"Wrote {page}")


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
        print_line(summarize_evaluation(evaluation, published.rare))
    if quality := describe_quality(published.manifest):
        print_line(quality)
    print_line(describe_next_steps(published))

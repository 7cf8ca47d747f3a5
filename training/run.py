"""One training run on a table, from a recipe to a published bundle."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from service.bundle import manifest as contract
from service.bundle.manifest import output_name
from service.bundle.store import EXAMPLES, MODEL, REPORT, to_json
from training.autorecipe.quality import describe_caveats, find_rare_label
from training.data.rows import load_rows
from training.data.sources import Folders
from training.data.table import encode
from training.evaluation.assessment import assess
from training.evaluation.intervals import build_interval
from training.evaluation.metrics import describe_below_baseline
from training.export import onnx_export
from training.export.comparison import TestPredictions, compare_tables
from training.export.explanations import build_explanation
from training.export.manifest import (
    describe_input,
    describe_output,
    describe_provenance,
    describe_scaler,
)
from training.export.publish import Publication, check_folder, publish
from training.learn import fit_model
from training.recipe.table import Recipe
from training.report import page


def run(
    recipe: Recipe,
    models: Path,
    folders: Folders,
    *,
    force: bool = False,
    candidates: Sequence[contract.Candidate] = (),
) -> Publication:
    """Train the recipe's model and publish it as the next version below ``models``.

    With ``force``, it serves even if it is clearly worse than the version that serves; the
    ``candidates`` are families that were compared before. Raise `TrainingError` if the run fails;
    nothing is published then.
    """
    started = time.perf_counter()
    check_folder(models, recipe.name)

    loaded = load_rows(recipe, folders)
    table, target, parts = loaded.table, loaded.target, loaded.parts
    data = encode(table, recipe, parts.training)

    fitted = fit_model(recipe, data, parts.training, parts.validation)
    assessment = assess(recipe, table, data, parts, fitted)

    interval = build_interval(recipe, table, data, parts, model=fitted, assessment=assessment)
    output = describe_output(
        recipe, fitted.threshold, unsure_below=fitted.unsure_below, interval=interval
    )
    output_tensor = output_name(output)
    check_rows = data.features[parts.test if len(parts.test) else parts.training]
    graph = onnx_export.export(fitted.predictor, output_tensor, len(data.columns))
    onnx_export.verify(graph, fitted.predictor, check_rows, data.columns)
    examples = onnx_export.create_examples(
        fitted.predictor, check_rows, output_tensor, data.columns
    )
    origin = contract.DataOrigin(source=table.name, sha256=table.sha256, rows=len(target))
    manifest = contract.Manifest(
        format_version=contract.FORMAT_VERSION,
        name=recipe.name,
        title=recipe.title,
        description=recipe.description,
        task=recipe.task,
        input=describe_input(data, data.features[parts.training]),
        output=output,
        scaler=describe_scaler(recipe, data, fitted.predictor),
        reasons=build_explanation(recipe, data, data.features[parts.training], fitted.predictor),
        evaluation=assessment.evaluation,
        provenance=describe_provenance(
            recipe, origin, (parts.training, parts.validation, parts.test), started, candidates
        ),
        files={},
    )
    worse = describe_below_baseline(assessment.evaluation)
    caveats = [*filter(None, [worse]), *describe_caveats(recipe, loaded.complete, table, target)]
    html = page.render(manifest, table, data, fitted, assessment, caveats=caveats)
    files = {MODEL: graph, EXAMPLES: to_json(examples), REPORT: html}
    measured = TestPredictions(target[assessment.rows], assessment.predictions)
    comparison = compare_tables(models, manifest, table, assessment.rows, measured)
    publication = publish(models, manifest, files, comparison, force=force)
    return replace(publication, rare=find_rare_label(recipe, target))

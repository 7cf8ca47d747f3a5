"""One training run on a table, from a recipe to a published bundle."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from service.bundle import manifest as contract
from service.bundle import provenance
from service.bundle.manifest import output_name
from service.bundle.store import EXAMPLES, MODEL, REPORT, to_json
from training.autorecipe.quality import describe_caveats, describe_unused, find_rare_label
from training.candidates import Candidate
from training.cost import describe_candidates, list_measurable
from training.data.rows import LoadedRows, load_rows
from training.data.sources import Folders
from training.data.table import Dataset, Inputs, Rows, encode, require_values, to_graph_inputs
from training.evaluation.assessment import Assessment, OutOfFoldPredictions, assess
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
    with_training_values,
)
from training.export.publish import Publication, check_folder, publish
from training.learn import FittedModel, choose_thresholds, fit_model, fit_predictor
from training.model.text import TableModel
from training.recipe.table import Recipe
from training.report import page


def run(
    recipe: Recipe,
    models: Path,
    folders: Folders,
    *,
    force: bool = False,
    candidates: Sequence[Candidate] = (),
) -> Publication:
    """Train the recipe's model and publish it as the next version below ``models``.

    With ``force``, it serves even if it is clearly worse than the version that serves. The first of
    the ``candidates``, which were compared before, is the recipe. Raise `TrainingError` if the run
    fails; nothing is published then.
    """
    started = time.perf_counter()
    check_folder(models, recipe.name)

    loaded = load_rows(recipe, folders)
    table, target, parts = loaded.table, loaded.target, loaded.parts
    known = candidates[0].out_of_fold if candidates else None
    data, fitted, assessment = _fit_and_assess(recipe, loaded, known)
    interval = build_interval(recipe, table, data, parts, model=fitted, assessment=assessment)
    output = describe_output(recipe, fitted.threshold, fitted.unsure_below, interval)
    served = _Served(data, parts.training, fitted.predictor)
    if recipe.split.refit:
        served = _fit_to_all_rows(recipe, loaded)
    require_values(served.data, served.rows)
    checked = served.data.features[parts.test if len(parts.test) else parts.training]
    files, others = _export(served, output_name(output), checked, candidates)
    row = to_graph_inputs(served.data.columns, checked[:1])
    manifest = contract.Manifest(
        format_version=contract.FORMAT_VERSION,
        name=recipe.name,
        title=recipe.title,
        description=recipe.description,
        task=recipe.task,
        input=with_training_values(
            describe_input(served.data, served.features), served.data, served.features
        ),
        output=output,
        scaler=describe_scaler(recipe, served.data, served.predictor),
        reasons=build_explanation(recipe, served.data, served.features, served.predictor),
        evaluation=assessment.evaluation,
        provenance=describe_provenance(
            recipe,
            provenance.DataOrigin(source=table.name, sha256=table.sha256, rows=len(target)),
            (parts.training, parts.validation, parts.test),
            started,
            describe_candidates(candidates, files[MODEL], row, others),
        ),
        files={},
    )
    worse = describe_below_baseline(assessment.evaluation)
    caveats = [*filter(None, [worse]), *describe_caveats(recipe, table, target)]
    unused = describe_unused(recipe, loaded.complete, table)
    html = page.render(manifest, table, data, fitted, assessment, caveats=caveats, unused=unused)
    measured = TestPredictions(target[assessment.rows], assessment.predictions)
    comparison = compare_tables(models, manifest, table, assessment.rows, measured)
    publication = publish(models, manifest, files | {REPORT: html}, comparison, force=force)
    return replace(publication, rare=find_rare_label(recipe, target))


def _fit_and_assess(
    recipe: Recipe, loaded: LoadedRows, known: OutOfFoldPredictions | None
) -> tuple[Dataset, FittedModel, Assessment]:
    """Fit the recipe to the training set, and measure it on rows that it was not fitted to."""
    table, target, parts = loaded.table, loaded.target, loaded.parts
    data = encode(table, recipe, parts.training)
    fitted = fit_model(recipe, data, parts.training, parts.validation)
    assessment = assess(recipe, table, data, parts, fitted, known=known)
    if not len(parts.validation) and not len(parts.test):
        thresholds = choose_thresholds(recipe, target[assessment.rows], assessment.predictions)
        fitted = FittedModel(fitted.predictor, fitted.histories, *thresholds)
    return data, fitted, assessment


@dataclass(frozen=True)
class _Served:
    """The model to publish, and the rows that it was fitted to."""

    data: Dataset
    rows: Rows
    predictor: TableModel

    @property
    def features(self) -> Inputs:
        """The features of these rows."""
        return self.data.features[self.rows]


def _fit_to_all_rows(recipe: Recipe, loaded: LoadedRows) -> _Served:
    rows = np.arange(len(loaded.target))
    data = encode(loaded.table, recipe, rows)
    predictor, _ = fit_predictor(recipe, data, rows, rows[:0])
    return _Served(data, rows, predictor)


def _export(
    served: _Served, output: str, rows: Inputs, candidates: Sequence[Candidate]
) -> tuple[dict[str, bytes], list[bytes]]:
    """Return the files of the bundle, and the graphs of other candidates.

    The graph of the bundle is verified on these rows.
    """
    columns = served.data.columns
    exported = [(served.predictor, len(columns)), *list_measurable(candidates)]
    graph, *others = onnx_export.export_all(exported, output)
    onnx_export.verify(graph, served.predictor, rows, columns)
    examples = onnx_export.create_examples(served.predictor, rows, output, columns)
    return {MODEL: graph, EXAMPLES: to_json(examples)}, others

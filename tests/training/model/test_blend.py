"""An ensemble predicts the weighted mean of its members, also after the export."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.tables import write_mixed_table
from training.autorecipe.draft import draft
from training.candidates import with_family
from training.data.csv import UNKNOWN, read_csv
from training.data.sources import Folders
from training.data.table import encode
from training.errors import RecipeError
from training.export.onnx_export import export, verify
from training.learn import fit_model, fit_networks_together
from training.model.network_drafts import draw_networks
from training.onnx_files import Graph
from training.recipe.loader import format_toml, parse_recipe, read_any
from training.recipe.table import Recipe
from training.run import run

WEIGHTS = (0.5, 0.3, 0.2)


def _ensemble(folder: Path, target: str) -> Recipe:
    """A linear or logistic model, an MLP and gradient boosting of a table with gaps and words."""
    path = write_mixed_table(folder)
    table = read_csv(path, UNKNOWN)
    drafted = draft(table, str(path), target, "mixed", None).recipe
    targets = {"value", "reply", "color"}
    features = [one for one in drafted.features if one.name not in targets]
    drafted = drafted.model_copy(update={"features": features})
    linear = "linear" if target == "value" else "logistic"
    members: list[dict[str, Any]] = []
    for family, weight in zip((linear, "mlp", "gradient-boosting"), WEIGHTS, strict=True):
        one = with_family(drafted, family, 500).model_dump(mode="json")
        if one["training"]:
            one["training"]["epochs"] = 3
        one["boosting"]["max_iter"] = 20
        if family != "gradient-boosting":
            del one["boosting"]
        sections = {"network", "preprocessing", "training", "boosting"} & one.keys()
        members.append({"weight": weight} | {key: one[key] for key in sections})
    document = drafted.model_dump(mode="json", exclude_defaults=True)
    for section in ("training", "preprocessing"):
        document.pop(section, None)
    document["network"] = {"family": "ensemble"}
    document["members"] = members
    document["target"].pop("log", None)
    return parse_recipe(document, "the test")


@pytest.mark.parametrize("target", ["value", "reply", "color"])
def test_the_graph_predicts_the_mean_of_the_members(target: str, tmp_path: Path) -> None:
    """For a number, two labels and three; each member is fitted as it would be alone."""
    recipe = _ensemble(tmp_path, target)
    table = read_csv(tmp_path / "mixed.csv", UNKNOWN)
    rows = np.arange(table.frame.height)
    data = encode(table, recipe, rows)

    predictor = fit_model(recipe, data, rows[:400], rows[400:]).predictor
    graph = export(predictor, "found", len(data.columns))

    alone = [
        fit_model(member, data, rows[:400], rows[400:]).predictor.predict(data.features)
        for member in recipe.list_member_recipes()
    ]
    mean = sum(weight * one for weight, one in zip(WEIGHTS, alone, strict=True))
    np.testing.assert_allclose(Graph(graph).predict(data.features), mean, rtol=1e-4, atol=1e-5)
    verify(graph, predictor, data.features)


def test_a_run_publishes_an_ensemble_that_its_toml_reproduces(
    tmp_path: Path, folders: Folders
) -> None:
    """The recipe is read from its own text; the bundle has the metrics of the mean."""
    recipe = _ensemble(tmp_path, "value")
    (tmp_path / "mixed.toml").write_text(format_toml(recipe))

    assert read_any(str(tmp_path / "mixed.toml")) == recipe
    outcome = run(recipe, tmp_path / "models", folders)

    assert outcome.manifest.evaluation is not None
    assert outcome.manifest.evaluation.metrics["r2"] > 0.3
    assert outcome.manifest.scaler is None


def test_a_member_can_fit_the_logarithm(tmp_path: Path) -> None:
    """The mean is that of the values in the unit of the target."""
    recipe = _ensemble(tmp_path, "value")
    document = recipe.model_dump(mode="json")
    document["members"][0]["log"] = True

    member = parse_recipe(document, "the test").list_member_recipes()[0]

    assert member.target.log
    assert member.network.family == "linear"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"members": []}, "an ensemble needs members"),
        ({"network": {"family": "decision-tree"}}, "an ensemble needs members"),
        ({"training": {"optimizer": "Adam", "learning_rate": 1, "epochs": 1}}, "its members fit"),
        (
            {"members": [{"weight": 1, "network": {"family": "linear"}}]},
            "members.0.training: this section is required",
        ),
        (
            {"members": [{"weight": 1, "network": {"family": "ensemble"}}]},
            "no member of another",
        ),
    ],
)
def test_ensembles_that_cannot_be_fitted_are_rejected(
    change: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    """The message has the member and the key."""
    document = _ensemble(tmp_path, "value").model_dump(mode="json", exclude_defaults=True)

    with pytest.raises(RecipeError, match=sentence):
        parse_recipe(document | change, "the test")


def test_a_network_of_a_comparison_is_the_same_alone(tmp_path: Path) -> None:
    """Its recipe has a seed of its own, and gives what was measured with others on all folds."""
    path = write_mixed_table(tmp_path)
    table = read_csv(path, UNKNOWN)
    drafted = with_family(draft(table, str(path), "value", "mixed", None).recipe, "mlp", 500)
    rows = np.arange(table.frame.height)
    plans = draw_networks(2, len(rows), 2, 0, seed=1)
    recipes = [
        drafted.model_copy(
            update={
                "network": plan.network.model_copy(update={"seed": seed}),
                "training": plan.training.model_copy(update={"epochs": 2, "patience": 2}),
            }
        )
        for seed, plan in enumerate(plans)
    ]
    data = encode(table, drafted, rows)

    folds = [rows[:400], rows[100:], rows[200:]]

    together = fit_networks_together(recipes, [(data, fold, rows[:0]) for fold in folds])

    for fold, networks in zip(folds, together, strict=True):
        for one, recipe in zip(networks, recipes, strict=True):
            alone = fit_model(recipe, data, fold, rows[:0]).predictor
            found, expected = one.predict(data.features), alone.predict(data.features)
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)

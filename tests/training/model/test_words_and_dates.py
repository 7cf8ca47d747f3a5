"""Every family learns from categories of many kinds and from dates, and exports what it learned."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.training.tables import write_table_of_words
from training.autorecipe.draft import draft
from training.candidates import with_family
from training.data.csv import UNKNOWN, read_csv
from training.data.table import encode
from training.export.onnx_export import export, verify
from training.learn import fit_model
from training.model.blend import Blend
from training.model.estimators import Estimator
from training.model.networks import Predictor
from training.onnx_files import Graph


@pytest.mark.parametrize(("family", "labels"), [("linear", 0), ("gradient-boosting", 3)])
def test_the_graph_predicts_words_and_dates_as_training_does(
    family: str, labels: int, tmp_path: Path
) -> None:
    """With gaps, unknown words, and dates before and after those of the training set."""
    path = write_table_of_words(tmp_path, labels)
    table = read_csv(path, UNKNOWN)
    recipe = draft(table, str(path), "y", "words", family).recipe
    training, rest = np.arange(600), np.arange(600, 900)
    data = encode(table, recipe, training)
    strange = data.features[:60].copy()
    strange[::3, 0], strange[::5, 0] = 1e5, -1e5
    strange[::2, 1], strange[1::4, 1] = -1, np.nan

    predictor = fit_model(recipe, data, training[:540], training[540:]).predictor
    graph = export(predictor, "found", len(data.columns))

    assert [column.feature.type for column in data.columns] == ["datetime", "category", "number"]
    assert len(data.columns[1].categories) > 100
    assert len(graph) < 4_000_000
    rows = np.concatenate([data.features, strange])
    verify(graph, predictor, rows)
    found, target = Graph(graph).predict(rows)[rest], data.target[rest]
    if labels:
        assert (found.argmax(axis=1) == target).mean() > 0.6
    else:
        assert np.corrcoef(found[:, 0], target)[0, 1] > 0.8


def test_members_of_an_ensemble_share_the_parts_of_dates(tmp_path: Path) -> None:
    """A linear model and trees read the same month and weekday, which the graph computes once."""
    path = write_table_of_words(tmp_path)
    table = read_csv(path, UNKNOWN)
    recipe = draft(table, str(path), "y", "words", "linear").recipe
    rows = np.arange(900)
    data = encode(table, recipe, rows)
    members = []
    for family in ("linear", "gradient-boosting"):
        member = fit_model(with_family(recipe, family, 900), data, rows, rows[:0]).predictor
        assert isinstance(member, Predictor | Estimator)
        members.append(member)

    predictor = Blend(members, [0.25, 0.75])
    graph = export(predictor, "found", len(data.columns))

    counts = [_count_operators(export(member, "found", len(data.columns))) for member in members]
    together = _count_operators(graph)
    assert together["Mod"] == counts[0]["Mod"] == counts[1]["Mod"] > 0
    assert together["Floor"] == counts[0]["Floor"] == counts[1]["Floor"] > 0
    verify(graph, predictor, data.features)


def _count_operators(graph: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_model_from_string(graph).graph.node)


@pytest.mark.parametrize("family", ["linear", "gradient-boosting"])
def test_columns_may_begin_after_the_training_rows(family: str, tmp_path: Path) -> None:
    """In the order of time, a number, a word and a date can be empty in all of the older rows."""
    later = range(300, 400)
    lines = [
        f"{k},{k % 7 if k in later else ''},{'ab'[k % 2] if k in later else ''},"
        f"{f'2024-01-{k % 28 + 1:02}' if k in later else ''},{k % 5}.5"
        for k in range(400)
    ]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["x,number,word,due_date,y", *lines]))
    table = read_csv(path, UNKNOWN)
    recipe = draft(table, str(path), "y", "later", family).recipe
    recipe = recipe.model_copy(update={"target": recipe.target.model_copy(update={"labels": []})})
    training = np.arange(250)
    data = encode(table, recipe, training)

    predictor = fit_model(recipe, data, training, training[:0]).predictor
    graph = export(predictor, "found", len(data.columns))

    assert {"number", "word", "due_date"} <= {one.feature.name for one in data.columns}
    assert np.isfinite(predictor.predict(data.features)).all()
    verify(graph, predictor, data.features)

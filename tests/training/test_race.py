"""The race of `onward new` compares families on the same folds, and trains the best."""

import re
from pathlib import Path

import numpy as np
import pytest

from service.bundle.store import read_bundle
from tests.training.tables import write_mixed_table
from training.__main__ import main
from training.autorecipe.draft import draft
from training.candidates import create_candidate, split, with_family
from training.data.csv import UNKNOWN, read_csv
from training.data.rows import LoadedRows, load_rows
from training.data.sources import Folders
from training.evaluation.assessment import cross_validate
from training.onnx_files import Graph
from training.race import Limits, can_compare, choose_members, race
from training.recipe.table import Recipe
from training.run import run


def _write(path: Path, target: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> Path:
    generator = np.random.default_rng(0)
    x = generator.uniform(0, 10, (len(target), 2)).round(3)
    lines = [f"{a},{b},{a + target[k] * b:.4f}" for k, (a, b) in enumerate(x.tolist())]
    path.write_text("\n".join(["a,b,y", *lines]))
    return path


def _loaded(path: Path, target: str, folders: Folders) -> tuple[Recipe, LoadedRows]:
    table = read_csv(path, UNKNOWN)
    recipe = draft(table, str(path), target, "mine", None).recipe
    return recipe, load_rows(recipe, folders)


def test_a_linear_table_gets_a_linear_model(tmp_path: Path, folders: Folders) -> None:
    """With few rows, nothing is better."""
    recipe, loaded = _loaded(_write(tmp_path / "t.csv", np.full(200, 2.0)), "y", folders)

    candidates = race(recipe, loaded, families=["linear", "gradient-boosting"])

    assert candidates[0].family == "linear"
    assert {one.family for one in candidates} == {"linear", "gradient-boosting"}
    assert [one.loss for one in candidates] == sorted(one.loss for one in candidates)
    assert all(len(one.losses) == 5 for one in candidates)


def test_the_test_set_does_not_decide(tmp_path: Path, folders: Folders) -> None:
    """Other targets of the test rows give the same losses, to the last bit."""
    recipe, loaded = _loaded(_write(tmp_path / "t.csv", np.full(6000, 2.0)), "y", folders)
    losses = {one.family: one.losses for one in race(recipe, loaded, families=["linear"])}
    loaded.target[loaded.parts.test] += 1000

    changed = {one.family: one.losses for one in race(recipe, loaded, families=["linear"])}

    assert changed == losses


def test_families_that_err_differently_are_mixed(tmp_path: Path, folders: Folders) -> None:
    """A slope and steps: the mean of both families is better than each."""
    generator = np.random.default_rng(0)
    x = generator.uniform(0, 10, (400, 2)).round(3)
    y = 2 * x[:, 0] + 3 * np.floor(x[:, 1] / 2) + generator.normal(0, 2, 400)
    lines = [f"{a},{b},{value:.4f}" for (a, b), value in zip(x.tolist(), y, strict=True)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["a,b,y", *lines]))
    recipe, loaded = _loaded(path, "y", folders)

    candidates = race(recipe, loaded, families=["linear", "gradient-boosting"])

    by_family = {one.family: one for one in candidates}
    mixed = by_family["ensemble"]
    assert candidates[0] is mixed
    assert sum(member.weight for member in mixed.recipe.members) == pytest.approx(1, abs=0.01)
    assert {member.network.family for member in mixed.recipe.members} <= by_family.keys()


def test_a_table_with_dates_is_compared(tmp_path: Path, folders: Folders) -> None:
    """Every family reads dates, so every one can be a member of an ensemble."""
    generator = np.random.default_rng(0)
    days = np.datetime64("2021-01-01") + generator.permutation(300)
    x = generator.normal(size=300).round(3)
    month = days.astype("datetime64[M]").astype(int) % 12
    lines = [f"{day},{a},{5 * m + a:.3f}" for day, a, m in zip(days, x, month, strict=True)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["born,a,y", *lines]))
    recipe, loaded = _loaded(path, "y", folders)

    candidates = race(recipe, loaded, families=["linear", "gradient-boosting"])

    deviation = loaded.target.std()
    assert {"linear", "gradient-boosting"} <= {one.family for one in candidates}
    assert all(one.loss < deviation / 3 for one in candidates)
    assert all(len(one.recipe.features) == 2 for one in candidates)


def test_newer_rows_choose_the_parts_of_dates(tmp_path: Path, folders: Folders) -> None:
    """Each fold has another level than the rows before it, about which the elapsed days mislead."""
    hours = np.arange(426)
    times = np.datetime64("2021-01-01T00:00:00") + hours * np.timedelta64(1, "h")
    y = hours % 24 + 20 * (hours // 57 % 2) + np.random.default_rng(0).normal(0, 0.1, 426)
    lines = [f"{time},{value:.3f}" for time, value in zip(times, y, strict=True)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["date,y", *lines]))
    recipe, loaded = _loaded(path, "y", folders)
    said: list[str] = []

    candidates = race(recipe, loaded, said.append, families=["linear"])

    assert recipe.split.time == "date"
    assert said[0].startswith("  dates: no days since the first date (all parts of dates ")
    assert not candidates[0].recipe.features[0].trend


@pytest.mark.parametrize(("rows", "compared"), [(29, False), (30, True)])
def test_very_small_tables_are_not_compared(
    rows: int,
    compared: bool,  # noqa: FBT001 - a parameter of the test
    tmp_path: Path,
    folders: Folders,
) -> None:
    """Below 30 rows, folds say little."""
    recipe, loaded = _loaded(_write(tmp_path / "t.csv", np.full(rows, 2.0)), "y", folders)

    assert can_compare(recipe, loaded) == compared


def test_the_command_reports_and_records_the_race(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Output, manifest and report have every family, the best first; the recipe has the best."""
    write_mixed_table(tmp_path)
    monkeypatch.chdir(tmp_path)

    assert main(["new", "--csv", "mixed.csv", "--target", "reply"]) == 0

    said = capsys.readouterr().out
    manifest = read_bundle(tmp_path / "models" / "mixed" / "1").manifest
    assert manifest.provenance is not None
    candidates = manifest.provenance.candidates
    assert candidates is not None
    best = candidates[0]
    assert f"Chosen: {best.family}" in said
    assert manifest.provenance.recipe["network"]["family"] == best.family  # type: ignore[index, call-overload]  # JSON
    assert {one.metric for one in candidates} == {"log_loss"}
    report = (tmp_path / "models" / "mixed" / "1" / "report.html").read_text()
    assert "Compared models" in report
    assert all(f"<td>{one.family}</td>" in report for one in candidates)
    assert "Each log loss is the mean over the folds" in report
    assert "the log loss under Performance is that of the chosen model on" in report
    card = report.partition('<h2 id="model-card">')[2].partition("</section>")[0]
    assert re.search(r"[a-z0-9]\.[A-Z]", re.sub("<[^>]+>", " ", card)) is None


def test_a_chosen_family_is_measured_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the folds, whose predictions are those of the evaluation."""
    _write(tmp_path / "t.csv", np.full(60, 2.0))
    monkeypatch.chdir(tmp_path)

    assert main(["new", "--csv", "t.csv", "--target", "y", "--family", "linear"]) == 0

    assert "Comparing" not in capsys.readouterr().out
    manifest = read_bundle(tmp_path / "models" / "t" / "1").manifest
    assert manifest.provenance is not None
    assert manifest.provenance.candidates is not None
    assert [one.family for one in manifest.provenance.candidates] == ["linear"]


def test_a_recipe_alone_gives_the_measured_figures(tmp_path: Path, folders: Folders) -> None:
    """Training it again, without the comparison, fits and measures the same folds."""
    recipe, loaded = _loaded(_write(tmp_path / "t.csv", np.full(120, 2.0)), "y", folders)
    best = race(recipe, loaded, families=["linear"])[0]
    assert best.out_of_fold is not None

    again = cross_validate(best.recipe, loaded.table, loaded.target)

    np.testing.assert_allclose(again.predictions, best.out_of_fold.predictions, rtol=1e-6)


def test_a_large_table_is_fitted_again_to_all_rows(tmp_path: Path, folders: Folders) -> None:
    """But the figures are those of a model that was not fitted to the test rows."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=6000).round(4)
    y = (2 * x + generator.normal(size=6000)).round(4)
    lines = [f"{a},{b}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["x,y", *lines]))
    recipe, loaded = _loaded(path, "y", folders)
    best = race(recipe, loaded, families=["linear"])[0]

    published = run(best.recipe, tmp_path / "models", folders, candidates=[best])

    assert best.recipe.split.refit
    graph = Graph((published.folder / "model.onnx").read_bytes())
    everything = np.linalg.lstsq(np.column_stack([np.ones(6000), x]), y, rcond=None)[0]
    expected = everything[0] + everything[1] * x[:50]
    found = graph.predict(x[:50, np.newaxis].astype(np.float32))[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    evaluation = published.manifest.evaluation
    assert evaluation is not None
    rest, test = loaded.parts.training, loaded.parts.test
    seen = np.linalg.lstsq(np.column_stack([np.ones(len(rest)), x[rest]]), y[rest], rcond=None)[0]
    error = np.sqrt(np.mean(np.square(y[test] - seen[0] - seen[1] * x[test])))
    assert evaluation.metrics["rmse"] == pytest.approx(error, rel=1e-4)


def test_the_time_bounds_the_comparison(tmp_path: Path, folders: Folders) -> None:
    """One family is measured even without time; the others are left out, with the reason."""
    recipe, loaded = _loaded(_write(tmp_path / "t.csv", np.full(120, 2.0)), "y", folders)
    said: list[str] = []

    candidates = race(recipe, loaded, said.append, limits=Limits(seconds=0.001))

    assert [one.family for one in candidates] == ["linear"]
    assert sum("left out: no time is left" in line for line in said) == 2


def test_a_quick_comparison_measures_gradient_boosting(tmp_path: Path, folders: Folders) -> None:
    """Which is good on most tables, and fast."""
    recipe, loaded = _loaded(
        _write(tmp_path / "t.csv", np.random.default_rng(0).normal(size=200)), "y", folders
    )

    assert [one.family for one in race(recipe, loaded, limits=Limits(quick=True))] == [
        "gradient-boosting"
    ]


def test_the_trees_of_an_ensemble_fit_into_a_bundle(tmp_path: Path, folders: Folders) -> None:
    """Of trees that are all useful but too many, those of the least weight are left out."""
    recipe, loaded = _loaded(_write(tmp_path / "t.csv", np.full(300, 2.0)), "y", folders)
    folds, generator = split(recipe, loaded), np.random.default_rng(0)
    boosting = with_family(recipe, "gradient-boosting", 300).boosting
    candidates = []
    for leaves, deviation in ((16, 1.0), (64, 1.1), (64, 1.3)):
        trees = boosting.model_copy(update={"max_iter": 500, "max_leaf_nodes": leaves})
        network = recipe.network.model_copy(update={"family": "gradient-boosting"})
        found = [
            (target + generator.normal(0, deviation, len(target))).astype(np.float32)[:, np.newaxis]
            for target in folds.targets
        ]
        changed = recipe.model_copy(update={"boosting": trees, "network": network})
        candidates.append(create_candidate(changed, folds, found, 0.0))

    members, mixed = choose_members(recipe, candidates, folds)

    assert [one for one, _ in members] == candidates[:2]
    assert sum(weight for _, weight in members) == pytest.approx(1)
    assert len(mixed) == len(folds.targets)
